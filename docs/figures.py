"""The figures in README.md and docs/*.md, drawn from the results in docs/results and the code.

Each is one file: SVG where that is smaller, PNG otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmarks import figure_files
from benchmarks.speed.figure import draw
from docs import architecture, training_step
from docs.tables import ACER_TASKS, RESULTS, STUDIES, data, speed
from reports.data.context import Context, Studies
from reports.data.scores import learning_curves
from reports.rendering import figures
from reports.rendering.blocks import figures_of
from reports.rendering.figure_style import themed
from reports.sections import studies


def save(figure: Figure, path: Path) -> None:
    """Write a figure, free of dates, so that the same data give the same file."""
    with themed():
        if path.suffix == ".svg":
            path.write_bytes(figure_files.svg(figure))
        else:
            path.write_bytes(figure_files.png(figure, colours=256))


def curves_of(name: str) -> Figure:
    """Learning curves of all runs below a folder of docs/results."""
    curves = learning_curves(data(name).evaluations)
    return figures.learning_curves(curves, figures.looks(list(curves["label"])))


def curves_of_results() -> Figure:
    """Learning curves of everything; NPG's are those of its one set."""
    runs = data("runs").evaluations
    both = [data("npg").evaluations, runs[runs["algo"] != "npg"]]
    curves = learning_curves(pd.concat(both, ignore_index=True))
    return figures.learning_curves(curves, figures.looks(list(curves["label"])))


def curves_of_defaults() -> Figure:
    """Learning curves of NPG, TRPO and PPO, all with the defaults of their constructors."""
    theirs = data("defaults").evaluations
    ours = data("npg").evaluations
    ours = ours[ours["env_id"].isin(theirs["env_id"])]
    curves = learning_curves(pd.concat([ours, theirs], ignore_index=True))
    return figures.learning_curves(curves, figures.looks(list(curves["label"])))


def curves_of_acer() -> Figure:
    """Learning curves of ACER, A2C and PPO on the tasks of ACER's page."""
    evaluations = data("runs").evaluations
    shown = evaluations["algo"].isin(["acer", "a2c", "ppo"])
    curves = learning_curves(evaluations[shown & evaluations["env_id"].isin(ACER_TASKS)])
    return figures.learning_curves(curves, figures.looks(list(curves["label"])))


def of_studies(name: str, shown: Sequence[str] = STUDIES) -> Figure:
    """A figure of the report on studies; by default on those of docs/sensitivity.md."""
    section = studies.build(Context(studies=Studies(shown, RESULTS / "studies")))
    assert section is not None
    (figure,) = (each for each in figures_of([section]) if each.name == name)
    return figure.draw()


FIGURES: dict[str, Callable[[], Figure]] = {
    "defaults.svg": curves_of_defaults,
    "results.svg": curves_of_results,
    "acer.svg": curves_of_acer,
    "learning.png": partial(curves_of, "learning"),
    "sensitivity.svg": partial(of_studies, "studies_sensitivity"),
    "widths.svg": partial(of_studies, "studies_widths"),
    "speed.png": lambda: draw(speed()),
    "npg-CartPole-v1.svg": partial(of_studies, "studies_sensitivity", ["npg-CartPole-v1"]),
    "rooms.svg": architecture.draw,
    "training-step.svg": training_step.draw,
}
