"""What every run imports: imported once, by the process that the processes of runs are forked from.

A fork keeps neither threads nor what is open on a GPU or a display, so nothing that is imported
here may begin one. Nor is a user's own module imported here: each run is to see it as it is then.
"""

import atexit
import os
import sys
from contextlib import suppress
from importlib import import_module

_MODULES = (
    "benchmarks.engines.local",
    "benchmarks.commands",
    "benchmarks.wrappers",
    "sb3_natural",
    "gymnasium.envs.classic_control",
    "torch.utils.tensorboard",
    "imageio",  # for MuJoCo, which may open a display itself
)


def _import_all() -> None:
    for name in _MODULES:
        with suppress(Exception):  # the runs will report that
            import_module(name)


def _find_out_what_stays() -> None:
    """What takes time to find out, and must be that of the code that has been imported."""
    from benchmarks.provenance import loaded_code, module_distributions, versions

    loaded_code()
    versions()
    module_distributions()


def _end_at_once(process: int) -> None:
    """Leave out of the end of this process, though not of its forks', what takes seconds.

    Python would put away thousands of modules one by one.
    """
    if os.getpid() == process:
        os._exit(0)


def _make_an_optimizer() -> None:
    """The first one in a process takes a second, as it imports torch's compiler."""
    import torch

    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])


_import_all()
with suppress(Exception):
    _make_an_optimizer()
    _find_out_what_stays()
atexit.register(_end_at_once, os.getpid())
# What is still in a buffer would be printed by every fork.
sys.stdout.flush()
sys.stderr.flush()
