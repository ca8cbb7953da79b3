"""The commands of ``python -m benchmarks``.

Each imports what it needs when it is called: some of it takes seconds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from benchmarks.algorithms import ALGORITHMS, USUAL
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
from benchmarks.records import MAX_SEED, RunSpec

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from benchmarks.storage import Folder
    from benchmarks.sweep import Engine, SweepResult

app = typer.Typer(
    help="Run algorithms on suites of environments.",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # which fills paragraphs
    pretty_exceptions_enable=False,
)

_TRACK = typer.Option(
    "", help="wandb and mlflow, separated by commas: log to them as well; both work offline."
)
_OUT = typer.Option("runs", help="Where the run folders go: a folder, or an fsspec URL.")
_ROOT = typer.Argument(help="A folder with runs, or an fsspec URL.")


@app.command()
def run(
    suite: str = typer.Argument(help="A suite's name (see list), or the path of a .yaml file."),
    algos: str = typer.Option(
        ",".join(USUAL),
        help="Algorithms, separated by commas; also classes by their paths, such as sbx:PPO.",
    ),
    envs: str = typer.Option("", help="Environments of the suite, separated by commas; else all."),
    seeds: int = typer.Option(1, min=1, max=10_000, help="How many seeds."),
    first_seed: int = typer.Option(0, min=0, max=MAX_SEED, help="The first of them."),
    steps: int = typer.Option(
        None, min=1, help="Steps of each run, instead of the suite's.", show_default=False
    ),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="A hyperparameter for all algorithms; repeatable."
    ),
    hyperparams: list[str] = typer.Option(
        [], metavar="ALGO=FILE", help="A file with an algorithm's hyperparameters; repeatable."
    ),
    engine: EngineName = ENGINE,
    jobs: int = JOBS,
    address: str = ADDRESS,
    cpus_per_run: float = CPUS,
    gpus_per_run: float = GPUS,
    track: str = _TRACK,
    run_timeout: float = RUN_TIMEOUT,
    rerun_changed: bool = typer.Option(
        False,
        "--rerun-changed",
        help="Make runs again whose algorithm or environment, if your own, was edited since then.",
    ),
    out: str = _OUT,
) -> None:
    """Run every algorithm on every environment with every seed.

    Finished runs are not run again, so the same command continues an interrupted sweep, and several
    at once share the work. The exit status is 1 if a run has failed.
    """
    from benchmarks.specs import parse_files, parse_overrides, plan
    from benchmarks.suite import load_suite

    with fail_on(SpecError):
        loaded = load_suite(suite)
        specs = plan(
            loaded,
            split_names(algos),
            split_names(envs) if envs else [env.env_id for env in loaded.envs],
            range(first_seed, first_seed + seeds),
            steps,
            parse_overrides(settings),
            parse_files(hyperparams),
        )
    trackers = split_names(track)
    chosen = _engine(engine, address, cpus_per_run, gpus_per_run, trackers, run_timeout)
    _sweep(specs, _folder(out, "--out: "), jobs, chosen, trackers, run_timeout, rerun_changed)


@app.command()
def status(root: str = _ROOT) -> None:
    """Show how many runs have finished, are running, have failed and why, and are missing.

    What cannot be read is named; the exit status is then 2.
    """
    from benchmarks.names import first_line
    from benchmarks.status import load_status

    found = load_status(_existing(root))
    console = make_console(markup=False)
    console.print(_status_table(found.table) if len(found.table) else f"no runs in {root}")
    for failure in found.failures.itertuples(index=False):
        say(
            f"failed: {failure.algo} {failure.env_id} seed {failure.seed}: "
            f"{first_line(str(failure.error))}"
        )
    for module, number in found.changed.items():
        say(f"changed: {number:,} runs were made with another source of {module}")
    for line in found.without_return:
        say(f"no return: {line}; reports leave the run out")
    for run, since in found.stalled:
        minutes = (time.time() - since) / 60
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(since))
        say(f"no progress since {when}, {minutes:,.0f} minutes ago: {' '.join(run)}")
    for asked, number in found.unfinished:
        say(f"missing: {number:,} runs of: {asked.command}")
        others = f", or remove {asked.path}" if asked.path.exists() else ""  # not in an archive
        say(f"         give that command again to make them{others}")
    for error in found.broken:
        say(f"error: {error}", err=True)
    if found.broken:
        raise typer.Exit(2)


def _status_table(rows: pd.DataFrame) -> Table:
    import pandas as pd
    from rich.box import SIMPLE
    from rich.table import Table

    from benchmarks.numbers import rough_text

    table = Table(box=SIMPLE, padding=0)
    for column in ("suite", "algorithm", "environment"):
        table.add_column(column, overflow="fold")  # whole, even if on two lines
    for column in (" finished", " running", " failed", " missing", " steps/s"):
        table.add_column(column, justify="right", no_wrap=True)
    for suite, algo, env_id, *counts, speed in rows.itertuples(index=False):
        shown = "" if pd.isna(speed) else rough_text(speed)
        table.add_row(suite, algo, env_id, *map(str, counts), shown)
    return table


@app.command()
def retry(
    root: str = _ROOT,
    failed: bool = typer.Option(
        False, "--failed", help="Try them again; without it they are only listed."
    ),
    engine: EngineName = ENGINE,
    jobs: int = JOBS,
    address: str = ADDRESS,
    cpus_per_run: float = CPUS,
    gpus_per_run: float = GPUS,
    track: str = _TRACK,
    run_timeout: float = RUN_TIMEOUT,
) -> None:
    """Try the failed runs of a folder again, with the same settings and the present code."""
    from benchmarks.records import BrokenRunError
    from benchmarks.results import load_failed_specs

    with fail_on(BrokenRunError):
        found = load_failed_specs(_existing(root))
    if not found:
        say(f"no failed runs in {root}")
    elif not failed:
        for spec, out in found:
            say(spec.failure_file(out))
        say("--failed tries them again; to forget a failure, remove its file")
    else:
        outs = {str(out) for _, out in found}
        if len(outs) > 1:
            fail(f"{root}: has runs of several sweeps; name one of {', '.join(sorted(outs))}")
        trackers = split_names(track)
        chosen = _engine(engine, address, cpus_per_run, gpus_per_run, trackers, run_timeout)
        _sweep([spec for spec, _ in found], found[0][1], jobs, chosen, trackers, run_timeout)


@app.command()
def repeat(
    run_folder: str = typer.Argument(help="The folder of a finished or an archived run."),
    out: str = typer.Option(help="Where the new run folder goes: a folder, or an fsspec URL."),
) -> None:
    """Run a finished run again, and say whether its evaluations are the same.

    The seed, the settings and the evaluation are those in its run.json; the code and the packages
    are the present ones. The exit status is 1 if the evaluations differ in a single bit.
    """
    from benchmarks.records import BrokenRunError
    from benchmarks.repeating import compare
    from benchmarks.results import read_evaluations
    from benchmarks.run_files import read_run

    before, parent = _existing(run_folder), _folder(out, "--out: ")
    with fail_on(BrokenRunError):
        spec = read_run(before).spec
        read_evaluations(before)
    after = spec.folder(parent)
    if after.absolute() == before.absolute():
        fail(f"--out: {out}: holds the run itself; name another folder")
    _sweep([spec], parent, 1, None, [])
    compared = compare(before, after)
    if compared.first_difference is None:
        say(f"equal: all {compared.n_evaluations} evaluations of {spec}")
    else:
        say(f"different: {compared.first_difference}")
    for line in compared.circumstances or ["commit, sources, versions and machine are the same"]:
        say(f"  {line}")
    if compared.first_difference is not None:
        raise typer.Exit(1)


@app.command()
def export(
    root: str = _ROOT,
    csv: bool = typer.Option(False, "--csv", help="Write CSV."),
    parquet: bool = typer.Option(False, "--parquet", help="Write Parquet."),
    out: Path = typer.Option(
        None, dir_okay=False, help="The file; else evaluations.csv or .parquet, here."
    ),
) -> None:
    """Write all evaluations of all finished runs as one tidy table."""
    from benchmarks.records import BrokenRunError
    from benchmarks.results import for_spreadsheets, load_evaluations
    from benchmarks.storage import remove_abandoned, whole_file

    if csv == parquet:
        fail("export: choose one of --csv and --parquet")
    with fail_on(BrokenRunError):
        frame = load_evaluations(_existing(root))
    path = out or Path(f"evaluations.{'csv' if csv else 'parquet'}")
    try:
        remove_abandoned([path.parent], path.name)
        with whole_file(path) as unfinished:
            if csv:
                for_spreadsheets(frame).to_csv(unfinished, index=False)
            else:
                frame.to_parquet(unfinished, index=False)
    except OSError as error:
        fail(f"--out: {error}")
    n_runs = len(frame[["suite", "algo", "env_id", "seed", "config"]].drop_duplicates())
    say(f"{path}: {len(frame):,} evaluations of {n_runs:,} runs")


@app.command()
def archive(
    root: str = _ROOT,
    out: str = typer.Argument(help="Where the archive goes: a folder, or an fsspec URL."),
    rows: int = typer.Option(100, min=2, help="Rows of each training log to keep."),
) -> None:
    """Write finished runs as a few tables, without models: small enough for a repository.

    Reports read an archive as they read run folders, and a sweep into its folder skips the runs
    that it has. Runs that are already in it stay as they are.
    """
    from benchmarks.archive import archive
    from benchmarks.records import BrokenRunError

    with fail_on(BrokenRunError, OSError):
        added, present = archive(_existing(root), _folder(out, "OUT: "), rows)
    say(f"{out}: {added:,} runs added, {present:,} were there already")


@app.command()
def speed(
    with_peers: bool = typer.Option(
        False,
        "--peers",
        help="Measure the peers too (Tianshou, SBX, PFRL); installs what is missing of them.",
    ),
    quick: bool = typer.Option(
        False, "--quick", help="Measure small problems twice, to test the measurement itself."
    ),
    fresh: bool = typer.Option(False, "--fresh", help="Repeat finished measurements."),
    only: str = typer.Option(
        "",
        help="Only blocks whose names contain this, such as 'training, 1 environment'; no page.",
        show_default=False,
    ),
    out: Path = typer.Option(Path("speed"), file_okay=False, help="Where table and figure go."),
) -> None:
    """Measure our speed side by side with the peers': one table, one figure.

    This takes about 10 minutes on 2 cores, which should have nothing else to do. Finished
    measurements are not repeated, so the same command continues an interrupted one. The exit status
    is 1 if a measurement has failed.
    """
    from benchmarks.speed.command import speed

    with fail_on(SpecError), resumable():
        complete = speed(out, with_peers, quick, fresh, given_command("benchmarks"), only)
    if not complete:
        raise typer.Exit(1)


@app.command()
def products(
    envs: str = typer.Option(
        "HalfCheetah-v5,Hopper-v5", help="MuJoCo environments, separated by commas."
    ),
    steps: int = typer.Option(100_000, min=1, help="Steps of training on each."),
    out: Path = typer.Option(Path("products"), file_okay=False, help="Where products.csv goes."),
) -> None:
    """Measure what more Fisher products, a warm start or preconditioning would gain.

    Trains NPG, and solves every linear system of its updates in several ways.
    """
    from benchmarks.products import compare, efficiency_table, save
    from benchmarks.tables import to_text

    frames = {env_id: compare(env_id, steps) for env_id in split_names(envs)}
    save(frames, out)
    for env_id, frame in frames.items():
        say(f"\n{env_id}: efficiency by number of products\n{to_text(efficiency_table(frame))}")


@app.command()
def signal(
    env: str = typer.Option("", help="The environment; of a run in --model, its own."),
    model: Path = typer.Option(
        None, help="The folder of a finished run, whose policy is measured.", show_default=False
    ),
    algo: str = typer.Option(None, help="The algorithm that trains a policy.", show_default="npg"),
    train: int = typer.Option(None, min=1, help="Steps of its training.", show_default="60000"),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="A hyperparameter for its training; repeatable."
    ),
    seed: int = typer.Option(0, min=0, max=1_000_000, help="Of the training and the samples."),
    samples: int = typer.Option(98_304, min=1, help="To collect; half of them judge."),
    batch: str = typer.Option("512,2048", help="Samples in a batch."),
    average: str = typer.Option("1", help="How many batches are taken together."),
    gae_lambda: str = typer.Option("", help="Of the batches' advantages; else the policy's own."),
    critic: str = typer.Option("model", help="Of the batches: model, refit."),
    solver: str = typer.Option("cg", help="cg, diagonal, empirical, dense."),
    damping: str = typer.Option("0.1", help="Added to the Fisher information."),
    iterations: str = typer.Option("10", help="Of conjugate gradient."),
    truth_lambda: float = typer.Option(
        None,
        min=0.0,
        max=1.0,
        help="gae_lambda of the samples that judge; else the policy's own.",
        show_default=False,
    ),
    out: Path = typer.Option(Path("signal"), file_okay=False, help="Where table and figure go."),
) -> None:
    """Measure what updates gain, on samples that they have not seen.

    Freezes a policy, computes directions on batches, and judges them by other samples. Options from
    --batch to --iterations take several values, separated by commas; each is measured with each,
    and the plain gradient beside them.
    """
    from benchmarks.records import BrokenRunError
    from benchmarks.signal.policies import source_of_run, source_to_train
    from benchmarks.signal.settings import make_plan
    from benchmarks.specs import parse_overrides

    axes = batch, average, gae_lambda, critic, solver, damping, iterations
    with fail_on(SpecError, BrokenRunError):
        make_plan(*axes, own_lambda=1.0)  # before anything takes long
        if model is not None:
            if algo or train or settings:
                fail("--algo, --train and --set are for a policy that is trained, not for --model")
            source = source_of_run(model, env)
        elif env:
            overrides = parse_overrides(settings, steps_option="--train")
            source = source_to_train(env, algo or "npg", train or 60_000, seed, overrides)
        else:
            fail("--env or --model: one of them must be given")

        from benchmarks.signal.command import signal

        command = given_command("benchmarks")
        shown = signal(source, partial(make_plan, *axes), samples, truth_lambda, seed, out, command)
    say(f"{shown}\n\n{out / 'signal.md'}")


@app.command("random")
def measure_random(
    envs: str = typer.Argument(help="Environments, separated by commas."),
    episodes: int = typer.Option(100, min=1, help="Episodes on each."),
    reference: float = typer.Option(
        None, help="The return that scores 1; else Gymnasium's threshold.", show_default=False
    ),
) -> None:
    """Measure a random policy: prints a table for `--normalisation` of reports and studies."""
    from benchmarks.environments import check_environment
    from benchmarks.errors import warnings_to_stderr
    from benchmarks.normalisation import COLUMNS, rows_for

    env_ids = split_names(envs)
    with fail_on(SpecError):
        for env_id in env_ids:
            check_environment(env_id, "ENVS")
        with warnings_to_stderr():
            rows = rows_for(env_ids, episodes, reference)
    say(f"{','.join(COLUMNS)}\n{rows}")


@app.command("list")
def list_suites() -> None:
    """List suites, their environments, and which of these have hyperparameters of their own."""
    from rich.box import SIMPLE
    from rich.table import Column, Table

    from benchmarks.algorithms import has_own_entry
    from benchmarks.suite import load_suite, suite_names

    # In 80 columns; the longest names are folded.
    environment = Column("environment", overflow="fold", width=34)
    steps_column = Column("steps", no_wrap=True)
    table = Table("suite", environment, steps_column, "own settings", box=SIMPLE, padding=(0, 1))
    table.pad_edge = False
    unusable = []
    for name in suite_names():
        try:
            envs = load_suite(name).envs
        except SpecError as error:  # needs a package that is not installed
            unusable.append(error)
            continue
        for env in envs:
            own = [algo for algo in ALGORITHMS if has_own_entry(algo, env.env_id)]
            steps = f"{env.n_timesteps:,}" if env.n_timesteps else "by algorithm"
            table.add_row(name, env.env_id, steps, ", ".join(own))
        table.add_section()
    console = make_console()
    console.print(table)
    console.print(
        "own settings: the algorithms that have an entry for this environment; all others use one "
        "for several environments, or their constructor's defaults"
    )
    for reason in unusable:
        say(f"not usable here: {reason}")


def _folder(text: str, option: str = "") -> Folder:
    from benchmarks.archive_files import folder_of
    from benchmarks.storage import open_folder

    try:
        folder = folder_of(open_folder(text))
    except SpecError as error:
        fail(f"{option}{error}")
    if isinstance(folder, Path) and folder.exists() and not folder.is_dir():
        fail(f"{option}{text}: must be a folder, got a file")
    return folder


def _existing(root: str) -> Folder:
    from benchmarks.run_files import is_there

    folder = _folder(root)
    if not is_there(folder):
        fail(f"{root}: no such folder")
    return folder


def _engine(
    name: EngineName,
    address: str | None,
    cpus_per_run: float,
    gpus_per_run: float,
    trackers: Sequence[str],
    run_timeout: float | None,
) -> Engine | None:
    if name is not EngineName.ray:
        check_ray_options(address, cpus_per_run, gpus_per_run)
        return None
    from benchmarks.engines.ray_cluster import RayOptions, run_on_ray

    options = RayOptions(
        address, cpus_per_run, gpus_per_run, trackers=tuple(trackers), run_timeout=run_timeout
    )
    return partial(run_on_ray, options=options)


def _sweep(
    specs: Sequence[RunSpec],
    out: Folder,
    jobs: int,
    engine: Engine | None,
    trackers: Sequence[str],
    run_timeout: float | None = None,
    rerun_changed: bool = False,
) -> None:
    from benchmarks.sweep import SweepError, sweep
    from benchmarks.tracking import prepare

    with fail_on(SpecError, SweepError), resumable():
        prepare(trackers, out, on_this_machine=engine is None)
        result = sweep(
            specs,
            out,
            jobs,
            given_command("benchmarks"),
            engine=engine,
            trackers=trackers,
            run_timeout=run_timeout,
            rerun_changed=rerun_changed,
        )
    if exit_status := _print_summary(result, out):
        raise typer.Exit(exit_status)


def _print_summary(result: SweepResult, out: Folder) -> int:
    """Print final returns and failures; return the exit status."""
    from benchmarks.names import first_line
    from benchmarks.records import BrokenRunError
    from benchmarks.results import read_evaluations
    from benchmarks.statistics import final_return

    finals, damaged = [], []
    for spec in [*result.finished, *result.skipped]:
        try:
            returns = read_evaluations(spec.folder(out))["return_mean"]
            finals.append((spec, final_return(returns)))
        except BrokenRunError as error:
            damaged.append(error)
    if finals:
        make_console(markup=False).print(_final_returns(finals))
    for failed in result.failed:
        say(f"failed: {failed.spec}: {first_line(failed.error)}")
        say(f"        {failed.spec.failure_file(out)}")
    for reason in damaged:
        say(f"error: {reason}", err=True)
    return 1 if result.failed or damaged else 0


def _final_returns(runs: Sequence[tuple[RunSpec, float]]) -> Table:
    import pandas as pd
    from rich.table import Column, Table

    from benchmarks.numbers import form_with

    scores = pd.DataFrame(
        {
            "env_id": spec.env_id,
            "algo": spec.algo,
            "n_timesteps": spec.n_timesteps,
            "final": final,
        }
        for spec, final in runs
    )
    environment = Column("environment", no_wrap=True)
    algorithm = Column("algo", overflow="fold")  # whole, even if on two lines
    table = Table(environment, algorithm, "steps", "seeds", "final return", "lowest", "highest")
    groups = scores.groupby(["env_id", "algo", "n_timesteps"])["final"]
    summary = groups.agg(["size", "mean", "min", "max"]).reset_index()
    for row in summary.itertuples(index=False):
        env_id, algo, n_timesteps, size, *values = row
        form = form_with(1, values)
        table.add_row(env_id, algo, f"{n_timesteps:,}", str(size), *map(form.text, values))
    return table
