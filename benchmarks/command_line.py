"""What the command lines of benchmarks, studies and reports share: options, errors, Ctrl-C."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

import typer

from benchmarks.processes import interruptible
from benchmarks.secrets import mask

if TYPE_CHECKING:
    from rich.console import Console


class EngineName(StrEnum):
    """Where runs are executed."""

    local = "local"
    ray = "ray"


JOBS = typer.Option(1, min=1, help="Runs at once on this machine; each takes one core.")
ENGINE = typer.Option(EngineName.local, help="Processes on this machine, or a Ray cluster.")
ADDRESS = typer.Option(
    None,
    help="Ray: host:port of a cluster, or auto; without it, one is started here.",
    show_default=False,
)
CPUS = typer.Option(1.0, "--cpus-per-run", min=0.01, help="Ray: cores for each run.")
GPUS = typer.Option(0.0, "--gpus-per-run", min=0.0, help="Ray: GPUs for each run.")
RUN_TIMEOUT = typer.Option(
    None,
    "--run-timeout",
    min=1,
    metavar="SECONDS",
    help="A run that takes longer is ended and counts as failed.",
    show_default=False,
)


def split_names(option: str) -> list[str]:
    """The names in an option's value, which are separated by commas."""
    return [name.strip() for name in option.split(",") if name.strip()]


def given_command(package: str) -> str:
    """The command line of this process, ``python -m package ...``, for records."""
    # One by one: an argument's spaces do not end the URL in it.
    arguments = (mask(argument.replace(" ", "\0")).replace("\0", " ") for argument in sys.argv[1:])
    return f"python -m {package} {shlex.join(arguments)}"


def say(text: object, err: bool = False) -> None:
    """Print a line, without the passwords of URLs in it."""
    typer.echo(mask(str(text)), err=err)


def make_console(stderr: bool = False, quiet: bool = False, markup: bool = True) -> Console:
    """A console that takes its stream for a terminal only if it is one.

    Rich also goes by FORCE_COLOR, which Jupyter sets for the commands in its cells. Bars that are
    drawn again and again would then fill the cell's output.
    """
    from rich.console import Console  # slow to import

    stream = sys.stderr if stderr else sys.stdout
    force = None if stream.isatty() else False
    return Console(stderr=stderr, quiet=quiet, markup=markup, force_terminal=force)


def fail(error: object, status: int = 2) -> NoReturn:
    """End the command with an error message.

    :param status: the exit status: 2 for what cannot be done, 1 for what has failed
    """
    say(f"error: {error}", err=True)
    raise typer.Exit(status) from None


@contextmanager
def fail_on(*errors: type[Exception], status: int = 2) -> Iterator[None]:
    """End the command as :func:`fail` does when the block raises one of these errors."""
    try:
        yield
    except errors as error:
        fail(error, status)


@contextmanager
def resumable() -> Iterator[None]:
    """End the command when Ctrl-C interrupts the block; given again, it goes on."""
    try:
        with interruptible():
            yield
    except KeyboardInterrupt:
        say("interrupted; the same command goes on with what is missing", err=True)
        raise typer.Exit(130) from None


def check_ray_options(address: str | None, cpus_per_run: float, gpus_per_run: float) -> None:
    """Refuse options of a Ray cluster that would be ignored."""
    if address is not None or gpus_per_run or cpus_per_run != 1.0:
        fail("--address, --cpus-per-run and --gpus-per-run are for --engine ray")
