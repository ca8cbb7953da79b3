"""The environment of the peers: their packages and the suite, with our torch and MuJoCo.

``python -m benchmarks.speed.peers`` sets it up. It is an environment of its own because the peers'
dependencies clash with the versions that the tests pass with: Tianshou needs a virtualenv that
needs an old filelock, and MLflow an older pyarrow.
"""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from benchmarks.speed.protocol import REPOSITORY, UnavailableError

ENVIRONMENT = REPOSITORY / ".venv-peers"
CONSTRAINTS = REPOSITORY / "constraints-peers.txt"
# Packages that decide the speed of both sides must have the same version on both.
SHARED = {"torch": "torch", "numpy": "numpy", "mujoco": "mujoco", "gymnasium": "gymnasium[mujoco]"}
_EXTRAS = ("suite", "peers", "tracking")
_TESTS = ("pytest", "pytest-timeout")
# Only its functions of ACER are used, which need torch alone; its dependencies include numpy 1.
_WITHOUT_DEPENDENCIES = ("DI-engine",)
_NOTE = "installed.json"
# What is measured, and what it computes with.
PACKAGES = ("tianshou", "pfrl", "sbx-rl", "jax")
_VERSIONS = f"""
import importlib.metadata, json
names = {PACKAGES}
print(json.dumps({{name: importlib.metadata.version(name) for name in names}}))
"""


def requirements() -> list[str]:
    """The packages of the peers' environment, as arguments of pip."""
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = [each for name in _EXTRAS for each in project["optional-dependencies"][name]]
    # Without the local part (+cpu), which only some indices have.
    shared = [f"{name}=={version(module).split('+')[0]}" for module, name in SHARED.items()]
    return [*shared, *project["dependencies"], *extras, *_TESTS]


def install(folder: Path, wanted: list[str]) -> Path:
    """Make an environment with these packages, unless it exists, and return its Python.

    :raises UnavailableError: they cannot be installed; the message has pip's last line
    """
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    note = folder / _NOTE
    conditions = {"wanted": wanted, "constraints": CONSTRAINTS.read_text()}
    if note.exists() and json.loads(note.read_text()) == conditions:
        return python
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    (folder / ".gitignore").write_text("*\n")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-input", "-c", str(CONSTRAINTS)]
    _run([*pip, *wanted])
    _run([*pip, "--no-deps", *_WITHOUT_DEPENDENCIES])
    note.write_text(json.dumps(conditions) + "\n")
    return python


def versions(python: Path) -> dict[str, str]:
    """The versions of the peers, and of what only they compute with."""
    return json.loads(_run([str(python), "-c", _VERSIONS]))


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise UnavailableError(f"the peers cannot be installed: {lines[-1]}")
    return done.stdout


if __name__ == "__main__":
    try:
        print(install(ENVIRONMENT, requirements()))
    except UnavailableError as error:
        sys.exit(f"error: {error}")
