"""The commands of ``python -m benchmarks``."""

import time
from collections.abc import Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import NoReturn

import pandas as pd
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from benchmarks.algorithms import ALGORITHMS, has_own_entry
from benchmarks.archive import archive as archive_runs
from benchmarks.archive_files import folder_of
from benchmarks.engines.ray_cluster import RayOptions, run_on_ray
from benchmarks.environments import check_environment
from benchmarks.errors import SpecError, warnings_to_stderr
from benchmarks.names import first_line
from benchmarks.normalisation import COLUMNS, rows_for
from benchmarks.numbers import form_with, rough_text
from benchmarks.processes import interruptible
from benchmarks.records import MAX_SEED, RunSpec
from benchmarks.repeating import compare
from benchmarks.results import (
    BrokenRunError,
    for_spreadsheets,
    load_evaluations,
    load_failed_specs,
    read_evaluations,
)
from benchmarks.run_files import is_there, read_run
from benchmarks.secrets import command_line, mask
from benchmarks.specs import parse_files, parse_overrides, plan
from benchmarks.statistics import final_return
from benchmarks.status import load_status
from benchmarks.storage import Folder, open_folder, remove_abandoned, whole_file
from benchmarks.suite import load_suite, suite_names
from benchmarks.sweep import Engine, SweepError, SweepResult, sweep
from benchmarks.tracking import prepare

app = typer.Typer(
    help="Run algorithms on suites of environments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class EngineName(str, Enum):
    """Where runs are executed."""

    local = "local"
    ray = "ray"


_JOBS = typer.Option(1, min=1, help="Runs at once on this machine; each takes one core.")
_ENGINE = typer.Option(EngineName.local, help="Processes on this machine, or a Ray cluster.")
_ADDRESS = typer.Option(
    None, help="Ray: host:port of a cluster, or auto; else one is started here.", show_default=False
)
_CPUS = typer.Option(1.0, "--cpus-per-run", min=0.01, help="Ray: cores that each run takes.")
_GPUS = typer.Option(0.0, "--gpus-per-run", min=0.0, help="Ray: GPUs that each run takes.")
_TRACK = typer.Option(
    "", help="wandb and mlflow, separated by commas: log there, too; both offline."
)
_TIMEOUT = typer.Option(
    None,
    "--run-timeout",
    min=1,
    metavar="SECONDS",
    help="A run that takes longer is ended, and has failed.",
    show_default=False,
)
_OUT = typer.Option("runs", help="Where the run folders go: a folder, or an fsspec URL.")
_ROOT = typer.Argument(help="A folder with runs, or an fsspec URL.")


@app.command()
def run(
    suite: str = typer.Argument(help="A suite's name (see list), or the path of a .yaml file."),
    algos: str = typer.Option(
        ",".join(ALGORITHMS),
        help="Algorithms, separated by commas; also classes by their paths, such as sbx:PPO.",
    ),
    envs: str = typer.Option("", help="Environments of the suite, separated by commas; or all."),
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
    engine: EngineName = _ENGINE,
    jobs: int = _JOBS,
    address: str = _ADDRESS,
    cpus_per_run: float = _CPUS,
    gpus_per_run: float = _GPUS,
    track: str = _TRACK,
    run_timeout: float = _TIMEOUT,
    rerun_changed: bool = typer.Option(
        False,
        "--rerun-changed",
        help="Make runs again whose algorithm or environment, of your own, has been edited since.",
    ),
    out: str = _OUT,
) -> None:
    """Run every algorithm on every environment with every seed.

    Finished runs are not run again, so an interrupted sweep goes on with the same command, and
    several at once share the work. The exit status is 1 if a run has failed.
    """
    try:
        loaded = load_suite(suite)
        specs = plan(
            loaded,
            _names(algos),
            _names(envs) if envs else [env.env_id for env in loaded.envs],
            range(first_seed, first_seed + seeds),
            steps,
            parse_overrides(settings),
            parse_files(hyperparams),
        )
    except SpecError as error:
        _refuse(error)
    chosen = _engine(engine, address, cpus_per_run, gpus_per_run, _names(track), run_timeout)
    parent = _folder(out, "--out: ")
    _sweep(specs, parent, jobs, chosen, _names(track), run_timeout, rerun_changed)


@app.command()
def status(root: str = _ROOT) -> None:
    """Show how many runs have finished, are running, have failed, and why, and what is missing.

    What cannot be read is named; the exit status is 2 then.
    """
    found = load_status(_existing(root))
    console = Console(markup=False)
    console.print(_status_table(found.table) if len(found.table) else f"no runs in {root}")
    for failure in found.failures.itertuples(index=False):
        _say(
            f"failed: {failure.algo} {failure.env_id} seed {failure.seed}: "
            f"{first_line(str(failure.error))}"
        )
    for module, number in found.changed.items():
        _say(f"changed: {number:,} runs were made with another source of {module}")
    for line in found.without_return:
        _say(f"no return: {line}; reports leave the run out")
    for run, since in found.stalled:
        minutes = (time.time() - since) / 60
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(since))
        _say(f"no progress since {when}, {minutes:,.0f} minutes ago: {' '.join(run)}")
    for asked, number in found.unfinished:
        _say(f"missing: {number:,} runs of: {asked.command}")
        _say(f"         which goes on with them; else remove {asked.path}")
    for error in found.broken:
        _say(f"error: {error}", err=True)
    if found.broken:
        raise typer.Exit(2)


def _status_table(rows: pd.DataFrame) -> Table:
    table = Table(box=SIMPLE, padding=0)
    for column in ("suite", "algorithm", "environment"):
        table.add_column(column, overflow="fold")  # whole, if on two lines
    for column in (" finished", " running", " failed", " missing", " steps/s"):
        table.add_column(column, justify="right", no_wrap=True)
    for suite, algo, env_id, *counts, speed in rows.itertuples(index=False):
        shown = "" if pd.isna(speed) else rough_text(speed)
        table.add_row(suite, algo, env_id, *map(str, counts), shown)
    return table


@app.command()
def retry(
    root: str = _ROOT,
    failed: bool = typer.Option(False, "--failed", help="Try them; else they are only listed."),
    engine: EngineName = _ENGINE,
    jobs: int = _JOBS,
    address: str = _ADDRESS,
    cpus_per_run: float = _CPUS,
    gpus_per_run: float = _GPUS,
    track: str = _TRACK,
    run_timeout: float = _TIMEOUT,
) -> None:
    """Try the failed runs of a folder again, as they were, with the code as it is now."""
    try:
        found = load_failed_specs(_existing(root))
    except BrokenRunError as error:
        _refuse(error)
    if not found:
        _say(f"no failed runs in {root}")
    elif not failed:
        for spec, out in found:
            _say(spec.failure_file(out))
        _say("--failed tries them again; to forget a failure, remove its file")
    else:
        outs = {str(out) for _, out in found}
        if len(outs) > 1:
            _refuse(f"{root}: has runs of several sweeps; name one of {', '.join(sorted(outs))}")
        chosen = _engine(engine, address, cpus_per_run, gpus_per_run, _names(track), run_timeout)
        specs = [spec for spec, _ in found]
        _sweep(specs, found[0][1], jobs, chosen, _names(track), run_timeout)


@app.command()
def repeat(
    run_folder: str = typer.Argument(help="A finished run's folder, or that of an archived one."),
    out: str = typer.Option(help="Where the new run folder goes: a folder, or an fsspec URL."),
) -> None:
    """Run a finished run again, and say whether its evaluations are the same.

    Seed, settings and evaluation are those in its run.json; the code and the packages are those of
    now. The exit status is 1 if the evaluations differ, bit for bit.
    """
    before, parent = _existing(run_folder), _folder(out, "--out: ")
    try:
        spec = read_run(before).spec
        read_evaluations(before)
    except BrokenRunError as error:
        _refuse(error)
    after = spec.folder(parent)
    if after.absolute() == before.absolute():
        _refuse(f"--out: {out}: holds the run itself; name another folder")
    _sweep([spec], parent, 1, None, [])
    compared = compare(before, after)
    if compared.first_difference is None:
        _say(f"equal: all {compared.n_evaluations} evaluations of {spec}")
    else:
        _say(f"different: {compared.first_difference}")
    for line in compared.circumstances or ["commit, sources, versions and machine are the same"]:
        _say(f"  {line}")
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
    if csv == parquet:
        _refuse("export: choose one of --csv and --parquet")
    try:
        frame = load_evaluations(_existing(root))
    except BrokenRunError as error:
        _refuse(error)
    path = out or Path(f"evaluations.{'csv' if csv else 'parquet'}")
    try:
        remove_abandoned([path.parent], path.name)
        with whole_file(path) as unfinished:
            if csv:
                for_spreadsheets(frame).to_csv(unfinished, index=False)
            else:
                frame.to_parquet(unfinished, index=False)
    except OSError as error:
        _refuse(f"--out: {error}")
    n_runs = len(frame[["suite", "algo", "env_id", "seed", "config"]].drop_duplicates())
    _say(f"{path}: {len(frame):,} evaluations of {n_runs:,} runs")


@app.command()
def archive(
    root: str = _ROOT,
    out: str = typer.Option(help="Where the archive goes: a folder, or an fsspec URL."),
    rows: int = typer.Option(100, min=2, help="Rows of each training log to keep."),
) -> None:
    """Write finished runs as a few tables, without models: small enough for a repository.

    Reports read an archive as they read runs, and a sweep into its folder skips the runs that it
    has. Runs that are in it already stay as they are.
    """
    try:
        added, present = archive_runs(_existing(root), _folder(out, "--out: "), rows)
    except (BrokenRunError, OSError) as error:
        _refuse(error)
    _say(f"{out}: {added:,} runs added, {present:,} were there already")


def _folder(text: str, option: str = "") -> Folder:
    try:
        folder = folder_of(open_folder(text))  # which may be given by an archive's table of runs
    except SpecError as error:
        _refuse(f"{option}{error}")
    if isinstance(folder, Path) and folder.exists() and not folder.is_dir():
        _refuse(f"{option}{text}: must be a folder, got a file")
    return folder


def _existing(root: str) -> Folder:
    folder = _folder(root)
    if not is_there(folder):
        _refuse(f"{root}: no such folder")
    return folder


def _engine(
    name: EngineName,
    address: str | None,
    cpus_per_run: float,
    gpus_per_run: float,
    trackers: list[str],
    run_timeout: float | None,
) -> Engine | None:
    if name is EngineName.ray:
        options = RayOptions(
            address,
            cpus_per_run,
            gpus_per_run,
            trackers=tuple(trackers),
            run_timeout=run_timeout,
        )
        return partial(run_on_ray, options=options)
    if address is not None or gpus_per_run or cpus_per_run != 1.0:
        _refuse("--address, --cpus-per-run and --gpus-per-run are for --engine ray")
    return None


def _sweep(
    specs: Sequence[RunSpec],
    out: Folder,
    jobs: int,
    engine: Engine | None,
    trackers: list[str],
    run_timeout: float | None = None,
    rerun_changed: bool = False,
) -> None:
    command = command_line("benchmarks")
    try:
        with interruptible():
            prepare(trackers, out, on_this_machine=engine is None)
            result = sweep(
                specs,
                out,
                jobs,
                command,
                engine=engine,
                trackers=trackers,
                run_timeout=run_timeout,
                rerun_changed=rerun_changed,
            )
    except (SpecError, SweepError) as error:
        _refuse(error)
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on with what is missing", err=True)
        raise typer.Exit(130) from None
    if status := _print_summary(result, out):
        raise typer.Exit(status)


def _say(text: object, err: bool = False) -> None:
    """Print a line, which may have URLs in it."""
    typer.echo(mask(str(text)), err=err)


def _refuse(error: object) -> NoReturn:
    _say(f"error: {error}", err=True)
    raise typer.Exit(2) from None


@app.command()
def speed(
    with_peers: bool = typer.Option(
        False,
        "--peers",
        help="Measure Tianshou's NPG and PFRL's ACER too; installs what is missing of them.",
    ),
    quick: bool = typer.Option(
        False, "--quick", help="Everything small and twice: tries the instrument out."
    ),
    fresh: bool = typer.Option(False, "--fresh", help="Measure again what is there already."),
    only: str = typer.Option(
        "",
        help="Only blocks whose names contain this, such as 'training, 1 environment'; no page.",
        show_default=False,
    ),
    out: Path = typer.Option(Path("speed"), file_okay=False, help="Where table and figure go."),
) -> None:
    """Measure how fast we are, side by side with the peers: one table, one figure.

    Takes about 9 minutes on 2 cores, which should have nothing else to do. Finished measurements
    are not made again, so an interrupted command goes on. The exit status is 1 if a measurement
    has failed.
    """
    # Here, since it is slow to import.
    from benchmarks.speed.command import speed as measure

    command = command_line("benchmarks")
    try:
        with interruptible():
            complete = measure(out, with_peers, quick, fresh, command, only)
    except SpecError as error:
        _refuse(error)
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on with what is missing", err=True)
        raise typer.Exit(130) from None
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

    Trains NPG and solves every system that comes up in several ways.
    """
    from benchmarks.products import compare, save, summarise

    frames = {env_id: compare(env_id, steps) for env_id in _names(envs)}
    save(frames, out)
    for env_id, frame in frames.items():
        shown = summarise(frame).pivot(
            index=["system", "variant"], columns="products", values="efficiency"
        )
        _say(f"\n{env_id}: efficiency by number of products\n{shown.round(3).to_string()}")


@app.command("random")
def measure_random(
    envs: str = typer.Argument(help="Environments, separated by commas."),
    episodes: int = typer.Option(100, min=1, help="Episodes on each."),
    reference: float = typer.Option(
        None, help="The return that scores 1; else Gymnasium's threshold.", show_default=False
    ),
) -> None:
    """Measure a random policy: prints a table for --normalisation of reports and studies."""
    try:
        for env_id in _names(envs):
            check_environment(env_id, "ENVS")
        with warnings_to_stderr():
            rows = rows_for(_names(envs), episodes, reference)
        _say(f"{','.join(COLUMNS)}\n{rows}")
    except SpecError as error:
        _refuse(error)


@app.command("list")
def list_suites() -> None:
    """List suites, their environments, and which have hyperparameters of their own."""
    # Narrow, since environments have long names and there is a column for every algorithm.
    environment = Column("environment", overflow="fold")
    table = Table("suite", environment, "steps", *ALGORITHMS, box=SIMPLE, padding=0)
    table.pad_edge = False
    unusable = []
    for name in suite_names():
        try:
            envs = load_suite(name).envs
        except SpecError as error:  # needs a package that is not installed
            unusable.append(error)
            continue
        for env in envs:
            entries = ["own" if has_own_entry(algo, env.env_id) else "-" for algo in ALGORITHMS]
            steps = f"{env.n_timesteps:,}" if env.n_timesteps else "by algorithm"
            table.add_row(name, env.env_id, steps, *entries)
        table.add_section()
    console = Console()
    console.print(table)
    console.print("own: has hyperparameters of its own; -: takes an entry for many environments")
    for reason in unusable:
        _say(f"not usable here: {reason}")


def _names(option: str) -> list[str]:
    return [name.strip() for name in option.split(",") if name.strip()]


def _print_summary(result: SweepResult, out: Folder) -> int:
    """Print final returns and failures; the exit status."""
    finals, damaged = [], []
    for spec in [*result.finished, *result.skipped]:
        try:
            returns = read_evaluations(spec.folder(out))["return_mean"]
            finals.append((spec, final_return(returns)))
        except BrokenRunError as error:
            damaged.append(error)
    if finals:
        Console(markup=False).print(_final_returns(finals))
    for failed in result.failed:
        _say(f"failed: {failed.spec}: {first_line(failed.error)}")
        _say(f"        {failed.spec.failure_file(out)}")
    for reason in damaged:
        _say(f"error: {reason}", err=True)
    return 1 if result.failed or damaged else 0


def _final_returns(runs: Sequence[tuple[RunSpec, float]]) -> Table:
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
    algorithm = Column("algo", overflow="fold")  # whole, if on two lines
    table = Table(environment, algorithm, "steps", "seeds", "final return", "lowest", "highest")
    groups = scores.groupby(["env_id", "algo", "n_timesteps"])["final"]
    summary = groups.agg(["size", "mean", "min", "max"]).reset_index()
    for row in summary.itertuples(index=False):
        env_id, algo, n_timesteps, size, *values = row
        form = form_with(1, values)
        table.add_row(env_id, algo, f"{n_timesteps:,}", str(size), *map(form.text, values))
    return table
