"""Figures over all environments: what has no interval says so, and axes say what they are."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from reports.data import aggregates
from reports.rendering import aggregate_figures, figures

SEEDS = {"npg": 3, "ppo": 1, "trpo": 2}
STYLES = figures.looks(list(SEEDS))


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregates, "REPETITIONS", 50)


def finals(seeds: dict[str, int]) -> dict[str, np.ndarray]:
    """Scores on two environments, those of npg the highest and those of trpo the lowest."""
    rng = np.random.default_rng(0)
    tops = {"npg": 0.9, "ppo": 0.6, "trpo": 0.3}
    return {label: tops[label] + 0.05 * rng.normal(size=(n, 2)) for label, n in seeds.items()}


def row_names(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


def legend_texts(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def suptitle(figure: Figure) -> str:
    return figure.get_suptitle()


def improvement_figure(seeds: dict[str, int], baseline: str) -> Figure:
    scores = finals(seeds)
    chances = {x: aggregates.improvement(scores[x], scores[baseline]) for x in scores}
    del chances[baseline]
    return aggregate_figures.improvements(chances, baseline, STYLES, seeds)


def test_one_seed_has_no_bar_and_says_so() -> None:
    figure = aggregate_figures.aggregates(aggregates.aggregate_table(finals(SEEDS)), STYLES)
    assert row_names(figure) == ["npg", "ppo\n(1 seed, no interval)", "trpo"]
    for ax in figure.axes:
        assert len(ax.patches) == 2
        assert len(ax.lines) == 3
    assert suptitle(figure) == "bars: 95% intervals over seeds"


def test_without_any_bar_none_is_explained() -> None:
    table = aggregates.aggregate_table(finals({"npg": 1, "ppo": 1}))
    figure = aggregate_figures.aggregates(table, STYLES)
    assert row_names(figure) == ["npg\n(1 seed, no interval)", "ppo\n(1 seed, no interval)"]
    assert suptitle(figure) == ""


def test_the_optimality_gap_is_a_shortfall() -> None:
    figure = aggregate_figures.aggregates(aggregates.aggregate_table(finals(SEEDS)), STYLES)
    labels = {ax.get_title(): ax.get_xlabel() for ax in figure.axes}
    score = "normalised score\n(higher is better)"
    assert labels == {
        "interquartile mean": score,
        "median": score,
        "mean": score,
        "optimality gap": "shortfall below 1\n(lower is better)",
    }


def test_the_improvement_has_quarters_and_a_line_where_there_is_no_difference() -> None:
    figure = improvement_figure(SEEDS, "trpo")
    (ax,) = figure.axes
    figure.draw_without_rendering()
    assert row_names(figure) == ["npg", "ppo\n(1 seed, no interval)"]
    low, high = ax.get_xlim()
    shown = [
        text.get_text()
        for text, at in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True)
        if low <= at <= high
    ]
    assert shown == ["0%", "25%", "50%", "75%", "100%"]
    (text,) = ax.texts
    assert (text.get_text(), text.get_position()[0]) == ("no difference", 0.5)
    assert any(list(line.get_xdata()) == [0.5, 0.5] for line in ax.lines)
    assert ax.get_xlabel() == "probability that a run is better than one of trpo"
    # The line's name covers neither the title nor the bars.
    box = text.get_window_extent()
    assert box.y0 >= ax.get_window_extent().y1
    assert box.y1 <= figure.bbox.y1


def test_a_baseline_with_one_seed_is_the_reason_why_there_are_no_intervals() -> None:
    figure = improvement_figure(SEEDS, "ppo")
    assert row_names(figure) == ["npg\n(no interval)", "trpo\n(no interval)"]
    assert figure.axes[0].get_xlabel().endswith("is better than one of ppo (1 seed)")
    assert suptitle(figure) == ""


def test_legends_of_curves_say_how_many_seeds() -> None:
    expected = ["npg, 3 seeds", "ppo, 1 seed", "trpo, 2 seeds", "95% interval"]
    scores = finals(SEEDS)
    profiles = aggregates.profiles(scores)
    assert legend_texts(aggregate_figures.profiles(profiles, STYLES, SEEDS)) == expected
    curves = {label: values[..., None] * [0.5, 1.0] for label, values in scores.items()}
    efficiency = aggregates.efficiency(curves, np.array([0.0, 1.0]))
    assert legend_texts(aggregate_figures.efficiency(efficiency, STYLES, SEEDS)) == expected
    by_share, by_step = (
        aggregate_figures.efficiency(efficiency, STYLES, SEEDS, budget).axes[0]
        for budget in (None, 200_000)
    )
    assert by_share.get_xlabel() == "share of each environment's budget"
    assert by_step.get_xlabel() == "environment steps"
    assert by_step.lines[0].get_xdata()[-1] == 200_000
    assert by_step.xaxis.get_major_formatter()(150_000, 0) == "150k"
    assert legend_texts(aggregate_figures.profiles(profiles, STYLES))[0] == "npg"
