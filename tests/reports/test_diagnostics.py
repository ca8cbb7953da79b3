"""Trust-region diagnostics: numbers from logs, those made by hand and those of real runs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import image as mpl_image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from stable_baselines3.common.utils import LinearSchedule
from typer.testing import CliRunner
from upath import UPath

from benchmarks.records import Evaluation, RunSpec
from benchmarks.results import BrokenRunError
from benchmarks.run import run
from reports import diagnostic_data, diagnostic_figures, diagnostics, figures, runs
from reports.__main__ import app
from reports.templates import template
from tests.reports.conftest import RunFolders

Columns = dict[str, list[float | None]]


def write_log(folder: Path, rollout: int = 100, **train: list[float | None]) -> None:
    """``progress.csv`` with a first row that tells of no update, as SB3 begins."""
    n_rows = len(next(iter(train.values()))) + 1
    with (folder / "progress.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["time/iterations", "time/total_timesteps", *(f"train/{name}" for name in train)]
        )
        for i in range(n_rows):
            values = ["" if i == 0 else column[i - 1] for column in train.values()]
            writer.writerow([i + 1, (i + 1) * rollout, *values])


def build(folders: RunFolders, name: str = "report") -> diagnostics.Diagnostics | None:
    data = runs.load(folders.root)
    out = folders.root.parent / name
    out.mkdir()
    return diagnostics.diagnostics_of(data, figures.looks(list(data.runs["label"])), out)


def cells(part: diagnostics.Part, header: str) -> list[str]:
    return [row[list(part.table.headers).index(header)] for row in part.table.rows]


def measured(folders: RunFolders) -> pd.DataFrame:
    return diagnostic_data.measure(runs.load(folders.root)).table


def part(folders: RunFolders, name: str) -> diagnostics.Part:
    made = build(folders)
    assert made is not None
    return next(part for part in made.parts if part.name == name)


def notes(folders: RunFolders) -> str:
    made = build(folders)
    assert made is not None
    return "\n".join(note for part in made.parts for note in part.notes)


def text_of(made: diagnostics.Diagnostics) -> str:
    return template("diagnostics.md.j2").render(diagnostics=made)


def npg_by_hand(folders: RunFolders) -> None:
    """Two seeds, five updates of which one was skipped; delta is 0.02."""
    first = folders.add("npg", seed=0, hyperparams={"target_kl": 0.02})
    write_log(
        first,
        kl=[0.01, 0.02, 0.0],
        kl_predicted=[0.02, 0.02, 0.0],
        cg_iterations=[4, 6, None],
        cg_residual=[1e-3, 3e-3, None],
        skipped_updates=[0, 0, 1],
        n_updates=[1, 2, 3],
    )
    second = folders.add("npg", seed=1, hyperparams={"target_kl": 0.02})
    write_log(
        second,
        kl=[0.03, 0.05],
        kl_predicted=[0.02, 0.02],
        cg_iterations=[5, 9],
        cg_residual=[2e-3, 4e-3],
        skipped_updates=[0, 0],
        n_updates=[1, 2],
    )


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


def test_npg_as_cells_and_in_words(folders: RunFolders) -> None:
    npg_by_hand(folders)
    made = build(folders)
    assert made is not None
    kl, steps = made.parts
    assert cells(kl, "delta") == ["0.02"]
    assert cells(kl, "KL per update: median [5%, 95%]") == ["0.025 [0.0115, 0.047]"]
    assert cells(kl, "KL / delta: median [5%, 95%]") == ["1.25 [0.57, 2.35]"]
    assert cells(kl, "above 1.5 delta") == ["25%"]
    assert cells(steps, "updates skipped") == ["1 (20%)"]
    assert cells(steps, "measured / predicted KL: median [5%, 95%]") == ["1.25 [0.57, 2.35]"]
    assert made.sentences == [
        "npg: the median KL per update is 1.25 delta on CartPole-v1; 25% of updates exceed "
        "1.5 delta; 1 of 5 updates were skipped."
    ]
    assert "clipped: mean [5%, 95%]" not in kl.table.headers


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


def test_ppo_stands_beside_it_as_an_estimate(folders: RunFolders) -> None:
    write_log(folders.add("npg"), kl=[0.02], skipped_updates=[0], n_updates=[1])
    folder = folders.add("ppo", hyperparams={"target_kl": 0.03})
    write_log(folder, approx_kl=[0.004, 0.005, 0.006], clip_fraction=[0.1, 0.1, 0.4])
    made = build(folders)
    assert made is not None
    kl, steps = made.parts
    assert cells(kl, "algorithm") == ["npg", "ppo"]
    assert cells(kl, "delta") == ["0.02", "–"]
    assert cells(kl, "KL per update: median [5%, 95%]") == [
        "0.02 [0.02, 0.02]",
        "≈ 0.005 [0.0041, 0.0059]",
    ]
    assert cells(kl, "clipped: mean [5%, 95%]") == ["–", "20% [10%, 37%]"]
    assert "an estimate" in "\n".join(kl.notes)
    assert cells(steps, "algorithm") == ["npg"]
    assert made.sentences[-1] == (
        "ppo: no trust region; the median estimated KL is 0.005 on CartPole-v1, the share of "
        "clipped ratios 20% on CartPole-v1."
    )


def test_acer_by_hand(folders: RunFolders) -> None:
    folder = folders.add("acer", hyperparams={"correction_term": 5.0})
    write_log(
        folder,
        rho_mean=[1.0, 1.2],
        rho_p95=[2.0, 4.0],
        rho_truncated=[0.0, 0.01],
        projected=[0.1, 0.3],
        projection=[0.02, 0.04],
        kl_average=[0.5, 1.5],
        skipped_updates=[0, 0],
        n_updates=[4, 9],
    )
    made = build(folders)
    assert made is not None
    acer = made.parts[-1]
    expected = {
        "mean rho: median [5%, 95%]": "1.10 [1.01, 1.19]",
        "95% quantile of rho: median [5%, 95%]": "3.00 [2.10, 3.90]",
        "c": "5",
        "truncated: mean [5%, 95%]": "0.5% [<0.1%, 0.9%]",
        "projected: mean [5%, 95%]": "20% [11%, 29%]",
        "change by projection: median [5%, 95%]": "3.0% [2.1%, 3.9%]",
        "delta": "1",
        "KL to the average policy: median [5%, 95%]": "1 [0.55, 1.45]",
    }
    assert {header: cells(acer, header)[0] for header in expected} == expected
    assert [name for name, _ in acer.figures] == [
        "diagnostics_projected",
        "diagnostics_truncated",
    ]
    assert made.sentences == [
        "acer: the share of truncated importance weights is 0.5% on CartPole-v1, that of samples "
        "whose gradient the trust region changed 20% on CartPole-v1."
    ]


def test_acer_without_a_trust_region_has_no_delta(folders: RunFolders) -> None:
    folder = folders.add("acer", hyperparams={"trust_region": False})
    write_log(folder, rho_mean=[1.0], rho_p95=[2.0], rho_truncated=[0.0])
    acer = part(folders, "acer")
    assert "delta" not in acer.table.headers
    assert "projected: mean [5%, 95%]" not in acer.table.headers
    assert [name for name, _ in acer.figures] == ["diagnostics_truncated"]


def test_delta_of_a_schedule_is_that_of_the_rollout_before(folders: RunFolders) -> None:
    folder = folders.add("npg", n_timesteps=400, hyperparams={"target_kl": "lin_0.05"})
    write_log(folder, rollout=100, kl=[0.05, 0.05, 0.05])
    log = diagnostic_data.updates_of(runs.load(folders.root).runs.iloc[0].to_dict())
    assert log is not None
    schedule = LinearSchedule(0.05, 0.0, 1.0)
    assert log["at"].to_list() == pytest.approx([100, 200, 300])
    assert log["delta"].to_list() == pytest.approx([schedule(1 - t / 400) for t in (100, 200, 300)])
    assert cells(part(folders, "kl-per-update"), "delta") == ["0.0375 to 0.0125"]


def test_a_logged_delta_precedes_the_hyperparameters(folders: RunFolders) -> None:
    folder = folders.add("npg", hyperparams={"target_kl": "lin_0.05"})
    write_log(folder, kl=[0.02, 0.02], target_kl=[0.01, 0.02])
    row = measured(folders).iloc[0]
    assert (row["delta_low"], row["delta_high"]) == (0.01, 0.02)
    assert row["ratio"] == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("hyperparams", "delta"),
    [
        ({}, 0.02),
        ({"target_kl": 0.1}, 0.1),
        ({"step_size": 0.3}, None),
        ({"target_kl": None}, 0.02),
    ],
)
def test_where_delta_is_from(folders: RunFolders, hyperparams: Any, delta: float | None) -> None:
    folder = folders.add("npg", hyperparams=hyperparams | {"gamma": 0.99})
    write_log(folder, kl=[0.02], kl_predicted=[0.016])
    row = measured(folders).iloc[0]
    assert row["accuracy"] == pytest.approx(1.25)
    if delta is None:
        assert np.isnan(row["ratio"])
        made = build(folders)
        assert made is not None
        assert made.sentences == [
            "npg: without delta, the median KL per update is 0.02 on CartPole-v1."
        ]
        assert not made.parts[0].figures
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
    assert "Of 40 updates 5 are in the logs that are kept." in notes(folders)


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
    assert diagnostics.sentences(table) == [
        "npg: the median KL per update is between 0.25 delta (npg (target_kl=0.04) on "
        "CartPole-v1) and 2.00 delta (npg on Hopper-v5); at most 100% of updates (npg on "
        "Hopper-v5) exceed 1.5 delta."
    ]


def test_the_same_everywhere_is_said_once(folders: RunFolders) -> None:
    for env_id in ("CartPole-v1", "Hopper-v5"):
        folder = folders.add("npg", env_id)
        write_log(folder, kl=[0.018], skipped_updates=[0], n_updates=[1])
    assert diagnostics.sentences(measured(folders)) == [
        "npg: the median KL per update is 0.90 delta everywhere; no update exceeds 1.5 delta; "
        "none was skipped."
    ]


def test_nothing_of_the_kind_is_no_section(folders: RunFolders) -> None:
    write_log(folders.add("a2c"), value_loss=[1.0])
    folders.add("npg")  # ran for less than a rollout
    assert build(folders) is None
    assert list((folders.root.parent / "report").iterdir()) == []


def test_a_run_without_a_log_is_said(folders: RunFolders) -> None:
    write_log(folders.add("npg", seed=0), kl=[0.02])
    (folders.add("npg", seed=1) / "progress.csv").unlink()
    (folders.add("npg", seed=2) / "progress.csv").write_text("")  # nothing was due to be logged
    data = diagnostic_data.measure(runs.load(folders.root))
    assert data.without_log == 1
    assert data.table.iloc[0]["seeds"] == 1
    assert "1 run has no `progress.csv` and no part in this." in notes(folders)


def test_infinite_divergences_count_and_spoil_no_quantile(folders: RunFolders) -> None:
    folder = folders.add("npg")
    write_log(folder, kl=[0.02, float("inf"), 0.02, float("nan")])
    row = measured(folders).iloc[0]
    assert row["kl_high"] == 0.02
    assert row["above"] == pytest.approx(1 / 3)
    assert row["updates"] == 3
    assert "Infinite divergences, in no quantile: 1 of" in notes(folders)


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
        diagnostic_data.read_log(path.parent)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("text", [text for text, _ in BROKEN_LOGS])
def test_a_broken_log_is_left_out_and_the_others_are_told_of(
    folders: RunFolders, text: str
) -> None:
    npg_by_hand(folders)
    whole = measured(folders)
    path = folders.add("npg", seed=2, hyperparams={"target_kl": 0.02}) / "progress.csv"
    path.write_text(text)
    left = diagnostic_data.measure(runs.load(folders.root))
    pd.testing.assert_frame_equal(left.table, whole)
    assert left.without_log == 0
    (line,) = left.broken
    assert line.startswith(f"{path.relative_to(folders.root)}: ")


def test_what_is_left_out_is_warned_of_and_stands_in_the_section(folders: RunFolders) -> None:
    npg_by_hand(folders)
    path = folders.add("npg", seed=2, hyperparams={"target_kl": 0.02}) / "progress.csv"
    path.write_text("time/total_timesteps,train/kl\n100,0.1\n2")
    data, warnings = runs.load(folders.root), []
    made = diagnostics.diagnostics_of(
        data, figures.looks(["npg"]), folders.root.parent, warnings.append
    )
    assert made is not None
    what = f"{path.relative_to(folders.root)}: row 3 has 1 cells, the header has 2"
    assert warnings == [f"left out of the diagnostics: {what}"]
    assert made.sentences[0] == f"**Left out**, since its log cannot be used: `{what}`."
    assert made.sentences[1].startswith("npg: the median KL per update is 1.25 delta")
    assert f"\n\n- {made.sentences[0]}\n- npg: " in text_of(made)


def test_where_no_log_can_be_read_the_section_says_that(folders: RunFolders) -> None:
    (folders.add("npg") / "progress.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    made = build(folders)
    assert made is not None
    assert not made.parts
    assert "seed-0" in made.sentences[0]
    assert "'utf-8' codec" in made.sentences[0]
    assert text_of(made).endswith("`.\n\n")


def test_a_broken_log_does_not_end_the_build(study: RunFolders, tmp_path: Path) -> None:
    first, second, *_ = sorted(study.root.rglob("progress.csv"))
    first.write_bytes(b"\x00\xff\xfe" * 100)
    second.write_text("time/total_timesteps,train/kl\n1,0.1\n2")
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["build", str(study.root), "--out", str(out)])
    assert result.exit_code == 0, result.output
    text = (out / "report.md").read_text()
    section = text.partition("## Trust-region diagnostics")[2].partition("## How")[0]
    for path in (first, second):
        assert f"**Left out**, since its log cannot be used: `{path.relative_to(study.root)}: " in (
            section
        )
        assert f"warning: left out of the diagnostics: {path.relative_to(study.root)}: " in (
            result.stderr
        )
    assert "18 runs, 3 seeds per algorithm and environment" in text
    assert str(study.root) not in text


def test_bytes_that_are_no_text_are_named(folders: RunFolders) -> None:
    path = folders.add("npg") / "progress.csv"
    path.write_bytes(b"\xff\xfe\x00time")
    with pytest.raises(BrokenRunError, match="'utf-8' codec") as caught:
        diagnostic_data.read_log(path.parent)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("value", ["exp_0.05", [0.02], "lin_-1"])
def test_a_delta_that_is_none_is_named_and_its_log_left_out(
    folders: RunFolders, value: Any
) -> None:
    folder = folders.add("npg", hyperparams={"target_kl": value})
    write_log(folder, kl=[0.02])
    with pytest.raises(BrokenRunError, match="json: target_kl: ") as caught:
        diagnostic_data.updates_of(runs.load(folders.root).runs.iloc[0].to_dict())
    assert str(folder) in str(caught.value)
    made = build(folders)
    assert made is not None
    assert f"{folder.relative_to(folders.root)}/run.json: target_kl: " in made.sentences[0]
    assert not made.parts


def test_text_in_a_column_that_nobody_needs_does_no_harm(folders: RunFolders) -> None:
    path = folders.add("npg") / "progress.csv"
    path.write_text('note,time/total_timesteps,train/kl\n"a, ""b""",100,0.1\n,200,0.3\n')
    assert measured(folders).iloc[0]["kl"] == pytest.approx(0.2)


def test_logs_elsewhere_than_on_a_disk_are_read() -> None:
    folder = UPath("memory://diagnostics/seed-0")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "progress.csv").write_text("time/total_timesteps,train/kl\n100,0.25\n")
    log = diagnostic_data.read_log(folder)
    assert log is not None
    assert log["kl"].to_list() == [0.25]
    assert diagnostic_data.read_log(folder / "absent") is None


def test_bins_of_steps_by_hand(folders: RunFolders) -> None:
    """Updates at 100, 200, ..., 4,900 of 5,000 steps, delta 0.02: 25 bins, two updates in each."""
    folder = folders.add("npg", n_timesteps=5_000)
    kl: list[float | None] = [0.02 * i for i in range(1, 50)]
    kl[4] = 0.0  # skipped: that at step 500
    write_log(folder, kl=kl)
    rows = diagnostic_data.measure(runs.load(folders.root)).over_steps
    assert rows["quantity"].unique() == ["kl"]
    assert len(rows) == 25
    # The bin from 200 to 400 has the updates at 200 and 300, with 2 and 3 delta.
    second, third = rows.iloc[1], rows.iloc[2]
    assert second["timesteps"] == pytest.approx(250)
    assert second["middle"] == pytest.approx(2.5)
    assert second["low"] == pytest.approx(2.05)
    assert second["high"] == pytest.approx(2.95)
    assert third["timesteps"] == pytest.approx(400)
    assert third["middle"] == pytest.approx(4)


def test_measured_over_predicted_by_hand(folders: RunFolders) -> None:
    """Updates at 100, 200, 300 and 400 of 5,000 steps: bins of 200 steps, of which 400 begins one.

    The update at 300 was skipped.
    """
    folder = folders.add("npg", n_timesteps=5_000, hyperparams={"step_size": 0.1})
    write_log(folder, kl=[0.09, 0.12, 0.0, 0.011], kl_predicted=[0.1, 0.1, 0.0, 0.01])
    rows = diagnostic_data.measure(runs.load(folders.root)).over_steps
    assert set(rows["quantity"]) == {"predicted"}  # there is no delta
    assert rows["timesteps"].to_list() == pytest.approx([100, 200, 400])
    assert rows["middle"].to_list() == pytest.approx([0.9, 1.2, 1.1])


def test_measured_over_predicted_is_over_the_updates_of_all_runs(folders: RunFolders) -> None:
    for seed, kl in enumerate([0.08, 0.1, 0.16]):
        folder = folders.add("npg", seed=seed, n_timesteps=5_000)
        write_log(folder, kl=[kl], kl_predicted=[0.1])
    rows = diagnostic_data.measure(runs.load(folders.root)).over_steps
    (row,) = rows[rows["quantity"] == "predicted"].to_dict("records")
    assert (row["seeds"], row["middle"]) == (3, pytest.approx(1.0))
    assert row["low"] == pytest.approx(0.8 + 0.1 * 0.2)  # a tenth of the way to the median
    assert row["high"] == pytest.approx(1.6 - 0.1 * 0.6)


def curves(*labels: str, env_ids: tuple[str, ...] = ("CartPole-v1",)) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame(
            {
                "env_id": env_id,
                "label": label,
                "seeds": 5,
                "timesteps": np.linspace(0, 1e6, 25),
                "middle": (middle := rng.lognormal(0, 0.05, 25)),
                "low": 0.5 * middle,
                "high": 2 * middle,
            }
        )
        for env_id in env_ids
        for label in labels
    ]
    return pd.concat(frames, ignore_index=True)


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def shown_ticks(ax: Axes) -> list[str]:
    low, high = ax.get_ylim()
    ticks = [tick for tick in ax.yaxis.get_majorticklocs() if low <= tick <= high]
    return ax.yaxis.get_major_formatter().format_ticks(ticks)


@pytest.mark.parametrize(
    ("quantity", "guide", "label", "ticks"),
    [
        ("kl", "delta", "KL per update / delta", ["0.25", "0.5", "1", "2"]),
        ("predicted", "as predicted", "measured / predicted KL", ["0.5", "1", "2"]),
    ],
)
def test_figures_of_ratios_share_a_logarithmic_axis_around_one(
    quantity: str, guide: str, label: str, ticks: list[str]
) -> None:
    frame = curves("npg", "trpo", env_ids=("A", "B"))
    near = frame["env_id"] == "A"
    frame["low"], frame["high"] = 0.9 * frame["middle"], 1.1 * frame["middle"]
    frame.loc[near, ["low", "middle", "high"]] = 1.0  # its own axis would be narrow
    styles = figures.looks(["npg", "trpo"])
    figure = diagnostic_figures.over_steps(frame, quantity, styles)
    assert legend_texts(figure) == ["npg, 5 seeds", "trpo, 5 seeds", "5% to 95% of updates", guide]
    assert [ax.get_title() for ax in figure.axes] == ["A", "B"]
    for ax in figure.axes:
        assert ax.get_yscale() == "log"
        assert any(list(line.get_ydata()) == [1.0, 1.0] for line in ax.lines)
        assert ax.get_ylim() == figure.axes[0].get_ylim()
        assert shown_ticks(ax) == ticks
        # In grey, lines differ by their markers (and dashes).
        npg, trpo = (line for line in ax.lines if line.get_label() in styles)
        assert npg.get_marker() != trpo.get_marker()
    assert figure.axes[0].get_ylabel() == label
    assert figure.axes[1].get_xlabel() == "environment steps"


@pytest.mark.parametrize(
    ("lowest", "highest", "ticks"),
    [
        (0.11, 1.0, ["0.125", "0.25", "0.5", "1", "2"]),
        (1.0, 40.0, ["0.25", "1", "4", "16"]),
        (1e-4, 1.0, ["0.0001", "0.001", "0.01", "0.1", "1"]),
    ],
)
def test_the_axis_of_ratios_reaches_what_any_panel_shows(
    lowest: float, highest: float, ticks: list[str]
) -> None:
    frame = curves("npg", env_ids=("A", "B"))
    frame[["low", "middle", "high"]] = 1.0
    frame.loc[0, "low"], frame.loc[30, "high"] = lowest, highest
    figure = diagnostic_figures.over_steps(frame, "kl", figures.looks(["npg"]))
    for ax in figure.axes:
        low, high = ax.get_ylim()
        assert low < lowest
        assert high > highest
        assert shown_ticks(ax) == ticks


def test_the_figure_of_rates_begins_at_zero() -> None:
    figure = diagnostic_figures.over_steps(curves("acer"), "projected", figures.looks(["acer"]))
    (ax,) = figure.axes
    assert ax.get_yscale() == "linear"
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylabel() == "projected samples"
    assert legend_texts(figure) == ["acer, 5 seeds", "5% to 95% of updates"]


def test_figures_of_many_environments_are_small_files(tmp_path: Path) -> None:
    env_ids = tuple(f"Environment{i}-v5" for i in range(11))
    labels = ["npg", "npg (critic=adam)", "trpo"]
    frame, styles = curves(*labels, env_ids=env_ids), figures.looks(labels)
    diagnostic_figures.save(diagnostic_figures.over_steps(frame, "kl", styles), tmp_path / "a")
    shares = diagnostic_figures.over_steps(frame, "projected", styles)
    diagnostic_figures.save(shares, tmp_path / "b")
    for path in tmp_path.iterdir():
        assert path.stat().st_size < (200_000 if path.suffix == ".png" else 500_000), path


def test_a_palette_leaves_the_picture_as_it_is(tmp_path: Path) -> None:
    labels = ["npg", "npg (critic=adam)", "trpo"]
    figure = diagnostic_figures.over_steps(curves(*labels), "kl", figures.looks(labels))
    figures.save(figure, tmp_path / "plain")
    diagnostic_figures.save(figure, tmp_path / "small")
    plain, small = (
        mpl_image.imread(tmp_path / f"{name}.png")[..., :3] for name in ("plain", "small")
    )
    assert plain.shape == small.shape
    assert np.abs(plain - small).mean() < 0.005
    assert np.quantile(np.abs(plain - small), 0.999) < 0.2


def test_same_logs_give_the_same_bytes(folders: RunFolders) -> None:
    npg_by_hand(folders)
    write_log(folders.add("acer"), rho_mean=[1.0, 2.0], rho_truncated=[0.0, 0.1], projected=[0, 1])
    first, second = build(folders, "first"), build(folders, "second")
    assert first == second
    assert first is not None
    assert text_of(first) == text_of(first)
    names = sorted(path.name for path in (folders.root.parent / "first").iterdir())
    assert names == [
        f"diagnostics_{name}.{ending}"
        for name in ("kl", "predicted", "projected", "truncated")
        for ending in ("png", "svg")
    ]
    for name in names:
        one, other = (folders.root.parent / folder / name for folder in ("first", "second"))
        assert one.read_bytes() == other.read_bytes(), name


def test_the_section_as_markdown(folders: RunFolders) -> None:
    npg_by_hand(folders)
    made = build(folders)
    assert made is not None
    text = text_of(made)
    assert text.startswith("## Trust-region diagnostics\n\n- npg: the median KL")
    assert "\n\n### KL per update against delta\n\n| environment" in text
    assert "](diagnostics_kl.png)\n\nKL divergence of each update" in text
    assert "\n\n\n" not in text
    assert text.endswith(".\n\n")


HYPERPARAMS = {
    "npg": {"n_envs": 2, "n_steps": 64, "target_kl": "lin_0.05"},
    "trpo": {"n_envs": 2, "n_steps": 64, "batch_size": 64},
    "ppo": {"n_envs": 2, "n_steps": 64, "batch_size": 64, "n_epochs": 2},
    "acer": {"n_steps": 5, "replay_start": 100},
    "a2c": {"n_steps": 5},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> runs.RunData:
    """A real run of each algorithm."""
    root = tmp_path_factory.mktemp("trained")
    for algo, hyperparams in HYPERPARAMS.items():
        settings = hyperparams | {"policy_kwargs": "dict(net_arch=[8])"}
        run(
            RunSpec("tiny", algo, "Pendulum-v1", 0, 1_500, settings, Evaluation(1, 1, 7)),
            root,
            "python -m benchmarks run tiny",
        )
    return runs.load(root)


def test_real_runs_log_what_is_read(trained: runs.RunData) -> None:
    table = diagnostic_data.measure(trained).table.set_index("label")
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
    log = diagnostic_data.updates_of(row.to_dict())
    assert log is not None
    assert len(log) == 11  # 12 rollouts of 128 steps; the last update is never logged
    assert log["delta"].to_numpy() == pytest.approx(log["predicted"].to_numpy(), rel=1e-4)
    assert log["delta"].iloc[-1] < 0.3 * log["delta"].iloc[0]


def test_a_real_report_has_all_parts(trained: runs.RunData, tmp_path: Path) -> None:
    styles = figures.looks(list(trained.runs["label"]))
    made = diagnostics.diagnostics_of(trained, styles, tmp_path)
    assert made is not None
    assert [part.name for part in made.parts] == ["kl-per-update", "steps", "acer"]
    assert [line.split(":")[0] for line in made.sentences] == ["acer", "npg", "ppo", "trpo"]
    named = {name for part in made.parts for name, _ in part.figures}
    assert {path.stem for path in tmp_path.iterdir()} == named
    for path in tmp_path.iterdir():
        assert path.stat().st_size < (200_000 if path.suffix == ".png" else 500_000), path
