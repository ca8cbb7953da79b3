"""``python -m studies``: tune delta, epsilon and c, and measure how much they matter."""

import os
import time
import warnings
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import optuna
import pandas as pd
import typer
from optuna.exceptions import ExperimentalWarning
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.algorithms import hyperparams_file
from benchmarks.environments import check_environment
from benchmarks.errors import SpecError
from benchmarks.folder_names import as_file_name, is_name
from benchmarks.numbers import return_text, score_text
from benchmarks.results import load_readable
from benchmarks.secrets import command_line, mask
from benchmarks.sources import by_module, changed
from benchmarks.sweep import SweepError
from studies import pruning as pruners
from studies.carrying_out import Confirmation, carry_out, confirm, stored_confirmation
from studies.entries import entries_of
from studies.objective import OBJECTIVES, Problem, define, usual_steps
from studies.progress import (
    caution,
    few_seeds,
    on_seeds,
    outcome,
    parameters,
    shown,
    value_name,
)
from studies.search_spaces import SPACES, read_space, space_for
from studies.searching import (
    PRUNERS,
    SAMPLERS,
    Search,
    check_search,
    grid_size,
    quiet,
    too_few_runs_to_prune,
)
from studies.study import (
    DEFAULT,
    STORAGE_VARIABLE,
    StudyError,
    best_trial,
    check_unlike,
    completed,
    connect,
    counted,
    create,
    fix_grid,
    load,
    studies_in,
    study_folder,
)
from studies.trials import RETURNS, TrialFailedError
from studies.workers import LocalWorkers, RayWorkers, Task, Workers

# The figures and the bootstrap (matplotlib, scipy, rliable) take a second to import: the commands
# that need them do it.
if TYPE_CHECKING:
    from studies.sensitivity import Width

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


class EngineName(str, Enum):
    """Where trials are carried out."""

    local = "local"
    ray = "ray"


_WIDE = 1_000  # columns

_NAME = typer.Argument(help="The study's name.")
_STORAGE = typer.Option(
    "",
    envvar=STORAGE_VARIABLE,
    help="A database's URL, such as postgresql://host/name; else a file in the study's folder. "
    "One with a password belongs into the variable: other users see a command's options.",
)
_ROOT = typer.Option(Path("studies-out"), file_okay=False, help="Where the studies' folders are.")
_FIGURES = typer.Option(
    None, file_okay=False, help="Where they go; else the study's folder.", show_default=False
)
_JOBS = typer.Option(1, min=1, help="Trials at once; each takes one core.")
_RUN_TIMEOUT = typer.Option(
    None,
    "--run-timeout",
    min=1,
    metavar="SECONDS",
    help="A run that takes longer is ended, and its trial has failed.",
    show_default=False,
)


@app.callback()
def studies() -> None:
    """Tune how far an update may go: delta of NPG and TRPO, epsilon of PPO, c and delta of ACER."""
    quiet()
    warnings.simplefilter("ignore", ExperimentalWarning)


@app.command()
def run(
    algo: str = typer.Option(
        help=f"One of {', '.join(SPACES)}, or the path of a class, such as sbx:PPO."
    ),
    envs: list[str] = typer.Option(
        ..., "--env", help="A Gymnasium environment; repeatable: the score is over all of them."
    ),
    trials: int = typer.Option(min=1, help="How many settings to try in all."),
    seeds: int = typer.Option(min=1, help="Runs of each setting on each environment."),
    steps: int = typer.Option(
        None, min=1, help="Steps of each run; else those of the suites.", show_default=False
    ),
    jobs: int = _JOBS,
    params: str = typer.Option(
        "", help="Parameters, by name or symbol, separated by commas; else target_kl or the like."
    ),
    extended: bool = typer.Option(False, help="Tune the next most important parameters, too."),
    space: Path = typer.Option(
        None, dir_okay=False, help="A YAML file with a space of your own.", show_default=False
    ),
    objective: str = typer.Option("final", help=f"One of {', '.join(OBJECTIVES)}."),
    normalisation: Path = typer.Option(
        None,
        dir_okay=False,
        help="A CSV with what a random policy and a reference have on environments of your own.",
        show_default=False,
    ),
    sampler: str = typer.Option("tpe", help=f"One of {', '.join(SAMPLERS)}."),
    pruner: str = typer.Option("none", help=f"One of {', '.join(PRUNERS)}."),
    search_seed: int = typer.Option(0, min=0, help="The sampler's seed."),
    timeout: float = typer.Option(
        None, min=0, help="Seconds after which no trial is begun any more.", show_default=False
    ),
    run_timeout: float = _RUN_TIMEOUT,
    engine: EngineName = typer.Option(EngineName.local, help="This machine, or a Ray cluster."),
    address: str = typer.Option(
        None, help="Ray: host:port, or auto; else one is started here.", show_default=False
    ),
    cpus_per_run: float = typer.Option(1.0, min=0.01, help="Ray: cores that each trial takes."),
    gpus_per_run: float = typer.Option(0.0, min=0.0, help="Ray: GPUs that each trial takes."),
    storage: str = _STORAGE,
    name: str = typer.Option(None, help="The study's name; else ALGO-ENV.", show_default=False),
    root: Path = _ROOT,
) -> None:
    """Carry out a study, or carry on one that was interrupted.

    The same command goes on where it was stopped, and shares the work when it is given several
    times at once; with more trials it extends the study. In the end the best setting and the
    defaults are trained on fresh seeds.
    """
    if name is None:
        name = as_file_name("-".join([algo, *envs]))
    try:
        folder = study_folder("--name", name, root).absolute()
        problem = _define(
            algo, envs, seeds, steps, params, extended, space, objective, normalisation
        )
        search = Search(sampler, pruner, trials, search_seed)
        check_search(search, problem)
        search = _no_more_than_the_grid(search, problem)
        check_unlike("--name", name, studies_in(root))
        workers: Workers = (
            RayWorkers(address, cpus_per_run, gpus_per_run)
            if engine is EngineName.ray
            else LocalWorkers()
        )
        # Now that nothing but the storage can refuse it: a refused study leaves no folder.
        if not storage:
            folder.mkdir(parents=True, exist_ok=True)
        connected = connect(storage, folder)
        check_unlike("--name", name, optuna.get_all_study_names(connected))
        study = create(name, problem, connected)
        if sampler == "grid":
            fix_grid(study, search.n_trials)
        folder.mkdir(parents=True, exist_ok=True)
    except (SpecError, StudyError, OSError) as error:
        _refuse(error)
    if few := caution(seeds):
        typer.echo(f"--seeds: {few}", err=True)
    if too_few_runs_to_prune(search, problem):
        typer.echo("--pruner: 'wilcoxon' cannot tell trials of fewer than 5 runs apart", err=True)
    _say_what_has_changed(folder)
    deadline = None if timeout is None else time.time() + timeout
    command = command_line("studies")
    task = Task(name, storage, folder, search, command, deadline, run_timeout)
    try:
        carry_out(study, problem, task, workers, jobs, shown=True)
        _print_trials(study, problem)
        typer.echo("the best trial and the defaults, on fresh seeds:")
        found = confirm(study, problem, folder, jobs, command, True, run_timeout)
    except (StudyError, TrialFailedError, SweepError) as error:
        typer.echo(f"error: {mask(str(error))}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on with what is missing", err=True)
        raise typer.Exit(130) from None
    _print_verdict(study, problem, found)
    _plot(study, problem, folder)


def _define(
    algo: str,
    envs: list[str],
    seeds: int,
    steps: int | None,
    params: str,
    extended: bool,
    space: Path | None,
    objective: str,
    normalisation: Path | None,
) -> Problem:
    if space is not None and (params or extended):
        raise SpecError("--space: exclude --params and --extended")
    for env_id in envs:
        check_environment(env_id, "--env")
    chosen = read_space(algo, space) if space else space_for(algo, _names(params), extended)
    steps = steps or usual_steps(envs)
    return define(algo, envs, seeds, steps, chosen, objective, normalisation, space)


def _no_more_than_the_grid(search: Search, problem: Problem) -> Search:
    if search.sampler != "grid":
        return search
    size = grid_size(search, problem)
    if size != search.n_trials:
        typer.echo(f"the grid and the defaults are {size} trials", err=True)
    return Search(search.sampler, search.pruner, size, search.seed)


@app.command()
def show(name: str = _NAME, storage: str = _STORAGE, root: Path = _ROOT) -> None:
    """Show a study's trials, the best one, and what it did on fresh seeds."""
    study, problem, _ = _load(name, storage, root)
    _print_trials(study, problem)
    best = best_trial(study)
    if best is None:
        typer.echo("no trial has completed")
        raise typer.Exit(1)
    found = stored_confirmation(study)
    if found is None:
        typer.echo(f"best trial: {best.number}; not tried on fresh seeds yet")
        if few := caution(len(problem.seeds)):
            typer.echo(few)
    else:
        _print_verdict(study, problem, found)


@app.command()
def best(
    name: str = _NAME,
    yaml: bool = typer.Option(False, "--yaml", help="As entries of a hyperparameter file."),
    storage: str = _STORAGE,
    root: Path = _ROOT,
) -> None:
    """Print the best trial's values, or entries that can be appended to a hyperparameter file."""
    study, problem, _ = _load(name, storage, root)
    trial = best_trial(study)
    if trial is None:
        _refuse("no trial has completed")
    if not yaml:
        typer.echo(f"{parameters(problem, trial)}: {outcome(problem, trial)}")
        return
    text, present = entries_of(study.study_name, problem, trial, stored_confirmation(study))
    typer.echo(text, nl=False)
    for env_id in present:
        typer.echo(
            f"{os.path.relpath(hyperparams_file(problem.algo))} has an entry {env_id!r} already; "
            "remove the one that you do not want",
            err=True,
        )


@app.command()
def plot(
    name: str = _NAME, storage: str = _STORAGE, root: Path = _ROOT, out: Path = _FIGURES
) -> None:
    """Draw a study's trials: by value and in their order."""
    study, problem, folder = _load(name, storage, root)
    try:
        _plot(study, problem, out or folder)
    except ValueError as error:
        _refuse(error)


@app.command()
def sensitivity(
    name: str = _NAME,
    params: str = typer.Option("", help="Parameters, separated by commas; else all with ranges."),
    points: int = typer.Option(9, min=3, help="Values of each, evenly spread over its range."),
    jobs: int = _JOBS,
    run_timeout: float = _RUN_TIMEOUT,
    storage: str = _STORAGE,
    root: Path = _ROOT,
    out: Path = _FIGURES,
) -> None:
    """Measure how the score depends on each parameter, all else as in the best trial.

    Writes sensitivity.csv (each run; into the study's folder, too), widths.csv (how wide the good
    part of the range is) and sensitivity.png, with the parameters that have been measured before;
    runs that are there are not made again.
    """
    from studies import sensitivity as sensitivities
    from studies.plots import plot_sensitivity

    study, problem, folder = _load(name, storage, root)
    _say_what_has_changed(folder)
    command = command_line("studies")
    try:
        chosen = [sensitivities.swept(problem, each) for each in _names(params)]
        chosen = chosen or sensitivities.sweepable(problem)
        if not chosen:
            raise SpecError("the study has no parameter with a range of positive numbers")
        runs = sensitivities.stored(folder)
        for each in chosen:
            runs[each.name] = sensitivities.measure(
                study, problem, folder, each, points, jobs, command, True, run_timeout
            )
    except (SpecError, StudyError, TrialFailedError, SweepError) as error:
        _refuse(error)
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on with what is missing", err=True)
        raise typer.Exit(130) from None
    widths = {name: sensitivities.width(frame) for name, frame in runs.items()}
    out = out or folder
    for place in (folder, out):
        place.mkdir(parents=True, exist_ok=True)
        sensitivities.store(runs, place)
    pd.DataFrame([vars(each) for each in widths.values()]).to_csv(out / "widths.csv", index=False)
    plot_sensitivity(problem, runs, widths, out / "sensitivity.png")
    _print_widths(study, problem, widths)
    typer.echo(f"figure: {os.path.relpath(out / 'sensitivity.png')}")


@app.command()
def pruning(
    name: str = _NAME,
    orders: int = typer.Option(
        20, min=1, help="Orders of the trials: the study's own and random ones."
    ),
    storage: str = _STORAGE,
    root: Path = _ROOT,
    out: Path = _FIGURES,
) -> None:
    """Say what each pruner would have saved of a finished study, and whether it keeps the best.

    The trials are carried out again from their runs, in several orders, since what a pruner does
    depends on what it has seen; nothing is trained. Writes pruning.csv, one row an order.
    """
    study, problem, folder = _load(name, storage, root)
    _say_what_has_changed(folder)
    out = out or folder
    try:
        trials = pruners.check(study, problem, folder)
        searches = [Search(pruner=each) for each in PRUNERS if each != "none"]
        found: dict[str, list[pruners.Replay]] = {each.pruner: [] for each in searches}
        todo = [(search, each) for search in searches for each in pruners.orders(trials, orders)]
        for search, ordered in track(todo, "pruning", console=Console(stderr=True)):
            again = pruners.replay(study, problem, folder, ordered, search)
            found[search.pruner].append(again)
    except (StudyError, OSError) as error:
        _refuse(error)
    out.mkdir(parents=True, exist_ok=True)
    frame = pruners.frame_of(found, len(trials))
    frame.to_csv(out / pruners.FILE, index=False, lineterminator="\n")
    _print_pruning(problem, frame)


def _print_pruning(problem: Problem, frame: pd.DataFrame) -> None:
    table = Table("pruner", "trials pruned", "steps saved", "best kept", box=SIMPLE)
    table.add_column(f"{value_name(problem)} lost at most", justify="right")
    for pruner, rows in frame.groupby("pruner", sort=False):
        saved = rows["steps_saved"]
        table.add_row(
            str(pruner),
            f"{rows['pruned'].mean():.1f} of {rows['trials'].iloc[0]}",
            f"{saved.mean():.0%} ({saved.min():.0%} to {saved.max():.0%})",
            f"{rows['best_kept'].sum()} of {len(rows)}",
            score_text(rows["lost"].max()),
        )
    _print(table)
    if few := caution(len(problem.seeds)):
        typer.echo(few)


def _load(name: str, storage: str, root: Path) -> tuple[optuna.Study, Problem, Path]:
    try:
        folder = study_folder("NAME", name, root).absolute()
        if not storage and not folder.is_dir():
            known = ", ".join(filter(is_name, studies_in(root))) or "none"
            _refuse(f"{name!r} is not a study in {root}; there are: {known}")
        study, problem = load(name, connect(storage, folder))
    except (SpecError, StudyError) as error:
        _refuse(error)
    return study, problem, folder


def _say_what_has_changed(folder: Path) -> None:
    """Which of a study's runs were made with another source of what is the user's own.

    They are not made again: the study's values are theirs.
    """
    sources = load_readable(folder / "runs").runs["sources"]
    for module, number in by_module(changed(sources)).items():
        typer.echo(
            f"{number:,} of the study's runs were made with another source of {module}; a study "
            "with another --name has none of them",
            err=True,
        )


def _print_trials(study: optuna.Study, problem: Problem) -> None:
    names = [each.name for each in problem.space]
    table = Table("trial", *names, box=SIMPLE, padding=0)
    table.add_column(f" {value_name(problem)}", justify="right")
    if problem.has_two_objectives:
        table.add_column(" seconds", justify="right")
    for spec in problem.specs("", {}):
        table.add_column(f" {_run_name(problem, spec.env_id, spec.seed)}", justify="right")
    table.add_column(" ")
    for trial in counted(study):
        table.add_row(*_cells(problem, trial))
    _print(table)
    what = OBJECTIVES[problem.objective].split(", and")[0]
    scale = ", 0 for a random policy and 1 for the reference" if problem.is_normalised else ""
    typer.echo(f"{value_name(problem)}: {what}{scale}; of each seed the final return as it is")


def _print(table: Table) -> None:
    console = Console()
    # Off a terminal nobody has asked for a width, and lines that are broken are of no use.
    Console(markup=False, width=console.width if console.is_terminal else _WIDE).print(table)


def _run_name(problem: Problem, env_id: str, seed: int) -> str:
    return f"return, seed {seed}" if len(problem.env_ids) == 1 else f"return, {env_id} {seed}"


def _cells(problem: Problem, trial: optuna.trial.FrozenTrial) -> list[str]:
    cells = [str(trial.number)]
    cells += [
        shown(trial.params[each.name]) if each.name in trial.params else ""
        for each in problem.space
    ]
    values = trial.values if trial.state is optuna.trial.TrialState.COMPLETE else None
    cells.append(score_text(values[0]) if values else "")
    if problem.has_two_objectives:
        cells.append(f"{values[1]:,.1f}" if values else "")
    n_runs = len(problem.seeds) * len(problem.env_ids)
    returns = [return_text(value) for value in trial.user_attrs.get(RETURNS, [])]
    cells += (returns + [""] * n_runs)[:n_runs]
    notes = [] if values else [trial.state.name.lower()]
    notes += ["defaults"] * bool(trial.user_attrs.get(DEFAULT))
    return [*cells, " ".join(notes)]


def _print_verdict(study: optuna.Study, problem: Problem, found: Confirmation) -> None:
    from studies.estimates import as_text, on_fresh_seeds, verdict

    trial = next(each for each in counted(study) if each.number == found.trial)
    compared, n_trials = on_fresh_seeds(problem, found), len(completed(study))
    name, seeds = value_name(problem), on_seeds(found.seeds)
    searched = f"{score_text(found.searched)}{few_seeds(len(problem.seeds))}"
    typer.echo(f"best trial: {trial.number}, {parameters(problem, trial)}")
    typer.echo(f"  in the study:   {name} {searched}, the highest of {n_trials}")
    typer.echo(f"  on fresh seeds: {name} {as_text(compared.best)}, {seeds}")
    typer.echo(f"  the defaults:   {name} {as_text(compared.defaults)}, the same seeds")
    if trial.user_attrs.get(DEFAULT):
        typer.echo("the defaults are the best values that were found")
        return
    typer.echo(f"  difference:     {as_text(compared.gain, sign=True)}")
    typer.echo(verdict(compared.gain))


def _print_widths(study: optuna.Study, problem: Problem, widths: "dict[str, Width]") -> None:
    from studies.sensitivity import importances

    shares = importances(study, problem)
    table = Table("parameter", "best", "good from", "to", "decades", "importance", box=SIMPLE)
    for name, good in widths.items():
        share = f"{shares[name]:.0%}" if name in shares else ""
        values = (shown(good.best), shown(good.low), shown(good.high))
        table.add_row(name, *values, str(good), share)
    _print(table)
    if few := caution(len(problem.seeds)):
        typer.echo(few)


def _plot(study: optuna.Study, problem: Problem, folder: Path) -> None:
    from studies.plots import plot_history, plot_values

    folder.mkdir(parents=True, exist_ok=True)
    for draw, file in ((plot_values, "values.png"), (plot_history, "history.png")):
        draw(study, problem, folder / file)
        typer.echo(f"figure: {os.path.relpath(folder / file)}")


def _names(option: str) -> list[str]:
    return [name.strip() for name in option.split(",") if name.strip()]


def _refuse(error: object) -> NoReturn:
    typer.echo(f"error: {mask(str(error))}", err=True)
    raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
