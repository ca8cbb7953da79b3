"""What lies below a folder, and what its runs are called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.errors import SpecError
from reports.data.readers.find import FoundLogs, read
from reports.data.readers.logged import EVALUATION, TRAINING
from tests.reports.conftest import RunFolders
from tests.reports.data.readers.conftest import write_cleanrl, write_evaluations, write_monitor

RESULTS = np.ones((1, 2))


def test_several_formats_lie_below_one_folder(folders: RunFolders) -> None:
    root = folders.root
    own = folders.add("npg")
    (own / "evaluations.npz").write_text("of our own runs nothing is read here")
    (root / "a").mkdir()
    write_evaluations(root / "a" / "evaluations.npz", [1], RESULTS)
    write_cleanrl(root / "b" / "Hopper-v4__sac__1__2", [1.0], [1])
    (root / "c").mkdir()
    write_monitor(root / "c" / "monitor.csv", [(1.0, 1)])
    shown = []

    def reading(paths):
        for path in paths:
            shown.append(path.name)
            yield path

    found = read(root, reading=reading)

    assert [run.format for run in found.runs] == ["sb3", "cleanrl", "sb3"]
    assert found.broken == []
    assert shown == ["a", "Hopper-v4__sac__1__2", "c"]


def test_one_file_is_a_run_too(tmp_path: Path) -> None:
    write_evaluations(tmp_path / "evaluations.npz", [1], RESULTS)
    write_monitor(tmp_path / "3.monitor.csv", [(1.0, 1)])

    (evaluated,) = read(tmp_path / "evaluations.npz").runs
    (trained,) = read(tmp_path / "3.monitor.csv").runs

    assert evaluated.metrics.keys() == {EVALUATION}
    assert trained.metrics.keys() == {TRAINING}
    (tmp_path / "notes.txt").write_text("")
    (line,) = read(tmp_path / "notes.txt").broken
    assert "not that of a log" in line


def test_the_path_says_what_the_logs_do_not(tmp_path: Path) -> None:
    folder = tmp_path / "ppo" / "CartPole-v1_12"
    folder.mkdir(parents=True)
    write_evaluations(folder / "evaluations.npz", [1], RESULTS)

    def names(pattern: str | None) -> tuple[str | None, str | None, int | None]:
        (run,) = read(tmp_path, pattern=pattern).runs
        return run.algo, run.env_id, run.seed

    assert names(None) == (None, None, None)
    assert names("{algo}/{env_id}_{seed}") == ("ppo", "CartPole-v1", 12)
    assert names("/{_}/CartPole-v1_{seed}") == (None, None, 12)
    assert names("{algo}/{env_id}-v1_{_}") == ("ppo", "CartPole", None)
    assert names("{algo}_{seed}") == ("CartPole-v1", None, 12)
    (run,) = read(tmp_path, pattern="{algo}.{seed}").runs
    assert (run.algo, run.seed) == (None, None)
    assert "algo, env_id, seed, does not fit" in run.problems[0]


def test_what_the_logs_say_stands_before_what_the_path_says(tmp_path: Path) -> None:
    folder = tmp_path / "sac" / "Ant-v5_1"
    folder.mkdir(parents=True)
    write_monitor(folder / "monitor.csv", [(1.0, 1)])

    (run,) = read(tmp_path, pattern="{algo}/{env_id}_{seed}").runs

    assert (run.algo, run.env_id, run.seed) == ("sac", "Walker2d-v5", 1)
    (problem,) = run.problems
    assert "env_id: the logs say Walker2d-v5, which counts; its path Ant-v5" in problem


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"form": "rllib"}, "form: 'rllib' is not one of sb3, zoo, cleanrl, table"),
        ({"form": "table"}, "columns: must say"),
        ({"form": "sb3", "columns": {"return": "r", "timesteps": "t"}}, "columns: are for"),
        ({"pattern": "{env}"}, r"pattern: '\{env\}' has the field \{env\}; valid are \{algo\}"),
        ({"pattern": "{_}/runs"}, "pattern: .* names nothing"),
        ({"pattern": "runs"}, "pattern: 'runs' names nothing"),
        ({"pattern": "{algo}/{algo}"}, "twice"),
        ({"pattern": "{algo}/{seed"}, "brace"),
    ],
)
def test_an_argument_that_is_not_valid_is_named(options, said: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=said):
        read(tmp_path, **options)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"path: .*none does not exist"):
        read(tmp_path / "none")
    assert read(tmp_path) == FoundLogs([], [])


def test_reading_numbers_imports_nothing_slow(tmp_path: Path) -> None:
    write_monitor(tmp_path / "monitor.csv", [(1.0, 1)])
    code = (
        "import sys; from pathlib import Path; from reports.data.readers.find import read; "
        f"assert read(Path({str(tmp_path)!r})).runs; "
        "print({'torch', 'tensorboard', 'matplotlib', 'pyarrow'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[4],
    )
    assert done.stdout == "set()\n"
