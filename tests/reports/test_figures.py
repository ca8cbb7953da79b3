"""Figures: one look per label, readable axes, the seeds in the legend."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from reports import figures


def curves(*labels: str, env_id: str = "CartPole-v1") -> pd.DataFrame:
    return pd.concat(
        pd.DataFrame(
            {
                "env_id": env_id,
                "label": label,
                "timesteps": [0, 500_000, 1_000_000],
                "mean": [0.0, 1_000.0, 2_000.0],
                "low": [0.0, 900.0, 1_900.0],
                "high": [0.0, 1_100.0, 2_100.0],
                "seeds": 3,
            }
        )
        for label in labels
    )


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_an_algorithm_looks_the_same_in_every_report() -> None:
    alone = figures.looks(["npg", "trpo"])
    among_others = figures.looks(["a", "npg", "npg (critic=adam)", "ppo", "trpo", "z"])
    assert alone["npg"] == among_others["npg"]
    assert alone["trpo"] == among_others["trpo"]


def test_many_labels_all_look_different() -> None:
    labels = [f"npg (target_kl={i})" for i in range(25)] + ["ppo"]
    assert len(set(figures.looks(labels).values())) == 26


def test_a_label_has_one_colour_in_all_panels() -> None:
    frame = pd.concat([curves("npg", "ppo"), curves("ppo", env_id="Hopper-v5")])
    figure = figures.learning_curves(frame, figures.looks(["npg", "ppo"]))
    first, second = (
        {line.get_label(): to_hex(str(line.get_color())) for line in ax.lines} for ax in figure.axes
    )
    assert first["ppo"] == second["ppo"] != first["npg"]


def test_panels_are_titled_and_labelled_and_the_legend_says_seeds_and_band() -> None:
    figure = figures.learning_curves(curves("npg"), figures.looks(["npg"]))
    (ax,) = figure.axes
    assert ax.get_title() == "CartPole-v1"
    assert ax.get_xlabel() == "environment steps"
    assert ax.get_ylabel() == "evaluation return"
    assert legend_texts(figure) == ["npg, 3 seeds", "95% interval"]


def test_a_legend_of_many_long_labels_stays_inside_the_figure() -> None:
    labels = [f"npg (critic=gauss_newton, target_kl=0.0{i})" for i in range(9)]
    figure = figures.learning_curves(curves(*labels), figures.looks(labels))
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert len(legend_texts(figure)) == 9 + 1  # and the band


@pytest.mark.parametrize(
    ("steps", "text"), [(0, "0"), (500, "500"), (250_000, "250k"), (1_500_000, "1.5M")]
)
def test_steps_have_units(steps: float, text: str) -> None:
    assert figures.steps_text(steps) == text


def test_number_of_seeds_is_a_range_where_it_differs() -> None:
    assert figures.seeds_text(pd.Series([3, 3])) == "3 seeds"
    assert figures.seeds_text(pd.Series([2, 3])) == "2–3 seeds"
    assert figures.seeds_text(pd.Series([1])) == "1 seed"
