"""``python -m benchmarks speed``."""

import hashlib
import importlib.util
import sys
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import provenance
from benchmarks.command_line import make_console
from benchmarks.errors import SpecError
from benchmarks.speed import figure, peers, report, tables
from benchmarks.speed.measure import Commands, Store, execute
from benchmarks.speed.plan import (
    FULL,
    OURS,
    PEER,
    PFRL,
    QUICK,
    SB3,
    SBX,
    SINGLE_FILE,
    STARTER,
    Block,
    Measurement,
    measurements,
    plan,
)
from benchmarks.speed.protocol import REPOSITORY, UnavailableError
from benchmarks.speed.results import Results, targets
from benchmarks.tables import to_markdown

_WORKER = [sys.executable, "-m", "benchmarks.speed.worker"]
# It needs no library but PyTorch and Gymnasium.
_SINGLE_FILE_WORKER = [sys.executable, "-m", "benchmarks.speed.single_file_worker"]
_START_WORKER = [sys.executable, "-m", "benchmarks.speed.start_worker"]
# The modules of this package that run in the workers.
_MEASURING = (
    "acer",
    "memory",
    "pfrl_worker",
    "protocol",
    "sbx_worker",
    "single_file_worker",
    "start_worker",
    "stepping",
    "stopwatch",
    "tianshou_worker",
    "training",
    "updates",
    "worker",
)
# The modules that measure the peers, by the kind of worker, which is what the peer is imported as.
_PEER_WORKERS = {
    PEER: "benchmarks.speed.tianshou_worker",
    PFRL: "benchmarks.speed.pfrl_worker",
    SBX: "benchmarks.speed.sbx_worker",
}


def speed(
    out: Path, with_peers: bool, quick: bool, fresh: bool, command: str, only: str = ""
) -> bool:
    """Make the missing measurements, write the page and the figure, and print the targets.

    :param out: where they go; finished measurements are kept in ``measurements/`` below it
    :param with_peers: install Tianshou, PFRL and SBX if necessary, and measure them as well
    :param quick: measure small problems twice, to test the measurement itself
    :param fresh: drop earlier measurements
    :param command: the command line, for the page
    :param only: measure only the blocks whose names contain this, and write no page
    :return: whether no measurement has failed
    :raises SpecError: no block's name contains ``only``
    """
    console = make_console()
    sizes = QUICK if quick else FULL
    peer_workers, peer_versions = _peer_workers(with_peers, console)
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
    blocks = _chosen(plan(sizes), only)
    commands = {
        OURS: _WORKER,
        SB3: _WORKER,
        STARTER: _START_WORKER,
        SINGLE_FILE: _SINGLE_FILE_WORKER,
        **peer_workers,
    }
    with _Display(console, sum(1 for _ in measurements(blocks))) as display:
        results = Results(execute(blocks, commands, store, display.notify))
    found = targets(results, sizes)
    if only:
        print(report.targets_text([target for target in found if target.measured]))
        if results.blocks("step"):
            print("\n" + to_markdown(tables.stepping(results)))
        return not results.failures()
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
    print(report.targets_text(found))
    print(f"\nThe whole page is {out / 'speed.md'}, the figure {out / 'speed.png'}")
    return not results.failures()


def _chosen(blocks: list[Block], only: str) -> list[Block]:
    chosen = [block for block in blocks if only in block.name]
    if not chosen:
        names = "; ".join(block.name for block in blocks)
        raise SpecError(f"--only: {only!r} is in the name of none of the blocks {names}")
    return chosen


def _peer_workers(with_peers: bool, console: Console) -> tuple[Commands, dict[str, str]]:
    """The commands that start the peers' workers, or why they cannot; and the peers' versions."""
    if not with_peers:
        return dict.fromkeys(_PEER_WORKERS, "not asked for (--peers)"), {}
    if all(importlib.util.find_spec(name) for name in _PEER_WORKERS):
        python, versions = Path(sys.executable), {name: version(name) for name in peers.PACKAGES}
    else:
        try:
            with console.status("setting up the peers' environment"):
                python = peers.install(peers.ENVIRONMENT, peers.requirements())
                versions = peers.versions(python)
        except UnavailableError as error:
            console.print(str(error), markup=False, style="bold")
            return dict.fromkeys(_PEER_WORKERS, str(error)), {}
    commands = {kind: [str(python), "-m", module] for kind, module in _PEER_WORKERS.items()}
    return commands, versions


def _code_hash() -> str:
    """A hash of the code that a measurement executes, since other code measures differently."""
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

    def notify(self, measurement: Measurement, outcome: str) -> None:
        """Show the outcome of a measurement."""
        name = f"{measurement.block.name}: {measurement.contender.name}"
        self._bar.update(self._task, advance=1, description=measurement.block.name)
        line = f"{name}: {outcome}"
        # Every repeat says the same.
        if line not in self._said and (outcome != "measured" or not self._console.is_terminal):
            self._said.add(line)
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
