"""``python -m benchmarks``: run sweeps, list suites, measure speed."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from benchmarks.display import first_line
from benchmarks.results import final_return, read_evaluations
from benchmarks.specs import (
    ALGORITHMS,
    RunSpec,
    SpecError,
    load_suite,
    parse_overrides,
    plan,
    suite_names,
)
from benchmarks.sweep import SweepResult, sweep
from benchmarks.zoo import has_own_entry

app = typer.Typer(
    help="Run algorithms on suites of environments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def run(
    suite: str = typer.Argument(help="A suite's name (see list), or the path of a .yaml file."),
    algos: str = typer.Option(",".join(ALGORITHMS), help="Algorithms, separated by commas."),
    envs: str = typer.Option("", help="Environments of the suite, separated by commas; or all."),
    seeds: int = typer.Option(1, min=1, help="How many seeds."),
    first_seed: int = typer.Option(0, min=0, help="The first of them."),
    steps: int = typer.Option(
        None, min=1, help="Steps of each run, instead of the suite's.", show_default=False
    ),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="A hyperparameter for all algorithms; repeatable."
    ),
    jobs: int = typer.Option(1, min=1, help="Runs at once; each takes one core."),
    out: Path = typer.Option(Path("runs"), file_okay=False, help="Where the run folders go."),
) -> None:
    """Run every algorithm on every environment with every seed.

    Finished runs are not run again, so an interrupted sweep goes on with the same command. The
    exit status is 1 if a run has failed.
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
        )
    except SpecError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    command = f"python -m benchmarks {shlex.join(sys.argv[1:])}"
    try:
        result = sweep(specs, out, jobs, command)
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on with what is missing", err=True)
        raise typer.Exit(130) from None
    _print_summary(result, out)
    if result.failed:
        raise typer.Exit(1)


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
    out: Path = typer.Option(Path("speed"), file_okay=False, help="Where table and figure go."),
) -> None:
    """Measure how fast we are, side by side with the peers: one table, one figure.

    Takes about 9 minutes on 2 cores, which should have nothing else to do. Finished measurements
    are not made again, so an interrupted command goes on. The exit status is 1 if a measurement
    has failed.
    """
    # Here, since it is slow to import.
    from benchmarks.speed.command import speed as measure

    command = f"python -m benchmarks {shlex.join(sys.argv[1:])}"
    try:
        complete = measure(out, with_peers, quick, fresh, command)
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on with what is missing", err=True)
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
        typer.echo(f"\n{env_id}: efficiency by number of products\n{shown.round(3).to_string()}")


@app.command("list")
def list_suites() -> None:
    """List suites, their environments, and which have hyperparameters of their own."""
    # Narrow, since environments have long names and there is a column for every algorithm.
    table = Table("suite", "environment", "steps", *ALGORITHMS, box=SIMPLE, padding=0)
    table.pad_edge = False
    for name in suite_names():
        for env in load_suite(name).envs:
            entries = ["own" if has_own_entry(algo, env.env_id) else "-" for algo in ALGORITHMS]
            steps = f"{env.n_timesteps:,}" if env.n_timesteps else "by algorithm"
            table.add_row(name, env.env_id, steps, *entries)
        table.add_section()
    console = Console()
    console.print(table)
    console.print("own: has hyperparameters of its own; -: takes the algorithm's default entry")


def _names(option: str) -> list[str]:
    return [name.strip() for name in option.split(",") if name.strip()]


def _print_summary(result: SweepResult, out: Path) -> None:
    done = [*result.finished, *result.skipped]
    if done:
        Console().print(_final_returns(done, out))
    for failed in result.failed:
        typer.echo(f"failed: {failed.spec}: {first_line(failed.error)}")
        typer.echo(f"        {failed.spec.failure_file(out)}")


def _final_returns(specs: Sequence[RunSpec], out: Path) -> Table:
    scores = pd.DataFrame(
        {
            "env_id": spec.env_id,
            "algo": spec.algo,
            "n_timesteps": spec.n_timesteps,
            "final": final_return(read_evaluations(spec.folder(out))["return_mean"]),
        }
        for spec in specs
    )
    environment = Column("environment", no_wrap=True)
    table = Table(environment, "algo", "steps", "seeds", "final return", "lowest", "highest")
    groups = scores.groupby(["env_id", "algo", "n_timesteps"])["final"]
    summary = groups.agg(["size", "mean", "min", "max"]).reset_index()
    for row in summary.itertuples(index=False):
        env_id, algo, n_timesteps, size, *values = row
        table.add_row(
            env_id, algo, f"{n_timesteps:,}", str(size), *(f"{value:,.1f}" for value in values)
        )
    return table


if __name__ == "__main__":
    app()
