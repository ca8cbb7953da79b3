"""How the processes of runs begin: as forks of one process that has imported what they need.

Only the standard library is imported. Elsewhere than on Linux, where a fork may break what
libraries have begun, every process begins from nothing.
"""

import atexit
import multiprocessing
import os
import sys
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, SpawnContext

_PRELOADED = ["benchmarks.preload"]


def context(forked: bool = True) -> ForkServerContext | SpawnContext:
    """What makes processes that share nothing with this one.

    :param forked: fork them from the one that has imported everything, where that is possible
    """
    if not forked or sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(_PRELOADED)
    return server


def start() -> None:
    """Start the process to fork from; wait for it with :func:`wait_until_ready`.

    It and its forks inherit the blocked signals.
    """
    if isinstance(context(), ForkServerContext):
        forkserver.ensure_running()


def parent_of(new: ForkServerContext | SpawnContext) -> int:
    """The process whose children are those of a context: the one to fork from, or this one."""
    if not isinstance(new, ForkServerContext):
        return os.getpid()
    forkserver.ensure_running()
    pid: int = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return pid


def wait_until_ready() -> None:
    """Wait until everything has been imported, which takes seconds the first time.

    Ctrl-C interrupts this, as it does not interrupt the start of a process.
    """
    server = context()
    if isinstance(server, ForkServerContext):
        first = server.Process(target=_nothing)
        first.start()
        first.join()


def _nothing() -> None:
    pass


def begin(environ: Mapping[str, str]) -> None:
    """Have a new process be as if it had begun from nothing.

    :param environ: its environment variables: the process it was forked from has older ones
    """
    os.environ.clear()
    os.environ.update(environ)
    # Python's and torch's own generators need nothing: a fork seeds the one, and a fixed number
    # the other.
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def end() -> None:
    """Call what is registered for the end of the process, as a fork of this kind does not."""
    atexit._run_exitfuncs()
