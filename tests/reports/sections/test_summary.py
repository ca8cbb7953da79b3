"""The summary says what the data shows, and no more."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from rliable import library, metrics

from benchmarks import statistics
from benchmarks.statistics import Estimate
from reports import document
from reports.data import aggregates, runs, scores
from reports.data.missing import all_failed
from reports.data.verdicts import comparisons_of
from reports.sections import wording
from reports.sections.overall import improvements_table
from reports.sections.summary import _verdict, summary
from tests.reports.conftest import RunFolders

ENVIRONMENTS = ["CartPole-v1", "HalfCheetah-v5", "InvertedPendulum-v5"]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 200)
    monkeypatch.setattr(aggregates, "REPETITIONS", 200)


def lines(folders: RunFolders, baseline: str | None = None, allow_mixed: bool = False) -> list[str]:
    data = runs.load(folders.root, allow_mixed)
    table = scores.score_table(data.runs, data.evaluations)
    comparisons = comparisons_of(table, scores.run_scores(data.evaluations))
    matrices = aggregates.normalized_scores(data.evaluations)
    return summary(table, comparisons, matrices, baseline, all_failed(data))


def interquartile(values: np.ndarray) -> tuple[float, float, float]:
    """The interquartile mean with its interval, by rliable's own functions."""
    np.random.seed(0)  # noqa: NPY002 - where rliable draws from
    points, intervals = library.get_interval_estimates(
        {"a": values}, lambda sample: np.array([metrics.aggregate_iqm(sample)]), reps=200
    )
    return float(points["a"][0]), *(float(end) for end in intervals["a"][:, 0])


def finals_of(folders: RunFolders, label: str) -> np.ndarray:
    found = aggregates.normalized_scores(runs.load(folders.root).evaluations)
    assert found is not None
    return found.finals[label]


def add(
    folders: RunFolders,
    algo: str,
    cartpole: float,
    cheetah: float,
    seeds: int = 5,
    noise: float = 1,
) -> None:
    rng = np.random.default_rng(sum(map(ord, algo)))
    for seed in range(seeds):
        shift = noise * rng.normal()
        folders.add(algo, "CartPole-v1", seed, [20, cartpole + shift])
        folders.add(algo, "HalfCheetah-v5", seed, [0, cheetah + 10 * shift], 400_000)


def test_a_clear_winner_is_called_better(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    add(folders, "ppo", 200, 2000)

    first, sure, where, speed = lines(folders)

    npg, ppo = (finals_of(folders, label) for label in ("npg", "ppo"))
    value, low, high = interquartile(npg)
    assert first.startswith(
        f"**Highest over all: npg**, with an interquartile mean of {value:.2f} (95% interval "
        f"{low:.2f} to {high:.2f}) over 2 environments; then ppo "
    )
    other, other_low, other_high = interquartile(ppo)
    assert f"; then ppo {other:.2f} ({other_low:.2f} to {other_high:.2f}). That is" in first
    assert sure.startswith(
        f"Against ppo: the interquartile mean of npg is higher by {value - other:.2f} (95% interval"
    )
    assert sure.endswith(
        "A run of npg ends above one of ppo with probability 1.00 (95% interval 1.00 to 1.00): npg "
        "is better, as far as these environments and seeds go."
    )
    assert where == "By environment: npg is ahead of ppo on CartPole-v1 and HalfCheetah-v5."
    # 50,000 and 400,000 steps in 61 seconds each.
    assert "npg 3,689 and ppo 3,689" in speed
    assert "rests on 5 seeds each, and with so few the intervals are too narrow" in speed


def test_how_much_higher_the_first_is_has_an_interval(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000, noise=20)
    add(folders, "ppo", 300, 3000, noise=20, seeds=4)
    npg, ppo = (finals_of(folders, label) for label in ("npg", "ppo"))
    np.random.seed(0)  # noqa: NPY002 - where rliable draws from
    _, intervals = library.get_interval_estimates(
        {"a": [npg, ppo]},
        lambda x, y: np.array([metrics.aggregate_iqm(x) - metrics.aggregate_iqm(y)]),
        reps=200,
    )
    low, high = intervals["a"][:, 0]
    gap = metrics.aggregate_iqm(npg) - metrics.aggregate_iqm(ppo)
    assert (
        f"is higher by {gap:.2f} (95% interval {low:.2f} to {high:.2f}). A run of npg"
    ) in lines(folders)[1]


def test_what_may_be_chance_is_no_lead(folders: RunFolders) -> None:
    add(folders, "npg", 201, 2010, noise=60)
    add(folders, "ppo", 200, 2000, noise=60)

    first, sure, sooner, where, _ = lines(folders)

    best, other = ("npg", "ppo") if "all: npg" in first else ("ppo", "npg")
    probability = aggregates.improvement(*(finals_of(folders, x) for x in (best, other))).value
    assert f"ends above one of {other} with probability {probability:.2f} (95% inter" in sure
    assert sure.endswith(
        "): neither is ahead."
        if abs(probability - 0.5) < 0.1
        else "but the interval contains 0.5, so that neither can be called better."
    )
    assert sooner.startswith(f"Of {best} and {other} neither learned sooner, as far as")
    assert where == (
        f"By environment: {best} cannot be told apart from {other} on CartPole-v1 and "
        "HalfCheetah-v5."
    )
    assert "level" not in first + sure


@pytest.mark.parametrize(
    ("chance", "by_environment", "text"),
    [
        ((0.5, 0.4, 0.6), [0.4, 0.6], "0.50 (95% interval 0.40 to 0.60): neither is ahead"),
        (
            (0.7, 0.45, 0.9),
            [0.5, 0.9],
            "0.70 (95% interval 0.45 to 0.90): npg is ahead in these runs, but the interval "
            "contains 0.5, so that neither can be called better",
        ),
        (
            (0.3, 0.1, 0.55),
            [0.5, 0.1],
            "0.30 (95% interval 0.10 to 0.55): ppo is ahead in these runs, but the interval "
            "contains 0.5, so that neither can be called better",
        ),
        (
            (0.7, 0.55, 0.9),
            [0.5, 0.9],
            "0.70 (95% interval 0.55 to 0.90): npg is better, as far as these environments and "
            "seeds go",
        ),
        (
            (0.3, 0.1, 0.45),
            [0.5, 0.1],
            "0.30 (95% interval 0.10 to 0.45): by that ppo is better, as far as these environments "
            "and seeds go, though the interquartile mean of npg is not lower",
        ),
        (
            (1.0, 1.0, 1.0),
            [1.0, 1.0],
            "1.00 (95% interval 1.00 to 1.00): npg is better, as far as these environments and "
            "seeds go",
        ),
        (
            (1 / 3, 1 / 3, 1 / 3),
            [0.0, 0.5, 0.5],
            "0.33, but that is no verdict: on each environment every pair of runs was decided "
            "alike (npg is ahead on 0 of 3 environments), so the interval has no width, and how "
            "sure that is remains unknown",
        ),
    ],
)
def test_what_a_probability_says(
    chance: tuple[float, float, float], by_environment: list[float], text: str
) -> None:
    assert _verdict("npg", "ppo", Estimate(*chance), np.array(by_environment)) == text


def test_won_here_and_lost_there_is_no_verdict(folders: RunFolders) -> None:
    """Every pair of runs is decided alike on each environment: two are won, one is lost."""
    finals = {"npg": (450, 4500, 300), "trpo": (200, 2000, 500)}
    for algo, values in finals.items():
        for env_id, final in zip(ENVIRONMENTS, values, strict=True):
            for seed in range(3):
                folders.add(algo, env_id, seed, [20, final + seed])

    sure, *rest = lines(folders)[1:]

    assert sure.endswith(
        "A run of npg ends above one of trpo with probability 0.67, but that is no verdict: on "
        "each environment every pair of runs was decided alike (npg is ahead on 2 of 3 "
        "environments), so the interval has no width, and how sure that is remains unknown."
    )
    assert not any("better" in line for line in rest)
    pairs = aggregates.improvements({x: finals_of(folders, x) for x in finals})
    table = aggregates.aggregate_table({x: finals_of(folders, x) for x in finals})
    assert [list(row) for row in improvements_table(pairs, table).rows] == [
        ["npg", "–", "0.67 [0.67, 0.67]"],
        ["trpo", "0.33 [0.33, 0.33]", "–"],
    ]
    # On each environment by itself it is a verdict.
    assert (
        "By environment: npg is ahead of trpo on CartPole-v1 and HalfCheetah-v5; it loses to trpo "
        "on InvertedPendulum-v5 (301.0 against 501.0)."
    ) in rest


def test_won_everywhere_is_bold(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    add(folders, "ppo", 200, 2000)
    finals = {x: finals_of(folders, x) for x in ("npg", "ppo")}
    table = aggregates.aggregate_table(finals)
    assert [
        list(row) for row in improvements_table(aggregates.improvements(finals), table).rows
    ] == [
        ["npg", "–", "**1.00** [1.00, 1.00]"],
        ["ppo", "**0.00** [0.00, 0.00]", "–"],
    ]


def test_what_is_level_is_called_level(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        for seed in range(3):
            folders.add(algo, "CartPole-v1", seed, [20, 500])
            folders.add(algo, "HalfCheetah-v5", seed, [0, 4800], 400_000)

    first, sooner, where, _ = lines(folders)

    assert first.startswith(
        "**npg and ppo end level over all.** Their interquartile means over 2 environments differ "
        "from the first by at most 0.05, intervals of the differences included: npg "
        "1.03 (95% interval 1.03 to 1.03) and ppo 1.03 (1.03 to 1.03). That is"
    )
    assert sooner.startswith("Of npg and ppo neither learned sooner, as far as the area under the")
    assert where == (
        "By environment: npg cannot be told apart from ppo on CartPole-v1 and HalfCheetah-v5."
    )


def at_the_ceiling(folders: RunFolders, areas: dict[str, int], seeds: int = 4) -> None:
    """All end within a hundredth of the reference, by the way of other returns."""
    for i, (algo, halfway) in enumerate(areas.items()):
        for seed in range(seeds):
            near = (seed + i) % seeds  # so that each is above another's in some of the pairs
            folders.add(algo, "CartPole-v1", seed, [20, halfway + seed, 475 - near])
            folders.add(
                algo, "HalfCheetah-v5", seed, [0, 10 * halfway + seed, 4800 - 10 * near], 400_000
            )


def test_of_those_that_end_level_it_is_led_with_who_learned_sooner(folders: RunFolders) -> None:
    at_the_ceiling(folders, {"npg": 400, "ppo": 100, "trpo": 200})
    add(folders, "a2c", 100, 1000, seeds=4)

    first, against, sooner, *_ = lines(folders)

    assert first.startswith("**")
    names, _, rest = first.removeprefix("**").partition(" end level over all")
    assert sorted(names.replace(" and ", ", ").split(", ")) == ["npg", "ppo", "trpo"]
    assert rest.startswith(", and npg learned soonest.** Their interquartile means over 2")
    assert f"; then a2c {interquartile(finals_of(folders, 'a2c'))[0]:.2f} (" in rest
    assert against.startswith("Against a2c: ")
    assert "npg learned sooner than " in sooner
    assert (
        "the area under its curve is larger with probability 1.00 (95% interval 1.00 to 1.00"
        in (sooner)
    )
    found = aggregates.normalized_scores(runs.load(folders.root).evaluations)
    assert found is not None
    for label, halfway in {"npg": 400, "ppo": 100, "trpo": 200}.items():
        value, low, high = interquartile(found.areas[label])
        # By hand: (20 / 2 + halfway + 475 / 2) / 2 on CartPole-v1, but for a few.
        by_hand = ((10 + halfway + 237.5) / 2 - 23.14) / (475 - 23.14)
        assert found.areas[label][:, 0] == pytest.approx(by_hand, abs=0.01)
        assert f"{label} {value:.2f} (" in sooner
        assert f"{low:.2f} to {high:.2f})" in sooner


def test_level_is_only_what_is_surely_within_a_twentieth(folders: RunFolders) -> None:
    """As good on average, but the runs differ by too much to say that they are level."""
    for seed, (x, y) in enumerate([(100, 120), (400, 380), (300, 330), (200, 170)]):
        for algo, final in (("npg", x), ("ppo", y)):
            folders.add(algo, "CartPole-v1", seed, [20, final])
            folders.add(algo, "HalfCheetah-v5", seed, [0, 10 * final + seed], 400_000)
    first, sure, *_ = lines(folders)
    assert first.startswith("**Highest over all: ")
    assert "): neither is ahead." in sure


def test_what_is_better_by_next_to_nothing_is_said_to_be(folders: RunFolders) -> None:
    add(folders, "npg", 455, 4560, seeds=4)
    add(folders, "ppo", 445, 4450, seeds=4)
    first, sure, *_ = lines(folders)
    assert first.startswith("**Highest over all: npg**")
    assert "is higher by 0.02 (95% interval 0.02 to 0.0" in sure
    assert sure.endswith(
        "1.00 (95% interval 1.00 to 1.00): npg is better, as far as these environments and seeds "
        "go, though by at most 0.05."
    )


def test_environments_with_the_same_others_are_named_together(folders: RunFolders) -> None:
    finals = {"npg": [400, 4000, 400], "ppo": [200, 4000, 200], "trpo": [399, 3999, 399]}
    for algo, values in finals.items():
        for env_id, final in zip(ENVIRONMENTS, values, strict=True):
            for seed in range(4):
                folders.add(algo, env_id, seed, [20, final + seed])
    (where,) = [line for line in lines(folders) if line.startswith("By environment")]
    assert where == (
        "By environment: npg cannot be told apart from trpo on CartPole-v1 and "
        "InvertedPendulum-v5, and from ppo and trpo on HalfCheetah-v5."
    )


def test_the_same_with_one_seed_is_level_with_one_seed_alone(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        folders.add(algo, "CartPole-v1", 0, [20, 500])
        folders.add(algo, "HalfCheetah-v5", 0, [0, 4800], 400_000)
    assert lines(folders)[0].startswith(
        "**npg and ppo end level over all.** Their interquartile means over 2 environments are the "
        "same: npg 1.03 (1 seed) and ppo 1.03 (1 seed). That is"
    )
    folders.add("npg", "CartPole-v1", 1, [20, 500])
    folders.add("npg", "HalfCheetah-v5", 1, [0, 4800], 400_000)
    assert lines(folders)[0].startswith("**Highest over all: npg**, with")


def test_as_often_ahead_as_behind_is_not_called_level(folders: RunFolders) -> None:
    add(folders, "npg", 480, 1500)
    add(folders, "ppo", 100, 2000)

    assert lines(folders)[1].endswith(
        "A run of npg ends above one of ppo with probability 0.50: it is ahead on as many "
        "environments as it is behind on, and neither is better."
    )


def test_the_interquartile_mean_is_explained_where_it_is_named(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    add(folders, "ppo", 200, 2000)

    assert "the mean over the middle half of all runs' final returns" in lines(folders)[0]


def test_the_example_of_an_interquartile_mean_is_right(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    found = aggregates.normalized_scores(runs.load(folders.root).evaluations)
    assert found is not None
    example = [0, 0.8, 0.9, 5]
    assert f"{np.mean(example) + 1e-9:.2f}" == "1.68"
    assert scipy.stats.trim_mean(example, 0.25) == pytest.approx(0.85)
    text = " ".join(wording.overall(found))
    assert (
        "four runs that score 0, 0.8, 0.9 and 5 have the mean 1.68 and the interquartile mean 0.85"
    ) in text
    assert "all runs on one where an algorithm fails may be among them" in text
    # As it says, one of four environments on which every run fails leaves no trace.
    matrix = np.tile([0.0, 0.8, 0.9, 1.0], (5, 1))
    assert aggregates.iqm(matrix).value == pytest.approx(0.85)


def test_where_it_loses_is_said_with_the_means(folders: RunFolders) -> None:
    add(folders, "npg", 480, 1500)
    add(folders, "ppo", 100, 2000)
    ours, theirs = (
        np.mean([final_of(folders, algo, seed) for seed in range(5)]) for algo in ("npg", "ppo")
    )
    assert (
        "By environment: npg is ahead of ppo on CartPole-v1; it loses to ppo on HalfCheetah-v5 "
        f"({ours:,.0f} against {theirs:,.0f})."
    ) in lines(folders)


def final_of(folders: RunFolders, algo: str, seed: int) -> float:
    (path,) = folders.root.glob(f"classic/{algo}/HalfCheetah-v5/seed-{seed}-*/evaluations.csv")
    return float(path.read_text().splitlines()[-1].split(",")[2])


def test_every_environment_is_accounted_for(folders: RunFolders) -> None:
    """One is won, one cannot be told apart, one has runs with one seed, on one npg has one."""
    for seed in range(4):
        for algo, final in (("npg", 400), ("ppo", 200), ("trpo", 100)):
            folders.add(algo, "CartPole-v1", seed, [20, final + seed])
            folders.add(algo, "HalfCheetah-v5", seed, [0, 10 * final + seed], 400_000)
        folders.add("npg", "InvertedPendulum-v5", seed, [5, 900 + seed])
        folders.add("ppo", "InvertedPendulum-v5", seed, [5, 901.5 + seed])
        folders.add("trpo", "InvertedPendulum-v5", seed, [5, 100 + seed])
        folders.add("npg", "Own-v0", seed, [5, 900 + seed])
        folders.add("ppo", "Other-v0", seed, [5, 900 + seed])
    folders.add("acer", "CartPole-v1", 0, [20, 402])
    folders.add("acer", "HalfCheetah-v5", 0, [20, 10], 400_000)
    folders.add("acer", "Own-v0", 0, [20, 10])
    folders.add("npg", "Lone-v0", 0, [20, 10])

    first, *rest = lines(folders)

    assert first.startswith("**Highest over all: npg**")
    assert first.endswith(" acer lacks runs on some of the environments, hence no place in it.")
    (where,) = [line for line in rest if line.startswith("By environment")]
    assert where == (
        "By environment: npg is ahead of ppo and trpo on CartPole-v1 and HalfCheetah-v5; it cannot "
        "be told apart from ppo on InvertedPendulum-v5. acer has 1 seed, hence no part in that, "
        "though on CartPole-v1 its run is not below the interval of npg. Nothing is compared on "
        "Lone-v0, where there are runs of npg alone. Nothing is compared on Other-v0, where there "
        "is no run of npg. Nothing is compared on Own-v0, where every other one has 1 seed."
    )
    assert "4 seeds of ppo" in rest[-1]
    assert "1 seed of acer" in rest[-1]


def test_one_seed_on_one_environment_and_mixed_budgets_are_said(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    add(folders, "ppo", 200, 2000)
    for seed in range(5):
        folders.add("npg", "InvertedPendulum-v5", seed, [5, 900 + seed])
        for n_timesteps in (30_000, 60_000):
            folders.add("npg", "Hopper-v5", seed, [5, 900 + seed], n_timesteps)
            folders.add("ppo", "Hopper-v5", seed, [5, 90 + seed], n_timesteps)
        folders.add("trpo", "InvertedPendulum-v5", seed, [5, 90 + seed])
    folders.add("ppo", "InvertedPendulum-v5", 0, [5, 901])
    (where,) = [line for line in lines(folders, allow_mixed=True) if line.startswith("By env")]
    assert where == (
        "By environment: npg is ahead of ppo on CartPole-v1 and HalfCheetah-v5, and of trpo on "
        "InvertedPendulum-v5. On InvertedPendulum-v5 ppo has 1 seed, hence no part in that, though "
        "its run is not below the interval of npg there. Nothing is compared on Hopper-v5, where "
        "the budgets or evaluations differ."
    )


def test_one_seed_beside_several_leads_nobody(folders: RunFolders) -> None:
    add(folders, "ppo", 470, 4700, seeds=1)
    add(folders, "npg", 400, 4000)
    add(folders, "trpo", 200, 2000)

    first, sure, where, _ = lines(folders)

    assert first.startswith("**Highest over all with several seeds: npg**, with an interquartile")
    alone = metrics.aggregate_iqm(finals_of(folders, "ppo"))
    assert f"; beside that ppo {alone:.2f} (1 seed) and trpo 0." in first
    assert sure.startswith("Against trpo: ")
    assert sure.endswith("npg is better, as far as these environments and seeds go.")
    assert where == (
        "By environment: npg is ahead of trpo on CartPole-v1 and HalfCheetah-v5. ppo has 1 seed, "
        "hence no part in that, though on CartPole-v1 and HalfCheetah-v5 its run is not below the "
        "interval of npg."
    )


def test_the_baseline_is_what_is_compared_with(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    add(folders, "ppo", 300, 3000)
    add(folders, "a2c", 200, 2000)

    assert "above one of ppo" in lines(folders)[1]
    assert "above one of a2c" in lines(folders, "a2c")[1]
    with pytest.raises(runs.ReportError, match="--baseline: 'trpo' is not one of a2c, npg, ppo"):
        document.build(folders.root, folders.root.parent / "out", baseline="trpo")


def test_one_seed_makes_nothing_sure(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000, seeds=1)
    add(folders, "ppo", 300, 3000, seeds=1)

    first, sure, where, speed = lines(folders)

    assert "with an interquartile mean of 0.84 (1 seed) over 2 environments; then ppo 0." in first
    assert sure == (
        "A run of npg ends above one of ppo with probability 1.00; npg and ppo have 1 seed, so "
        "nothing is known of how sure that is."
    )
    assert where == "Nothing is compared on CartPole-v1 and HalfCheetah-v5, where npg has 1 seed."
    assert speed.endswith("All of this rests on 1 seed each.")


def test_one_environment_is_summarised_by_itself(folders: RunFolders) -> None:
    for seed in range(2):
        folders.add("npg", seed=seed, returns=[20, 400 + seed])
        folders.add("ppo", seed=seed, returns=[20, 300 + seed])
    folders.add("acer", returns=[20, 350])

    # Of two seeds a resample is all of one or all of the other a quarter of the time each.
    assert lines(folders) == [
        "CartPole-v1, final return: npg 400.5 (95% interval 400.0 to 401.0), acer 350.0 (1 seed) "
        "and ppo 300.5 (300.0 to 301.0). acer has 1 seed, hence no interval and no part in the "
        "comparison. Among the others, npg has the highest final return, and is ahead of ppo."
    ]


def test_on_one_environment_it_is_said_who_learned_sooner(folders: RunFolders) -> None:
    for seed in range(3):
        folders.add("npg", seed=seed, returns=[20, 400 + seed, 500])
        folders.add("ppo", seed=seed, returns=[20, 100 + seed, 500])

    (line,) = lines(folders)

    # (20 / 2 + 400 + 500 / 2) / 2, and half of what the seeds add.
    assert "npg and ppo share the highest mean: no winner. npg learned sooner than ppo: the" in line
    assert "with probability 1.00 (95% interval 1.00 to 1.00). These areas: npg 330.5 (95%" in line
    assert "interval 330.0 to 331.0) and ppo 180.5 (180.0 to 181.0)." in line


def test_an_algorithm_of_which_every_run_failed_has_a_line(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    add(folders, "ppo", 200, 2000)
    folders.add_failure("trpo")

    assert "trpo: every run failed (1 run); see [What is missing](#what-is-missing)." in lines(
        folders
    )


def test_one_algorithm_alone_needs_no_explanation_of_bold(folders: RunFolders) -> None:
    text = "Bold, in each column: the best, and all whose intervals overlap with it."
    add(folders, "npg", 400, 4000)
    out = folders.root.parent / "out"
    assert text not in document.build(folders.root, out, formats=["md"]).read_text()
    add(folders, "acer", 300, 3000, seeds=1)
    assert text not in document.build(folders.root, out, formats=["md"]).read_text()
    add(folders, "ppo", 200, 2000)
    assert text in document.build(folders.root, out, formats=["md"]).read_text()
