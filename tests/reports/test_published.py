"""Published results: read with every fault named, matched by task, put beside ours by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reports.data import published, runs, scores
from reports.data.published import BEST, FINAL, KINDS, TRAINING
from reports.data.runs import ReportError
from reports.rendering.tables import Table
from reports.rendering.templates import template
from tests.reports.conftest import EVALUATION, RunFolders

COLUMNS = "source,algo,env_id,timesteps,mean,std,n_seeds,metric,kind,note"
GOOD = {
    "source": "own/repository results.md",
    "algo": "npg",
    "env_id": "CartPole-v1",
    "timesteps": "50000",
    "mean": "480.5",
    "std": "12.5",
    "n_seeds": "5",
    "metric": "last policy, 100 episodes",
    "kind": "final policy",
    "note": "",
}
PACKAGED = published.load()


def csv_file(folder: Path, *rows: dict[str, str], header: str = COLUMNS) -> Path:
    path = folder / "own.csv"
    lines = [",".join(f'"{row[name]}"' for name in COLUMNS.split(",")) for row in rows]
    path.write_text("\n".join([header, *lines, ""]))
    return path


def results(*rows: dict[str, Any]) -> pd.DataFrame:
    """Published results as ``load`` gives them, from what differs from ``GOOD``."""
    good = {**GOOD, "timesteps": 50_000.0, "mean": 480.5, "std": 12.5, "n_seeds": 5}
    return pd.DataFrame([{**good, **row} for row in rows], columns=COLUMNS.split(","))


def compared(folders: RunFolders, *rows: dict[str, Any]) -> pd.DataFrame:
    return published.for_runs(runs.load(folders.root), results(*rows))


def differences(folders: RunFolders, **row: Any) -> str:
    (text,) = compared(folders, row)["differences"]
    return str(text)


def cells_of(table: Table) -> list[list[str]]:
    return [[cell.strip() for cell in row] for row in table.rows]


def test_every_row_that_comes_with_the_package_is_read() -> None:
    assert len(PACKAGED) == len(published.PUBLISHED.read_text().splitlines()) - 1 == 108
    assert PACKAGED.columns.to_list() == COLUMNS.split(",")
    assert PACKAGED.groupby("kind").size().to_dict() == {BEST: 36, FINAL: 51, TRAINING: 21}
    assert PACKAGED.groupby(["kind", "metric"]).ngroups == 3
    assert PACKAGED["timesteps"].isna().sum() == 4  # acktr
    assert PACKAGED["std"].isna().sum() == 21  # SLM-Lab gives none
    with_note = PACKAGED[PACKAGED["note"] != ""]
    assert set(with_note["note"]) == {"gym 0.17 MuJoCo v2/v3 tasks"}
    assert set(with_note["kind"]) == {BEST}
    first = PACKAGED.iloc[0].to_dict()
    assert first == {
        "source": "thu-ml/tianshou examples/mujoco/README.md",
        "algo": "npg",
        "env_id": "Ant",
        "timesteps": 1_000_000.0,
        "mean": 2_358.0,
        "std": 517.5,
        "n_seeds": 10,
        "metric": "max average return over 10 test episodes within the budget, mean of 10 seeds",
        "kind": BEST,
        "note": "gym 0.17 MuJoCo v2/v3 tasks",
    }


def test_every_packaged_row_has_a_version_and_a_repository() -> None:
    versions = [
        published.version(row["env_id"], row["note"]) for row in PACKAGED.to_dict("records")
    ]
    assert all(versions)
    lines = published.sources(PACKAGED)
    assert len(lines) == PACKAGED["source"].nunique() == 4
    assert all("](https://github.com/" in line for line in lines)


def test_rows_of_the_users_own_come_after_those_of_the_package(tmp_path: Path) -> None:
    path = csv_file(tmp_path, GOOD, {**GOOD, "timesteps": "", "std": "", "note": "a, b"})
    both = published.load(path)
    pd.testing.assert_frame_equal(both.iloc[:108], PACKAGED)
    own = both.iloc[108:].to_dict("records")
    assert own[0] == {**GOOD, "timesteps": 50_000.0, "mean": 480.5, "std": 12.5, "n_seeds": 5}
    assert math.isnan(own[1]["timesteps"])
    assert math.isnan(own[1]["std"])
    assert own[1]["note"] == "a, b"


def test_columns_may_come_in_any_order_and_from_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    names = COLUMNS.split(",")[::-1]
    row = ",".join(f'"{GOOD[name]}"' for name in names)
    path.write_bytes(f"\ufeff{','.join(names)}\r\n\r\n{row}\r\n".encode())
    assert published.load(path).iloc[108:]["mean"].to_list() == [480.5]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("source", "", "source: must not be empty, got ''"),
        ("algo", " ", "algo: must not be empty, got ''"),
        ("env_id", "", "env_id: must not be empty, got ''"),
        ("metric", "", "metric: must not be empty, got ''"),
        (
            "kind",
            "median",
            "kind: must be one of 'best evaluation', 'final policy', 'training returns', "
            "got 'median'",
        ),
        ("mean", "high", "mean: must be a finite number, got 'high'"),
        ("mean", "", "mean: must be a finite number, got ''"),
        ("mean", "nan", "mean: must be a finite number, got 'nan'"),
        ("mean", "inf", "mean: must be a finite number, got 'inf'"),
        ("std", "-1", "std: must be a finite number that is not negative, or empty, got '-1'"),
        ("std", "?", "std: must be a finite number that is not negative, or empty, got '?'"),
        ("n_seeds", "-3", "n_seeds: must be a positive integer, got '-3'"),
        ("n_seeds", "0", "n_seeds: must be a positive integer, got '0'"),
        ("n_seeds", "2.5", "n_seeds: must be a positive integer, got '2.5'"),
        ("n_seeds", "", "n_seeds: must be a positive integer, got ''"),
        ("timesteps", "1,5", "timesteps: must be a positive integer, or empty, got '1,5'"),
        ("timesteps", "-1", "timesteps: must be a positive integer, or empty, got '-1'"),
    ],
)
def test_a_bad_value_is_named_with_file_line_column_and_what_is_allowed(
    tmp_path: Path, column: str, value: str, message: str
) -> None:
    path = csv_file(tmp_path, GOOD, {**GOOD, column: value})
    with pytest.raises(ReportError) as raised:
        published.load(path)
    assert str(raised.value) == f"{path}: line 3: {message}"


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (COLUMNS.replace(",kind", ""), "'kind' is missing"),
        (COLUMNS + ",year", "'year' is unknown"),
        (COLUMNS.replace("mean", "Mean"), "'Mean' is unknown, 'mean' is missing"),
        (COLUMNS + ",note", "'note' is there twice"),
        ("", ", ".join(f"{name!r} is missing" for name in COLUMNS.split(","))),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, header: str, problem: str) -> None:
    path = csv_file(tmp_path, header=header)
    allowed = COLUMNS.replace(",", ", ")
    with pytest.raises(ReportError) as raised:
        published.load(path)
    assert str(raised.value) == f"{path}: line 1: must have the columns {allowed}: {problem}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{COLUMNS}\na,b\n", "line 2: must have 10 cells, one for each column, got 2"),
        (f"{COLUMNS}\na,b,c,1,2,3,4,5,6,7,8\n", "line 2: must have 10 cells, .* got 11; a cell"),
        (f'{COLUMNS}\n"a,b\n', "line 2: is no CSV: unexpected end of data"),
        (b"\xff\xfe\x00", "cannot be read: 'utf-8' codec can't decode"),
        (None, "cannot be read: .*No such file"),
    ],
)
def test_what_is_no_such_table_is_refused(
    tmp_path: Path, content: str | bytes | None, message: str
) -> None:
    path = tmp_path / "own.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ReportError, match=message) as raised:
        published.load(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_a_row_that_is_there_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    path = csv_file(tmp_path, GOOD, GOOD)
    with pytest.raises(ReportError, match=f"{path}: line 3: is the same as {path}: line 2; leave"):
        published.load(path)
    lines = published.PUBLISHED.read_text().splitlines()
    path.write_text(f"{lines[0]}\n{lines[5]}\n")
    with pytest.raises(ReportError, match=f"is the same as {published.PUBLISHED}: line 6"):
        published.load(path)


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ("HalfCheetah-v5", "HalfCheetah-v3", True),
        ("HalfCheetah-v5", "HalfCheetah", True),
        ("LunarLander-v3", "LunarLander-v2", True),
        ("some.module:Hopper-v5", "Hopper-v3", True),
        ("ale_py:PongNoFrameskip-v4", "PongNoFrameskip-v4", True),
        ("Mine-v12", "Mine-v3", True),
        ("LunarLanderContinuous-v3", "LunarLander-v3", False),
        ("MountainCarContinuous-v0", "MountainCar-v0", False),
        ("phys2d/CartPole-v1", "CartPole-v1", False),
        ("ALE/Pong-v5", "PongNoFrameskip-v4", False),
        ("InvertedDoublePendulum-v5", "InvertedPendulum-v5", False),
        ("HumanoidStandup-v5", "Humanoid-v5", False),
    ],
)
def test_what_is_the_same_task(ours: str, theirs: str, same: bool) -> None:
    assert (published.task(ours) == published.task(theirs)) == same


@pytest.mark.parametrize(
    ("env_id", "note", "expected"),
    [
        ("HalfCheetah-v3", "gym 0.17 MuJoCo v2/v3 tasks", "v3"),
        ("HalfCheetah", "gym 0.17 MuJoCo v2/v3 tasks", "v2/v3"),
        ("HalfCheetah", "the v4 task", "v4"),
        ("HalfCheetah", "", ""),
    ],
)
def test_version_of_an_environment(env_id: str, note: str, expected: str) -> None:
    assert published.version(env_id, note) == expected


def test_ours_by_each_metric_by_hand(folders: RunFolders) -> None:
    folders.add("npg", seed=0, returns=[10.0, 50.0, 30.0])
    folders.add("npg", seed=1, returns=[20.0, 40.0, 60.0])
    folders.add("ppo", seed=0, returns=[0.0, 7.0, 5.0])
    frame = compared(folders, *({"kind": kind} for kind in KINDS)).set_index(["kind", "label"])
    npg, ppo = (frame.xs(label, level="label") for label in ("npg", "ppo"))
    assert npg.loc[BEST, "our_mean"] == 55.0  # (50 + 60) / 2
    assert npg.loc[FINAL, "our_mean"] == 45.0  # (30 + 60) / 2
    assert npg.loc[BEST, "our_std"] == pytest.approx(math.sqrt(50))  # 5² + 5² over 2 - 1
    assert npg.loc[FINAL, "our_std"] == pytest.approx(math.sqrt(450))  # 15² + 15²
    assert (ppo.loc[BEST, "our_mean"], ppo.loc[FINAL, "our_mean"]) == (7.0, 5.0)
    assert ppo["our_std"].isna().all()
    for own in (npg, ppo):
        assert math.isnan(own.loc[TRAINING, "our_mean"])
        assert "the nearest is the final return" in own.loc[TRAINING, "reason"]
        assert own.loc[[BEST, FINAL], "reason"].to_list() == ["", ""]
        assert set(own["our_timesteps"]) == {50_000}
        assert (set(own["our_evaluations"]), set(own["our_episodes"])) == ({3}, {10})
    assert (set(npg["our_seeds"]), set(ppo["our_seeds"])) == ({2}, {1})


def test_the_best_evaluation_is_that_of_the_table_of_scores(study: RunFolders) -> None:
    data = runs.load(study.root)
    table = scores.score_table(data.runs, data.evaluations).set_index(["env_id", "label"])
    frame = published.for_runs(data, PACKAGED)
    best = frame[frame["kind"] == BEST].drop_duplicates(["env_id", "label"])
    assert len(best) == 3
    for row in best.to_dict("records"):
        assert row["our_mean"] == pytest.approx(table.loc[(row["env_id"], row["label"])].best_mean)


def test_every_published_result_of_a_task_stands_beside_every_algorithm(study: RunFolders) -> None:
    frame = published.for_runs(runs.load(study.root), PACKAGED)
    counts = frame.groupby(["env_id", "label"]).size().to_dict()
    # CartPole: 3 + 2 of the two zoos and 2 of SLM-Lab. HalfCheetah: 4, 3 and 2.
    expected = {"CartPole-v1": 7, "HalfCheetah-v5": 9}
    assert counts == {
        (env_id, label): n for env_id, n in expected.items() for label in ("npg", "ppo", "trpo")
    }
    assert set(frame.loc[frame["env_id"] == "HalfCheetah-v5", "their_env_id"]) == {
        "HalfCheetah",
        "HalfCheetah-v3",
        "HalfCheetah-v5",
    }
    half_cheetah = frame[(frame["env_id"] == "HalfCheetah-v5") & (frame["label"] == "npg")]
    assert half_cheetah["kind"].to_list() == [BEST] * 4 + [FINAL] * 3 + [TRAINING] * 2
    for _, group in half_cheetah.groupby("kind"):
        assert group["their_mean"].is_monotonic_decreasing


def test_tasks_without_a_published_result_are_not_there(folders: RunFolders) -> None:
    folders.add("npg", "MountainCarContinuous-v0")
    folders.add("npg", "LunarLanderContinuous-v3")
    frame = published.for_runs(runs.load(folders.root), PACKAGED)
    assert frame.empty
    assert "differences" in frame.columns
    assert published.tables(frame) == []
    assert published.sentences(frame) == published.sources(frame) == published.notes(frame) == []


def test_an_environment_made_with_arguments_is_not_the_same_task(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        folder = folders.add(algo, "LunarLander-v3")
        record = json.loads((folder / "run.json").read_text())
        record["spec"]["environment"] = {"kwargs": {"continuous": True}} if algo == "npg" else {}
        (folder / "run.json").write_text(json.dumps(record))
    frame = published.for_runs(runs.load(folders.root), PACKAGED)
    assert set(frame["label"]) == {"ppo"}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"metric": "last policy"}, ""),
        ({"metric": "last policy, 10 test episodes"}, ""),
        ({"metric": "last policy, 100 episodes"}, "100 episodes"),
        (
            {"metric": "last policy, about 150k evaluation steps"},
            "150k evaluation steps",
        ),
        ({"metric": "p", "timesteps": 1e7}, "budget ×200"),
        ({"metric": "p", "timesteps": 12_500}, "budget ×0.25"),
        ({"metric": "p", "timesteps": math.nan}, "budget not said"),
        ({"metric": "p", "env_id": "CartPole-v0"}, "CartPole-v0"),
        ({"metric": "p", "env_id": "CartPole"}, "version not said"),
        ({"metric": "p", "env_id": "CartPole", "note": "v0 then"}, "v0"),
        ({"metric": "p", "n_seeds": 10}, "10 runs"),
        ({"metric": "p", "n_seeds": 1}, "1 run; ± over episodes"),
        ({"metric": "p", "n_seeds": 1, "std": math.nan}, "1 run"),
        ({"metric": "mean of 100 episodes", "kind": TRAINING}, "none of ours"),
        (
            {"metric": "p, 4 episodes", "env_id": "CartPole-v0", "n_seeds": 1, "timesteps": 100.0},
            "CartPole-v0; 1 run; budget ×0.002; 4 episodes; ± over episodes",
        ),
    ],
)
def test_differences_are_computed_from_the_data(
    folders: RunFolders, row: dict[str, Any], expected: str
) -> None:
    for seed in range(5):
        folders.add("npg", seed=seed)
    assert differences(folders, **row) == expected


def test_the_episodes_of_ours_are_those_of_its_protocol(folders: RunFolders) -> None:
    folders.add("npg", evaluation={**EVALUATION, "episodes": 1})
    text = differences(folders, metric="p, 10 episodes")
    assert text == "5 runs; 10 episodes"


def small(folders: RunFolders) -> pd.DataFrame:
    """Two algorithms of ours and a result of each kind."""
    folders.add("npg", seed=0, returns=[0.0, 600.0, 500.0], n_timesteps=1_000)
    folders.add("npg", seed=1, returns=[0.0, 620.0, 540.0], n_timesteps=1_000)
    folders.add("ppo", seed=0, returns=[0.0, 400.0, 300.0], n_timesteps=1_000)
    first = {"source": "owner/first-lab README.md", "metric": "highest, 10 seeds"}
    return compared(
        folders,
        {**first, "kind": BEST, "algo": "trpo", "mean": 580.25, "timesteps": 1_000.0},
        {**first, "kind": BEST, "algo": "a2c", "mean": 700.0, "timesteps": 9_000.0},
        {"kind": FINAL, "mean": 520.0, "timesteps": math.nan, "n_seeds": 1, "note": "a | b"},
        {"kind": TRAINING, "source": "A paper, 2017", "std": math.nan, "mean": 510.0},
    )


def test_the_table_of_an_environment(folders: RunFolders) -> None:
    ((env_id, table),) = published.tables(small(folders))
    assert env_id == "CartPole-v1"
    assert table.headers == [
        "metric",
        "algorithm",
        "mean",
        "±",
        "runs",
        "steps",
        "source",
        "what differs from ours",
    ]
    here, lab, own = "this report", "first-lab", "repository"
    assert cells_of(table) == [
        [BEST, "a2c", "**700.0**", "12.5", "5", "9,000", lab, "budget ×9"],
        [BEST, "npg", "**610.0**", "14.1", "2", "1,000", here, ""],
        [BEST, "trpo", "580.2", "12.5", "5", "1,000", lab, ""],
        [BEST, "ppo", "400.0", "(1 seed)", "1", "1,000", here, ""],
        [
            *(FINAL, "npg", "**520.0**", "12.5", "1", "–", own),
            "budget not said; 100 episodes; ± over episodes",
        ],
        [FINAL, "npg", "**520.0**", "28.3", "2", "1,000", here, ""],
        [FINAL, "ppo", "300.0", "(1 seed)", "1", "1,000", here, ""],
        [
            *(TRAINING, "npg", "**510.0**", "–", "5", "50,000", "A paper, 2017"),
            "budget ×50; none of ours",
        ],
    ]


def test_one_run_of_ours_is_never_bold(folders: RunFolders) -> None:
    folders.add("npg", seed=0, returns=[0.0, 300.0])
    folders.add("npg", seed=1, returns=[0.0, 320.0])
    folders.add("ppo", seed=0, returns=[0.0, 400.0])  # the highest
    ((_, table),) = published.tables(compared(folders, {"metric": "p", "mean": 200.0}))
    assert [row[1:4] for row in cells_of(table)] == [
        ["ppo", "400.0", "(1 seed)"],
        ["npg", "**310.0**", "14.1"],
        ["npg", "**200.0**", "12.5"],
    ]


def test_where_all_of_ours_are_single_runs_none_is_bold(folders: RunFolders) -> None:
    folders.add("npg", returns=[0.0, 300.0])
    ((_, table),) = published.tables(compared(folders, {"metric": "p", "n_seeds": 1}))
    assert [(row[2], row[6]) for row in cells_of(table)] == [
        ("**480.5**", "repository"),
        ("300.0", "this report"),
    ]


def test_what_differs_is_said_for_each_budget_of_ours(folders: RunFolders) -> None:
    folders.add("npg", n_timesteps=50_000)
    folders.add("npg", n_timesteps=100_000)
    data = runs.load(folders.root, allow_mixed=True)
    frame = published.for_runs(data, results({"metric": "p", "timesteps": 50_000.0}))
    ((_, table),) = published.tables(frame)
    (theirs,) = [row for row in cells_of(table) if row[6] == "repository"]
    assert theirs[-1] == "budget ×0.5 or nothing"


def test_tables_are_aligned_in_the_source(study: RunFolders) -> None:
    frame = published.for_runs(runs.load(study.root), PACKAGED)
    tables = published.tables(frame)
    assert [env_id for env_id, _ in tables] == ["CartPole-v1", "HalfCheetah-v5"]
    for table in (published.measures(frame), *(table for _, table in tables)):
        assert len({len(line) for line in table.markdown().splitlines()}) == 1


def test_the_tables_of_environments_have_few_columns_and_short_cells(study: RunFolders) -> None:
    for _, table in published.tables(published.for_runs(runs.load(study.root), PACKAGED)):
        assert len(table.headers) == 8
        assert max(len(row[-1]) for row in table.rows) <= 70


def shortfalls(folders: RunFolders) -> pd.DataFrame:
    """NPG and PPO on two environments; what has another algorithm, metric or budget is in it."""
    for seed, final in enumerate([390.0, 410.0]):
        folders.add("npg", seed=seed, returns=[0.0, 450.0, final])
    folders.add("ppo", seed=0, returns=[0.0, 100.0, 50.0])
    folders.add("ppo", "Pendulum-v1", seed=0, returns=[-1_500.0, -300.0])
    plain = {"metric": "p", "n_seeds": 10}
    return compared(
        folders,
        {**plain, "mean": 500.0},  # npg: 400, 20% lower
        {**plain, "kind": BEST, "mean": 450.0},  # npg: equal
        {**plain, "algo": "ppo", "mean": 200.0},  # ppo: 50, 75% lower
        {**plain, "algo": "ppo", "mean": 10.0, "timesteps": 100_000.0},  # another budget
        {**plain, "algo": "ppo", "kind": TRAINING, "mean": 300.0},  # none of ours
        {**plain, "algo": "a2c", "mean": 90.0},  # no such algorithm of ours
        {**plain, "algo": "ppo", "env_id": "Pendulum-v0", "mean": -200.0},  # ppo: -300, 50% lower
        {**plain, "algo": "ppo", "env_id": "Pendulum-v0", "mean": -600.0, "n_seeds": 1},
    )


def test_ours_against_the_same_algorithm_the_furthest_shortfall_first(
    folders: RunFolders,
) -> None:
    frame = shortfalls(folders)
    table = published.same_algorithm(frame)
    assert table is not None
    assert table.headers == [
        "environment",
        "algorithm",
        "metric",
        "ours",
        "seeds",
        "theirs",
        "source",
        "difference",
        "what differs from ours",
    ]
    cart, pendulum, own = "CartPole-v1", "Pendulum-v1", "repository"
    assert cells_of(table) == [
        [cart, "ppo", FINAL, "50.0", "1 seed", "200.0", own, "-75%", "10 runs"],
        [pendulum, "ppo", FINAL, "-300.0", "1 seed", "-200.0", own, "-50%", "Pendulum-v0; 10 runs"],
        [cart, "npg", FINAL, "400.0", "2 seeds", "500.0", own, "-20%", "10 runs"],
        [cart, "npg", BEST, "450.0", "2 seeds", "450.0", own, "0%", "10 runs"],
        [pendulum, "ppo", FINAL, "-300.0", "1 seed", "-600.0", own, "+50%", "Pendulum-v0"],
    ]
    assert published.verdict(frame) == (
        "In 5 comparisons with a published result of the same algorithm, metric and budget, ours "
        "is lower in 3; the furthest: npg on CartPole-v1 (final policy, 2 seeds) by 20% and ppo on "
        "CartPole-v1 (final policy, 1 seed) by 75%."
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [
        (99.0, 100.0, "-1.0%"),
        (99.99, 100.0, "0%"),
        (100.0, 100.0, "0%"),
        (90.0, 100.0, "-10%"),
        (1_000.0, 100.0, "+900%"),
        (-5.0, 0.0, "–"),
        (0.0, 0.0, "0%"),
    ],
)
def test_differences_are_relative_to_theirs(
    folders: RunFolders, ours: float, theirs: float, difference: str
) -> None:
    folders.add("npg", returns=[-9.0, ours])
    table = published.same_algorithm(compared(folders, {"metric": "p", "mean": theirs}))
    assert table is not None
    assert table.rows[0][7] == difference


def test_variants_of_an_algorithm_are_each_compared(folders: RunFolders) -> None:
    for critic in ("adam", "gauss_newton"):
        folders.add("npg", hyperparams={"critic": critic, "gamma": 0.99})
    table = published.same_algorithm(compared(folders, {"metric": "p"}))
    assert table is not None
    assert [row[1] for row in table.rows] == ["npg (critic=adam)", "npg (critic=gauss_newton)"]


def test_where_nothing_is_of_the_same_algorithm_or_ours_is_never_lower_that_is_said(
    folders: RunFolders,
) -> None:
    folders.add("npg", returns=[0.0, 500.0])
    other = compared(folders, {"algo": "ppo"})
    assert published.same_algorithm(other) is None
    assert published.verdict(other).startswith("No published result is of the same algorithm")
    assert published.verdict(compared(folders, {"metric": "p"})) == (
        "In 1 comparison with a published result of the same algorithm, metric and budget, ours is "
        "never lower."
    )


def test_how_each_source_measures_is_said_once(folders: RunFolders) -> None:
    table = published.measures(small(folders))
    assert table.headers == [
        "source",
        "metric",
        "how it is measured",
        "versions",
        "runs",
        "note",
    ]
    evaluations = "of a run's 3 evaluations of 10 episodes"
    rows = cells_of(table)
    assert rows[0] == [
        *("this report", BEST),
        f"the highest {evaluations}, the one before training apart, mean over runs",
        *("v1", "1 to 2", ""),
    ]
    assert rows[1] == [
        *("this report", FINAL),
        f"the last {evaluations}, mean over runs",
        *("v1", "1 to 2", ""),
    ]
    assert rows[2] == ["this report", TRAINING, published.NO_MATCH, "–", "–", ""]
    assert "the nearest is the final return" in published.NO_MATCH
    assert rows[3:] == [
        ["A paper, 2017", TRAINING, "last policy, 100 episodes", "v1", "5", ""],
        ["first-lab", BEST, "highest, 10 seeds", "v1", "5", ""],
        ["repository", FINAL, "last policy, 100 episodes", "v1", "1", "a | b"],
    ]


def test_versions_and_numbers_of_runs_of_a_source_are_all_named(folders: RunFolders) -> None:
    folders.add("npg")
    folders.add("npg", "Pendulum-v1")
    frame = compared(
        folders,
        {"env_id": "CartPole-v0", "n_seeds": 3},
        {"env_id": "Pendulum-v1", "n_seeds": 4},
        {"env_id": "Pendulum", "n_seeds": 10},
    )
    table = published.measures(frame)
    assert "note" not in table.headers
    assert cells_of(table)[-1][3:] == ["not said, v0, v1", "3 to 10"]


def test_our_best_evaluation_is_not_that_before_training(folders: RunFolders) -> None:
    folders.add("npg", returns=[900.0, 100.0, 50.0])
    frame = compared(folders, {"kind": BEST, "mean": 200.0, "metric": "p"})
    assert frame["our_mean"].to_list() == [100.0]


def test_the_section_has_the_shortfalls_first_and_sources_before_the_tables(
    folders: RunFolders,
) -> None:
    shortfalls(folders)
    made = published.literature_of(
        runs.load(folders.root),
        results({"n_seeds": 10}, {"mean": 700.0, "timesteps": 2e6, "source": "a/b c.md"}),
    )
    assert made is not None
    text = template("literature.md.j2").render(literature=made)
    order = [
        "## Against the literature\n\nIn 1 comparison with",
        "\n\n| environment | algorithm |",
        "- CartPole-v1: final policy 400.0 (npg, 2 seeds) against 480.5",
        "### Sources and how they measure\n\n| source ",
        "- **b**: [a/b](https://github.com/a/b) c.md",
        "- **Difference**",
        "### CartPole-v1: ours and published results\n\n| metric ",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "\n\n\n" not in text
    assert text.endswith("|\n\n")


def test_there_is_no_section_where_nothing_is_published_or_wanted(folders: RunFolders) -> None:
    folders.add("npg", "MountainCarContinuous-v0")
    data = runs.load(folders.root)
    assert published.literature_of(data, PACKAGED) is None
    assert published.literature_of(data, None) is None


def test_sentences_say_who_is_higher_by_how_much_and_what_differs(folders: RunFolders) -> None:
    # Another result is higher, but with nine times the budget.
    assert published.sentences(small(folders)) == [
        "CartPole-v1: best evaluation 610.0 (npg, 2 seeds) against 580.2 (trpo, first-lab), 5% "
        "higher; final policy 520.0 (npg, 2 seeds) against 520.0 (npg, repository, budget not "
        "said), equal."
    ]


def test_a_sentence_prefers_what_has_two_or_more_seeds(folders: RunFolders) -> None:
    folders.add("npg", seed=0, returns=[0.0, 300.0])
    folders.add("npg", seed=1, returns=[0.0, 320.0])
    folders.add("ppo", seed=0, returns=[0.0, 400.0])
    assert published.sentences(compared(folders, {"metric": "p", "mean": 200.0})) == [
        "CartPole-v1: final policy 310.0 (npg, 2 seeds) against 200.0 (npg, repository), 55% "
        "higher."
    ]


def test_a_published_mean_of_zero_gives_no_percentage(folders: RunFolders) -> None:
    folders.add("npg", returns=[-9.0, -5.0])
    frame = compared(folders, {"metric": "p", "mean": 0.0})
    assert published.sentences(frame) == [
        "CartPole-v1: final policy -5.00 (npg, 1 seed) against 0.00 (npg, repository), 5.00 lower."
    ]
    assert published.verdict(frame).endswith("npg on CartPole-v1 (final policy, 1 seed).")


def test_a_sentence_where_ours_is_lower(folders: RunFolders) -> None:
    folders.add("npg", returns=[0.0, 100.0])
    frame = compared(folders, {"n_seeds": 1, "metric": "p", "mean": 101.5})
    assert published.sentences(frame) == [
        "CartPole-v1: final policy 100.0 (npg, 1 seed) against 101.5 (npg, repository), 1% lower."
    ]
    near = compared(folders, {"n_seeds": 1, "metric": "p", "mean": 100.3})
    assert published.sentences(near)[0].endswith(", less than 1% lower.")


def test_a_sentence_where_several_share_the_highest(folders: RunFolders) -> None:
    folders.add("npg", seed=0, returns=[0.0, 500.0])
    folders.add("npg", seed=1, returns=[0.0, 500.0])
    folders.add("ppo", seed=0, returns=[0.0, 500.0])
    folders.add("ppo", seed=1, returns=[0.0, 500.0])
    folders.add("ppo", seed=2, returns=[0.0, 500.0])
    far = {"mean": 500.0, "timesteps": 500_000.0, "metric": "p", "algo": "a2c"}
    frame = compared(folders, far, {**far, "timesteps": 100_000.0, "algo": "trpo"})
    assert published.sentences(frame) == [
        "CartPole-v1: final policy 500.0 (npg and ppo, 2–3 seeds) against 500.0 (trpo, repository, "
        "and 1 more, budget ×2), equal."
    ]


def test_a_sentence_where_nothing_of_ours_matches(folders: RunFolders) -> None:
    folders.add("npg", "Humanoid-v5")
    rows = [{"env_id": "Humanoid-v5", "kind": TRAINING, "mean": mean} for mean in (1.0, 2_661.0)]
    frame = compared(folders, *rows)
    assert published.sentences(frame) == [
        "Humanoid-v5: the highest published is 2,661 (npg, repository), by the metric training "
        "returns, by which there is nothing of ours."
    ]


def test_sources_have_short_names_and_addresses(folders: RunFolders) -> None:
    folders.add("npg")
    one, two = "owner/name a.md", "owner/name b.md"
    others = ["https://example.org/x.html", "doi 10.1000/182", "10.1000/182", "DLR-RM/zoo"]
    frame = compared(folders, *({"source": source} for source in (one, two, *others)))
    assert published.sources(frame) == [
        "**10.1000/182**: 10.1000/182",
        "**doi 10.1000/182**: doi 10.1000/182",
        "**https://example.org/x.html**: <https://example.org/x.html>",
        "**owner/name a.md**: [owner/name](https://github.com/owner/name) a.md",
        "**owner/name b.md**: [owner/name](https://github.com/owner/name) b.md",
        "**zoo**: [DLR-RM/zoo](https://github.com/DLR-RM/zoo)",
    ]
    # What each measures stands in the table that they follow.
    table = published.measures(frame)
    assert {tuple(row[1:3]) for row in table.rows[1:]} == {(FINAL, "last policy, 100 episodes")}
    assert [row[0] for row in table.rows[1:]] == [
        line.split("**")[1] for line in published.sources(frame)
    ]


def test_notes_say_how_the_tables_are_to_be_read(folders: RunFolders) -> None:
    lines = published.notes(small(folders))
    assert [line.split("**")[1] for line in lines] == [
        "Difference",
        "±",
        "Bold",
        "Best evaluation",
    ]
    assert "the highest of ours of two or more runs" in lines[2]


def test_the_same_input_gives_the_same_output_and_is_left_as_it_is(study: RunFolders) -> None:
    data, before = runs.load(study.root), PACKAGED.copy()
    first = published.for_runs(data, PACKAGED)
    shuffled = runs.RunData(
        data.runs.sample(frac=1, random_state=0),
        data.evaluations.sample(frac=1, random_state=0),
        data.failures,
    )
    for second in (
        published.for_runs(data, PACKAGED),
        published.for_runs(shuffled, PACKAGED),
    ):
        pd.testing.assert_frame_equal(first, second)
        assert published.tables(first) == published.tables(second)
        assert published.sentences(first) == published.sentences(second)
        assert published.sources(first) == published.sources(second)
        assert published.same_algorithm(first) == published.same_algorithm(second)
        assert published.measures(first) == published.measures(second)
        assert published.verdict(first) == published.verdict(second)
    pd.testing.assert_frame_equal(PACKAGED, before)
