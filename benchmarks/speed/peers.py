"""The peers' environment: the same torch, numpy and simulator as here, and the extra ``peers``.

Its own, since the peers' dependencies clash with the versions that the tests pass with: Tianshou
needs a virtualenv that needs an old filelock.
"""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.speed.protocol import REPOSITORY, UnavailableError

ENVIRONMENT = REPOSITORY / ".venv-peers"
# What decides the speed of both sides must be the same on both.
_SHARED = {"torch": "torch", "numpy": "numpy", "mujoco": "mujoco", "gymnasium": "gymnasium[mujoco]"}
_NOTE = "installed.json"
_VERSIONS = """
import importlib.metadata, json
names = ("tianshou", "pfrl", "torch", "numpy", "gymnasium", "mujoco")
print(json.dumps({name: importlib.metadata.version(name) for name in names}))
"""


def requirements() -> list[str]:
    """What the peers' environment consists of, as pip wants it.

    :raises UnavailableError: this Python is too old for Tianshou
    """
    if sys.version_info < (3, 11):
        raise UnavailableError("the peers cannot be installed: Tianshou needs Python 3.11")
    import tomllib

    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        extra = tomllib.load(file)["project"]["optional-dependencies"]["peers"]
    # Without the local part (+cpu), which only some indices have.
    shared = [f"{name}=={version(module).split('+')[0]}" for module, name in _SHARED.items()]
    return [*shared, *extra]


def install(folder: Path, wanted: list[str]) -> Path:
    """Make an environment that has what is wanted, unless it is there, and return its Python.

    :raises UnavailableError: it cannot be installed; the message has pip's last line
    """
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    note = folder / _NOTE
    if note.exists() and json.loads(note.read_text()) == wanted:
        return python
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    (folder / ".gitignore").write_text("*\n")
    options = ["--quiet", "--disable-pip-version-check", "--no-input"]
    _run([str(python), "-m", "pip", "install", *options, *wanted])
    note.write_text(json.dumps(wanted) + "\n")
    return python


def versions(python: Path) -> dict[str, str]:
    """Versions of what the peers' measurements depend on."""
    return json.loads(_run([str(python), "-c", _VERSIONS]))


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise UnavailableError(f"the peers cannot be installed: {lines[-1]}")
    return done.stdout
