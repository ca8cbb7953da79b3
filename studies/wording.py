"""The words for settings, trials and numbers of seeds, in displays, figures and reports."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from benchmarks.names import first_line
from benchmarks.numbers import score_text
from benchmarks.statistics import FEWEST_SEEDS
from studies.objective import Problem
from studies.study import ERROR


def parameters(problem: Problem, trial: FrozenTrial) -> str:
    """A trial's values, such as ``target_kl=0.02, cg_damping=0.1``."""
    return ", ".join(
        f"{each.name}={shown(trial.params[each.name])}"
        for each in problem.space
        if each.name in trial.params
    )


def shown(value: object) -> str:
    """A parameter's value; a number to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def describe(problem: Problem, trial: FrozenTrial) -> str:
    """An ended trial in a line: its values, and their outcome."""
    start = f"trial {trial.number}: {parameters(problem, trial)}: "
    if trial.state is TrialState.COMPLETE:
        return start + outcome(problem, trial)
    if trial.state is TrialState.PRUNED:
        return f"{start}pruned after {len(trial.intermediate_values)} looks"
    return start + "failed: " + why_failed(trial)


def outcome(problem: Problem, trial: FrozenTrial) -> str:
    """A completed trial's value, with the number of seeds if they are too few for a claim."""
    value = f"{value_name(problem)} {score_text(trial.values[0])}{few_seeds(len(problem.seeds))}"
    if problem.has_two_objectives:
        value += f", {trial.values[1]:,.1f} s"
    return value


def few_seeds(n_seeds: int) -> str:
    """``(1 seed)``, for after a number that no claim can rest on; else nothing."""
    return "" if n_seeds >= FEWEST_SEEDS else f" ({_seeds(n_seeds)})"


def caution(n_seeds: int) -> str:
    """Why no claim can rest on so few seeds; empty if one can."""
    if n_seeds >= FEWEST_SEEDS:
        return ""
    decide = "decides" if n_seeds == 1 else "decide"
    return (
        f"{_seeds(n_seeds)} {decide} nothing: what differs may be chance alone; "
        f"a study with --seeds {FEWEST_SEEDS} or more has intervals to go by"
    )


def on_seeds(seeds: Sequence[int]) -> str:
    """``seeds 1000 to 1002``."""
    return f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"


def _seeds(n_seeds: int) -> str:
    return "1 seed" if n_seeds == 1 else f"{n_seeds} seeds"


def value_name(problem: Problem) -> str:
    """The name of a trial's value: a score is scaled, a return is not."""
    return "score" if problem.is_normalised else "return"


def why_failed(trial: FrozenTrial) -> str:
    """Why a trial failed, in a line."""
    return first_line(str(trial.user_attrs.get(ERROR, "its worker died twice")))
