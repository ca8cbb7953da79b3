"""What the commands show in a terminal: a study's progress, its trials and its results."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live
from rich.text import Text as RichText

from benchmarks.command_line import say
from benchmarks.numbers import return_text, score_text
from benchmarks.tables import Column, Number, Table, Text, to_text
from studies.confirmation import Confirmation
from studies.estimates import as_text, on_fresh_seeds, verdict
from studies.objective import OBJECTIVES, Problem
from studies.study import DEFAULT, ENDED, RETURNS, completed, counted, in_state
from studies.wording import (
    caution,
    describe,
    few_seeds,
    on_seeds,
    outcome,
    parameters,
    shown,
    value_name,
)

if TYPE_CHECKING:
    import pandas as pd

    from studies.sensitivity import Width


class Progress:
    """A line for each trial that ends and, on a terminal, a line below that is always current.

    :param jobs: how many trials run at once here, for the time left
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
        """Count the trials that have ended before; they get no lines of their own."""
        self._told.update(trial.number for trial in in_state(trials, *ENDED))
        if self._told:
            self.say(f"{len(self._told)} of {self._n_trials} trials are already there")

    def show(self, trials: Sequence[FrozenTrial]) -> None:
        """Show what has changed."""
        for trial in in_state(trials, *ENDED):
            if trial.number not in self._told:
                self._told.add(trial.number)
                self.say(describe(self._problem, trial))
        self._live.update(RichText(self._line(trials)))

    def say(self, text: str) -> None:
        """Show a line above that of the progress."""
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


def print_trials(study: Study, problem: Problem) -> None:
    """Print a study's trials, with the final return of each run."""
    say(to_text(_trials_table(counted(study), problem)))
    what = OBJECTIVES[problem.objective].split(", and")[0]
    scale = ", 0 for a random policy and 1 for the reference" if problem.is_normalised else ""
    say(f"{value_name(problem)}: {what}{scale}; for each seed the final return, not scaled")


def _trials_table(trials: Sequence[FrozenTrial], problem: Problem) -> Table:
    # A pruned trial has values as well, those of its last evaluation.
    values = [t.values if t.state is TrialState.COMPLETE else None for t in trials]
    columns: list[Column] = [Text("trial", [str(trial.number) for trial in trials])]
    columns += [
        Text(each.name, [_value(trial, each.name) for trial in trials]) for each in problem.space
    ]
    scores = [value[0] if value else None for value in values]
    columns.append(Number(value_name(problem), scores, write=score_text, missing=""))
    if problem.has_two_objectives:
        seconds = [value[1] if value else None for value in values]
        columns.append(Number("seconds", seconds, write="{:,.1f}".format, missing=""))
    for i, spec in enumerate(problem.specs("", {})):
        where = "" if len(problem.env_ids) == 1 else f"{spec.env_id} "
        header = f"return, {where}{spec.seed}" if where else f"return, seed {spec.seed}"
        returns = [trial.user_attrs.get(RETURNS, []) for trial in trials]
        of_run = [each[i] if i < len(each) else None for each in returns]
        columns.append(Number(header, of_run, write=return_text, missing=""))
    columns.append(Text("", [_note(trial) for trial in trials]))
    return Table(columns)


def _value(trial: FrozenTrial, name: str) -> str:
    return shown(trial.params[name]) if name in trial.params else ""


def _note(trial: FrozenTrial) -> str:
    notes = [] if trial.state is TrialState.COMPLETE else [trial.state.name.lower()]
    notes += ["defaults"] * bool(trial.user_attrs.get(DEFAULT))
    return " ".join(notes)


def print_verdict(study: Study, problem: Problem, found: Confirmation) -> None:
    """Print the best trial and the defaults side by side, on fresh seeds, and what that says."""
    trial = next(each for each in counted(study) if each.number == found.trial)
    compared, n_trials = on_fresh_seeds(problem, found), len(completed(study))
    name, seeds = value_name(problem), on_seeds(found.seeds)
    searched = f"{score_text(found.searched)}{few_seeds(len(problem.seeds))}"
    say(f"best trial: {trial.number}, {parameters(problem, trial)}")
    say(f"  in the study:   {name} {searched}, the highest of {n_trials}")
    say(f"  on fresh seeds: {name} {as_text(compared.best)}, {seeds}")
    say(f"  the defaults:   {name} {as_text(compared.defaults)}, the same seeds")
    if trial.user_attrs.get(DEFAULT):
        say("the defaults are the best values that were found")
        return
    say(f"  difference:     {as_text(compared.gain, sign=True)}")
    say(verdict(compared.gain))


def print_widths(
    problem: Problem, widths: "Mapping[str, Width]", importances: Mapping[str, float]
) -> None:
    """Print how wide the good part of each parameter's range is, and how much it matters."""
    found = list(widths.values())
    table = Table(
        [
            Text("parameter", list(widths)),
            *(
                Text(header, [shown(getattr(width, name)) for width in found])
                for header, name in (("best", "best"), ("good from", "low"), ("to", "high"))
            ),
            Text("decades", list(map(str, found))),
            Number(
                "importance",
                [importances.get(name) for name in widths],
                write="{:.0%}".format,
                missing="",
            ),
        ]
    )
    say(to_text(table))
    _print_caution(problem)


def print_pruning(problem: Problem, frame: "pd.DataFrame") -> None:
    """Print what each pruner would have saved.

    :param frame: as :func:`studies.pruning.to_frame` returns it
    """
    groups = [(str(pruner), rows) for pruner, rows in frame.groupby("pruner", sort=False)]
    table = Table(
        [
            Text("pruner", [pruner for pruner, _ in groups]),
            Text("trials pruned", [_pruned(rows) for _, rows in groups]),
            Text("steps saved", [_saved(rows["steps_saved"]) for _, rows in groups]),
            Text("best kept", [f"{rows['best_kept'].sum()} of {len(rows)}" for _, rows in groups]),
            Number(
                f"{value_name(problem)} lost at most",
                [float(rows["lost"].max()) for _, rows in groups],
                write=score_text,
            ),
        ]
    )
    say(to_text(table))
    _print_caution(problem)


def _pruned(rows: "pd.DataFrame") -> str:
    return f"{rows['pruned'].mean():.1f} of {rows['trials'].iloc[0]}"


def _saved(shares: "pd.Series[float]") -> str:
    return f"{shares.mean():.0%} ({shares.min():.0%} to {shares.max():.0%})"


def _print_caution(problem: Problem) -> None:
    if few := caution(len(problem.seeds)):
        say(few)
