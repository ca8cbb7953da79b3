"""Where a run comes from."""

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from benchmarks import provenance
from benchmarks.provenance import Code, code, packages
from benchmarks.records import RunSpec
from benchmarks.run import run, train
from tests.benchmarks.envs import Raising


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with code and something else, all of it committed."""
    folder = tmp_path / "repository"
    for name in ("sb3_natural/npg.py", "benchmarks/run.py", "docs/guide.md"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("one\n")
    git(tmp_path, "init", "repository")
    git(folder, "add", "--all")
    git(folder, "commit", "-m", "all")
    monkeypatch.setattr(provenance, "_REPOSITORY", folder)
    return folder


def test_committed_code_has_no_difference(repository: Path) -> None:
    (repository / "docs" / "guide.md").write_text("two\n")  # which no run executes

    found = code()

    assert found.commit is not None
    assert len(found.commit) == 40
    assert (found.dirty, found.diff) == (False, "")


def test_the_difference_leads_from_the_commit_to_the_code(repository: Path) -> None:
    (repository / "sb3_natural" / "npg.py").write_text("one\nzwei, mit Umlaut: ü\n\n")
    (repository / "benchmarks" / "run.py").unlink()
    (repository / "benchmarks" / "new.py").write_text("SECRET = 'S3CRET'\n")
    (repository / "benchmarks" / ".env").write_text("TOKEN=S3CRET\n")
    (repository / "sb3_natural" / "key.pem").write_text("S3CRET\n")
    (repository / "docs" / "guide.md").write_text("two\n")

    found = code()

    assert found.dirty
    clean = repository.parent / "clean"
    git(repository, "clone", ".", str(clean))
    (clean / "it.diff").write_text(found.diff)
    git(clean, "apply", "it.diff")
    assert (clean / "sb3_natural" / "npg.py").read_text() == "one\nzwei, mit Umlaut: ü\n\n"
    assert found.diff.startswith("Not tracked: benchmarks/new.py\ndiff --git")
    assert not (clean / "benchmarks" / "new.py").exists()
    for secret in ("S3CRET", ".env", ".pem"):
        assert secret not in found.diff
    assert not (clean / "benchmarks" / "run.py").exists()
    assert (clean / "docs" / "guide.md").read_text() == "one\n"


def test_outside_of_a_repository_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_REPOSITORY", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    assert code() == Code(None, None, "")


def test_what_is_not_committed_is_kept_with_the_run_unless_it_is_very_large(
    make_spec, tmp_path: Path
) -> None:
    def recorded(origin: Code) -> dict[str, object]:
        train(make_spec(), tmp_path, "", provenance=origin)
        return json.loads((tmp_path / "run.json").read_text())

    clean = recorded(Code("abc", False, ""))
    assert (clean["commit"], clean["dirty"]) == ("abc", False)
    assert "uncommitted" not in clean
    large = recorded(Code("abc", True, "+" * 1_200_000))
    assert large["uncommitted"] == "not kept, since it is 1.2 MB large"
    assert not (tmp_path / "uncommitted.diff").exists()
    assert recorded(Code("abc", True, "+ü\n"))["uncommitted"] == "uncommitted.diff"
    assert (tmp_path / "uncommitted.diff").read_text(encoding="utf-8") == "+ü\n"


def recorded_packages(spec: RunSpec, out: Path) -> dict[str, str | None]:
    return json.loads((run(spec, out, "") / "run.json").read_text())["packages"]


def test_a_record_has_the_versions_of_what_algorithm_and_environment_come_from(
    make_spec, tmp_path: Path
) -> None:
    lander = recorded_packages(make_spec(env_id="LunarLander-v3", points=1), tmp_path)
    assert set(lander) >= {"box2d", "gymnasium", "stable-baselines3"}
    assert lander["sb3-natural"] == version("sb3-natural")
    assert all(number == version(name) for name, number in lander.items())

    pytest.importorskip("rl_zoo3")
    spec = make_spec(
        "sb3_contrib:TRPO", "Pendulum-v1", env_wrapper="rl_zoo3.wrappers.HistoryWrapper"
    )
    found = recorded_packages(spec, tmp_path)
    assert found["sb3-contrib"] == version("sb3-contrib")
    assert found["rl-zoo3"] == version("rl-zoo3")
    assert "box2d" not in found


def test_what_is_no_distribution_stands_under_its_module() -> None:
    found = packages([Raising], ["nowhere.Wrapper"])

    assert found["tests"] is None
    assert found["nowhere"] is None
    assert found["gymnasium"] == version("gymnasium")
    assert "os" not in found


def test_atari_games_have_the_version_of_ale_py() -> None:
    ale_py = pytest.importorskip("ale_py")

    assert packages([ale_py.AtariEnv])["ale-py"] == version("ale-py")


def test_what_is_tracked_by_mistake_is_not_copied(repository: Path) -> None:
    for content in ("A=1\n", "A=S3CRET\n"):
        (repository / "benchmarks" / ".env").write_text(content)
        git(repository, "add", "--all", "--force")
        if content == "A=1\n":
            git(repository, "commit", "-m", "by mistake")

    assert code().diff == ""
    assert code().dirty is False


def test_new_files_alone_are_a_difference(repository: Path) -> None:
    (repository / "benchmarks" / "new.py").write_text("new\n")

    assert code().dirty
    assert code().diff == "Not tracked: benchmarks/new.py\n"
