"""Trust-region diagnostics: the values in each table of the section."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.statistics import Estimate
from benchmarks.tables import Code, Strong, Table
from reports.data import runs
from reports.data.context import Context
from reports.data.runs import RunData
from reports.rendering import figures, markdown
from reports.rendering.blocks import Bullets, Section, figures_of, tables_of
from reports.sections import diagnostics
from tests.reports.conftest import RunFolders
from tests.reports.logs import npg_by_hand, write_log
from tests.reports.values import cells, column, headers, rows, shown, texts

KL, STEPS, ACER = "diagnostics-kl-per-update", "diagnostics-steps", "diagnostics-acer"


def built(folders: RunFolders) -> Section:
    section = diagnostics.build(Context(runs.load(folders.root)))
    assert section is not None
    return section


def tables(folders: RunFolders) -> dict[str, Table]:
    return tables_of([built(folders)])


def test_npg_by_hand(folders: RunFolders) -> None:
    npg_by_hand(folders)
    section = built(folders)
    found = tables_of([section])
    assert list(found) == ["diagnostics", KL, STEPS]
    kl, steps = found[KL], found[STEPS]
    assert cells(kl, "delta") == ["0.02"]
    assert cells(kl, "KL per update: median [5%, 95%]") == ["0.025 [0.0115, 0.047]"]
    assert cells(kl, "KL / delta: median [5%, 95%]") == ["1.25 [0.57, 2.35]"]
    (ratio,) = column(kl, "KL / delta: median [5%, 95%]")
    assert ratio.numbers == pytest.approx((1.25, 0.575, 2.35))
    assert column(kl, "above 1.5 delta") == [0.25]
    assert column(steps, "updates skipped") == [(1, 5)]
    assert cells(steps, "measured / predicted KL: median [5%, 95%]") == ["1.25 [0.57, 2.35]"]
    assert "clipped: mean [5%, 95%]" not in headers(kl)
    assert shown(found["diagnostics"]) == [
        ["npg", "KL per update / delta", "1.25"],
        ["npg", "updates above 1.5 delta", "25%"],
        ["npg", "updates skipped", "1 of 5"],
    ]
    assert [each.name for each in figures_of([section])] == [
        "diagnostics_kl",
        "diagnostics_predicted",
    ]


def test_ppo_stands_beside_it_as_an_estimate(folders: RunFolders) -> None:
    npg = folders.add("npg", hyperparams={"target_kl": 0.02})
    write_log(npg, kl=[0.02], skipped_updates=[0], n_updates=[1])
    folder = folders.add("ppo", hyperparams={"target_kl": 0.03})
    write_log(folder, approx_kl=[0.004, 0.005, 0.006], clip_fraction=[0.1, 0.1, 0.4])
    found = tables(folders)
    kl = found[KL]
    assert column(kl, "algorithm") == ["npg", "ppo"]
    assert cells(kl, "delta") == ["0.02", "–"]
    assert cells(kl, "KL per update: median [5%, 95%]") == [
        "0.02 [0.02, 0.02]",
        "≈ 0.005 [0.0041, 0.0059]",
    ]
    assert cells(kl, "clipped: mean [5%, 95%]") == ["–", "20% [10%, 37%]"]
    assert column(found[STEPS], "algorithm") == ["npg"]
    assert shown(found["diagnostics"])[2:] == [
        ["npg", "updates skipped", "0 of 1"],
        ["ppo", "estimated KL per update", "0.005"],
        ["ppo", "clipped probability ratios", "20%"],
    ]


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
    section = built(folders)
    acer = tables_of([section])[ACER]
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
    assert [each.name for each in figures_of([section])] == [
        "diagnostics_projected",
        "diagnostics_truncated",
    ]
    assert shown(tables_of([section])["diagnostics"]) == [
        ["acer", "truncated importance weights", "0.5%"],
        ["acer", "samples whose gradient was projected", "20%"],
        ["acer", "updates skipped", "0 of 9"],
    ]


def test_acer_without_a_trust_region_has_no_delta(folders: RunFolders) -> None:
    folder = folders.add("acer", hyperparams={"trust_region": False})
    write_log(folder, rho_mean=[1.0], rho_p95=[2.0], rho_truncated=[0.0])
    section = built(folders)
    acer = tables_of([section])[ACER]
    assert "delta" not in headers(acer)
    assert "projected: mean [5%, 95%]" not in headers(acer)
    assert [each.name for each in figures_of([section])] == ["diagnostics_truncated"]


def test_a_delta_that_falls_is_a_range(folders: RunFolders) -> None:
    folder = folders.add("npg", n_timesteps=400, hyperparams={"target_kl": "lin_0.05"})
    write_log(folder, rollout=100, kl=[0.05, 0.05, 0.05])
    assert cells(tables(folders)[KL], "delta") == ["0.0375 to 0.0125"]


def test_without_delta_the_divergence_itself_is_in_the_overview(folders: RunFolders) -> None:
    write_log(folders.add("npg", hyperparams={"step_size": 0.3}), kl=[0.02])
    section = built(folders)
    overview = tables_of([section])["diagnostics"]
    assert rows(overview) == [["npg", "KL per update, without delta", Estimate(0.02)]]
    assert figures_of([section]) == []


def test_the_overview_is_over_environments_and_configurations(folders: RunFolders) -> None:
    for delta, kl in ((0.01, 0.01), (0.04, 0.01)):
        write_log(folders.add("npg", hyperparams={"target_kl": delta}), kl=[kl])
    folder = folders.add("npg", "Hopper-v5", hyperparams={"target_kl": 0.01})
    write_log(folder, kl=[0.02], skipped_updates=[3], n_updates=[8])
    overview = tables(folders)["diagnostics"]
    assert shown(overview) == [
        ["npg", "KL per update / delta", "1.00 [0.25, 2.00]"],
        ["npg", "updates above 1.5 delta", "0% [0%, 100%]"],
        ["npg", "updates skipped", "3 of 8"],
    ]
    assert rows(overview)[0][2].numbers == pytest.approx((1.0, 0.25, 2.0))


def test_what_is_not_in_the_table_is_said_beside_it(folders: RunFolders) -> None:
    write_log(folders.add("npg", seed=0), kl=[0.02, float("inf"), 0.02])
    (folders.add("npg", seed=1) / "progress.csv").unlink()
    thinned = folders.add("npg", seed=2)
    write_log(thinned, kl=[0.02] * 40)
    header, *lines = (thinned / "progress.csv").read_text().splitlines()
    (thinned / "progress.csv").write_text("\n".join([header, *lines[::8]]) + "\n")
    fewer, infinite, without_log = texts([built(folders)])
    assert "Of 43 updates, 8 " in fewer
    assert ": 1 of " in infinite
    assert "progress.csv: 1 run." in without_log


def test_nothing_of_the_kind_is_no_section(folders: RunFolders) -> None:
    write_log(folders.add("a2c"), value_loss=[1.0])
    folders.add("npg")  # ran for less than a rollout
    assert diagnostics.build(Context(runs.load(folders.root))) is None
    assert diagnostics.build(Context()) is None


def test_what_is_left_out_is_warned_of_and_stands_in_the_section(folders: RunFolders) -> None:
    npg_by_hand(folders)
    path = folders.add("npg", seed=2, hyperparams={"target_kl": 0.02}) / "progress.csv"
    path.write_text("time/total_timesteps,train/kl\n100,0.1\n2")
    warnings: list[str] = []
    section = diagnostics.build(Context(runs.load(folders.root), warn=warnings.append))
    assert section is not None
    what = f"{path.relative_to(folders.root)}: row 3 has 1 cells, the header has 2"
    assert warnings == [f"left out of the diagnostics: {what}"]
    assert section.blocks[0] == Bullets(
        [(Strong("Left out"), ", since its log cannot be used: ", Code(what), ".")]
    )
    assert KL in tables_of([section])


def test_where_no_log_can_be_read_the_section_says_that(folders: RunFolders) -> None:
    (folders.add("npg") / "progress.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    section = built(folders)
    (line,) = texts(section.blocks)
    assert len(section.blocks) == 1
    assert "seed-0" in line
    assert "'utf-8' codec" in line


def test_same_logs_give_the_same_bytes(folders: RunFolders, tmp_path: Path) -> None:
    npg_by_hand(folders)
    write_log(folders.add("acer"), rho_mean=[1.0, 2.0], rho_truncated=[0.0, 0.1], projected=[0, 1])
    texts = []
    for name in ("first", "second"):
        section = built(folders)
        texts.append(markdown.document("x", [section]))
        (tmp_path / name).mkdir()
        for figure in figures_of([section]):
            figures.save(figure.draw(), tmp_path / name / figure.name, figure.colours)
    assert texts[0] == texts[1]
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert names == [
        f"diagnostics_{name}.{ending}"
        for name in ("kl", "predicted", "projected", "truncated")
        for ending in ("png", "svg")
    ]
    for name in names:
        one, other = (tmp_path / folder / name for folder in ("first", "second"))
        assert one.read_bytes() == other.read_bytes(), name


def test_a_real_report_has_all_parts(trained: RunData, tmp_path: Path) -> None:
    section = diagnostics.build(Context(trained))
    assert section is not None
    found = tables_of([section])
    assert list(found) == ["diagnostics", KL, STEPS, ACER]
    assert sorted(set(column(found["diagnostics"], "algorithm"))) == ["acer", "npg", "ppo", "trpo"]
    for figure in figures_of([section]):
        figures.save(figure.draw(), tmp_path / figure.name, figure.colours)
    for path in tmp_path.iterdir():
        assert path.stat().st_size < (200_000 if path.suffix == ".png" else 500_000), path
