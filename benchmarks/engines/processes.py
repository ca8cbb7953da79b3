"""Processes of one's own: started afresh, ended in good order, and never outliving their parent."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LARGEST_OUTPUT = 1_000_000  # bytes
_KEPT_OUTPUT = 100_000
SPAWN = multiprocessing.get_context("spawn")


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """For starting processes that Ctrl-C does not reach: the parent ends them in good order.

    A process inherits the signals that are blocked. In the parent the interrupt is only delayed,
    until the process is known and can be ended.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """End this process when its parent ends, however that ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def redirect_output(path: Path) -> None:
    """Send stdout and stderr, those of C libraries too, to a file: the parent's screen is taken.

    The file is kept from filling the disk: of what is too long the end remains.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    threading.Thread(target=_keep_short, args=(path,), daemon=True).start()


def _keep_short(path: Path) -> None:
    with suppress(FileNotFoundError):  # the parent has no more use for it
        while True:
            if path.stat().st_size > _LARGEST_OUTPUT:
                end = last_output(path)
                # The descriptors append, wherever the end is.
                path.write_text(end)
            time.sleep(1)


def last_output(path: Path) -> str:
    """The end of what a process has printed."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _KEPT_OUTPUT))
        return file.read().decode(errors="replace").strip()
