"""What a user's own algorithm or environment was when a run was made."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from benchmarks.__main__ import app
from benchmarks.engines import Ended
from benchmarks.records import RunSpec
from benchmarks.results import load_runs
from benchmarks.run import run
from benchmarks.sources import changed, sources
from benchmarks.specs import plan
from benchmarks.status import load_status
from benchmarks.storage import open_folder
from benchmarks.suite import load_suite
from benchmarks.sweep import sweep
from benchmarks.work_queue import WorkQueue

FILES = {
    "mine/__init__.py": "import gymnasium\n"
    "gymnasium.register('Mine-v0', entry_point='mine.tasks:Task', max_episode_steps=50)\n",
    "mine/tasks.py": "from gymnasium.envs.classic_control import CartPoleEnv\n"
    "from .inner.numbers import GAIN\n"
    "class Task(CartPoleEnv):\n    gain = GAIN\n",
    "mine/inner/numbers.py": "GAIN = 1.0\n",  # in a folder without __init__.py
    "mine/unused.py": "",
    "my_algorithm.py": "import stable_baselines3\nimport my_helper\n"
    "class MyPPO(stable_baselines3.PPO):\n    pass\n",
    "my_helper.py": "A = 1\n",
    "my_wrapper.py": "import gymnasium\nclass Same(gymnasium.Wrapper):\n    pass\n",
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder of modules, which Python finds."""
    folder = tmp_path / "own"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mine", "my_wrapper")]:
        del sys.modules[name]
    for name in ("my_algorithm", "my_helper"):
        sys.modules.pop(name, None)


@pytest.fixture
def spec(own: Path, make_spec) -> RunSpec:
    return make_spec("my_algorithm:MyPPO", "mine:Mine-v0", points=1, n_timesteps=128)


def in_this_process(queue: WorkQueue, out: Path, command: str) -> Iterator[Ended]:
    while (spec := queue.claim()) is not None:
        run(spec, out, command)
        yield Ended(spec, "")


@pytest.mark.parametrize(
    ("edited", "modules"),
    [
        ("my_algorithm.py", ["my_algorithm"]),
        ("my_helper.py", ["my_algorithm"]),
        ("mine/__init__.py", ["mine", "mine.tasks"]),
        ("mine/inner/numbers.py", ["mine.tasks"]),
        ("mine/tasks.py", ["mine.tasks"]),
        ("my_wrapper.py", ["my_wrapper"]),
        ("mine/unused.py", []),
    ],
)
def test_an_edit_of_what_is_used_is_noticed(
    spec: RunSpec, own: Path, edited: str, modules: list[str]
) -> None:
    found = sources(spec, ["my_wrapper.Same", "gymnasium.wrappers.TimeAwareObservation"])
    assert set(found) == {"my_algorithm", "mine", "mine.tasks", "my_wrapper"}
    record = {name: vars(each) for name, each in found.items()}
    assert changed([record]) == [[]]

    (own / edited).write_text((own / edited).read_text() + "B = 2\n")

    assert sorted(changed([record, {}])[0]) == modules


def test_what_is_installed_or_ours_is_no_source(make_spec) -> None:
    assert sources(make_spec(), ["gymnasium.wrappers.TimeAwareObservation"]) == {}
    assert sources(make_spec("stable_baselines3:PPO"), []) == {}


def test_a_record_names_the_commit_too(spec: RunSpec, own: Path) -> None:
    assert {each.commit for each in sources(spec, []).values()} == {None}
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    for arguments in (["init"], ["add", "--all"], ["commit", "-m", "all"]):
        subprocess.run(["git", *identity, *arguments], cwd=own, check=True, capture_output=True)
    (commit,) = {each.commit for each in sources(spec, []).values()}
    assert commit is not None
    assert len(commit) == 40


def test_nothing_that_a_record_names_is_executed(own: Path) -> None:
    (own / "trap.py").write_text("raise SystemExit('sprung')\n")
    record = {"trap": {"hash": "0"}, "../own/trap": {"hash": "0"}, "/etc": 1, "nowhere": {}}
    assert changed([record, "nonsense", None, {"trap": 5}]) == [["trap"], [], [], []]
    assert "trap" not in sys.modules


def test_a_sweep_says_so_and_runs_again_when_told_to(
    spec: RunSpec, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    assert sweep([spec], out, 1, "", engine=in_this_process).finished == [spec]
    assert sweep([spec], out, 1, "", engine=in_this_process).changed == []
    assert "another source" not in capsys.readouterr().out
    (own / "my_helper.py").write_text("A = 2\n")

    told = sweep([spec], out, 1, "", engine=in_this_process)

    assert (told.finished, told.skipped, told.changed) == ([], [spec], [spec])
    said = capsys.readouterr().out
    assert "1 of 1 runs are already there" in said
    assert "1 of them were made with another source of my_algorithm; --rerun-changed" in said
    assert load_status(out).changed == {"my_algorithm": 1}

    # Where it has been said already, they are taken as they are.
    untold = sweep([spec], out, 1, "", engine=in_this_process, rerun_changed=None)
    assert (untold.finished, untold.changed) == ([], [spec])
    assert "another source" not in capsys.readouterr().out

    again = sweep([spec], out, 1, "", engine=in_this_process, rerun_changed=True)

    assert (again.finished, again.skipped, again.changed) == ([spec], [], [])
    assert load_status(out).changed == {}
    assert len(load_runs(out)) == 1
    (before,) = spec.folder(out).parent.glob("outdated-*")  # nothing is lost
    assert (before / "model.zip").exists()
    assert sweep([spec], out, 1, "", False, in_this_process, rerun_changed=True).finished == []


def test_the_commands_say_so(own: Path, tmp_path: Path) -> None:
    def command(*arguments: object) -> Result:
        return CliRunner().invoke(app, list(map(str, arguments)))

    suite = tmp_path / "tiny.yaml"
    suite.write_text(
        "evaluation: {points: 1, episodes: 2}\nenvironments: {'mine:Mine-v0': {n_timesteps: 512}}\n"
    )
    (spec,) = plan(
        load_suite(str(suite)),
        ["my_algorithm:MyPPO"],
        ["mine:Mine-v0"],
        [0],
        None,
        {"n_steps": 256},
    )
    out = tmp_path / "runs"
    folder = run(spec, out, "")
    (own / "mine" / "inner" / "numbers.py").write_text("GAIN = 2.0\n")

    shown = command("status", out).output
    repeated = command("repeat", folder, "--out", tmp_path / "again")
    options = ("--algos", "my_algorithm:MyPPO", "--set", "n_steps=256", "--out", out)
    again = command("run", suite, *options, "--rerun-changed")

    assert "changed: 1 runs were made with another source of mine.tasks" in shown
    assert "equal: all 2 evaluations" in repeated.output  # which the edit did not change
    before, now = (
        json.loads((spec.folder(root) / "run.json").read_text())["sources"]["mine.tasks"]["hash"]
        for root in (tmp_path / "again", out)
    )
    assert before == now
    assert f", {now} now" in repeated.output
    assert again.exit_code == 0, again.output
    assert "[1/1] my_algorithm:MyPPO mine:Mine-v0 seed 0 finished" in again.output


def test_a_url_too(spec: RunSpec, own: Path) -> None:
    out = open_folder("memory://changed/runs")
    sweep([spec], out, 1, "", False, in_this_process)
    (own / "my_helper.py").write_text("A = 2\n")

    assert sweep([spec], out, 1, "", False, in_this_process, rerun_changed=True).finished == [spec]

    assert len(load_runs(out)) == 1
    assert len(list(spec.folder(out).parent.glob("outdated-*/run.json"))) == 1
