"""What a study shows while it goes on."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live
from rich.text import Text

from benchmarks.names import first_line
from benchmarks.numbers import score_text
from benchmarks.statistics import FEWEST_SEEDS
from studies.objective import Problem
from studies.study import in_state
from studies.trials import ERROR

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class Progress:
    """A line for each trial that ends; on a terminal, below them, a line that is always current.

    :param jobs: how many trials are carried out at once here, for the time left
    """

    def __init__(self, problem: Problem, n_trials: int, jobs: int, console: Console) -> None:
        self._problem = problem
        self._n_trials = n_trials
        self._jobs = jobs
        self._console = console
        self._live = Live(console=self._console, refresh_per_second=2, transient=True)
        self._told: set[int] = set()

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def already(self, trials: Sequence[FrozenTrial]) -> None:
        """Say nothing about trials that have ended before."""
        self._told.update(trial.number for trial in in_state(trials, *ENDED))
        if self._told:
            self.say(f"{len(self._told)} of {self._n_trials} trials are already there")

    def show(self, trials: Sequence[FrozenTrial]) -> None:
        """Show what has changed."""
        for trial in in_state(trials, *ENDED):
            if trial.number not in self._told:
                self._told.add(trial.number)
                self.say(describe(self._problem, trial))
        self._live.update(Text(self._line(trials)))

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _line(self, trials: Sequence[FrozenTrial]) -> str:
        ended = in_state(trials, *ENDED)
        parts = [f"{len(ended)}/{self._n_trials} trials"]
        for state, word in (
            (TrialState.RUNNING, "running"),
            (TrialState.PRUNED, "pruned"),
            (TrialState.FAIL, "failed"),
        ):
            if count := len(in_state(trials, state)):
                parts.append(f"{count} {word}")
        if done := in_state(trials, TrialState.COMPLETE):
            best = max(done, key=lambda trial: trial.values[0])
            values = parameters(self._problem, best)
            parts.append(f"best so far {values}: {outcome(self._problem, best)}")
        parts.append(f"time left {self._time_left(ended)}")
        return ", ".join(parts)

    def _time_left(self, ended: Sequence[FrozenTrial]) -> str:
        durations = [trial.duration.total_seconds() for trial in ended if trial.duration]
        if not durations:
            return "-:--"
        missing = max(0, self._n_trials - len(ended))
        seconds = int(missing * sum(durations) / len(durations) / self._jobs)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def parameters(problem: Problem, trial: FrozenTrial) -> str:
    """A trial's values, as ``target_kl=0.02, cg_damping=0.1``."""
    return ", ".join(
        f"{each.name}={shown(trial.params[each.name])}"
        for each in problem.space
        if each.name in trial.params
    )


def shown(value: object) -> str:
    """A parameter's value, to four digits if it is a number."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def describe(problem: Problem, trial: FrozenTrial) -> str:
    """What became of a trial, in a line."""
    start = f"trial {trial.number}: {parameters(problem, trial)}: "
    if trial.state is TrialState.COMPLETE:
        return start + outcome(problem, trial)
    if trial.state is TrialState.PRUNED:
        return f"{start}pruned after {len(trial.intermediate_values)} looks"
    return start + "failed: " + why_failed(trial)


def outcome(problem: Problem, trial: FrozenTrial) -> str:
    """A completed trial's value, and of how many seeds, if they are too few for a claim."""
    value = f"{value_name(problem)} {score_text(trial.values[0])}{few_seeds(len(problem.seeds))}"
    if problem.has_two_objectives:
        value += f", {trial.values[1]:,.1f} s"
    return value


def few_seeds(n_seeds: int) -> str:
    """``(1 seed)`` after a number that no claim can rest on; else nothing."""
    return "" if n_seeds >= FEWEST_SEEDS else f" ({_seeds(n_seeds)})"


def caution(n_seeds: int) -> str:
    """Why a claim cannot rest on so few seeds; nothing if it can."""
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
    """What a trial's value is called: on the scale of random policy and reference, or raw."""
    return "score" if problem.is_normalised else "return"


def why_failed(trial: FrozenTrial) -> str:
    """Why a trial failed, in a line."""
    return first_line(str(trial.user_attrs.get(ERROR, "its worker died twice")))
