"""What a report reads of studies, those that are broken too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import pytest
from optuna.trial import TrialState

from reports.data import studies as study_data
from reports.data.runs import ReportError
from reports.data.studies import StudyResult, losses_at
from studies import sensitivity
from studies.search import Search
from studies.storage import connect
from studies.study import create
from studies.workers import Task, work
from tests.reports.study_folders import StudyFolders, hill, noise, small


def read(studies: StudyFolders, *names: str) -> tuple[list[StudyResult], list[str]]:
    """The studies, and a line for each part that is left out."""
    lines: list[str] = []
    return study_data.read(names, studies.root, None, lines.append), lines


def ended(study: StudyResult) -> tuple[int, ...]:
    """How many trials have completed, were pruned, failed."""
    states = [trial.state for trial in study.trials]
    return tuple(map(states.count, (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)))


def sweep_runs(scores: Sequence[Sequence[float]], values: Sequence[float]) -> pd.DataFrame:
    """A row of scores, one for each seed, for each value."""
    rows = [
        ("delta", value, "CartPole-v1", seed, 0.0, score)
        for value, of_value in zip(values, scores, strict=True)
        for seed, score in enumerate(of_value)
    ]
    return pd.DataFrame(rows, columns=sensitivity.RUN_COLUMNS)


def test_what_is_lost_at_a_value_is_between_the_points_around_it() -> None:
    runs = sweep_runs([[0.2, 0.4], [1.0, 1.2], [0.8, 0.4]], [0.01, 0.1, 1.0])

    third, threefold, edge, beyond = losses_at(runs, [0.1 / 3, 0.3, 1.0, 1.1])

    share = math.log10(3)  # of the way to the next point, a decade off
    assert third is not None
    assert threefold is not None
    assert third.value == pytest.approx(share * 0.8)
    assert threefold.value == pytest.approx(share * 0.5)
    assert (threefold.low, threefold.high) == pytest.approx((share * 0.2, share * 0.8))
    assert edge is not None
    assert edge.value == pytest.approx(0.5)
    assert beyond is None


def test_a_database_is_read_too(studies: StudyFolders) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    url = f"sqlite:///{studies.root.parent / 'studies.db'}"
    problem, folder = small("ppo", ["CartPole-v1"], 2), studies.root / "mine"
    create("mine", problem, connect(url, folder))
    work(Task("mine", url, folder, Search(n_trials=2), "the command"))

    (found,) = study_data.read(["mine"], studies.root, url)

    assert ended(found) == (2, 0, 0)
    with pytest.raises(ReportError, match=r"'yours' is not a study in this storage; .*: mine"):
        study_data.read(["yours"], studies.root, url)


def test_what_is_not_there_is_refused_and_nothing_is_written(studies: StudyFolders) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("b", small("ppo", ["CartPole-v1"], 2), 1)
    studies.study("a", small("ppo", ["CartPole-v1"], 2), 1)
    (studies.root / "c").mkdir()

    for names, message in (
        (["c"], r"--studies: 'c' is not a study in .*studies-out; there are: a, b"),
        (["d"], "there are: a, b"),
        (["a", "a"], "--studies: 'a' is given twice"),
        ([], "--studies: must name at least one study"),
    ):
        with pytest.raises(ReportError, match=message):
            studies.read(*names)
    assert list((studies.root / "c").iterdir()) == []


def test_files_that_are_broken_or_of_another_study_are_named(studies: StudyFolders) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 1)
    studies.study("theirs", small("ppo", ["CartPole-v1"], 3), 1)
    studies.sweep("theirs", "epsilon", points=3)
    stored, mine = (studies.root / name / "sensitivity.csv" for name in ("theirs", "mine"))

    mine.write_bytes(stored.read_bytes())
    ((found,), (line,)) = read(studies, "mine")
    assert "mine/sensitivity.csv: must have a run for each value" in line
    assert not found.sweeps
    pd.read_csv(stored).drop(columns="base").to_csv(mine, index=False)
    _, (line,) = read(studies, "mine")
    assert "mine/sensitivity.csv: has no column base; remove it" in line
    journal = studies.root / "mine" / "journal.log"
    journal.write_text("no journal\n" + journal.read_text())
    with pytest.raises(ReportError, match="'mine' cannot be read"):
        studies.read("mine")
    ((found,), (line,)) = read(studies, "mine", "theirs")
    assert found.name == "theirs"
    assert found.sweeps
    assert "'mine' cannot be read" in line


SWEPT = "parameter,value,env_id,seed,return,score,base"


@pytest.mark.parametrize(
    "sensitivity_csv",
    [
        "",
        "\0\0",
        SWEPT,
        "a,b\n1\n1,2,3\n",
        f"{SWEPT}\nclip_range,x,CartPole-v1,1000,1,1,0\n",
        f"{SWEPT}\nclip_range,0,CartPole-v1,1000,1,1,0\nclip_range,0,CartPole-v1,1001,1,1,0\n",
        f"{SWEPT}\nclip_range,1,CartPole-v1,1000,1,nan,0\nclip_range,1,CartPole-v1,1001,1,1,0\n",
        f"{SWEPT}\nclip_range,1,CartPole-v1,1000,1,1,x\nclip_range,1,CartPole-v1,1001,1,1,x\n",
        b"\xff\xfe\xff",
        None,
    ],
)
def test_a_sweep_that_is_tampered_with_costs_only_itself(
    studies: StudyFolders, sensitivity_csv: str | bytes | None
) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 1)
    path = studies.root / "mine" / "sensitivity.csv"
    if sensitivity_csv is None:
        path.mkdir()
    else:
        path.write_bytes(
            sensitivity_csv if isinstance(sensitivity_csv, bytes) else sensitivity_csv.encode()
        )

    ((found,), lines) = read(studies, "mine")

    assert not found.sweeps
    assert ended(found) == (1, 0, 0)
    if sensitivity_csv != SWEPT:  # which has no sweep, and so nothing is wrong with it
        assert "mine/sensitivity.csv: " in lines[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"scores": [', '"scores": ["a", '),
        ('"scores": [', '"scores": [1.0, '),
        ('"scores": [', '"scores": [], "x": ['),
        ('"scores": [', '"scores": [NaN], "x": ['),
        ('"algo": "ppo"', '"algo": 3'),
        ('"algo": "ppo"', '"alga": "ppo"'),
        ('"seeds": [', '"seeds": ["a", '),
        ('"space": {', '"space": 3, "x": {'),
        ('"values": [', '"values": ["a", '),
        ('"op_code": 0', '"op_code": 99'),
    ],
)
def test_a_study_that_is_tampered_with_costs_only_itself(
    studies: StudyFolders, old: str, new: str
) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 1)
    studies.study("theirs", small("ppo", ["CartPole-v1"], 2), 1)
    journal = studies.root / "mine" / "journal.log"
    text = journal.read_text()
    compact = old.replace(": ", ":") if old not in text else old
    assert compact in text
    journal.write_text(text.replace(compact, new))

    ((found,), (line,)) = read(studies, "mine", "theirs")

    assert found.name == "theirs"
    assert line.startswith("'mine' cannot be read: ")
    assert len(line) < 600


def test_a_run_of_a_study_that_is_broken_costs_only_itself(studies: StudyFolders) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 1)
    (record, _) = sorted((studies.root / "mine" / "runs").rglob("run.json"))
    record.write_text("{")

    ((found,), (line,)) = read(studies, "mine")

    assert str(record.parent.name) in line
    assert len(found.runs) == 1


def test_parameters_without_a_sweep_are_those_that_trials_have(studies: StudyFolders) -> None:
    studies.with_returns(hill("correction_term", 5.0, 1.0))
    studies.study("mine", small("acer", ["CartPole-v1"], 2), 3)
    (before,) = studies.read("mine")
    studies.sweep("mine", "c", points=3)
    (after,) = studies.read("mine")

    assert [each.symbol for each in before.not_swept] == ["c", "delta"]
    assert [each.symbol for each in after.not_swept] == ["delta"]
    assert list(after.sweeps) == ["correction_term"]


def test_what_is_wrong_with_a_study_is_a_line(studies: StudyFolders) -> None:
    studies.with_returns(lambda spec: noise(spec, 1.0))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 1)
    journal = studies.root / "mine" / "journal.log"
    text = journal.read_text()
    assert '"algo":"ppo"' in text
    journal.write_text(text.replace('"algo":"ppo"', f'"algo":"{"x" * 1_000_000}"'))
    with pytest.raises(ReportError, match="'mine' cannot be read") as caught:
        studies.read("mine")
    assert len(str(caught.value)) < 600
