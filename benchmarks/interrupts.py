"""What Ctrl-C does to a command: nothing here takes long to import, as this comes first."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def end_when_interrupted() -> None:
    """Have Ctrl-C end this process at once, with the status 130, and without a traceback.

    For as long as there is nothing to be put in order, and while modules are imported: some of
    them make something else of an exception that they do not expect. A process that ignores
    Ctrl-C goes on ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(*_: object) -> None:
    print("interrupted", file=sys.stderr, flush=True)
    os._exit(130)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt, as usual, where that is looked after."""
    before = signal.getsignal(signal.SIGINT)
    if before is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if before is _end:
            signal.signal(signal.SIGINT, _end)
