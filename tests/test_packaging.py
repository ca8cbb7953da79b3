"""The wheel: what is in it, and that it works without the suite's dependencies."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUITE_ONLY = ["optuna", "seaborn", "rliable", "mujoco", "typer", "pytest"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_the_plugin_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"sb3_natural", "sb3_natural-0.1.0.dist-info"}
    assert "sb3_natural/py.typed" in names
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "sb3_natural").rglob("*.py")}
    assert modules <= set(names)


def test_wheel_works_in_a_fresh_environment(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "-c",
        ROOT / "constraints.txt",
    ]
    subprocess.run([*pip, wheel], check=True, cwd=tmp_path)
    script = f"""
import importlib.util
assert [name for name in {SUITE_ONLY} if importlib.util.find_spec(name)] == []
from sb3_natural import NPG
model = NPG("MlpPolicy", "CartPole-v1", n_steps=64, seed=0).learn(128)
print("trained", model.num_timesteps)
"""
    done = subprocess.run([python, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "trained 128\n", done.stderr
