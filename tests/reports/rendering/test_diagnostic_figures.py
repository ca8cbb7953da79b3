"""Figures of what training logs say of the trust region."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import image as mpl_image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.rendering import diagnostic_figures, figures


def curves(*labels: str, env_ids: tuple[str, ...] = ("CartPole-v1",)) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame(
            {
                "env_id": env_id,
                "label": label,
                "seeds": 5,
                "timesteps": np.linspace(0, 1e6, 25),
                "value": (value := rng.lognormal(0, 0.05, 25)),
                "low": 0.5 * value,
                "high": 2 * value,
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
    frame["low"], frame["high"] = 0.9 * frame["value"], 1.1 * frame["value"]
    frame.loc[near, ["low", "value", "high"]] = 1.0  # its own axis would be narrow
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
    frame[["low", "value", "high"]] = 1.0
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
    for name, quantity in (("a", "kl"), ("b", "projected")):
        figure = diagnostic_figures.over_steps(frame, quantity, styles)
        figures.save(figure, tmp_path / name, colours=64)
    for path in tmp_path.iterdir():
        assert path.stat().st_size < (200_000 if path.suffix == ".png" else 500_000), path


def test_a_palette_leaves_the_picture_as_it_is(tmp_path: Path) -> None:
    labels = ["npg", "npg (critic=adam)", "trpo"]
    figure = diagnostic_figures.over_steps(curves(*labels), "kl", figures.looks(labels))
    figures.save(figure, tmp_path / "plain")
    figures.save(figure, tmp_path / "small", colours=64)
    plain, small = (
        mpl_image.imread(tmp_path / f"{name}.png")[..., :3] for name in ("plain", "small")
    )
    assert plain.shape == small.shape
    assert np.abs(plain - small).mean() < 0.005
    assert np.quantile(np.abs(plain - small), 0.999) < 0.2
