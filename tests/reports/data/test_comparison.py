"""Two sets of runs compared: verdicts, numbers and exit statuses."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from click.testing import Result
from rliable import metrics
from typer.testing import CliRunner

from benchmarks import statistics
from reports.__main__ import app
from reports.data import comparison
from reports.data.comparison import Mismatch, MissingRuns
from reports.data.runs import ReportError
from reports.data.verdicts import FALSE_ALARMS
from tests.reports.conftest import EVALUATION, RunFolders

REPETITIONS = statistics.REPETITIONS
LOW = [100.0, 101.0, 102.0, 103.0, 104.0]
HIGH = [200.0, 201.0, 202.0, 203.0, 204.0]
MIXED = [100.5, 103.5, 101.5, 102.5, 99.5]  # of the same distribution as LOW


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 200)


def add(folders: RunFolders, finals: Sequence[float], algo: str = "npg", **options: Any) -> None:
    """A run for each final return, which comes after an evaluation of 0."""
    for seed, final in enumerate(finals):
        folders.add(algo, seed=seed, returns=[0.0, final], **options)


def several_kinds(sides: tuple[RunFolders, RunFolders]) -> tuple[RunFolders, RunFolders]:
    """Returns of different sizes, and a row of each kind."""
    for folders, finals in zip(sides, (HIGH, LOW), strict=True):
        add(folders, finals)
        add(folders, [20 * final for final in finals], env_id="Hopper-v5")
        add(folders, LOW, "ppo")
    add(sides[0], [100.0], "trpo")
    add(sides[1], HIGH, "trpo")
    add(sides[1], HIGH, "acer")
    return sides


def compare(sides: tuple[RunFolders, RunFolders], **options: Any) -> comparison.Comparison:
    return comparison.compare(sides[0].root, sides[1].root, **options)


def verdict_of(compared: comparison.Comparison) -> str:
    (verdict,) = compared.table["verdict"]
    return str(verdict)


def invoke(sides: tuple[RunFolders, RunFolders], *options: str) -> Result:
    return CliRunner().invoke(
        app, ["compare", str(sides[0].root), str(sides[1].root), *options], catch_exceptions=False
    )


@pytest.mark.parametrize(
    ("a", "b", "verdict", "exit_status"),
    [
        (LOW, HIGH, "better", 0),
        (HIGH, LOW, "worse", 1),
        (LOW, MIXED, "no change beyond noise", 0),
        (LOW, LOW, "identical", 0),
        ([100.0], [100.0], "identical", 0),  # for which one seed is enough
        (LOW[:2], LOW[:2], "identical", 0),
        ([100.0], [200.0], "too few seeds", 2),
        ([100.0], HIGH, "too few seeds", 2),
        (LOW[:2], HIGH, "too few seeds", 2),
        (HIGH[:2], LOW[:2], "too few seeds", 2),
        (HIGH[:3], LOW[:3], "worse", 1),
        ([500.0] * 3, [500.0] * 5, "no change beyond noise", 0),  # ties
    ],
)
def test_verdicts_and_exit_statuses(
    sides: tuple[RunFolders, RunFolders],
    a: list[float],
    b: list[float],
    verdict: str,
    exit_status: int,
) -> None:
    for folders, finals in zip(sides, (a, b), strict=True):
        add(folders, finals)
    assert verdict_of(compare(sides)) == verdict
    result = invoke(sides)
    assert result.exit_code == exit_status
    assert f"1 {verdict}." in result.stdout.splitlines()[-1]


def test_numbers_by_hand(sides: tuple[RunFolders, RunFolders]) -> None:
    # What comes before training is the best of no run.
    for seed, returns in enumerate([[99.0, 10.0, 1.0], [0.0, 0.0, 2.0], [99.0, 0.0, 6.0]]):
        sides[0].add("npg", seed=seed, returns=returns, wall_seconds=50.0)
    for seed, returns in enumerate([[0.0, 0.0, 2.0], [99.0, 8.0, 4.0]]):
        sides[1].add("npg", seed=seed, returns=returns, wall_seconds=[25.0, 100.0][seed])
    (row,) = compare(sides).table.to_dict("records")
    assert (row["seeds_a"], row["seeds_b"]) == (3, 2)
    assert (row["final_a"], row["final_b"], row["final_difference"]) == (3, 3, 0)
    # 2 beats 1, ties with 2, loses to 6; 4 beats 1 and 2, loses to 6: 3.5 of 6 pairs.
    assert row["final_improvement"] == 3.5 / 6
    assert (row["best_a"], row["best_b"]) == (6, 5)
    assert row["best_improvement"] == 2.5 / 6  # 2 loses, ties, loses; 8 wins over 2 and 6
    assert (row["steps_per_second_a"], row["steps_per_second_b"]) == (1_000, 1_250)
    assert row["steps_per_second_difference"] == 250
    assert row["steps_per_second_improvement"] == 0.5
    # A resample of B's two seeds is (2, 2) or (4, 4) a quarter of the time each.
    assert -4 < row["final_difference_low"] < 0 < row["final_difference_high"] < 3


@pytest.mark.parametrize(("n_a", "n_b"), [(3, 3), (5, 4), (2, 7)])
def test_improvement_is_the_share_of_pairs_and_rliables(n_a: int, n_b: int) -> None:
    rng = np.random.default_rng(n_a)
    a, b = rng.integers(0, 4, size=(n_a, 6)), rng.integers(1, 5, size=(n_b, 6))  # ties are many
    shares = statistics.improvement(b, a)
    for i in range(6):
        points = [(y > x) + 0.5 * (y == x) for x, y in itertools.product(a[:, i], b[:, i])]
        assert shares[i] == sum(points) / len(points)
        own = metrics.probability_of_improvement(b[:, [i]], a[:, [i]])
        assert shares[i] == pytest.approx(own, abs=1e-12)
    assert len(set(shares)) > 2


def test_intervals_are_those_of_an_independent_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", REPETITIONS)
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, size=8), rng.normal(0.5, 3, size=12)
    difference, probability = comparison.estimates(a[:, None], b[:, None])

    def bootstrap(statistic: Any) -> np.ndarray:
        interval = scipy.stats.bootstrap(
            (a, b), statistic, method="percentile", n_resamples=20_000, random_state=3
        ).confidence_interval
        return np.array([interval.low, interval.high])

    expected = bootstrap(lambda a, b, axis: b.mean(axis) - a.mean(axis))
    width = np.diff(expected)[0]
    assert difference[0, 0] == pytest.approx(b.mean() - a.mean())
    np.testing.assert_allclose(difference[1:, 0], expected, atol=0.04 * width)
    expected = bootstrap(
        lambda a, b, axis: np.mean(b[..., :, None] > a[..., None, :], axis=(-2, -1))
    )
    np.testing.assert_allclose(probability[1:, 0], expected, atol=0.04 * np.diff(expected)[0])


def test_a_difference_has_an_interval_only_with_two_seeds_a_side() -> None:
    a, b = np.array([[1.0], [2.0]]), np.array([[5.0]])
    for first, second, sign in [(a, b, 1), (b, a, -1)]:
        difference, probability = comparison.estimates(first, second)
        assert difference[0, 0] == sign * 3.5
        assert probability[0, 0] == (sign + 1) / 2
        assert np.isnan([difference[1:], probability[1:]]).all()


@pytest.mark.parametrize(("n_seeds", "stated"), FALSE_ALARMS.items())
def test_stated_false_alarms_are_those_of_all_rankings(
    monkeypatch: pytest.MonkeyPatch, n_seeds: int, stated: float
) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", REPETITIONS)
    ranks = set(range(2 * n_seeds))
    of_a = [set(chosen) for chosen in itertools.combinations(sorted(ranks), n_seeds)]
    a = np.array([sorted(chosen) for chosen in of_a], dtype=float).T
    b = np.array([sorted(ranks - chosen) for chosen in of_a], dtype=float).T
    _, (_, low, high) = comparison.estimates(a, b)
    assert np.mean(high < 0.5) == stated
    assert np.mean(low > 0.5) == stated


def test_what_is_on_one_side_is_listed(sides: tuple[RunFolders, RunFolders]) -> None:
    add(sides[0], LOW)
    add(sides[1], LOW)
    add(sides[0], LOW, "trpo")
    add(sides[1], LOW, "ppo", env_id="Acrobot-v1")
    sides[1].add_failure("trpo", seed=4)
    table = compare(sides).table
    assert table[["env_id", "label", "verdict"]].to_numpy().tolist() == [
        ["Acrobot-v1", "ppo", "only in B"],
        ["CartPole-v1", "npg", "identical"],
        ["CartPole-v1", "trpo", "only in A"],
    ]
    assert table.loc[0, ["seeds_a", "seeds_b", "final_b"]].tolist() == [0, 5, 102.0]
    assert np.isnan(table.loc[0, "final_a"])
    result = invoke(sides)
    assert result.exit_code == 1
    assert "B: 1 run of trpo on CartPole-v1 failed." in result.stdout
    assert result.stdout.splitlines()[-1].endswith(
        "1 identical; 1 only in A; 1 only in B. "
        "Missing in B: trpo on CartPole-v1 (1 run failed there)."
    )


def test_what_b_lacks_is_as_bad_as_what_is_worse(sides: tuple[RunFolders, RunFolders]) -> None:
    add(sides[0], LOW)
    add(sides[1], LOW)
    assert invoke(sides).exit_code == 0
    add(sides[1], LOW, "ppo")
    assert invoke(sides).exit_code == 0  # more in B is no regression
    add(sides[0], LOW, "trpo")
    add(sides[0], LOW, "npg", env_id="Hopper-v5")
    for seed in range(3):
        sides[1].add_failure("npg", "Hopper-v5", seed)
    for form in ("text", "md"):
        result = invoke(sides, "--format", form)
        assert result.exit_code == 1
        assert compare(sides).missing == [
            MissingRuns("CartPole-v1", "trpo", n_failed=0),
            MissingRuns("Hopper-v5", "npg", n_failed=3),
        ]
        last = result.stdout.splitlines()[-1]
        assert last.startswith("By final return: 1 identical; 2 only in A; 1 only in B. Missing in")
        assert "in B: trpo on CartPole-v1 (no run there) and npg on Hopper-v5 (3 runs fai" in last
    allowed = invoke(sides, "--allow-missing")
    assert allowed.exit_code == 0
    assert "Missing in B, which is allowed: trpo on" in allowed.stdout.splitlines()[-1]


def test_what_is_missing_hides_nothing_that_is_worse(
    sides: tuple[RunFolders, RunFolders],
) -> None:
    add(sides[0], HIGH)
    add(sides[1], LOW)
    add(sides[0], LOW, "trpo")
    result = invoke(sides, "--allow-missing")
    assert result.exit_code == 1
    assert "Worse: npg on CartPole-v1. Missing in B, which is allowed: trpo" in result.stdout


def test_failures_of_another_configuration_are_not_those_of_what_is_missing(
    sides: tuple[RunFolders, RunFolders],
) -> None:
    variants(sides[0], {"": LOW, "adam": LOW})
    variants(sides[1], {"": LOW})
    (finished,) = sides[1].root.rglob("seed-0-*")
    config = finished.name.rpartition("-")[2]
    record = sides[1].add_failure("npg", seed=7)
    own = json.loads(record.read_text())["config"]
    record.write_text(record.read_text().replace(own, config))
    record.rename(record.with_name(record.name.replace(own, config)))
    assert compare(sides).missing == [MissingRuns("CartPole-v1", "npg (critic=adam)", n_failed=0)]


def test_nothing_in_common_cannot_be_compared(sides: tuple[RunFolders, RunFolders]) -> None:
    add(sides[0], LOW, "trpo")
    add(sides[1], LOW, "ppo")
    result = invoke(sides)
    assert result.exit_code == 2
    assert result.stdout.splitlines()[-1].endswith("Nothing could be compared.")


def test_different_budgets_and_protocols_are_refused(
    sides: tuple[RunFolders, RunFolders],
) -> None:
    add(sides[0], LOW)
    add(sides[1], LOW, n_timesteps=60_000, evaluation={**EVALUATION, "episodes": 5})
    result = invoke(sides)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "    A: n_timesteps=50,000\n    B: n_timesteps=60,000\n" in result.stderr
    assert "    A: episodes=10, points=20, seed=1000000\n    B: episodes=5, " in result.stderr


def test_a_budget_that_nothing_compared_has_is_no_obstacle(
    sides: tuple[RunFolders, RunFolders],
) -> None:
    for folders, algo, n_timesteps in zip(sides, ("npg", "ppo"), (50_000, 60_000), strict=True):
        add(folders, LOW, env_id="Acrobot-v1")
        add(folders, LOW, algo, n_timesteps=n_timesteps)
    assert compare(sides).table["verdict"].tolist() == ["identical", "only in A", "only in B"]


def test_a_folder_that_cannot_be_reported_is_named(sides: tuple[RunFolders, RunFolders]) -> None:
    add(sides[0], LOW)
    add(sides[1], LOW)
    add(sides[1], LOW, "trpo", n_timesteps=60_000)
    result = invoke(sides)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: B: CartPole-v1: the runs have different budgets")


def test_one_configuration_a_side_matches_whatever_it_is(
    sides: tuple[RunFolders, RunFolders],
) -> None:
    add(sides[0], LOW, hyperparams={"gamma": 0.99, "n_steps": 64})
    add(sides[1], HIGH, hyperparams={"gamma": 0.98, "critic": "adam"})
    compared = compare(sides)
    assert verdict_of(compared) == "better"
    (mismatch,) = compared.mismatches
    assert (mismatch.env_id, mismatch.label) == ("CartPole-v1", "npg")
    assert mismatch.settings == {
        "critic": (None, "adam"),
        "gamma": ("0.99", "0.98"),
        "n_steps": ("64", None),
    }


def test_settings_that_are_no_hyperparameters_are_told_by_the_hash(
    sides: tuple[RunFolders, RunFolders],
) -> None:
    add(sides[0], LOW, config="aaaaaaaa")
    add(sides[1], LOW, config="bbbbbbbb")
    compared = compare(sides)
    assert verdict_of(compared) == "identical"
    assert compared.mismatches == [
        Mismatch("CartPole-v1", "npg", ("aaaaaaaa", "bbbbbbbb"), settings={})
    ]


def variants(folders: RunFolders, finals: Mapping[str, list[float]], **common: Any) -> None:
    for critic, values in finals.items():
        own = {"critic": critic} if critic else {}
        add(folders, values, hyperparams={"gamma": 0.99, **own, **common})


def test_several_configurations_match_by_label(sides: tuple[RunFolders, RunFolders]) -> None:
    variants(sides[0], {"": LOW, "adam": HIGH, "sgd": LOW})
    variants(sides[1], {"": HIGH, "adam": LOW, "lion": LOW}, n_steps=64)  # every hash differs
    assert compare(sides).table[["label", "verdict"]].to_numpy().tolist() == [
        ["npg", "better"],
        ["npg (critic=adam)", "worse"],
        ["npg (critic=sgd)", "only in A"],
        ["npg (critic=lion)", "only in B"],
    ]


def test_the_same_configuration_matches_under_another_label(
    sides: tuple[RunFolders, RunFolders],
) -> None:
    variants(sides[0], {"adam": LOW})  # the only one, hence plain npg
    variants(sides[1], {"": HIGH, "adam": LOW})
    assert compare(sides).table[["label", "verdict"]].to_numpy().tolist() == [
        ["npg (critic=adam)", "identical"],
        ["npg", "only in B"],
    ]


def test_one_evaluation_that_differs_is_not_identical(
    sides: tuple[RunFolders, RunFolders],
) -> None:
    for folders, first in zip(sides, (0.0, np.nextafter(0.0, 1.0)), strict=True):
        add(folders, LOW)
        folders.add("npg", seed=5, returns=[first, 100.0])
    assert verdict_of(compare(sides)) == "no change beyond noise"


def test_the_same_returns_of_other_seeds_are_not_identical(
    sides: tuple[RunFolders, RunFolders],
) -> None:
    for i, folders in enumerate(sides):
        for seed in range(3):
            folders.add("npg", seed=seed + i, returns=[0.0, 100.0])
    assert verdict_of(compare(sides)) == "no change beyond noise"


@pytest.mark.parametrize(("sign", "least"), [(1, 0.5), (-1, 1.0)])
def test_tolerance_is_a_share_of_the_mean_of_a(
    sides: tuple[RunFolders, RunFolders], sign: int, least: float
) -> None:
    for folders, finals in zip(sides, (HIGH, LOW) if sign > 0 else (LOW, HIGH), strict=True):
        add(folders, [sign * final for final in finals])
    # Means of 202 and 102, or of -102 and -202: a drop by 100 of 202, or of 102.
    for tolerance, verdict, exit_status in [
        (0.0, "worse", 1),
        (least - 0.02, "worse", 1),
        (least, "worse, within tolerance", 0),
    ]:
        assert verdict_of(compare(sides, tolerance=tolerance)) == verdict
        assert invoke(sides, "--tolerance", str(tolerance)).exit_code == exit_status


@pytest.mark.parametrize("tolerance", ["-0.1", "nan", "inf"])
def test_a_tolerance_that_is_no_share_is_refused(
    sides: tuple[RunFolders, RunFolders], tolerance: str
) -> None:
    result = invoke(sides, "--tolerance", tolerance)
    assert result.exit_code == 2
    assert "--tolerance: must be a finite number of at least 0" in result.stderr


def test_the_metric_decides_and_speed_never_does(sides: tuple[RunFolders, RunFolders]) -> None:
    for seed in range(5):
        best_a, best_b = 200.0 + seed, 150.0 + seed
        sides[0].add("npg", seed=seed, returns=[0.0, best_a, 100.0], wall_seconds=10.0)
        sides[1].add("npg", seed=seed, returns=[0.0, best_b, 100.0], wall_seconds=90.0 + seed)
    assert verdict_of(compare(sides)) == "no change beyond noise"
    assert invoke(sides).exit_code == 0
    compared = compare(sides, metric="best")
    assert verdict_of(compared) == "worse"
    assert compared.table["steps_per_second_improvement"].tolist() == [0.0]
    result = invoke(sides, "--metric", "best")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == (
        "By best evaluation: 1 worse. Worse: npg on CartPole-v1."
    )


@pytest.fixture
def several(sides: tuple[RunFolders, RunFolders]) -> tuple[RunFolders, RunFolders]:
    return several_kinds(sides)


def test_csv_has_every_number(several: tuple[RunFolders, RunFolders]) -> None:
    result = invoke(several, "--format", "csv")
    assert result.exit_code == 1
    table = pd.read_csv(io.StringIO(result.stdout))
    expected = compare(several).table
    pd.testing.assert_frame_equal(table.fillna(""), expected.fillna(""), check_dtype=False)
    assert list(table.columns) == comparison.COLUMNS


@pytest.mark.parametrize("form", ["text", "md", "csv"])
def test_same_runs_give_the_same_output(
    several: tuple[RunFolders, RunFolders], tmp_path: Path, form: str
) -> None:
    np.random.seed(5)  # noqa: NPY002 - it must not matter
    first = invoke(several, "--format", form)
    out = tmp_path / "comparison"
    second = invoke(several, "--format", form, "--out", str(out))
    assert first.stdout == out.read_text()
    assert first.exit_code == second.exit_code == 1
    summary, wrote = second.stdout.splitlines()
    assert summary.startswith("By final return: 2 worse; 1 identical;")
    assert wrote == f"wrote {out}"


def test_a_file_that_cannot_be_written_is_an_error(
    sides: tuple[RunFolders, RunFolders], tmp_path: Path
) -> None:
    for folders in sides:
        add(folders, LOW)
    (tmp_path / "file").touch()
    result = invoke(sides, "--out", str(tmp_path / "file" / "below"))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "below" in result.stderr


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"^A: .*there is no such folder"):
        comparison.compare(tmp_path / "none", tmp_path)
