"""A trial's values as entries of a hyperparameter file."""

from typing import Any

import yaml
from optuna.trial import FrozenTrial

from benchmarks.algorithms import ALGORITHMS, has_own_entry
from studies.confirmation import Confirmation
from studies.estimates import as_text, on_fresh_seeds, verdict
from studies.objective import Problem
from studies.parameters import with_values
from studies.study import DEFAULT, values_of
from studies.wording import caution, on_seeds, outcome, value_name


def yaml_entries(
    name: str, problem: Problem, trial: FrozenTrial, confirmation: Confirmation | None
) -> tuple[str, list[str]]:
    """YAML with an entry for each environment, and the environments that already have an entry.

    An entry holds all hyperparameters of the trial's runs, so it gives the same runs.

    :param confirmation: the values on fresh seeds, for the comment
    """
    result = f"{outcome(problem, trial)} on {on_seeds(problem.seeds)}"
    lines = [f"Study {name}, trial {trial.number}: {result}"]
    if confirmation is not None:
        found = on_fresh_seeds(problem, confirmation)
        lines += [
            f"{value_name(problem)} {as_text(found.best)} on {on_seeds(found.seeds)}; "
            f"the defaults {as_text(found.defaults)};",
            f"difference {as_text(found.gain, sign=True)}",
        ]
        if not trial.user_attrs.get(DEFAULT):
            lines[-1] += f": {verdict(found.gain)}"
    elif few := caution(len(problem.seeds)):
        lines.append(few)
    entries: dict[str, Any] = {}
    for env_id in problem.env_ids:
        values = values_of(problem, trial)
        entries[env_id] = {
            "n_timesteps": problem.n_timesteps,
            **with_values(problem.hyperparams[env_id], values),
        }
    text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)
    # The name of an algorithm in a stored study is not trusted as the name of a file.
    known = problem.env_ids if problem.algo in ALGORITHMS else ()
    present = [env_id for env_id in known if has_own_entry(problem.algo, env_id)]
    comment = "".join(f"# {line}\n" for line in lines)
    return f"{comment}{text}", present
