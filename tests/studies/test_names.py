"""Which names a study may have: they are folders' names, and stand in lists with commas."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reports.__main__ import app as reports
from studies.__main__ import app
from studies.errors import StudyError
from studies.objective import Problem
from studies.storage import connect
from studies.study import create, load
from tests.studies.conftest import CarryOn

BAD = ["..", "a/b", "../a", "/tmp/a", "a\\b", "", " ", ".a", "-a", "a.", "a\n", "a\x00", "a\x1b[1m"]
BAD += ["x" * 201, "é" * 101, "con", "NUL.txt", "com1", "a b", "a,b"]
RUN = ["run", "--algo", "ppo", "--env", "CartPole-v1", "--trials", 1, "--seeds", 1, "--steps", 64]


def invoke(command: object, *arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(command, list(map(str, arguments)))  # type: ignore[arg-type]
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_can_be_no_folders_is_refused_by_every_command(
    name: str, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    commands = [(app, [*RUN, "--root", root, f"--name={name}"], "--name")]
    for command in ("show", "best", "plot", "sensitivity", "pruning"):
        commands.append((app, [command, "--root", root, "--", name], "NAME"))
    if name.strip() == name and name and "," not in name:
        report = ["build", "--out", tmp_path / "report", "--studies-root", root]
        commands.append((reports, [*report, f"--studies={name}"], "--studies"))

    for cli, arguments, where in commands:
        code, _, errors = invoke(cli, *arguments)

        assert code == 2
        assert errors.startswith(f"error: {where}: must consist of letters, digits, '.', '_'")
        assert f"got {name[:60]!r}" in errors
        assert len(errors) < 400
    assert not list(tmp_path.rglob("*"))


def test_names_that_differ_by_case_alone_are_refused(problem: Problem, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'studies.db'}"
    create("Mine", problem, connect(database, tmp_path))

    for more in (["--storage", database], []):
        if not more:
            (tmp_path / "root" / "Mine").mkdir(parents=True)
        code, _, errors = invoke(app, *RUN, "--root", tmp_path / "root", "--name", "mine", *more)
        assert code == 2
        assert "--name: must differ from the study 'Mine' by more than upper and lower" in errors


def test_a_study_that_has_another_name_already_can_be_read(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    carry_on(replace(problem, seeds=(1000,)), 1, "my study, the first")

    code, output, _ = invoke(app, "show", "my study, the first", "--root", tmp_path)

    assert code == 0
    assert "best trial: 0" in output


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"algo": ".."}, "'..'"), ({"env_ids": ("../../x\\..",)}, "'../../x")],
)
def test_what_is_stored_does_not_lead_out_of_the_studys_folder(
    problem: Problem, tmp_path: Path, changed: dict[str, str], named: str
) -> None:
    study = create("mine", problem, connect("", tmp_path))
    study.set_user_attr("problem", problem.to_dict() | changed)

    with pytest.raises(StudyError, match=rf"'mine' cannot be read: {named}.* is no name of an"):
        load("mine", connect("", tmp_path))


def test_what_is_stored_and_cannot_be_read_is_named(problem: Problem, tmp_path: Path) -> None:
    study = create("mine", problem, connect("", tmp_path))
    for stored in ({}, problem.to_dict() | {"scales": None}, problem.to_dict() | {"more": 1}):
        study.set_user_attr("problem", stored)
        with pytest.raises(StudyError, match="'mine' cannot be read: what it is about: "):
            load("mine", connect("", tmp_path))


def test_a_journal_that_cannot_be_read_is_named(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    carry_on(replace(problem, seeds=(1000,)), 1)
    journal = tmp_path / "mine" / "journal.log"
    journal.write_text("no JSON\n" + journal.read_text())

    for arguments in (["show", "mine"], [*RUN, "--name", "mine"]):
        code, _, errors = invoke(app, *arguments, "--root", tmp_path)
        assert code == 2
        assert errors.startswith("error: 'mine' cannot be read: journal.log: JSONDecodeError: ")


def test_folders_with_control_characters_are_not_listed(tmp_path: Path) -> None:
    for name in ("yours", "\x1b[31mred"):
        (tmp_path / name).mkdir()

    code, _, errors = invoke(app, "show", "mine", "--root", tmp_path)

    assert (code, errors.strip()) == (
        2,
        f"error: 'mine' is not a study in {tmp_path}; there are: yours",
    )
