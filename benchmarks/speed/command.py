"""``python -m benchmarks speed``."""

import hashlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import provenance
from benchmarks.speed import figure, peers, report
from benchmarks.speed.measure import Store, execute
from benchmarks.speed.plan import (
    FULL,
    OURS,
    PEER,
    QUICK,
    SB3,
    Measurement,
    measurements,
    plan,
)
from benchmarks.speed.protocol import REPOSITORY, UnavailableError
from benchmarks.speed.results import Results, targets

_WORKER = [sys.executable, "-m", "benchmarks.speed.worker"]
# The modules here that run in the workers.
_MEASURING = (
    "memory",
    "protocol",
    "stopwatch",
    "tianshou_worker",
    "training",
    "updates",
    "worker",
)
_PEER_WORKER = ["-m", "benchmarks.speed.tianshou_worker"]


def speed(out: Path, with_peers: bool, quick: bool, fresh: bool, command: str) -> bool:
    """Measure what is missing, write table and figure, show the table.

    :param out: where they go; finished measurements are kept in ``measurements/`` below it
    :param with_peers: install Tianshou if need be and measure it too
    :param quick: everything once or twice and small: tries the instrument out
    :param fresh: forget earlier measurements
    :param command: the command line, for the page
    :return: whether every measurement that could be made was made
    """
    console = Console()
    sizes = QUICK if quick else FULL
    tianshou, peer_versions = _tianshou(with_peers, console)
    versions = {**provenance.versions(), **peer_versions}
    conditions = {
        "versions": versions,
        "machine": provenance.machine(),
        "code": _code_hash(),
    }
    out.mkdir(parents=True, exist_ok=True)
    store = Store(out / "measurements", conditions)
    if fresh:
        store.clear()
    blocks = plan(sizes)
    commands: Mapping[str, Sequence[str] | str] = {OURS: _WORKER, SB3: _WORKER, PEER: tianshou}
    with _Display(console, sum(1 for _ in measurements(blocks))) as display:
        results = Results(execute(blocks, commands, store, display.tell))
    found = targets(results, sizes)
    about = {
        "command": command,
        "quick": quick,
        "machine": conditions["machine"],
        "versions": versions,
        "commit": provenance.commit(),
        "dirty": provenance.is_dirty(),
    }
    report.write(out, results, found, about)
    figure.save(results, out)
    print(report.targets_table(found))
    print(f"\nThe whole page is {out / 'speed.md'}, the figure {out / 'speed.png'}")
    return not results.failures()


def _tianshou(with_peers: bool, console: Console) -> tuple[Sequence[str] | str, dict[str, str]]:
    """How Tianshou's worker is started, or why not; and the versions that it runs with."""
    if not with_peers:
        return "not asked for (--peers)", {}
    if importlib.util.find_spec("tianshou"):
        return [sys.executable, *_PEER_WORKER], {"tianshou": version("tianshou")}
    try:
        with console.status("setting up the peers' environment"):
            python = peers.install(peers.ENVIRONMENT, peers.requirements())
            versions = peers.versions(python)
    except UnavailableError as error:
        console.print(str(error), markup=False, style="bold")
        return str(error), {}
    return [str(python), *_PEER_WORKER], {"tianshou": versions["tianshou"]}


def _code_hash() -> str:
    """Of the sources that a measurement executes: other code makes other measurements."""
    own = [REPOSITORY / "benchmarks" / "speed" / f"{name}.py" for name in _MEASURING]
    digest = hashlib.sha256()
    for path in [*sorted((REPOSITORY / "sb3_natural").rglob("*.py")), *own]:
        digest.update(str(path.relative_to(REPOSITORY)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Display:
    """A bar on a terminal; elsewhere a line for each contender of a block."""

    def __init__(self, console: Console, n_measurements: int) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("measuring", total=n_measurements)
        self._said: set[str] = set()

    def __enter__(self) -> "_Display":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, measurement: Measurement, outcome: str) -> None:
        """Show that a measurement is done."""
        name = f"{measurement.block.name}: {measurement.contender.name}"
        self._bar.update(self._task, advance=1, description=measurement.block.name)
        line = f"{name}: {outcome}"
        # Every repeat says the same.
        if line not in self._said and (outcome != "measured" or not self._console.is_terminal):
            self._said.add(line)
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
