"""Figures for papers: as wide as columns, in a serif font that is embedded, with no titles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from reports.rendering import aggregate_figures, figures
from reports.rendering.figure_style import PAPER, SCREEN, for_paper, style, themed
from tests.reports.rendering.test_figures import curves

STYLES = figures.looks(["npg", "ppo"])


def one() -> Figure:
    return figures.learning_curves(curves("npg", "ppo"), STYLES)


def two() -> Figure:
    frame = pd.concat([curves("npg", "ppo"), curves("ppo", env_id="Hopper-v5")])
    return figures.learning_curves(frame, STYLES)


def profiles() -> Figure:
    score = np.linspace(0, 1, 11)
    frame = pd.DataFrame({"label": "npg", "score": score, "value": 1 - score})
    return aggregate_figures.profiles(frame.assign(low=0.0, high=1.0), STYLES, {"npg": 3})


def test_a_panel_is_one_column_wide_and_several_are_two() -> None:
    with for_paper():
        assert one().get_figwidth() == profiles().get_figwidth() == 3.25
        assert two().get_figwidth() == 6.75
    assert one().get_figwidth() == 8.0


def test_titles_are_left_to_the_caption_unless_they_tell_panels_apart() -> None:
    with for_paper():
        assert [ax.get_title() for ax in one().axes] == [""]
        assert [ax.get_title() for ax in two().axes] == ["CartPole-v1", "Hopper-v5"]
    assert [ax.get_title() for ax in one().axes] == ["CartPole-v1"]


@pytest.mark.parametrize("draw", [one, two, profiles])
def test_all_text_has_eight_points_and_fits(draw) -> None:
    with for_paper(), themed():
        figure = draw()
        figure.draw_without_rendering()
        for text in figure.findobj(Text):
            if text.get_text():
                assert text.get_fontsize() == 8
        box = figure.get_tightbbox()
        assert box.x0 >= -0.02
        assert box.x1 <= figure.get_figwidth() + 0.02


def test_the_file_is_a_page_of_that_size_with_truetype_fonts(tmp_path: Path) -> None:
    figures.save_for_paper(one, tmp_path / "one")
    content = (tmp_path / "one.pdf").read_bytes()
    assert b"/MediaBox [ 0 0 234 " in content  # 3.25 inches of 72 points
    assert b"STIXGeneral" in content
    assert b"/CIDFontType2" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content
    figures.save_for_paper(one, tmp_path / "again")
    assert (tmp_path / "again.pdf").read_bytes() == content


def test_the_font_has_the_signs_of_figures() -> None:
    file = font_manager.findfont("STIXGeneral", fallback_to_default=False)
    with TTFont(file) as font:
        assert {ord(sign) for sign in "τ−–≤0%,"} <= set(font.getBestCmap())


def test_afterwards_figures_are_for_the_screen_again() -> None:
    with for_paper():
        assert style() is PAPER
    assert style() is SCREEN


def test_runs_are_thin_lines_in_the_colour_of_their_mean() -> None:
    runs = pd.DataFrame(
        {
            "env_id": "CartPole-v1",
            "label": ["npg"] * 4 + ["ppo"] * 2,
            "seed": [0, 0, 1, 1, 0, 0],
            "timesteps": [500, 0, 0, 500, 0, 500],
            "return_mean": [4.0, 1.0, 2.0, 3.0, 5.0, 6.0],
        }
    )
    figure = figures.learning_curves(curves("npg", "ppo"), STYLES, runs=runs)
    thin = [line for line in figure.axes[0].lines if line.get_linewidth() < 1]
    assert [list(line.get_ydata()) for line in thin] == [[1.0, 4.0], [2.0, 3.0], [5.0, 6.0]]
    assert [line.get_color() for line in thin] == [
        STYLES[label].colour for label in ("npg", "npg", "ppo")
    ]
    assert len(figure.axes[0].lines) == len(one().axes[0].lines) + 3
