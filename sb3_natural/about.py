"""What a bug report needs to know of an installation: ``python -m sb3_natural.about``."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from stable_baselines3.common.utils import get_system_info

from sb3_natural import __version__

__all__ = ["about", "installed"]

PACKAGES = (
    "torch",
    "stable-baselines3",
    "sb3-contrib",
    "gymnasium",
    "numpy",
    "cloudpickle",
    "mujoco",
    "box2d",
    "ale-py",
    "envpool",
    "optuna",
    "pandas",
    "rliable",
    "ray",
    "rl_zoo3",
)
# Read by OpenMP, MKL, OpenBLAS, Apple's Accelerate and NumExpr when they start.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def about() -> dict[str, str]:
    """Versions, system, devices and threads, each a line of text by its name.

    Nothing in it names the user or a folder.
    """
    return {
        "sb3-natural": _own_version(),
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        **{package: installed(package) for package in PACKAGES},
        "operating system": get_system_info(print_info=False)[0]["OS"],
        "CPU": f"{_processor()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "CUDA": _cuda(),
        "MPS": "available" if torch.backends.mps.is_available() else "not available",
        "torch threads": f"{torch.get_num_threads()}, {torch.get_num_interop_threads()} between "
        "operations",
        "torch default dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        **{name: os.environ.get(name, "not set") for name in THREAD_VARIABLES},
    }


def installed(package: str) -> str:
    """The version of a distribution, or ``not installed``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _own_version() -> str:
    """The version that was imported, and what pip knows where that is another one."""
    known = installed("sb3-natural")
    return __version__ if known == __version__ else f"{__version__} (pip: {known})"


def _processor() -> str:
    """The model's name where Linux says it, else what Python knows: often only the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cuda() -> str:
    """The GPUs that torch can use, with the version of CUDA or ROCm that it was built for."""
    built = torch.version.cuda or torch.version.hip
    if not torch.cuda.is_available():
        return f"not available ({f'torch is built for {built}' if built else 'torch has none'})"
    names = (torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return f"{built}: {', '.join(names)}"


def main() -> None:
    """Print a list in Markdown, to be pasted into a report."""
    for name, value in about().items():
        print(f"- {name}: {value}")


if __name__ == "__main__":
    main()
