"""A database's password stands in no message and in nothing that is stored."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reports.__main__ import app as reports
from studies import trials
from studies.__main__ import app
from studies.errors import StudyError
from studies.objective import Problem
from studies.search import Search
from studies.storage import connect
from studies.study import ERROR, counted
from studies.workers import Task
from tests.studies.conftest import CarryOn


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nonsense://alice:S3CRET@here/x", "'nonsense://alice:***@here/x'"),
        ("sqlite:////no/where.db?token=S3CRET", "'sqlite:////no/where.db?token=***'"),
        # SQLAlchemy would take the second part of the password for the host's, and say it.
        ("postgresql://alice:12@S3CRET@here/x", "must be a database's URL"),
    ],
)
def test_errors_of_a_storage_do_not_say_its_password(
    url: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.storage._ATTEMPTS", 1)
    with pytest.raises(StudyError) as refusal:
        connect(url, tmp_path)
    assert shown in str(refusal.value)
    (tmp_path / "mine").mkdir()

    for arguments in (["show", "mine", "--root", tmp_path], ["show", "yours", "--root", tmp_path]):
        for options, environment in ((["--storage", url], {}), ([], {"STUDIES_STORAGE": url})):
            result = CliRunner().invoke(app, [*map(str, arguments), *options], env=environment)
            assert result.exit_code == 2
            assert f"error: {'--storage' if options else 'STUDIES_STORAGE'}: " in result.stderr
            assert result.stderr.count("\n") == 1
            assert "S3CRET" not in result.output
    where = ["--studies", "mine", "--studies-root", str(tmp_path), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(reports, ["build", *where, "--storage", url])
    assert result.exit_code == 2
    assert "S3CRET" not in result.output


def test_a_storage_is_named_by_a_variable_of_the_environment(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}?token=S3CRET"
    carry_on(replace(problem, seeds=(1000,)), 1, storage=url)
    arguments = ["show", "mine", "--root", str(tmp_path)]

    result = CliRunner().invoke(app, arguments, env={"STUDIES_STORAGE": url})

    assert result.exit_code == 0, result.output
    assert "best trial: 0" in result.stdout
    assert not (tmp_path / "mine" / "journal.log").exists()


def test_what_is_kept_of_a_failed_run_has_no_password(
    problem: Problem, carry_on: CarryOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object, **__: object) -> None:
        raise OSError("no answer from http://alice:S3CRET@tracking")

    monkeypatch.setattr(trials, "run", run)

    (trial,) = counted(carry_on(problem, 1))

    assert trial.user_attrs[ERROR].endswith("no answer from http://alice:***@tracking")


def test_reports_do_not_show_passwords_that_older_records_have(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    carry_on(replace(problem, seeds=(1000,)), 1)
    (path,) = tmp_path.rglob("run.json")
    record = json.loads(path.read_text())
    command = "python -m studies run --storage postgresql://alice:S3CRET@here/x"
    path.write_text(json.dumps(record | {"command": command}))

    where = ["--studies", "mine", "--studies-root", str(tmp_path), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(reports, ["build", *where, "--format", "md"])

    assert result.exit_code == 0, result.output
    text = (tmp_path / "out" / "report.md").read_text()
    assert "postgresql://alice:***@here/x" in text
    assert "S3CRET" not in text


def test_a_task_shown_has_no_storage(tmp_path: Path) -> None:
    task = Task("mine", "postgresql://alice:S3CRET@here/x", tmp_path, Search(), "the command")

    assert "S3CRET" not in repr(task)
