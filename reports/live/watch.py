"""Learning curves while a sweep is running: in the terminal, and as a picture.

What reads and draws them is imported once the arguments are known to be good, since it takes
seconds to import.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from benchmarks.command_line import make_console
from reports.data.runs import ReportError
from reports.live import EVERY

if TYPE_CHECKING:
    from reports.live.runs import View


def watch(
    root: Path,
    env_ids: Sequence[str] = (),
    out: Path | None = None,
    once: bool = False,
    every: float = EVERY,
    console: Console | None = None,
) -> None:
    """Show the learning curves of the runs below a folder, until interrupted (Ctrl-C).

    :param env_ids: environments to show; none: all
    :param out: a PNG file to write as well, again whenever something has changed
    :param once: draw once, as is done where the output is no terminal
    :param every: seconds between two looks
    :raises ReportError: an argument out of range, no such folder, or, where it is drawn once,
        nothing to draw
    """
    if not root.is_dir():
        raise ReportError(f"{root}: there is no such folder")
    if out is not None and (out.suffix != ".png" or out.is_dir()):
        raise ReportError(f"--out: must be a file that ends in .png, got {str(out)!r}")
    if not math.isfinite(every) or every <= 0:
        raise ReportError(f"--every: must be a positive number of seconds, got {every:g}")
    console = console or make_console()
    if once or not console.is_terminal:
        _show_once(root, env_ids, out, console)
    else:
        with suppress(KeyboardInterrupt):
            _keep_showing(root, env_ids, out, every, console)


def _show_once(root: Path, env_ids: Sequence[str], out: Path | None, console: Console) -> None:
    from reports.live.picture import write_picture
    from reports.live.runs import Watcher
    from reports.live.terminal import draw

    view = Watcher(root, env_ids).look()
    if not view.panels:
        raise ReportError(_nothing(root, env_ids, view))
    if absent := [env_id for env_id in env_ids if not view.has(env_id)]:
        raise ReportError(f"--env: {absent[0]!r}: {_nothing(root, absent[:1], view)}")
    console.print(draw(view, console.width, None, console.color_system is not None))
    if out is not None:
        write_picture(view, out)


def _keep_showing(
    root: Path, env_ids: Sequence[str], out: Path | None, every: float, console: Console
) -> None:
    from reports.live.picture import write_picture
    from reports.live.runs import Watcher
    from reports.live.terminal import draw

    watcher = Watcher(root, env_ids)
    written: list[Any] = []
    with Live(console=console, auto_refresh=False) as live:
        while True:
            view = watcher.look()
            if view.panels:
                colour = console.color_system is not None
                live.update(draw(view, console.width, console.height - 1, colour), refresh=True)
            else:
                live.update(Text(_nothing(root, env_ids, view)), refresh=True)
            now = _fingerprint(view)
            if out is not None and view.panels and now != written:
                write_picture(view, out)
                written = now
            time.sleep(every)


def _nothing(root: Path, env_ids: Sequence[str], view: View) -> str:
    """That there is nothing to show, and why."""
    which = f" of {', '.join(env_ids)}" if env_ids else ""
    why = f"; left out: {'; '.join(view.left_out)}" if view.left_out else ""
    return f"{root}: no run{which} in it, neither finished nor in progress{why}"


def _fingerprint(view: View) -> list[Any]:
    """What differs between two pictures that differ."""
    running = [
        (run.panel, run.label, run.seed, run.measure, *run.steps[-1:], len(run.steps))
        for run in view.running
    ]
    return [json.loads(view.curves.to_json(orient="values")), running]
