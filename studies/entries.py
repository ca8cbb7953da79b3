"""A trial's values as entries of a hyperparameter file."""

from typing import Any

import yaml
from optuna.trial import FrozenTrial

from benchmarks.numbers import score_text
from benchmarks.zoo import has_own_entry
from studies.carrying_out import Confirmation
from studies.objective import Problem
from studies.progress import outcome, value_name
from studies.search_spaces import with_values
from studies.study import values_of


def entries_of(
    name: str, problem: Problem, trial: FrozenTrial, confirmation: Confirmation | None
) -> tuple[str, list[str]]:
    """YAML with an entry for each environment, and those of them that have an entry already.

    An entry holds all that the trial's runs were made with, so it gives the same runs.

    :param confirmation: what became of the values on fresh seeds, for the comment
    """
    seeds = f"{problem.seeds[0]} to {problem.seeds[-1]}"
    comment = f"# Study {name}, trial {trial.number}: {outcome(problem, trial)} (seeds {seeds})"
    if confirmation is not None:
        comment += (
            f",\n# {value_name(problem)} {score_text(confirmation.value)} on seeds "
            f"{confirmation.seeds[0]} to {confirmation.seeds[-1]}; the defaults "
            f"{score_text(confirmation.default_value)}"
        )
    entries: dict[str, Any] = {}
    for env_id in problem.env_ids:
        values = values_of(problem, trial)
        entries[env_id] = {
            "n_timesteps": problem.n_timesteps,
            **with_values(problem.hyperparams[env_id], values),
        }
    text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)
    present = [env_id for env_id in problem.env_ids if has_own_entry(problem.algo, env_id)]
    return f"{comment}.\n{text}", present
