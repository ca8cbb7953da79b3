"""The table of tests, and what is said of its outcome."""

from __future__ import annotations

import csv
import io

import pytest

from benchmarks import statistics
from reports.data.context import Context, load
from reports.rendering.blocks import Section
from reports.sections import pair_tests
from reports.sections.pair_tests import FILE, IMPOSSIBLE, NONE, PAIRED, SOME, p_text
from tests.reports.conftest import RunFolders
from tests.reports.values import cells, column, headers, tables, texts


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 200)


def add(folders: RunFolders, algo: str, final: float, seeds: int, spread: float = 10.0) -> None:
    for seed in range(seeds):
        folders.add(algo, seed=seed, returns=[0.0, final + spread * (seed * 7 % 5) / 5])


def section(made: Context) -> Section:
    built = pair_tests.build(made)
    assert built is not None
    return built


def test_what_survives_is_bold_and_what_does_not_says_what_it_would_take(
    folders: RunFolders,
) -> None:
    add(folders, "npg", 400, 6)
    add(folders, "ppo", 200, 6)
    add(folders, "trpo", 402, 6)
    made = load(folders.root, baseline="npg")
    (table,) = tables(section(made).blocks)
    assert headers(table) == [
        "environment",
        "algorithm",
        "seeds",
        "difference",
        "Hedges' g",
        "p",
        "p (Holm)",
        "found",
        "seeds for 80%",
    ]
    assert column(table, "algorithm") == ["ppo", "trpo"]
    assert column(table, "seeds") == ["6+6", "6+6"]
    ppo, trpo = made.pair_tests.with_other("npg")
    # The smallest there is: twice one in the 924 ways to deal out twelve runs.
    assert cells(table, "p") == ["0.002", p_text(trpo.p)]
    assert cells(table, "p (Holm)") == ["**0.004**", p_text(trpo.corrected)]
    assert cells(table, "found") == ["–", f"{trpo.power:.0%}"]
    assert cells(table, "seeds for 80%") == ["–", f"{trpo.seeds_needed}"]
    assert cells(table, "difference")[0].startswith("-200.0 [-2")
    assert 0.05 < trpo.power < 0.2
    assert texts(section(made).blocks)[1] == SOME.format(n="2 tests", k=1)
    assert ppo.survives
    assert not trpo.survives


def test_with_three_seeds_nothing_can_survive_and_the_report_says_what_would(
    study: RunFolders,
) -> None:
    made = load(study.root)
    said = texts(section(made).blocks)[1]
    # Three pairs on each of two environments.
    assert said == IMPOSSIBLE.format(n="6 tests", level=0.05 / 6, least=0.1, seeds=5)
    (table,) = tables(section(made).blocks)
    assert len(column(table, "algorithm")) == 4
    assert set(column(table, "found")) == {0.0}
    rows = list(csv.DictReader(io.StringIO(section(made).files[FILE])))
    assert [(row["env_id"], row["label"], row["other"]) for row in rows] == [
        tuple(test.pair) for test in made.pair_tests.tests
    ]
    assert [float(row["p_holm"]) for row in rows] == pytest.approx(
        [test.corrected for test in made.pair_tests.tests]
    )


def test_paired_tests_say_so(folders: RunFolders) -> None:
    for algo, shift in [("npg", 0.5), ("ppo", 0.0)]:
        for seed in range(8):
            noise = (seed * 3 % 8) / 10
            folders.add(algo, seed=seed, returns=[0.0, 100.0 * seed + shift + noise * shift])
    alone, paired = load(folders.root), load(folders.root, paired=True)
    (before,), (after,) = alone.pair_tests.tests, paired.pair_tests.tests
    assert after.difference.high - after.difference.low < 0.01 * before.difference.high
    assert not before.survives
    assert after.survives
    assert after.p == pytest.approx(2 / 2**8)
    (table,) = tables(section(paired).blocks)
    assert column(table, "seeds") == ["8 pairs"]
    assert texts(section(paired).blocks)[1].endswith(" " + PAIRED.format(k=1))
    assert texts(section(alone).blocks)[1] == NONE.format(n="1 test")


def test_what_does_not_vary_has_no_effect_size_and_no_power(folders: RunFolders) -> None:
    add(folders, "npg", 500, 3, spread=0)
    add(folders, "ppo", 500, 3, spread=0)
    (table,) = tables(section(load(folders.root)).blocks)
    for header in ("Hedges' g", "found", "seeds for 80%"):
        assert cells(table, header) == ["–"]
    assert cells(table, "p") == ["1.000"]


def test_too_few_seeds_are_no_section(folders: RunFolders) -> None:
    add(folders, "npg", 400, 2)
    add(folders, "ppo", 200, 2)
    assert pair_tests.build(load(folders.root)) is None
    assert pair_tests.build(Context()) is None


def test_a_baseline_that_nothing_is_compared_with_leaves_the_data_alone(
    folders: RunFolders,
) -> None:
    add(folders, "npg", 400, 3)
    add(folders, "ppo", 200, 3)
    add(folders, "trpo", 200, 2)
    assert pair_tests.build(load(folders.root, baseline="trpo")) is None


@pytest.mark.parametrize(
    ("p", "text"), [(1.0, "1.000"), (0.0285, "0.029"), (0.001, "0.001"), (0.00016, "2e-04")]
)
def test_small_p_values_are_powers_of_ten(p: float, text: str) -> None:
    assert p_text(p) == text
