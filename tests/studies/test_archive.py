"""Archives of studies: everything that is stored comes back, and what is broken is named."""

from datetime import datetime
from functools import partial
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

from studies import sensitivity
from studies.__main__ import app
from studies.archive import archive
from studies.errors import BrokenStudyError, StudyError
from studies.objective import Problem
from studies.storage import connect, studies_in
from studies.study import create, load

FIELDS = ["number", "state", "values", "params", "distributions", "user_attrs", "system_attrs"]
FIELDS += ["intermediate_values", "datetime_start", "datetime_complete"]


@pytest.fixture
def root(problem: Problem, tmp_path: Path) -> Path:
    """Two studies with trials in all states, one of them with a sweep."""
    root = tmp_path / "studies-out"
    distributions = {
        "clip_range": FloatDistribution(0.01, 1.0, log=True),
        "kind": CategoricalDistribution(["a", None, 2]),
    }
    for name in ("first", "second"):
        (root / name).mkdir(parents=True)
        study = create(name, problem, connect("", root / name))
        study.set_user_attr("ü", {"list": [1, None, "x"]})
        states = [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.WAITING]
        for i, state in enumerate(states):
            is_waiting = state is TrialState.WAITING
            study.add_trial(
                FrozenTrial(
                    number=-1,
                    state=state,
                    value=0.1 + 0.2 * i if state is TrialState.COMPLETE else None,
                    datetime_start=None if is_waiting else datetime(2026, 1, 1, microsecond=i),
                    datetime_complete=None if is_waiting else datetime(2026, 1, 2),
                    params={} if is_waiting else {"clip_range": 0.1 / (i + 1), "kind": None},
                    distributions={} if is_waiting else distributions,
                    user_attrs={"scores": [0.1, 0.2]},
                    system_attrs={"history": [1, 2]},
                    intermediate_values={0: 0.5, 10: 1 / 3} if state is TrialState.PRUNED else {},
                    trial_id=-1,
                )
            )
    rows = [("clip_range", 0.1 / 3, "CartPole-v1", seed, 10.0, 0.7 / 3) for seed in (1000, 1001)]
    frame = pd.DataFrame(rows, columns=sensitivity.RUN_COLUMNS).assign(base=1)
    sensitivity.store({"clip_range": frame}, root / "second")
    return root


def test_an_archive_has_all_that_is_stored_of_a_study(root: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"

    assert archive(root, "", kept) == ["first", "second"]

    assert studies_in(kept) == ["first", "second"]
    for name in ("first", "second"):
        (before, problem), (after, again) = (
            load(name, connect("", place / name)) for place in (root, kept)
        )
        assert again == problem
        assert after.user_attrs == before.user_attrs
        assert after.directions == before.directions
        there, here = before.get_trials(), after.get_trials()
        assert len(here) == len(there) == 5  # the first one has the defaults
        for old, new in zip(there, here, strict=True):
            assert [getattr(old, field) for field in FIELDS] == [
                getattr(new, field) for field in FIELDS
            ]
    assert sensitivity.stored(kept / "first") == {}
    (before,), (after,) = (sensitivity.stored(place / "second").values() for place in (root, kept))
    assert_frame_equal(before, after, check_exact=True)


def test_archived_studies_are_shown_and_not_continued(root: Path, tmp_path: Path) -> None:
    kept, runner = tmp_path / "kept", CliRunner()
    written = runner.invoke(app, ["archive", "--root", str(root), "--out", str(kept)])
    assert written.exit_code == 0, written.output
    before = {path: path.read_bytes() for path in kept.iterdir()}

    best = [runner.invoke(app, ["best", "second", "--root", str(each)]) for each in (root, kept)]
    swept = runner.invoke(app, ["sensitivity", "second", "--root", str(kept)])
    arguments = ["--algo", "ppo", "--env", "CartPole-v1", "--trials", "9", "--seeds", "2"]
    run = runner.invoke(app, ["run", *arguments, "--name", "second", "--root", str(kept)])
    absent = runner.invoke(app, ["show", "third", "--root", str(kept)])

    assert best[0].exit_code == 0
    assert best[0].stdout == best[1].stdout
    for refused in (swept, run):
        assert refused.exit_code == 2
        assert f"'second' is archived in {kept} and cannot be continued" in refused.stderr
    assert "there are: first, second" in absent.stderr
    assert {path: path.read_bytes() for path in kept.iterdir()} == before


def test_an_archive_is_not_written_twice_nor_of_nothing(root: Path, tmp_path: Path) -> None:
    archive(root, "", tmp_path / "kept")
    with pytest.raises(StudyError, match="is an archive already"):
        archive(root, "", tmp_path / "kept")
    with pytest.raises(StudyError, match="there is no study in it"):
        archive(tmp_path / "nothing", "", tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("studies", "directions", '["UP"]'),
        ("studies", "user_attrs", "{"),
        ("trials", "state", "DONE"),
        ("trials", "values", "[]"),
        ("trials", "params", '{"other": 1}'),
        ("trials", "distributions", '{"clip_range": "__import__(\'os\')"}'),
        ("trials", "number", 7),
        ("trials", "started", "yesterday"),
        ("trials", "intermediate_values", '{"x": 1}'),
        ("trials", "user_attrs", "[1]"),
    ],
)
def test_a_table_that_was_tampered_with_is_named(
    root: Path, tmp_path: Path, table: str, column: str, value: object
) -> None:
    archive(root, "", tmp_path / "kept")
    path = tmp_path / "kept" / f"{table}.parquet"
    frame = pd.read_parquet(path)
    frame.loc[1 if table == "trials" else 0, column] = value
    frame.to_parquet(path, index=False)

    with pytest.raises(BrokenStudyError, match="'first' cannot be read"):
        connect("", tmp_path / "kept" / "first")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"text"])
def test_what_is_no_table_is_named(root: Path, tmp_path: Path, content: bytes) -> None:
    archive(root, "", tmp_path / "kept")
    for name, read in (
        ("sweeps", sensitivity.stored),
        ("trials", partial(connect, "")),
        ("studies", partial(connect, "")),
    ):
        (tmp_path / "kept" / f"{name}.parquet").write_bytes(content)
        with pytest.raises(BrokenStudyError, match=f"{name}.parquet"):
            read(tmp_path / "kept" / "first")
    shown = CliRunner().invoke(app, ["show", "first", "--root", str(tmp_path / "kept")])
    assert shown.exit_code == 2


def test_reading_an_archive_says_nothing(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    archive(root, "", tmp_path / "kept")
    optuna.logging.set_verbosity(optuna.logging.INFO)
    connect("", tmp_path / "kept" / "first")
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert capfd.readouterr().err == ""
