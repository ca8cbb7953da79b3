"""Published results: read with every fault named, matched by task, put beside ours by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reports import published, runs, scores
from reports.published import BEST, FINAL, KINDS, TRAINING
from reports.runs import ReportError
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
        ({"metric": "last policy, 100 episodes"}, "100 episodes for 10"),
        (
            {"metric": "last policy, about 150k evaluation steps"},
            "about 150k evaluation steps for 10 episodes",
        ),
        ({"metric": "p", "timesteps": 1e7}, "budget 10,000,000 for 50,000"),
        ({"metric": "p", "timesteps": math.nan}, "budget not said for 50,000"),
        ({"metric": "p", "env_id": "CartPole-v0"}, "version v0 for v1"),
        ({"metric": "p", "env_id": "CartPole"}, "version not said for v1"),
        ({"metric": "p", "env_id": "CartPole", "note": "v0 then"}, "version v0 for v1"),
        ({"metric": "p", "n_seeds": 10}, "10 runs for 5"),
        ({"metric": "p", "n_seeds": 1}, "1 run for 5; ± over episodes"),
        ({"metric": "p", "n_seeds": 1, "std": math.nan}, "1 run for 5"),
        (
            {"metric": "mean of 100 episodes", "kind": TRAINING},
            "training returns for evaluations",
        ),
        (
            {"metric": "p, 4 episodes", "env_id": "CartPole-v0", "n_seeds": 1, "timesteps": 100.0},
            "version v0 for v1; 1 run for 5; budget 100 for 50,000; 4 episodes for 10; "
            "± over episodes",
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
    assert text == "5 runs for 1; 10 episodes for 1"


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
        "environment",
        "source",
        "what differs: theirs for ours",
        "note",
    ]
    cells = [[cell.strip() for cell in row] for row in table.rows]
    cartpole, here = "CartPole-v1", "this report"
    lab, own = "first-lab", "repository"
    runs_differ = "5 runs for 1 to 2"
    budget = "budget 50,000 for 1,000"
    assert cells == [
        [
            *(BEST, "a2c", "**700.0**", "12.5", "5", "9,000", cartpole, lab),
            *(f"{runs_differ}; budget 9,000 for 1,000", ""),
        ],
        [BEST, "npg", "**610.0**", "14.1", "2", "1,000", cartpole, here, "", ""],
        [BEST, "trpo", "580.2", "12.5", "5", "1,000", cartpole, lab, runs_differ, ""],
        [BEST, "ppo", "400.0", "–", "1", "1,000", cartpole, here, "", ""],
        [
            *(FINAL, "npg", "**520.0**", "12.5", "1", "–", cartpole, own),
            "1 run for 1 to 2; budget not said for 1,000; 100 episodes for 10; ± over episodes",
            "a | b",
        ],
        [FINAL, "npg", "**520.0**", "28.3", "2", "1,000", cartpole, here, "", ""],
        [FINAL, "ppo", "300.0", "–", "1", "1,000", cartpole, here, "", ""],
        [
            *(TRAINING, "npg", "**510.0**", "–", "5", "50,000", cartpole, "A paper, 2017"),
            *(f"{runs_differ}; {budget}; training returns for evaluations", ""),
        ],
        [
            *(TRAINING, "all of ours", "–", "–", "–", "–", "–", here),
            *("no such value: ours are evaluations, the nearest is the final return", ""),
        ],
    ]


def test_a_table_without_notes_has_no_column_for_them(folders: RunFolders) -> None:
    folders.add("npg")
    ((_, table),) = published.tables(compared(folders, {}))
    assert "note" not in table.headers


def test_tables_are_aligned_in_the_source(study: RunFolders) -> None:
    tables = published.tables(published.for_runs(runs.load(study.root), PACKAGED))
    assert [env_id for env_id, _ in tables] == ["CartPole-v1", "HalfCheetah-v5"]
    for _, table in tables:
        assert len({len(line) for line in table.markdown().splitlines()}) == 1


def test_sentences_say_who_is_higher_by_how_much_and_what_differs(folders: RunFolders) -> None:
    # Another result is higher, but with nine times the budget.
    assert published.sentences(small(folders)) == [
        "CartPole-v1: best evaluation 610.0 of npg, the highest of our 2, 29.8 above 580.2, the "
        "highest published at the same budget (trpo, first-lab), which differs in 5 runs for 2; "
        "final policy 520.0 of npg, the highest of our 2, equal to 520.0, the highest published at "
        "any budget (npg, repository), which differs in 1 run for 2, budget not said for 1,000 "
        "and 100 episodes for 10."
    ]


def test_a_sentence_where_ours_is_lower_and_nothing_differs(folders: RunFolders) -> None:
    folders.add("npg", returns=[0.0, 100.0])
    frame = compared(folders, {"n_seeds": 1, "metric": "p", "mean": 101.5})
    assert published.sentences(frame) == [
        "CartPole-v1: final policy 100.0 of npg, 1.5 below 101.5, the highest published at the "
        "same budget (npg, repository)."
    ]


def test_a_sentence_where_several_share_the_highest(folders: RunFolders) -> None:
    folders.add("npg", seed=0, returns=[0.0, 500.0])
    folders.add("npg", seed=1, returns=[0.0, 500.0])
    folders.add("ppo", seed=0, returns=[0.0, 500.0])
    far = {"mean": 500.0, "timesteps": 500_000.0, "metric": "p", "algo": "a2c"}
    frame = compared(folders, far, {**far, "timesteps": 100_000.0, "algo": "trpo"})
    assert published.sentences(frame) == [
        "CartPole-v1: final policy 500.0 of npg and ppo, the highest of our 2, equal to 500.0, the "
        "highest published at any budget (trpo, repository, and 1 more), which differs in 5 runs "
        "for 1 to 2 and budget 100,000 for 50,000."
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
    metric = "final policy: last policy, 100 episodes"
    assert published.sources(frame) == [
        f"**10.1000/182**: 10.1000/182; {metric}",
        f"**doi 10.1000/182**: doi 10.1000/182; {metric}",
        f"**https://example.org/x.html**: <https://example.org/x.html>; {metric}",
        f"**owner/name a.md**: [owner/name](https://github.com/owner/name) a.md; {metric}",
        f"**owner/name b.md**: [owner/name](https://github.com/owner/name) b.md; {metric}",
        f"**zoo**: [DLR-RM/zoo](https://github.com/DLR-RM/zoo); {metric}",
    ]


def test_notes_say_how_ours_is_computed(folders: RunFolders) -> None:
    lines = published.notes(small(folders))
    assert len(lines) == 5
    assert "the highest of a run's 3 evaluations of 10 episodes, then the mean" in lines[0]
    assert "the last of a run's 3 evaluations of 10 episodes, then the mean" in lines[1]
    assert "the nearest is the final return" in lines[2]


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
    pd.testing.assert_frame_equal(PACKAGED, before)
