"""Crashes at every moment, and disks that are full."""

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CHANGES = ("open", "os.mkdir", "os.rename", "os.rmdir", "shutil.rmtree", "os.remove")


def killed_at_each_step(work: Callable[[], object]) -> Iterator[int]:
    """Do some work in processes that are killed when they touch files: the first time, ...

    Goes on after each until one comes to its end.
    """
    step = 0
    while True:
        child = os.fork()
        if child == 0:
            _work_until(step, work)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield step
        step += 1


def _work_until(step: int, work: Callable[[], object]) -> None:
    left = step

    def count(event: str, _: object) -> None:
        nonlocal left
        if event in _CHANGES:
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    status = 1
    try:
        sys.addaudithook(count)
        work()
        status = 0
    finally:
        os._exit(status)


@contextmanager
def disk_with_room_for(n_bytes: int) -> Iterator[None]:
    """No file can become longer, as if there were no more room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
