"""The commands of ``python -m studies``.

Each imports what it needs when it is called: some of it takes seconds.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from benchmarks.algorithms import ALGORITHMS
from benchmarks.command_line import (
    ADDRESS,
    CPUS,
    ENGINE,
    GPUS,
    JOBS,
    RUN_TIMEOUT,
    EngineName,
    check_ray_options,
    fail,
    fail_on,
    given_command,
    make_console,
    resumable,
    say,
    split_names,
)
from benchmarks.errors import SpecError
from studies.claims.command import app as claims
from studies.errors import StudyError
from studies.objective import OBJECTIVES
from studies.search import PRUNERS, SAMPLERS
from studies.storage import STORAGE_VARIABLE

if TYPE_CHECKING:
    from optuna import Study

    from studies.objective import Problem
    from studies.search import Search
    from studies.workers import Task, Workers

app = typer.Typer(rich_markup_mode="markdown", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(claims, name="claims")

_NAME = typer.Argument(help="The study's name.")
_STORAGE = typer.Option(
    "",
    envvar=STORAGE_VARIABLE,
    help="A database's URL, such as postgresql://host/name; else a file in the study's folder. "
    "Put a URL with a password into the variable: other users can see a command's options.",
)
_ROOT = typer.Option(Path("studies-out"), file_okay=False, help="Where the studies' folders are.")
_FIGURES = typer.Option(
    None, file_okay=False, help="Where they go; else the study's folder.", show_default=False
)


@app.callback()
def studies() -> None:
    """Tune how far an update may go: delta of NPG and TRPO, epsilon of PPO, c and delta of ACER."""


@app.command()
def run(
    algo: str = typer.Option(
        help=f"One of {', '.join(ALGORITHMS)}, or the path of a class, such as sbx:PPO."
    ),
    envs: list[str] = typer.Option(
        ..., "--env", help="A Gymnasium environment; repeatable: the score is over all of them."
    ),
    trials: int = typer.Option(min=1, help="How many settings to try in all."),
    seeds: int = typer.Option(min=1, help="Runs of each setting on each environment."),
    steps: int = typer.Option(
        None, min=1, help="Steps of each run; else those of the suites.", show_default=False
    ),
    jobs: int = JOBS,
    params: str = typer.Option(
        "", help="Parameters, by name or symbol, separated by commas; else target_kl or the like."
    ),
    extended: bool = typer.Option(False, help="Tune the next most important parameters as well."),
    space: Path = typer.Option(
        None, dir_okay=False, help="A YAML file with a space of your own.", show_default=False
    ),
    hyperparams: Path = typer.Option(
        None,
        dir_okay=False,
        help="A YAML file with what is not tuned; else the algorithm's own.",
        show_default=False,
    ),
    objective: str = typer.Option("final", help=f"One of {', '.join(OBJECTIVES)}."),
    normalisation: Path = typer.Option(
        None,
        dir_okay=False,
        help="A CSV with the returns of a random policy and a reference on your own environments.",
        show_default=False,
    ),
    sampler: str = typer.Option("tpe", help=f"One of {', '.join(SAMPLERS)}."),
    pruner: str = typer.Option("none", help=f"One of {', '.join(PRUNERS)}."),
    search_seed: int = typer.Option(0, min=0, help="The sampler's seed."),
    timeout: float = typer.Option(
        None, min=0, help="Seconds after which no more trials begin.", show_default=False
    ),
    run_timeout: float = RUN_TIMEOUT,
    engine: EngineName = ENGINE,
    address: str = ADDRESS,
    cpus_per_run: float = CPUS,
    gpus_per_run: float = GPUS,
    storage: str = _STORAGE,
    name: str = typer.Option(None, help="The study's name; else ALGO-ENV.", show_default=False),
    root: Path = _ROOT,
) -> None:
    """Carry out a study, or continue one that was interrupted.

    The same command continues an interrupted study, and shares the work when it is given several
    times at once; with more trials it extends the study. At the end the best setting and the
    defaults are trained on fresh seeds.
    """
    from benchmarks.folder_names import as_file_name
    from studies.search import Search
    from studies.storage import study_folder
    from studies.workers import Task

    if name is None:
        name = as_file_name("-".join([algo, *envs]))
    with fail_on(SpecError, StudyError, OSError):
        folder = study_folder("--name", name, root).absolute()
        problem = _define(
            algo, envs, seeds, steps, params, extended, space, hyperparams, objective, normalisation
        )
        search = _checked(Search(sampler, pruner, trials, search_seed), problem)
        _check_name(name, root)
        workers = _workers(engine, address, cpus_per_run, gpus_per_run)
        study = _open(name, problem, search, storage, folder)
    _print_cautions(problem, search, folder)
    deadline = None if timeout is None else time.time() + timeout
    command = given_command("studies")
    task = Task(name, storage, folder, search, command, deadline, run_timeout)
    _execute(study, problem, task, workers, jobs)


def _define(
    algo: str,
    envs: list[str],
    seeds: int,
    steps: int | None,
    params: str,
    extended: bool,
    space: Path | None,
    hyperparams: Path | None,
    objective: str,
    normalisation: Path | None,
) -> Problem:
    from benchmarks.environments import check_environment
    from studies.definition import define, usual_steps
    from studies.search_spaces import read_space, space_for

    if space is not None and (params or extended):
        raise SpecError("--space: exclude --params and --extended")
    for env_id in envs:
        check_environment(env_id, "--env")
    chosen = read_space(algo, space) if space else space_for(algo, split_names(params), extended)
    steps = steps or usual_steps(envs)
    return define(algo, envs, seeds, steps, chosen, objective, normalisation, space, hyperparams)


def _checked(search: Search, problem: Problem) -> Search:
    """The search, whose trials are no more than its grid has points."""
    from studies.search import check_search, grid_size

    check_search(search, problem)
    if search.sampler != "grid":
        return search
    size = grid_size(search, problem)
    if size != search.n_trials:
        say(f"the grid and the defaults are {size} trials", err=True)
    return replace(search, n_trials=size)


def _check_name(name: str, root: Path) -> None:
    from studies.storage import check_unlike, studies_in

    check_unlike("--name", name, studies_in(root))


def _workers(
    engine: EngineName, address: str | None, cpus_per_run: float, gpus_per_run: float
) -> Workers:
    from studies.workers import LocalWorkers, RayWorkers

    if engine is EngineName.ray:
        return RayWorkers(address, cpus_per_run, gpus_per_run)
    check_ray_options(address, cpus_per_run, gpus_per_run)
    return LocalWorkers()


def _open(name: str, problem: Problem, search: Search, storage: str, folder: Path) -> Study:
    """The study, created if need be; if the storage refuses it, no folder is left."""
    from optuna import get_all_study_names

    from studies.storage import check_not_archived, check_unlike, connect
    from studies.study import create, fix_grid, quiet

    quiet()
    if not storage:
        check_not_archived(folder)
        folder.mkdir(parents=True, exist_ok=True)
    connected = connect(storage, folder)
    check_unlike("--name", name, get_all_study_names(connected))
    study = create(name, problem, connected)
    if search.sampler == "grid":
        fix_grid(study, search.n_trials)
    folder.mkdir(parents=True, exist_ok=True)
    return study


def _print_cautions(problem: Problem, search: Search, folder: Path) -> None:
    from studies.search import too_few_runs_to_prune
    from studies.wording import caution

    if few := caution(len(problem.seeds)):
        say(f"--seeds: {few}", err=True)
    if too_few_runs_to_prune(search, problem):
        say("--pruner: 'wilcoxon' cannot tell trials of fewer than 5 runs apart", err=True)
    _print_changed_sources(folder)


def _print_changed_sources(folder: Path) -> None:
    """Say which of a study's runs were made with another source of the user's own code.

    They are not made again, since the study's values come from them.
    """
    from benchmarks.results import load_readable
    from benchmarks.sources import by_module, changed

    sources = load_readable(folder / "runs").runs["sources"]
    for module, number in by_module(changed(sources)).items():
        say(
            f"{number:,} of the study's runs were made with another source of {module}; a study "
            "with another --name has none of them",
            err=True,
        )


def _execute(study: Study, problem: Problem, task: Task, workers: Workers, jobs: int) -> None:
    from benchmarks.sweep import SweepError
    from studies.confirmation import confirm
    from studies.display import print_trials, print_verdict
    from studies.execution import execute
    from studies.study import TrialFailedError

    with fail_on(StudyError, TrialFailedError, SweepError, status=1), resumable():
        execute(study, problem, task, workers, jobs, shown=True)
        print_trials(study, problem)
        say("the best trial and the defaults, on fresh seeds:")
        found = confirm(study, problem, task.folder, jobs, task.command, True, task.run_timeout)
    print_verdict(study, problem, found)
    _plot(study, problem, task.folder)


@app.command()
def show(name: str = _NAME, storage: str = _STORAGE, root: Path = _ROOT) -> None:
    """Show a study's trials, the best of them, and its results on fresh seeds."""
    from studies.confirmation import stored_confirmation
    from studies.display import print_trials, print_verdict
    from studies.study import best_trial
    from studies.wording import caution

    study, problem, _ = _load(name, storage, root)
    print_trials(study, problem)
    best = best_trial(study)
    if best is None:
        say("no trial has completed")
        raise typer.Exit(1)
    found = stored_confirmation(study)
    if found is None:
        say(f"best trial: {best.number}; not tried on fresh seeds yet")
        if few := caution(len(problem.seeds)):
            say(few)
    else:
        print_verdict(study, problem, found)


@app.command()
def best(
    name: str = _NAME,
    yaml: bool = typer.Option(False, "--yaml", help="As entries of a hyperparameter file."),
    storage: str = _STORAGE,
    root: Path = _ROOT,
) -> None:
    """Print the best trial's values, or entries that can be appended to a hyperparameter file."""
    from benchmarks.algorithms import hyperparams_file
    from studies.confirmation import stored_confirmation
    from studies.entries import yaml_entries
    from studies.study import best_trial
    from studies.wording import outcome, parameters

    study, problem, _ = _load(name, storage, root)
    trial = best_trial(study)
    if trial is None:
        fail("no trial has completed")
    if not yaml:
        say(f"{parameters(problem, trial)}: {outcome(problem, trial)}")
        return
    text, present = yaml_entries(study.study_name, problem, trial, stored_confirmation(study))
    typer.echo(text, nl=False)
    for env_id in present:
        say(
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
    with fail_on(ValueError, OSError):
        _plot(study, problem, out or folder)


@app.command()
def sensitivity(
    name: str = _NAME,
    params: str = typer.Option("", help="Parameters, separated by commas; else all with ranges."),
    points: int = typer.Option(9, min=3, help="Values of each, evenly spread over its range."),
    jobs: int = JOBS,
    run_timeout: float = RUN_TIMEOUT,
    storage: str = _STORAGE,
    root: Path = _ROOT,
    out: Path = _FIGURES,
) -> None:
    """Measure how the score depends on each parameter, all others as in the best trial.

    Writes sensitivity.csv (each run; into the study's folder as well), widths.csv (how wide the
    good part of the range is) and sensitivity.png, with the parameters that were measured before.
    Runs that exist are not made again.
    """
    from benchmarks.sweep import SweepError
    from studies import sensitivity
    from studies.display import print_widths
    from studies.plots import plot_sensitivity
    from studies.storage import check_not_archived
    from studies.study import TrialFailedError

    study, problem, folder = _load(name, storage, root)
    _print_changed_sources(folder)
    out, command = out or folder, given_command("studies")
    with fail_on(SpecError, StudyError, TrialFailedError, SweepError, OSError), resumable():
        if not storage:
            check_not_archived(folder)
        chosen = [sensitivity.swept(problem, each) for each in split_names(params)]
        chosen = chosen or sensitivity.sweepable(problem)
        if not chosen:
            raise SpecError("the study has no parameter with a range of positive numbers")
        runs = sensitivity.stored(folder)
        for each in chosen:
            runs[each.name] = sensitivity.measure(
                study, problem, folder, each, points, jobs, command, True, run_timeout
            )
        widths = {name: sensitivity.width(frame) for name, frame in runs.items()}
        for place in {folder, out}:
            sensitivity.store(runs, place)
        sensitivity.store_widths(widths, out)
        plot_sensitivity(problem, runs, widths, out / "sensitivity.png")
    print_widths(problem, widths, sensitivity.importances(study, problem))
    say(f"figure: {os.path.relpath(out / 'sensitivity.png')}")


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

    The trials are replayed from their runs in several orders, since a pruner's decisions depend on
    the trials before. Nothing is trained. Writes pruning.csv, one row an order.
    """
    from rich.progress import track

    from studies import pruning
    from studies.display import print_pruning
    from studies.search import Search

    study, problem, folder = _load(name, storage, root)
    _print_changed_sources(folder)
    with fail_on(StudyError, OSError):
        trials = pruning.replayable(study, problem, folder)
        searches = [Search(pruner=each) for each in PRUNERS if each != "none"]
        found: dict[str, list[pruning.Replay]] = {each.pruner: [] for each in searches}
        todo = [(search, each) for search in searches for each in pruning.orders(trials, orders)]
        for search, ordered in track(todo, "pruning", console=make_console(stderr=True)):
            found[search.pruner].append(pruning.replay(study, problem, folder, ordered, search))
        frame = pruning.to_frame(found, len(trials))
        pruning.store(frame, out or folder)
    print_pruning(problem, frame)


@app.command()
def archive(
    root: Path = _ROOT,
    storage: str = _STORAGE,
    out: Path = typer.Option(file_okay=False, help="Where the archive goes."),
) -> None:
    """Write all studies as a few tables, without their runs: small enough for a repository.

    An archive's folder is a --root whose studies can be shown and reported, but not continued.
    """
    from studies.archive import archive
    from studies.study import quiet

    quiet()
    with fail_on(StudyError, OSError):
        names = archive(root, storage, out)
    say(f"{out}: {len(names)} studies: {', '.join(names)}")


def _load(name: str, storage: str, root: Path) -> tuple[Study, Problem, Path]:
    from benchmarks.folder_names import is_name
    from studies.storage import connect, studies_in, study_folder
    from studies.study import load, quiet

    quiet()
    with fail_on(SpecError, StudyError):
        folder = study_folder("NAME", name, root).absolute()
        if not storage and name not in studies_in(root):
            known = ", ".join(filter(is_name, studies_in(root))) or "none"
            fail(f"{name!r} is not a study in {root}; there are: {known}")
        study, problem = load(name, connect(storage, folder))
    return study, problem, folder


def _plot(study: Study, problem: Problem, folder: Path) -> None:
    from studies.plots import plot_history, plot_values

    for draw, file in ((plot_values, "values.png"), (plot_history, "history.png")):
        draw(study, problem, folder / file)
        say(f"figure: {os.path.relpath(folder / file)}")
