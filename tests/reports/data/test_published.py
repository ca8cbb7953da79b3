"""Published results: every fault in a file is named, and tasks are matched with ours by hand."""

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
from tests.reports.conftest import EVALUATION, RunFolders
from tests.reports.published_rows import (
    COLUMNS,
    GOOD,
    compared,
    four_kinds,
    shortfalls,
)

PACKAGED = published.load()


def csv_file(folder: Path, *rows: dict[str, str], header: str = COLUMNS) -> Path:
    path = folder / "own.csv"
    lines = [",".join(f'"{row[name]}"' for name in COLUMNS.split(",")) for row in rows]
    path.write_text("\n".join([header, *lines, ""]))
    return path


def differences(folders: RunFolders, **row: Any) -> str:
    (pair,) = compared(folders, row).to_dict("records")
    return "; ".join(published.differences(pair).values())


def test_every_row_that_comes_with_the_package_is_read() -> None:
    assert len(PACKAGED) == len(published.PUBLISHED.read_text().splitlines()) - 1 == 113
    assert PACKAGED.columns.to_list() == COLUMNS.split(",")
    assert PACKAGED.groupby("kind").size().to_dict() == {BEST: 36, FINAL: 56, TRAINING: 21}
    assert PACKAGED.groupby(["kind", "metric"]).ngroups == 4
    assert PACKAGED["timesteps"].isna().sum() == 4  # acktr
    assert PACKAGED["std"].isna().sum() == 21  # SLM-Lab gives none
    with_note = PACKAGED[PACKAGED["note"] != ""]
    assert set(with_note["note"]) == {
        "gym 0.17 MuJoCo v2/v3 tasks",
        "the source gives the standard error; here times the root of 3",
    }
    assert set(with_note["kind"]) == {BEST, FINAL}
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


def test_every_packaged_row_has_a_version() -> None:
    versions = [
        published.version(row["env_id"], row["note"]) for row in PACKAGED.to_dict("records")
    ]
    assert all(versions)


def test_rows_of_the_users_own_come_after_those_of_the_package(tmp_path: Path) -> None:
    path = csv_file(tmp_path, GOOD, {**GOOD, "timesteps": "", "std": "", "note": "a, b"})
    both = published.load(path)
    pd.testing.assert_frame_equal(both.iloc[:113], PACKAGED)
    own = both.iloc[113:].to_dict("records")
    assert own[0] == {**GOOD, "timesteps": 50_000.0, "mean": 480.5, "std": 12.5, "n_seeds": 5}
    assert math.isnan(own[1]["timesteps"])
    assert math.isnan(own[1]["std"])
    assert own[1]["note"] == "a, b"


def test_columns_may_come_in_any_order_and_from_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    names = COLUMNS.split(",")[::-1]
    row = ",".join(f'"{GOOD[name]}"' for name in names)
    path.write_bytes(f"\ufeff{','.join(names)}\r\n\r\n{row}\r\n".encode())
    assert published.load(path).iloc[113:]["mean"].to_list() == [480.5]


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
        assert set(own["our_timesteps"]) == {50_000}
        assert (set(own["our_evaluations"]), set(own["our_episodes"])) == ({3}, {10})
    assert (set(npg["our_seeds"]), set(ppo["our_seeds"])) == ({2}, {1})


def test_our_best_evaluation_is_not_that_before_training(folders: RunFolders) -> None:
    folders.add("npg", returns=[900.0, 100.0, 50.0])
    frame = compared(folders, {"kind": BEST, "mean": 200.0, "metric": "p"})
    assert frame["our_mean"].to_list() == [100.0]


def test_the_best_evaluation_is_that_of_the_table_of_scores(study: RunFolders) -> None:
    data = runs.load(study.root)
    table = scores.score_table(data.runs, scores.run_scores(data.evaluations)).set_index(
        ["env_id", "label"]
    )
    frame = published.for_runs(data, PACKAGED)
    best = frame[frame["kind"] == BEST].drop_duplicates(["env_id", "label"])
    assert len(best) == 3
    for row in best.to_dict("records"):
        assert row["our_mean"] == pytest.approx(table.loc[(row["env_id"], row["label"])].best_mean)


def test_every_published_result_of_a_task_stands_beside_every_algorithm(study: RunFolders) -> None:
    frame = published.for_runs(runs.load(study.root), PACKAGED)
    counts = frame.groupby(["env_id", "label"]).size().to_dict()
    # CartPole: 3 + 2 of the two zoos and 2 of SLM-Lab. HalfCheetah: 4, 3 + 1 and 2.
    expected = {"CartPole-v1": 7, "HalfCheetah-v5": 10}
    assert counts == {
        (env_id, label): n for env_id, n in expected.items() for label in ("npg", "ppo", "trpo")
    }
    assert set(frame.loc[frame["env_id"] == "HalfCheetah-v5", "their_env_id"]) == {
        "HalfCheetah",
        "HalfCheetah-v3",
        "HalfCheetah-v5",
    }
    half_cheetah = frame[(frame["env_id"] == "HalfCheetah-v5") & (frame["label"] == "npg")]
    assert half_cheetah["kind"].to_list() == [BEST] * 4 + [FINAL] * 4 + [TRAINING] * 2
    for _, group in half_cheetah.groupby("kind"):
        assert group["their_mean"].is_monotonic_decreasing


def test_tasks_without_a_published_result_are_not_there(folders: RunFolders) -> None:
    folders.add("npg", "MountainCarContinuous-v0")
    folders.add("npg", "LunarLanderContinuous-v3")
    frame = published.for_runs(runs.load(folders.root), PACKAGED)
    assert frame.empty
    assert "our_mean" in frame.columns
    assert published.same_algorithm(frame).empty
    assert published.highest(frame).empty


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


def test_rows_of_the_same_algorithm_metric_and_budget_the_furthest_shortfall_first(
    folders: RunFolders,
) -> None:
    rows = published.same_algorithm(shortfalls(folders))
    cart, pendulum = "CartPole-v1", "Pendulum-v1"
    columns = ["env_id", "label", "kind", "our_mean", "their_mean", "difference"]
    assert rows[columns].values.tolist() == [
        [cart, "ppo", FINAL, 50.0, 200.0, -0.75],
        [pendulum, "ppo", FINAL, -300.0, -200.0, -0.5],
        [cart, "npg", FINAL, 400.0, 500.0, -0.2],
        [cart, "npg", BEST, 450.0, 450.0, 0.0],
        [pendulum, "ppo", FINAL, -300.0, -600.0, 0.5],
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [
        (99.0, 100.0, -0.01),
        (100.0, 100.0, 0.0),
        (1_000.0, 100.0, 9.0),
        (-5.0, 0.0, -math.inf),
        (0.0, 0.0, 0.0),
    ],
)
def test_differences_of_means_are_relative_to_theirs(
    folders: RunFolders, ours: float, theirs: float, difference: float
) -> None:
    folders.add("npg", returns=[-9.0, ours])
    frame = compared(folders, {"metric": "p", "mean": theirs})
    assert published.same_algorithm(frame)["difference"].tolist() == pytest.approx([difference])
    assert published.highest(frame)["difference"].tolist() == pytest.approx([difference])


def test_variants_of_an_algorithm_are_each_compared(folders: RunFolders) -> None:
    for critic in ("adam", "gauss_newton"):
        folders.add("npg", hyperparams={"critic": critic, "gamma": 0.99})
    rows = published.same_algorithm(compared(folders, {"metric": "p"}))
    assert rows["label"].tolist() == ["npg (critic=adam)", "npg (critic=gauss_newton)"]


def test_another_algorithm_is_not_the_same(folders: RunFolders) -> None:
    folders.add("npg", returns=[0.0, 500.0])
    assert published.same_algorithm(compared(folders, {"algo": "ppo"})).empty


def test_our_highest_stands_beside_the_highest_published_at_our_budget(
    folders: RunFolders,
) -> None:
    # Another result is higher, but with nine times the budget.
    best, final = published.highest(four_kinds(folders)).to_dict("records")
    assert (best["kind"], best["labels"], best["seeds"]) == (BEST, ["npg"], [2])
    assert (best["our_mean"], best["their_mean"], best["algo"]) == (610.0, 580.25, "trpo")
    assert best["difference"] == pytest.approx(610 / 580.25 - 1)
    assert (final["kind"], final["labels"], final["seeds"]) == (FINAL, ["npg"], [2])
    assert (final["our_mean"], final["their_mean"], final["difference"]) == (520.0, 520.0, 0.0)
    assert published.differences(final)["budget"] == "budget not said"


def test_our_highest_has_two_or_more_seeds_where_there_are_any(folders: RunFolders) -> None:
    folders.add("npg", seed=0, returns=[0.0, 300.0])
    folders.add("npg", seed=1, returns=[0.0, 320.0])
    folders.add("ppo", seed=0, returns=[0.0, 400.0])
    (row,) = published.highest(compared(folders, {"metric": "p", "mean": 200.0})).to_dict("records")
    assert (row["labels"], row["our_mean"]) == (["npg"], 310.0)
    assert row["difference"] == pytest.approx(0.55)


def test_several_may_share_the_highest_mean(folders: RunFolders) -> None:
    for algo, n_seeds in (("npg", 2), ("ppo", 3)):
        for seed in range(n_seeds):
            folders.add(algo, seed=seed, returns=[0.0, 500.0])
    far = {"mean": 500.0, "timesteps": 500_000.0, "metric": "p", "algo": "a2c"}
    frame = compared(folders, far, {**far, "timesteps": 100_000.0, "algo": "trpo"})
    (row,) = published.highest(frame).to_dict("records")
    assert (row["labels"], row["seeds"]) == (["npg", "ppo"], [2, 3])
    assert (row["algo"], row["others"]) == ("trpo", 1)
    assert published.differences(row)["budget"] == "budget ×2"


def test_where_there_are_training_returns_alone_nothing_of_ours_stands_beside_them(
    folders: RunFolders,
) -> None:
    folders.add("npg", "Humanoid-v5")
    rows = [{"env_id": "Humanoid-v5", "kind": TRAINING, "mean": mean} for mean in (1.0, 2_661.0)]
    (row,) = published.highest(compared(folders, *rows)).to_dict("records")
    assert (row["labels"], row["their_mean"], row["algo"]) == ([], 2_661.0, "npg")
    assert math.isnan(row["our_mean"])
    assert math.isnan(row["difference"])


def test_the_same_input_gives_the_same_output_and_is_left_as_it_is(study: RunFolders) -> None:
    data, before = runs.load(study.root), PACKAGED.copy()
    first = published.for_runs(data, PACKAGED)
    shuffled = runs.RunData(
        data.runs.sample(frac=1, random_state=0),
        data.evaluations.sample(frac=1, random_state=0),
        data.failures,
        data.asked,
    )
    for second in (
        published.for_runs(data, PACKAGED),
        published.for_runs(shuffled, PACKAGED),
    ):
        pd.testing.assert_frame_equal(first, second)
        for derive in (published.same_algorithm, published.highest):
            pd.testing.assert_frame_equal(derive(first), derive(second))
    pd.testing.assert_frame_equal(PACKAGED, before)
