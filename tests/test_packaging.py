"""The wheel: what is in it, and that what it asks for is enough, with each extra."""

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import rl_zoo3

from sb3_natural.zoo import ALGORITHMS
from tests.requirements import EXTRAS, ROOT, brought_by, imports, lacking, names, requirements

SUITE_ONLY = ["optuna", "seaborn", "rliable", "mujoco", "typer", "pytest"]
# What has to work with an extra: a script of bash, in an empty folder. $CLONE is this repository,
# where the suite is used. No number of steps is a multiple of a rollout's.
SWEEP = """
RUNS=$PWD/runs; cd $CLONE
python -m benchmarks run smoke --algos npg --envs CartPole-v1 --steps 300 --out $RUNS"""
PROOFS = {
    "suite": f"""{SWEEP}
python -m benchmarks status $RUNS
python -m reports build $RUNS --out $RUNS/../report
python -m studies run --algo npg --env CartPole-v1 --trials 2 --seeds 1 --steps 300 \
    --root $RUNS/../studies""",
    "atari": """
python - <<END
import ale_py, gymnasium
from stable_baselines3.common.env_util import make_atari_env
from sb3_natural import NPG
gymnasium.register_envs(ale_py)
NPG("CnnPolicy", make_atari_env("PongNoFrameskip-v4", n_envs=2), n_steps=16).learn(50)
END""",
    "envpool": """
python - <<END
from sb3_natural import NPG, make_vec_env
NPG("MlpPolicy", make_vec_env("CartPole-v1", 2, backend="envpool"), n_steps=64).learn(200)
END""",
    "ray": f"{SWEEP} --engine ray",
    # Nobody answers there, which its driver says.
    "postgresql": """
cd $CLONE
! python -m studies show mine --storage postgresql://localhost:1/none 2> $OLDPWD/said
grep "port 1 failed: Connection refused" $OLDPWD/said""",
    "film": f"""{SWEEP}
python -m reports record $RUNS/*/npg/*/* --seconds 1 --out $RUNS/../agent.mp4""",
    "zoo": """
for algo in npg acer acktr nac; do
    python -m sb3_natural.zoo train --algo $algo --env CartPole-v1 -n 1000 -f logs
    python -m sb3_natural.zoo enjoy --algo $algo --env CartPole-v1 -n 300 -f logs --no-render
done
python -m sb3_natural.zoo plot_train --help""",
    "docs": """
cd $CLONE
python -m sphinx -W -D nb_execution_mode=off -d $OLDPWD/trees docs $OLDPWD/site""",
}
NEEDS_THE_SUITE = {"ray", "postgresql", "film", "docs"}
PROVED_ELSEWHERE = {"test": "make test", "peers": "make test-peers", "tracking": "make test-peers"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


class Fresh:
    """An environment that has what pip installs for the wheel, and an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "empty"
        self.folder.mkdir()
        self._binaries = folder / "env" / "bin"
        venv.create(folder / "env", with_pip=True)

    def install(self, wheel: Path | str) -> None:
        options = ["--quiet", "--no-compile", "-c", str(ROOT / "constraints.txt")]
        self.run("python", "-m", "pip", "install", *options, str(wheel))

    def run(self, *command: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {
            "PATH": f"{self._binaries}:{environment['PATH']}",
            "CLONE": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Fresh]:
    yield Fresh(tmp_path)
    shutil.rmtree(tmp_path)  # a gigabyte


def test_wheel_holds_the_plugin_alone(wheel):
    held = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in held}
    assert tops == {"sb3_natural", "sb3_natural-0.1.0.dist-info"}
    found = (ROOT / "sb3_natural").rglob("*")
    files = {p.relative_to(ROOT).as_posix() for p in found if p.suffix in (".py", ".yml")}
    assert {f"sb3_natural/hyperparams/{algo}.yml" for algo in ALGORITHMS} <= files
    assert files | {"sb3_natural/py.typed"} <= set(held)


def test_wheel_works_in_a_fresh_environment(wheel, fresh):
    fresh.install(wheel)
    fresh.run(
        "python",
        "-c",
        f"import importlib.util as found;assert not any(map(found.find_spec, {SUITE_ONLY}))",
    )
    first = re.search(r"```python\n(.*?)```", (ROOT / "docs/guide.md").read_text(), re.DOTALL)
    assert "learn(60_000, progress_bar=True)" in first[1]
    assert "total_timesteps" in fresh.run("python", "-c", first[1])


@pytest.mark.install
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("extra", PROOFS)
def test_extra_is_enough_in_a_fresh_environment(wheel, fresh, extra):
    extras = f"suite,{extra}" if extra in NEEDS_THE_SUITE else extra
    fresh.install(f"{wheel}[{extras}]")
    fresh.run("bash", "-euxc", PROOFS[extra])


def test_every_extra_is_proved_somewhere():
    assert sorted([*PROOFS, *PROVED_ELSEWHERE]) == sorted(EXTRAS)
    makefile = (ROOT / "Makefile").read_text()
    for command in PROVED_ELSEWHERE.values():
        assert f"\n{command.removeprefix('make ')}: " in makefile


# Of a module that wants an extra, or more than the suite.
EXTRA_OF = {
    "sb3_natural/environments/envpool.py": "envpool",
    "sb3_natural/zoo.py": "zoo",
    "benchmarks/engines/ray_cluster.py": "ray",
    "benchmarks/speed/pfrl_worker.py": "peers",
    "benchmarks/speed/sbx_worker.py": "peers",
    "benchmarks/speed/tianshou_worker.py": "peers",
    "benchmarks/speed/training.py": "envpool",
}


@pytest.mark.parametrize("package", ["sb3_natural", "benchmarks", "studies", "reports"])
def test_what_is_imported_is_asked_for(package):
    """By name: what only comes with something else may go with it."""
    suite = [] if package == "sb3_natural" else ["suite"]
    for module in (ROOT / package).rglob("*.py"):
        name = module.relative_to(ROOT).as_posix()
        own = [EXTRA_OF[name]] if name in EXTRA_OF else []
        assert lacking(imports(module), names(requirements(*suite, *own))) == set(), name
        if package == "sb3_natural":
            at_once = imports(module, unguarded_only=True)
            assert lacking(at_once, names(requirements())) == set(), name


def test_extra_zoo_has_what_rl_zoo_imports():
    """Not all of which RL Zoo asks for."""
    brought = brought_by(requirements("zoo"))
    for module in Path(rl_zoo3.__file__).parent.rglob("*.py"):
        assert lacking(imports(module, unguarded_only=True), brought) == set(), module.name
