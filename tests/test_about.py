"""``python -m sb3_natural.about``: what it says is what is installed."""

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

import sb3_natural
from sb3_natural.about import PACKAGES, THREAD_VARIABLES, installed
from tests.requirements import PROJECT, names

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """The command's lines by their names, with one of the variables set and the others not."""
    environment = {name: v for name, v in os.environ.items() if name not in THREAD_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-m", "sb3_natural.about"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    lines = [re.fullmatch(r"- ([^:]+): (.+)", line) for line in done.stdout.splitlines()]
    assert None not in lines, done.stdout
    return {line[1]: line[2] for line in lines if line}


def test_versions_are_those_of_the_installed_packages(said: dict[str, str]) -> None:
    assert said["sb3-natural"].split()[0] == sb3_natural.__version__
    assert said["Python"].startswith(platform.python_version())
    for package in PACKAGES:
        try:
            assert said[package] == version(package), package
        except PackageNotFoundError:
            assert said[package] == "not installed", package
    assert installed("no-such-distribution") == "not installed"


def test_every_package_that_decides_a_result_is_named() -> None:
    shown = {"rich", "tqdm"}  # which only draw progress bars
    assert names(PROJECT["project"]["dependencies"]) - shown <= set(PACKAGES)
    assert {"mujoco", "envpool", "optuna"} <= set(PACKAGES)


def test_devices_and_threads_are_those_that_torch_has(said: dict[str, str]) -> None:
    if torch.cuda.is_available():
        assert torch.cuda.get_device_name(0) in said["CUDA"]
    else:
        assert said["CUDA"].startswith("not available")
    assert (said["MPS"] == "available") == torch.backends.mps.is_available()
    assert said["torch threads"].startswith("1, ")
    assert said["torch default dtype"] == "float32"
    assert f", {os.cpu_count()} cores, " in said["CPU"]
    assert platform.system() in said["operating system"]


def test_thread_variables_are_shown_whether_they_are_set(said: dict[str, str]) -> None:
    assert said["OMP_NUM_THREADS"] == "1"
    assert {said[name] for name in THREAD_VARIABLES if name != "OMP_NUM_THREADS"} == {"not set"}


def test_nothing_names_a_folder(said: dict[str, str]) -> None:
    text = "\n".join(said.values())
    assert str(ROOT) not in text
    assert str(Path(sys.prefix)) not in text
