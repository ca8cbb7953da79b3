"""One torch thread in every test process: pytest-xdist gives each core a process already."""

import os
import shutil
import subprocess

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path; installs it where that is possible."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(
                ["apt-get", "-q", *arguments], env=environment, check=False, capture_output=True
            )
        found = shutil.which("chromium")
    if not found:
        pytest.skip("Chromium is not installed and cannot be (apt-get install chromium)")
    return found
