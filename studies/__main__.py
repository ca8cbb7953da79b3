"""``python -m studies``: tune the trust region or the clip range."""

import shlex
import sys
from pathlib import Path

import optuna
import typer
from optuna.trial import FrozenTrial
from rich.console import Console
from rich.table import Table

from benchmarks.specs import SpecError
from studies.objective import Problem, define
from studies.plots import plot_returns
from studies.search_spaces import SPACES
from studies.study import (
    DEFAULT,
    ERROR,
    RETURNS,
    StudyError,
    carried_out,
    completed,
    open_study,
    optimise,
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def studies() -> None:
    """Tune how far an update may go: delta of NPG and TRPO, epsilon of PPO."""


@app.command()
def run(
    algo: str = typer.Option(help=f"One of {', '.join(SPACES)}."),
    env: str = typer.Option(help="A Gymnasium environment."),
    trials: int = typer.Option(min=1, help="How many values to try in all."),
    seeds: int = typer.Option(min=1, help="Runs of each value."),
    steps: int = typer.Option(min=1, help="Steps of each run."),
    jobs: int = typer.Option(1, min=1, help="Runs at once; each takes one core."),
    out: Path = typer.Option(Path("studies-out"), file_okay=False, help="Where studies are kept."),
    name: str = typer.Option("", help="The study's name; ALGO-ENV if not given."),
) -> None:
    """Carry out a study, or carry on one that was interrupted.

    The same command goes on where it was stopped; with more trials it extends the study.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = name or f"{algo}-{env}".replace("/", "__").replace(":", "__")
    folder = out / name
    console = Console()
    try:
        problem = define(algo, env, seeds, steps)
        study = open_study(name, problem, folder)
    except (SpecError, StudyError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    try:
        optimise(
            study,
            problem,
            folder,
            trials,
            jobs,
            f"python -m studies {shlex.join(sys.argv[1:])}",
            lambda trial: typer.echo(_line(problem, trial)),
            show_progress=console.is_terminal,
        )
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on with what is missing", err=True)
        raise typer.Exit(130) from None
    _conclude(problem, study, folder, console)


def _conclude(problem: Problem, study: optuna.Study, folder: Path, console: Console) -> None:
    console.print(_table(problem, carried_out(study)))
    done = completed(study)
    if not done:
        typer.echo("no trial has completed")
        raise typer.Exit(1)
    typer.echo(_comparison(problem, study.best_trial, done))
    figure = folder / "return.png"
    plot_returns(problem, done, figure)
    typer.echo(f"figure: {figure}")


def _line(problem: Problem, trial: FrozenTrial) -> str:
    name = problem.parameter.name
    outcome = (
        f"failed: {trial.user_attrs[ERROR].splitlines()[0]}"
        if trial.value is None
        else f"return {trial.value:,.1f}"
    )
    return f"trial {trial.number}: {name} {trial.params[name]:.4g}: {outcome}"


def _table(problem: Problem, trials: list[FrozenTrial]) -> Table:
    seeds = [f"seed {seed}" for seed in problem.seeds]
    table = Table("trial", problem.parameter.name, "return", *seeds, "")
    for trial in trials:
        notes = "default" if trial.user_attrs.get(DEFAULT) else ""
        value, returns = "failed", [""] * len(seeds)
        if trial.value is None:
            notes = f"{notes} {trial.user_attrs[ERROR].splitlines()[0]}".strip()
        else:
            value = f"{trial.value:,.1f}"
            returns = [f"{each:,.1f}" for each in trial.user_attrs[RETURNS]]
        table.add_row(
            str(trial.number), f"{trial.params[problem.parameter.name]:.4g}", value, *returns, notes
        )
    return table


def _comparison(problem: Problem, best: FrozenTrial, done: list[FrozenTrial]) -> str:
    name = problem.parameter.name
    lines = [
        f"best:    {name} = {best.params[name]:.4g}, return {best.value:,.1f}, "
        f"the highest of {len(done)} trials: expect less on other seeds"
    ]
    lines += [
        f"default: {name} = {trial.params[name]:.4g}, return {trial.value:,.1f}"
        for trial in done
        if trial.user_attrs.get(DEFAULT)
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    app()
