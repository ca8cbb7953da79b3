"""Processes of one's own: started afresh, ended in good order, and never outliving their parent."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPAWN = multiprocessing.get_context("spawn")


def cause_of_death(exitcode: int | None) -> str:
    """What is known of a process that ended without a word."""
    if exitcode is not None and exitcode < 0:
        return f"WorkerDied: the process was killed by {signal.Signals(-exitcode).name}"
    return f"WorkerDied: the process ended with exit code {exitcode}"


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
    """Send stdout and stderr, those of C libraries too, to a file: the parent's screen is taken."""
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
