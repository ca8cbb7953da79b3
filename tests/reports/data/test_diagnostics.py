"""Training logs in numbers: those made by hand and those of real runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from stable_baselines3.common.utils import LinearSchedule
from upath import UPath

from benchmarks.records import BrokenRunError
from reports.data import diagnostics, runs
from tests.reports.conftest import RunFolders
from tests.reports.logs import npg_by_hand, write_log


def measured(folders: RunFolders) -> pd.DataFrame:
    return diagnostics.measure(runs.load(folders.root)).table


def test_npg_by_hand(folders: RunFolders) -> None:
    npg_by_hand(folders)
    row = measured(folders).iloc[0]
    # Moved the policy: 0.01, 0.02, 0.03 and 0.05; the 5% quantile of four is 0.15 of a step in.
    assert row["updates"] == row["made"] == 5
    assert row["kl"] == pytest.approx(0.025)
    assert row["kl_low"] == pytest.approx(0.01 + 0.15 * 0.01)
    assert row["kl_high"] == pytest.approx(0.05 - 0.15 * 0.02)
    assert row["ratio"] == pytest.approx(1.25)
    assert row["ratio_low"] == pytest.approx(0.575)
    assert row["above"] == pytest.approx(0.25)  # 0.03 is just 1.5 delta, 0.05 above it
    assert row["accuracy"] == pytest.approx(1.25)
    assert (row["skipped"], row["tried"]) == (1, 5)
    assert row["cg_iterations"] == 5.5
    assert row["cg_residual"] == pytest.approx(2.5e-3)
    assert row["seeds"] == 2


def test_trpo_by_hand(folders: RunFolders) -> None:
    folder = folders.add("trpo")  # its delta is the constructor's
    write_log(
        folder,
        kl_divergence_loss=[0.005, 0.0, 0.009],
        is_line_search_success=[1.0, 0.0, 1.0],
        n_updates=[1, 2, 3],
    )
    row = measured(folders).iloc[0]
    assert row["delta_low"] == row["delta_high"] == 0.01
    assert row["ratio"] == pytest.approx(0.7)
    assert row["above"] == 0
    assert (row["skipped"], row["tried"]) == (1, 3)
    assert np.isnan(row["accuracy"])
    assert np.isnan(row["cg_residual"])


def test_delta_of_a_schedule_is_that_of_the_rollout_before(folders: RunFolders) -> None:
    folder = folders.add("npg", n_timesteps=400, hyperparams={"target_kl": "lin_0.05"})
    write_log(folder, rollout=100, kl=[0.05, 0.05, 0.05])
    log = diagnostics.updates_of(runs.load(folders.root).runs.iloc[0].to_dict())
    assert log is not None
    schedule = LinearSchedule(0.05, 0.0, 1.0)
    assert log["at"].to_list() == pytest.approx([100, 200, 300])
    assert log["delta"].to_list() == pytest.approx([schedule(1 - t / 400) for t in (100, 200, 300)])
    row = measured(folders).iloc[0]
    assert (row["delta_low"], row["delta_high"]) == pytest.approx((0.0125, 0.0375))


def test_a_logged_delta_precedes_the_hyperparameters(folders: RunFolders) -> None:
    folder = folders.add("npg", hyperparams={"target_kl": "lin_0.05"})
    write_log(folder, kl=[0.02, 0.02], target_kl=[0.01, 0.02])
    row = measured(folders).iloc[0]
    assert (row["delta_low"], row["delta_high"]) == (0.01, 0.02)
    assert row["ratio"] == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("hyperparams", "delta"),
    [
        ({}, 0.04 * 0.998),  # the default, after the first of 500 updates
        ({"target_kl": 0.1}, 0.1),
        ({"step_size": 0.3}, None),
        ({"target_kl": None}, 0.04 * 0.998),
    ],
)
def test_where_delta_is_from(folders: RunFolders, hyperparams: Any, delta: float | None) -> None:
    folder = folders.add("npg", hyperparams=hyperparams | {"gamma": 0.99})
    write_log(folder, kl=[0.02], kl_predicted=[0.016])
    row = measured(folders).iloc[0]
    assert row["accuracy"] == pytest.approx(1.25)
    if delta is None:
        assert np.isnan(row["ratio"])
        assert row["kl"] == 0.02
    else:
        assert row["ratio"] == pytest.approx(0.02 / delta)


def test_an_algorithm_that_cannot_be_imported_has_no_delta(folders: RunFolders) -> None:
    write_log(folders.add("nowhere:Nothing"), kl=[0.02])
    row = measured(folders).iloc[0]
    assert row["kl"] == 0.02
    assert np.isnan(row["delta_low"])


def test_counts_are_whole_where_a_log_is_thinned(folders: RunFolders) -> None:
    folder = folders.add("npg")
    write_log(
        folder,
        kl=[0.02] * 40,
        skipped_updates=[i // 10 for i in range(1, 41)],
        n_updates=list(range(1, 41)),
    )
    whole = measured(folders).iloc[0]
    path = folder / "progress.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *rows[::8]]) + "\n")  # the last of 41 with them
    thin = measured(folders).iloc[0]
    assert (thin["skipped"], thin["tried"], thin["made"]) == (4, 40, 40)
    assert (whole["skipped"], whole["tried"], whole["made"]) == (4, 40, 40)
    assert (whole["updates"], thin["updates"]) == (40, 5)


def test_what_is_pooled_are_the_updates_not_the_runs(folders: RunFolders) -> None:
    write_log(folders.add("npg", seed=0), kl=[0.01])
    write_log(folders.add("npg", seed=1), kl=[0.02, 0.03, 0.04, 0.05])
    assert measured(folders).iloc[0]["kl"] == pytest.approx(0.03)


def test_configurations_and_environments_have_rows_of_their_own(folders: RunFolders) -> None:
    write_log(folders.add("npg", hyperparams={"target_kl": 0.01}), kl=[0.01])
    write_log(folders.add("npg", hyperparams={"target_kl": 0.04}), kl=[0.01])
    write_log(folders.add("npg", "Hopper-v5", hyperparams={"target_kl": 0.01}), kl=[0.02])
    table = measured(folders)
    assert table["env_id"].to_list() == ["CartPole-v1", "CartPole-v1", "Hopper-v5"]
    assert table["label"].to_list() == ["npg (target_kl=0.01)", "npg (target_kl=0.04)", "npg"]
    assert table["ratio"].to_list() == pytest.approx([1.0, 0.25, 2.0])
    assert table["above"].to_list() == [0.0, 0.0, 1.0]


def test_a_run_without_a_log_is_said(folders: RunFolders) -> None:
    write_log(folders.add("npg", seed=0), kl=[0.02])
    (folders.add("npg", seed=1) / "progress.csv").unlink()
    (folders.add("npg", seed=2) / "progress.csv").write_text("")  # nothing was due to be logged
    data = diagnostics.measure(runs.load(folders.root))
    assert data.without_log == 1
    assert data.table.iloc[0]["seeds"] == 1


def test_infinite_divergences_count_and_spoil_no_quantile(folders: RunFolders) -> None:
    folder = folders.add("npg")
    write_log(folder, kl=[0.02, float("inf"), 0.02, float("nan")])
    row = measured(folders).iloc[0]
    assert row["kl_high"] == 0.02
    assert row["above"] == pytest.approx(1 / 3)
    assert row["updates"] == 3
    assert row["infinite"] == 1


BROKEN_LOGS = [
    ("time/iterations,train/kl\n1,0.1\n", "has no column time/total_timesteps"),
    ("time/total_timesteps,train/kl\n1,0.1\n2\n", "row 3 has 1 cells, the header has 2"),
    ("time/total_timesteps,train/kl\n1,0.1,3\n", "row 2 has 3 cells, the header has 2"),
    (
        'note,time/total_timesteps,train/kl\n"a, b",100\n',
        "row 2 has 2 cells, the header has 3",
    ),
    (
        'time/total_timesteps,train/kl\n1,"a, b"\n',
        "train/kl: 'a, b' is not a number",
    ),
    ("time/total_timesteps,train/kl\n1,0.1\nx,0.2\n", "time/total_timesteps: 'x' is not a"),
    ("\0\0\0\0\n", "has no column time/total_timesteps"),
    (f'time/total_timesteps,train/kl\n1,"{"9" * 200_000}"\n', "field larger than field limit"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN_LOGS)
def test_a_broken_log_is_named(folders: RunFolders, text: str, message: str) -> None:
    path = folders.add("npg") / "progress.csv"
    path.write_text(text)
    with pytest.raises(BrokenRunError, match=message) as caught:
        diagnostics.read_log(path.parent)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("text", [text for text, _ in BROKEN_LOGS])
def test_a_broken_log_is_left_out_and_the_others_are_told_of(
    folders: RunFolders, text: str
) -> None:
    npg_by_hand(folders)
    whole = measured(folders)
    path = folders.add("npg", seed=2, hyperparams={"target_kl": 0.02}) / "progress.csv"
    path.write_text(text)
    left = diagnostics.measure(runs.load(folders.root))
    pd.testing.assert_frame_equal(left.table, whole)
    assert left.without_log == 0
    (line,) = left.broken
    assert line.startswith(f"{path.relative_to(folders.root)}: ")


def test_bytes_that_are_no_text_are_named(folders: RunFolders) -> None:
    path = folders.add("npg") / "progress.csv"
    path.write_bytes(b"\xff\xfe\x00time")
    with pytest.raises(BrokenRunError, match="'utf-8' codec") as caught:
        diagnostics.read_log(path.parent)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("value", ["exp_0.05", [0.02], "lin_-1"])
def test_a_delta_that_is_none_is_named_and_its_log_left_out(
    folders: RunFolders, value: Any
) -> None:
    folder = folders.add("npg", hyperparams={"target_kl": value})
    write_log(folder, kl=[0.02])
    with pytest.raises(BrokenRunError, match="json: target_kl: ") as caught:
        diagnostics.updates_of(runs.load(folders.root).runs.iloc[0].to_dict())
    assert str(folder) in str(caught.value)
    found = diagnostics.measure(runs.load(folders.root))
    (line,) = found.broken
    assert line.startswith(f"{folder.relative_to(folders.root)}/run.json: target_kl: ")
    assert found.table.empty


def test_text_in_a_column_that_nobody_needs_does_no_harm(folders: RunFolders) -> None:
    path = folders.add("npg") / "progress.csv"
    path.write_text('note,time/total_timesteps,train/kl\n"a, ""b""",100,0.1\n,200,0.3\n')
    assert measured(folders).iloc[0]["kl"] == pytest.approx(0.2)


def test_logs_elsewhere_than_on_a_disk_are_read() -> None:
    folder = UPath("memory://diagnostics/seed-0")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "progress.csv").write_text("time/total_timesteps,train/kl\n100,0.25\n")
    log = diagnostics.read_log(folder)
    assert log is not None
    assert log["kl"].to_list() == [0.25]
    assert diagnostics.read_log(folder / "absent") is None


def test_bins_of_steps_by_hand(folders: RunFolders) -> None:
    """Updates at 100, 200, ..., 4,900 of 5,000 steps, delta 0.02: 25 bins, two updates in each."""
    folder = folders.add("npg", n_timesteps=5_000, hyperparams={"target_kl": 0.02})
    kl: list[float | None] = [0.02 * i for i in range(1, 50)]
    kl[4] = 0.0  # skipped: that at step 500
    write_log(folder, kl=kl)
    rows = diagnostics.measure(runs.load(folders.root)).over_steps
    assert rows["quantity"].unique() == ["kl"]
    assert len(rows) == 25
    # The bin from 200 to 400 has the updates at 200 and 300, with 2 and 3 delta.
    second, third = rows.iloc[1], rows.iloc[2]
    assert second["timesteps"] == pytest.approx(250)
    assert second["value"] == pytest.approx(2.5)
    assert second["low"] == pytest.approx(2.05)
    assert second["high"] == pytest.approx(2.95)
    assert third["timesteps"] == pytest.approx(400)
    assert third["value"] == pytest.approx(4)


def test_measured_over_predicted_by_hand(folders: RunFolders) -> None:
    """Updates at 100, 200, 300 and 400 of 5,000 steps: bins of 200 steps, of which 400 begins one.

    The update at 300 was skipped.
    """
    folder = folders.add("npg", n_timesteps=5_000, hyperparams={"step_size": 0.1})
    write_log(folder, kl=[0.09, 0.12, 0.0, 0.011], kl_predicted=[0.1, 0.1, 0.0, 0.01])
    rows = diagnostics.measure(runs.load(folders.root)).over_steps
    assert set(rows["quantity"]) == {"predicted"}  # there is no delta
    assert rows["timesteps"].to_list() == pytest.approx([100, 200, 400])
    assert rows["value"].to_list() == pytest.approx([0.9, 1.2, 1.1])


def test_measured_over_predicted_is_over_the_updates_of_all_runs(folders: RunFolders) -> None:
    for seed, kl in enumerate([0.08, 0.1, 0.16]):
        folder = folders.add("npg", seed=seed, n_timesteps=5_000)
        write_log(folder, kl=[kl], kl_predicted=[0.1])
    rows = diagnostics.measure(runs.load(folders.root)).over_steps
    (row,) = rows[rows["quantity"] == "predicted"].to_dict("records")
    assert (row["seeds"], row["value"]) == (3, pytest.approx(1.0))
    assert row["low"] == pytest.approx(0.8 + 0.1 * 0.2)  # a tenth of the way to the median
    assert row["high"] == pytest.approx(1.6 - 0.1 * 0.6)


def test_real_runs_log_what_is_read(trained: runs.RunData) -> None:
    table = diagnostics.measure(trained).table.set_index("label")
    assert table.index.to_list() == ["acer", "npg", "ppo", "trpo"]
    logged = {
        "npg": {"kl", "ratio", "accuracy", "skipped", "cg_iterations", "cg_residual"},
        "trpo": {"kl", "ratio", "skipped"},
        "ppo": {"estimate", "clip_fraction"},
        "acer": {"rho_mean", "rho_p95", "truncated", "projected", "projection", "kl_average"}
        | {"skipped"},
    }
    every = set().union(*logged.values())
    for label, names in logged.items():
        assert {name for name in every if not np.isnan(table.loc[label, name])} == names, label
    assert table.loc["trpo", "ratio_high"] <= 1  # its line search sees to that
    assert 0 <= table.loc["acer", "truncated"] <= table.loc["acer", "projected"] <= 1


def test_delta_of_a_real_run_is_what_its_steps_were_normalised_to(trained: runs.RunData) -> None:
    """Without line search the predicted KL is delta itself, as NPG took it from its schedule."""
    row = trained.runs[trained.runs["algo"] == "npg"].iloc[0]
    log = diagnostics.updates_of(row.to_dict())
    assert log is not None
    assert len(log) == 11  # 12 rollouts of 128 steps; the last update is never logged
    assert log["delta"].to_numpy() == pytest.approx(log["predicted"].to_numpy(), rel=1e-4)
    assert log["delta"].iloc[-1] < 0.3 * log["delta"].iloc[0]
