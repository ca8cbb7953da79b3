"""The summary says what the data shows, and no more; who beats whom is a table of values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rliable import library, metrics

from benchmarks import statistics
from benchmarks.tables import Strong, Table, Verdicts, text_of, to_csv
from reports.data import aggregates
from reports.data.context import Context, load
from reports.data.runs import ReportError
from reports.data.verdicts import AHEAD, BEHIND, LEVEL, TOO_FEW
from reports.sections import summary
from reports.sections.summary import (
    AGAINST,
    BEHIND_ON,
    BEST,
    CHANCE,
    GAP,
    NEVER_BEHIND,
    OVER,
    sentences,
    who_beats_whom,
)
from tests.reports.conftest import RunFolders
from tests.reports.values import column, headers

ENVIRONMENTS = ["CartPole-v1", "HalfCheetah-v5", "InvertedPendulum-v5"]
SURE = "100% (100% to 100%)"


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 200)
    monkeypatch.setattr(aggregates, "REPETITIONS", 200)


def said(made: Context) -> list[str]:
    found = [text_of(sentence) for sentence in sentences(made)]
    assert 1 <= len(found) <= 5
    return found


def verdicts(made: Context, label: str) -> dict[str, tuple[str, float] | str | None]:
    """How a label stands to what the others are compared with, by the row of the table."""
    table = who_beats_whom(made)
    assert table is not None
    (found,) = [each for each in table.columns if each.header == label]
    assert isinstance(found, Verdicts)
    names = [text_of(name) for name in column(table, "environment")]
    cells = [
        word if estimate is None else (word, estimate.value)
        for word, estimate in zip(found.words, found.values, strict=True)
    ]
    return dict(zip(names, cells, strict=True))


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


def add_to(folders: RunFolders, env_id: str, finals: dict[str, float], seeds: int = 3) -> None:
    for algo, final in finals.items():
        for seed in range(seeds):
            folders.add(algo, env_id, seed, [0.0, final + seed / 10])


def against(word: str, best: str, other: str, chance: str, **facts: str) -> str:
    measures = GAP if "gap" in facts else CHANCE
    facts |= {"best": best, "other": other, "chance": chance, "higher": "higher"}
    return (AGAINST[word] + measures).format(**facts)


def interval_of(values: Any, statistic: Any) -> tuple[float, float]:
    """By rliable's own functions."""
    np.random.seed(0)  # noqa: NPY002 - where rliable draws from
    _, intervals = library.get_interval_estimates({"a": values}, statistic, reps=200)
    low, high = intervals["a"][:, 0]
    return float(low), float(high)


def test_a_clear_winner_is_ahead_by_its_interquartile_mean(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000, noise=20)
    add(folders, "ppo", 200, 2000, noise=20, seeds=4)
    made = load(folders.root)

    first, second, third, *_ = said(made)

    npg, ppo = (made.standings.group[label] for label in ("npg", "ppo"))
    iqm = float(metrics.aggregate_iqm(npg))
    low, high = interval_of(npg, lambda x: np.array([metrics.aggregate_iqm(x)]))
    assert first == BEST["scores"].format(
        best="npg", iqm=f"{iqm:.2f} ({low:.2f} to {high:.2f})", n=2, who="all algorithms"
    )
    gap = iqm - float(metrics.aggregate_iqm(ppo))
    low, high = interval_of(
        [npg, ppo], lambda x, y: np.array([metrics.aggregate_iqm(x) - metrics.aggregate_iqm(y)])
    )
    assert second == against(
        AHEAD, "npg", "ppo", SURE, gap=f"{gap:+.2f} ({low:+.2f} to {high:+.2f})"
    )
    assert third == NEVER_BEHIND.format(best="npg")
    assert verdicts(made, "npg") == {
        "CartPole-v1": (AHEAD, 1.0),
        "HalfCheetah-v5": (AHEAD, 1.0),
        "over the 2 that all algorithms share": (AHEAD, 1.0),
    }


def test_what_may_be_chance_is_level(folders: RunFolders) -> None:
    add(folders, "npg", 201, 2010, noise=60)
    add(folders, "ppo", 200, 2000, noise=60)
    made = load(folders.root)
    best, other = made.standings.ranking
    found = aggregates.improvement(*(made.standings.group[label] for label in (best, other)))
    assert found.low < 0.5 < found.high
    chance = " to ".join(f"{100 * end:.0f}%" for end in (found.low, found.high))
    assert said(made)[1].startswith(AGAINST[LEVEL].format(best=best, other=other))
    assert said(made)[1].endswith(f" {100 * found.value:.0f}% ({chance}).")
    assert {str(cell[0]) for cell in verdicts(made, best).values() if cell} == {LEVEL}


def test_won_here_and_lost_there_decides_nothing_together(folders: RunFolders) -> None:
    """Every pair of runs is decided alike on each environment: two are won, one is lost."""
    finals = {"npg": (450, 4500, 300), "trpo": (200, 2000, 500)}
    for algo, values in finals.items():
        for env_id, final in zip(ENVIRONMENTS, values, strict=True):
            for seed in range(3):
                folders.add(algo, env_id, seed, [20, final + seed])
    made = load(folders.root)

    _, second, third, *_ = said(made)

    assert second.startswith("npg and trpo are level: ")
    assert second.endswith(" 67% (67% to 67%).")
    assert third == BEHIND_ON.format(best="npg", n=1, n_all=3, where="InvertedPendulum-v5 (trpo)")
    assert verdicts(made, "npg") == {
        "CartPole-v1": (AHEAD, 1.0),
        "HalfCheetah-v5": (AHEAD, 1.0),
        "InvertedPendulum-v5": (BEHIND, 0.0),
        "over the 3 that all algorithms share": (LEVEL, pytest.approx(2 / 3)),
    }


def test_the_baseline_is_what_the_others_are_compared_with(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    add(folders, "ppo", 300, 3000)
    add(folders, "a2c", 200, 2000)

    assert "npg is ahead of ppo: " in said(load(folders.root))[1]
    table = who_beats_whom(load(folders.root))
    assert table is not None
    assert headers(table) == ["environment", "npg", "a2c"]
    assert "npg is ahead of a2c: " in said(load(folders.root, baseline="a2c"))[1]
    table = who_beats_whom(load(folders.root, baseline="a2c"))
    assert table is not None
    assert headers(table) == ["environment", "npg", "ppo"]
    # The best one is compared with the next one.
    assert "npg is ahead of ppo: " in said(load(folders.root, baseline="npg"))[1]
    with pytest.raises(ReportError, match="--baseline: 'trpo' is not one of a2c, npg, ppo"):
        load(folders.root, baseline="trpo")


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_decide_nothing(folders: RunFolders, seeds: int) -> None:
    add(folders, "npg", 400, 4000, seeds=seeds)
    add(folders, "ppo", 300, 3000, seeds=seeds)
    made = load(folders.root)

    first, second, *_ = said(made)

    assert first.startswith("npg has the highest interquartile mean, 0.8")
    assert second.startswith(AGAINST[TOO_FEW].format(best="npg", other="ppo"))
    assert second.endswith("100% (1 seed)." if seeds == 1 else f"{SURE}.")
    assert set(verdicts(made, "npg").values()) == {TOO_FEW}


def test_one_seed_beside_several_leads_nobody(folders: RunFolders) -> None:
    add(folders, "ppo", 470, 4700, seeds=1)
    add(folders, "npg", 400, 4000)
    add(folders, "trpo", 200, 2000)
    made = load(folders.root)

    first, second, *_ = said(made)

    assert made.standings.ranking == ["npg", "trpo", "ppo"]
    assert first.startswith("Of the algorithms with at least 3 seeds, npg has the highest")
    assert second.startswith("npg is ahead of trpo: ")
    assert set(verdicts(made, "ppo").values()) == {TOO_FEW}


def test_without_scales_there_is_the_probability_of_improvement(folders: RunFolders) -> None:
    add_to(folders, "Mine-v0", {"npg": 3, "ppo": 2, "trpo": 1})
    add_to(folders, "Yours-v0", {"npg": 9_000, "ppo": 8_000, "trpo": 10_000})
    made = load(folders.root)
    assert said(made) == [
        BEST["returns"].format(best="npg", n=2, who="all algorithms"),
        against(LEVEL, "npg", "trpo", "50% (50% to 50%)"),
        BEHIND_ON.format(best="npg", n=1, n_all=2, where="Yours-v0 (trpo)"),
    ]
    assert verdicts(made, "ppo") == {
        "Mine-v0": (AHEAD, 1.0),
        "Yours-v0": (BEHIND, 0.0),
        "over the 2 that all algorithms share": (LEVEL, 0.5),
    }


def test_one_environment_is_that_ones_comparison(folders: RunFolders) -> None:
    add_to(folders, "CartPole-v1", {"npg": 400, "ppo": 300})
    made = load(folders.root)
    assert said(made)[:3] == [
        # Of three seeds a resample may be all of one.
        BEST["one"].format(
            best="npg", env_id="CartPole-v1", final="final return", mean="400.1 (400.0 to 400.2)"
        ),
        f"On CartPole-v1, {against(AHEAD, 'npg', 'ppo', SURE)}",
        NEVER_BEHIND.format(best="npg"),
    ]
    assert verdicts(made, "npg") == {"CartPole-v1": (AHEAD, 1.0)}


def test_where_not_all_share_environments_pairs_are_compared(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    add(folders, "ppo", 300, 3000)
    add(folders, "acer", 200, 2000)
    add_to(folders, "Hopper-v5", {"npg": 100, "ppo": 300}, seeds=5)
    add_to(folders, "Lone-v0", {"npg": 100})
    made = load(folders.root)
    assert made.compared_with == "ppo"
    group, pairwise = "over the 2 that all algorithms share", "pairwise, over those shared with ppo"
    assert verdicts(made, "npg") == {
        "CartPole-v1": (AHEAD, 1.0),
        "HalfCheetah-v5": (AHEAD, 1.0),
        "Hopper-v5": (BEHIND, 0.0),
        group: (AHEAD, 1.0),
        pairwise: (LEVEL, pytest.approx(2 / 3)),
    }
    assert verdicts(made, "acer") == {
        "CartPole-v1": (BEHIND, 0.0),
        "HalfCheetah-v5": (BEHIND, 0.0),
        "Hopper-v5": None,
        group: (BEHIND, 0.0),
        pairwise: (BEHIND, 0.0),
    }
    over = OVER.format(n=3, best="npg", other="ppo")
    assert f"{over}{against(LEVEL, 'npg', 'ppo', '67% (67% to 67%)')}" in said(made)


def test_without_any_environment_that_all_share_there_are_pairs(folders: RunFolders) -> None:
    """Each two share two environments, and all three none."""
    add_to(folders, "A-v0", {"npg": 3, "ppo": 2})
    add_to(folders, "B-v0", {"npg": 3, "ppo": 2})
    for env_id in ("C-v0", "D-v0", "E-v0"):
        add_to(folders, env_id, {"trpo": 1, "acer": 2})
    made = load(folders.root)
    # trpo and acer have the most environments, npg and ppo share none with them.
    assert made.standings.env_ids == ["C-v0", "D-v0", "E-v0"]
    assert made.standings.ranking == ["acer", "trpo", "npg", "ppo"]
    assert said(made)[:2] == [
        BEST["returns"].format(best="acer", n=3, who="acer and trpo"),
        against(AHEAD, "acer", "trpo", SURE),
    ]


def test_a_pair_is_said_where_no_group_is_found(folders: RunFolders) -> None:
    """npg has the most environments but shares only one with each of the others."""
    for env_id in ("A-v0", "B-v0", "C-v0", "D-v0"):
        add_to(folders, env_id, {"npg": 3})
    for env_id in ("E-v0", "F-v0"):
        add_to(folders, env_id, {"ppo": 2, "trpo": 1})
    add_to(folders, "G-v0", {"ppo": 2})
    made = load(folders.root)
    assert made.standings.env_ids == []
    assert said(made)[:2] == [
        BEST["pairs"].format(best="ppo"),
        OVER.format(n=2, best="ppo", other="trpo") + against(AHEAD, "ppo", "trpo", SURE),
    ]
    assert verdicts(made, "ppo") == {
        "E-v0": (AHEAD, 1.0),
        "F-v0": (AHEAD, 1.0),
        "pairwise, over those shared with trpo": (AHEAD, 1.0),
    }


def test_runs_that_do_not_compare(folders: RunFolders) -> None:
    add_to(folders, "A-v0", {"npg": 3})
    made = load(folders.root)
    assert said(made)[0] == BEST["alone"].format(best="npg")
    assert who_beats_whom(made) is None
    add_to(folders, "B-v0", {"ppo": 3})
    made = load(folders.root)
    assert said(made)[0] == BEST["none"]
    assert who_beats_whom(made) is None


def test_one_algorithm_has_its_aggregate(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    made = load(folders.root)
    iqm = aggregates.iqm(made.standings.group["npg"])
    text = "{:.2f} ({:.2f} to {:.2f})".format(*iqm.numbers)
    assert said(made)[0] == BEST["lone scores"].format(best="npg", iqm=text, n=2)


def test_labels_of_other_protocols_are_not_compared(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    add(folders, "ppo", 200, 2000)
    for seed in range(3):
        for n_timesteps in (30_000, 60_000):
            folders.add("npg", "Hopper-v5", seed, [5, 900 + seed], n_timesteps)
            folders.add("ppo", "Hopper-v5", seed, [5, 90 + seed], n_timesteps)
    made = load(folders.root, allow_mixed=True)
    table = who_beats_whom(made)
    assert table is not None
    assert headers(table) == ["environment", "npg"]
    assert "Hopper-v5" not in verdicts(made, "npg")
    # Where all are mixed, those of one protocol are.
    only = RunFolders(folders.root.parent / "only")
    for seed in range(3):
        for n_timesteps in (30_000, 60_000):
            only.add("npg", "Hopper-v5", seed, [5, 900 + seed], n_timesteps)
            only.add("ppo", "Hopper-v5", seed, [5, 90 + seed], n_timesteps)
    made = load(only.root, allow_mixed=True)
    assert made.compared_with == "ppo (30,000 steps)"
    assert verdicts(made, "npg (30,000 steps)") == {"Hopper-v5": (AHEAD, 1.0)}


def test_of_many_environments_where_it_is_behind_the_first_are_named(folders: RunFolders) -> None:
    every = [f"{letter}-v0" for letter in "ABCDEFGHIJKLM"]
    for env_id in every:
        worse = 1 if env_id < "G" else 3
        add_to(folders, env_id, {"npg": worse, "ppo": 2})
    made = load(folders.root)
    assert made.standings.ranking[0] == "npg"
    assert BEHIND_ON.format(
        best="npg",
        n=6,
        n_all=13,
        where="A-v0 (ppo), B-v0 (ppo), C-v0 (ppo), D-v0 (ppo) and 2 more",
    ) in said(made)


def test_the_table_is_exported_with_probability_interval_and_verdict(folders: RunFolders) -> None:
    add_to(folders, "A-v0", {"npg": 3, "ppo": 2})
    folders.add("acer", "A-v0", 0, [0, 1])
    table = who_beats_whom(load(folders.root))
    assert isinstance(table, Table)
    assert table.name == "who-beats-whom"
    assert to_csv(table) == (
        "environment,npg,npg low,npg high,npg verdict,acer,acer low,acer high,acer verdict\n"
        "A-v0,1,1,1,ahead,,,,too few seeds\n"
    )
    npg, acer = (each.shown()[0] for each in table.columns[1:])
    assert npg.value == (Strong("ahead"), " ", "100")
    assert (npg.low, npg.high, acer.value) == ("100", "100", "too few seeds")


def test_a_section_has_sentences_table_and_curves(study: RunFolders) -> None:
    built = summary.build(load(study.root))
    assert built is not None
    names = [type(block).__name__ for block in built.blocks]
    assert names == ["Bullets", "Section", "Figure"]


def test_two_with_the_same_scores_share_the_first_place(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        for seed in range(3):
            folders.add(algo, "CartPole-v1", seed, [20, 500])
            folders.add(algo, "HalfCheetah-v5", seed, [0, 4_000], 400_000)
    first, against, *_ = map(text_of, summary.sentences(load(folders.root)))
    assert first.startswith("npg and ppo have the highest interquartile mean")
    assert "npg and ppo are level" in against
