"""What a sweep shows while it is running."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, Task, TaskID, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from benchmarks.command_line import make_console
from benchmarks.engines import Advanced, Ended
from benchmarks.names import first_line
from benchmarks.numbers import return_text, rough_text
from benchmarks.records import RunSpec
from benchmarks.storage import Folder


@contextmanager
def display_for(
    missing: Sequence[RunSpec], n_skipped: int, show_progress: bool, notes: Sequence[str] = ()
) -> Iterator["Silent"]:
    """The display that suits the output: bars on a terminal, lines elsewhere; or a silent one.

    :param missing: the runs to be executed
    :param n_skipped: how many runs had already finished
    :param notes: remarks on the latter
    """
    console = make_console()
    if not show_progress:
        yield Silent()
    elif console.is_terminal and missing:
        bars = Bars(console, missing, n_skipped, notes)
        with bars.progress:
            yield bars
    else:
        yield Lines(console, len(missing), n_skipped, notes)


class Silent:
    """Shows nothing."""

    def show(self, event: Advanced | Ended) -> None:
        """Take note of an event."""


class Lines(Silent):
    """A line for each run that ends, and one for each different warning of the runs."""

    def __init__(
        self, console: Console, n_runs: int, n_skipped: int, notes: Sequence[str] = ()
    ) -> None:
        self._console = console
        self._n_runs = n_runs
        self._n_ended = 0
        self._warned: set[str] = set()
        if n_skipped:
            self._say(f"{n_skipped} of {n_runs + n_skipped} runs are already there")
        for note in notes:
            self._say(note)

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


_BARS = (20, 10)  # characters; the shorter bar is for where the longer one does not fit


class _TimeLeft(TimeRemainingColumn):
    """The time left; nothing until it can be estimated."""

    def render(self, task: Task) -> Text:
        """The cell of a task's row."""
        return Text() if task.time_remaining is None else super().render(task)


class Rows(Progress):
    """A row with a bar for each task, which fits a terminal of 80 columns.

    A task's field ``status`` has texts, the most important first; every row shows the same number
    of them, as many as there is room for. The first task's row is laid out by itself.
    """

    def __init__(self, console: Console) -> None:
        self._bars = [BarColumn(bar_width=width) for width in _BARS]
        self._time_left = _TimeLeft()
        # Long, since some algorithms are much slower than others.
        super().__init__(console=console, speed_estimate_period=120)

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """The rows as rich draws them."""
        rows = list(tasks)
        table = Table.grid()
        for part in (rows[:1], rows[1:]):
            if part:
                table.add_row(self._fitted(part))
        return table

    def _fitted(self, tasks: Sequence[Task]) -> Table:
        """The tasks' rows with as many texts as there is room for."""
        n_texts = max(1, *(len(task.fields["status"]) for task in tasks))
        for n_shown in range(n_texts, 0, -1):
            for bar in self._bars:
                rows = [self._row(task, bar, n_shown) for task in tasks]
                rest = sum(self._width(column) + 1 for column in list(zip(*rows, strict=True))[1:])
                names = self._width([row[0] for row in rows])
                if names + rest <= self.console.width:
                    return _grid(rows)
        return _grid([(_cut(name, self.console.width - rest), *more) for name, *more in rows])

    def _row(
        self, task: Task, bar: BarColumn, n_shown: int
    ) -> tuple[Text, RenderableType, Text, Text]:
        status = "  ".join(text for text in task.fields["status"][:n_shown] if text)
        return Text(task.description), bar(task), Text(status), self._time_left.render(task)

    def _width(self, cells: Iterable[RenderableType]) -> int:
        return max(self.console.measure(cell).maximum for cell in cells)


def _cut(text: Text, width: int) -> Text:
    """Cut the beginning of a text that is too long: environment and seed come last."""
    excess = len(text) - max(width, 1)
    return Text("…" + text.plain[excess + 1 :]) if excess > 0 else text


def _grid(rows: Iterable[Iterable[RenderableType]]) -> Table:
    grid = Table.grid(*(Column(no_wrap=True) for _ in range(4)), padding=(0, 1))
    for row in rows:
        grid.add_row(*row)
    return grid


class Bars(Lines):
    """A bar for the sweep and one for each run in flight; failures and warnings go above them.

    The sweep's bar counts environment steps, so that the time left is right even for runs of
    different lengths.
    """

    def __init__(
        self,
        console: Console,
        missing: Sequence[RunSpec],
        n_skipped: int,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(console, len(missing), n_skipped, notes)
        self.progress = Rows(console)
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

    def _counts(self) -> list[str]:
        running = f", {len(self._tasks)} running" if self._tasks else ""
        failed = f", {self._n_failed} failed" if self._n_failed else ""
        counts = f"{self._n_ended}/{self._n_runs} runs{running}{failed}"
        return [counts, _per_second(sum(self._speeds.values()))]

    def _advance(self, event: Advanced) -> None:
        spec, progress = event.spec, event.progress
        run = spec.folder(Path())
        if run not in self._tasks:
            self._tasks[run] = self.progress.add_task(str(spec), total=spec.n_timesteps, status=[])
        # The last rollout may go beyond the last step.
        timesteps = min(progress.timesteps, spec.n_timesteps)
        self._reach(run, timesteps)
        speed = progress.timesteps / max(progress.training_seconds, 1e-9)
        self._speeds[run] = speed
        self.progress.update(
            self._tasks[run],
            completed=timesteps,
            status=[
                f"return {return_text(progress.return_mean)}",
                _per_second(speed),
                f"{timesteps:,}/{spec.n_timesteps:,} steps",
            ],
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


def _per_second(speed: float) -> str:
    """A speed; nothing until it is known."""
    return f"{rough_text(speed)} steps/s" if speed > 0 else ""
