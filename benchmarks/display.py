"""What a sweep shows while it goes on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from benchmarks.engines import Advanced, Ended
from benchmarks.specs import RunSpec
from benchmarks.storage import Folder


@contextmanager
def display_for(
    missing: Sequence[RunSpec], n_skipped: int, show_progress: bool
) -> Iterator["Silent"]:
    """What fits the output: bars on a terminal, lines elsewhere, nothing if not asked for.

    :param missing: the runs to be executed
    :param n_skipped: how many more are there already
    """
    console = Console()
    if not show_progress:
        yield Silent()
    elif console.is_terminal and missing:
        bars = Bars(console, missing, n_skipped)
        with bars.progress:
            yield bars
    else:
        yield Lines(console, len(missing), n_skipped)


def first_line(text: str) -> str:
    """An error's first line: messages may be long."""
    return text.partition("\n")[0]


class Silent:
    """Shows nothing."""

    def show(self, event: Advanced | Ended) -> None:
        pass


class Lines(Silent):
    """A line for each run that ends, for logs, and every warning of the runs once."""

    def __init__(self, console: Console, n_runs: int, n_skipped: int) -> None:
        self._console = console
        self._n_runs = n_runs
        self._n_ended = 0
        self._warned: set[str] = set()
        if n_skipped:
            self._say(f"{n_skipped} of {n_runs + n_skipped} runs are already there")

    def show(self, event: Advanced | Ended) -> None:
        if isinstance(event, Ended):
            self._n_ended += 1
            outcome = f"failed: {first_line(event.failure.error)}" if event.failure else "finished"
            self._say(f"[{self._n_ended}/{self._n_runs}] {event.spec} {outcome}")
            self._warn(event)

    def _warn(self, event: Ended) -> None:
        for warning in event.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                self._say(f"{event.spec}: {warning}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Bars(Lines):
    """A bar for the sweep and one for each run in flight; failures and warnings above them.

    The sweep's bar counts environment steps, so that the time left is right for runs of different
    lengths.
    """

    def __init__(self, console: Console, missing: Sequence[RunSpec], n_skipped: int) -> None:
        super().__init__(console, len(missing), n_skipped)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[status]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            # Long, since some algorithms are much slower than others.
            speed_estimate_period=120,
        )
        self._n_failed = 0
        self._tasks: dict[Folder, TaskID] = {}
        self._timesteps: dict[Folder, int] = {}
        self._speeds: dict[Folder, float] = {}
        self._sweep = self.progress.add_task(
            "all runs", total=sum(spec.n_timesteps for spec in missing), status=self._counts()
        )

    def show(self, event: Advanced | Ended) -> None:
        if isinstance(event, Advanced):
            self._advance(event)
        else:
            self._end(event)

    def _counts(self) -> str:
        running = f", {len(self._tasks)} running" if self._tasks else ""
        failed = f", {self._n_failed} failed" if self._n_failed else ""
        speed = f"  {sum(self._speeds.values()):,.0f} steps/s" if self._speeds else ""
        return f"{self._n_ended}/{self._n_runs} runs{running}{failed}{speed}"

    def _advance(self, event: Advanced) -> None:
        spec, progress = event.spec, event.progress
        run = spec.folder(Path())
        if run not in self._tasks:
            self._tasks[run] = self.progress.add_task(str(spec), total=spec.n_timesteps, status="")
        # The last rollout may go beyond what was asked for.
        timesteps = min(progress.timesteps, spec.n_timesteps)
        self._reach(run, timesteps)
        speed = progress.timesteps / max(progress.training_seconds, 1e-9)
        self._speeds[run] = speed
        self.progress.update(
            self._tasks[run],
            completed=timesteps,
            status=f"{timesteps:,}/{spec.n_timesteps:,}  {speed:,.0f} steps/s  "
            f"return {progress.return_mean:,.1f}",
        )
        self.progress.update(self._sweep, status=self._counts())

    def _reach(self, run: Folder, timesteps: int) -> None:
        self.progress.advance(self._sweep, timesteps - self._timesteps.get(run, 0))
        self._timesteps[run] = timesteps

    def _end(self, event: Ended) -> None:
        self._n_ended += 1
        if event.failure:
            self._n_failed += 1
            self._say(f"{event.spec} failed: {first_line(event.failure.error)}")
        self._warn(event)
        run = event.spec.folder(Path())
        self._reach(run, event.spec.n_timesteps)
        self._speeds.pop(run, None)
        if run in self._tasks:
            self.progress.remove_task(self._tasks.pop(run))
        self.progress.update(self._sweep, status=self._counts())
