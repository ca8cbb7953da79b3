"""Figures: one look per label, readable axes, the seeds in the legend."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from reports.rendering import figures


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


# What becomes of linear red, green and blue where one kind of cone is missing, as Machado, Oliveira
# and Fernandes (2009) model it.
VISION = {
    "full": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
# Linear sRGB to XYZ, for white at 1.
TO_XYZ = np.array(
    [
        [0.4339, 0.3762, 0.1899],
        [0.2126, 0.7152, 0.0722],
        [0.0178, 0.1095, 0.8727],
    ]
)


def lab(colour: str, vision: np.ndarray = VISION["full"]) -> np.ndarray:
    """CIE L*, a* and b*, in which distances are about as large as they look."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(TO_XYZ @ np.clip(vision @ linear, 0, 1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def colours_of_algorithms() -> list[str]:
    styles = figures.looks(["npg", "trpo", "ppo", "acer", "a2c"])
    return [look.colour for look in styles.values()]


def test_algorithms_are_different_greys() -> None:
    colours = colours_of_algorithms()
    # By luminance, as a printer has it, and by the weights with which pictures are made grey.
    lightness = sorted(lab(colour)[0] for colour in colours)
    greys = sorted(255 * np.dot(to_rgb(colour), [0.299, 0.587, 0.114]) for colour in colours)
    assert np.diff(lightness).min() > 9
    assert np.diff(greys).min() > 20
    assert lightness[-1] < 75  # on white


@pytest.mark.parametrize("vision", VISION)
def test_algorithms_are_different_colours_for_every_kind_of_vision(vision: str) -> None:
    seen = [lab(colour, VISION[vision]) for colour in colours_of_algorithms()]
    assert min(np.linalg.norm(x - y) for x, y in itertools.combinations(seen, 2)) > 18


def test_algorithms_have_dashes_and_markers_of_their_own() -> None:
    styles = figures.looks(figures.RESERVED)
    assert len(styles) == 5
    for parts in ("colour", "dashes", "marker"):
        assert len({getattr(look, parts) for look in styles.values()}) == 5


def test_bands_have_an_edge_in_the_colour_of_their_line() -> None:
    styles = figures.looks(["npg", "acer"])
    figure = figures.learning_curves(curves("npg", "acer"), styles)
    (ax,) = figure.axes
    edges = [to_hex(band.get_edgecolor()[0]).upper() for band in ax.collections]
    assert edges == [styles["acer"].colour, styles["npg"].colour]
    assert all(band.get_linewidth()[0] > 0.5 for band in ax.collections)


def test_many_labels_all_look_different() -> None:
    labels = [f"npg (target_kl={i})" for i in range(25)] + ["ppo"]
    styles = figures.looks(labels)
    assert len(set(styles.values())) == 26
    # In grey, too.
    first = [(look.dashes, look.marker) for look in list(styles.values())[:20]]
    assert len(set(first)) == 20


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
    assert figures.count_text(1) == "1 seed"
    assert figures.count_text(3) == "3 seeds"
