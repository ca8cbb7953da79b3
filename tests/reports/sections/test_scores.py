"""The scores on each environment: one row per algorithm, bold by the rule."""

from __future__ import annotations

import csv
import io

import pytest

from benchmarks import statistics
from benchmarks.tables import text_of
from reports.data.context import load
from reports.rendering.blocks import Paragraph, Section, figures_of, tables_of
from reports.sections import scores
from tests.reports.conftest import RunFolders
from tests.reports.values import cells, column, headers, tables


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 200)


def section(folders: RunFolders, **options: bool) -> Section:
    built = scores.build(load(folders.root, **options))
    assert built is not None
    return built


def finals(folders: RunFolders) -> dict[str, str]:
    (table,) = tables(section(folders).blocks)
    return dict(zip(column(table, "algorithm"), cells(table, "final return"), strict=True))


def test_all_that_cannot_be_told_apart_from_the_best_are_bold(folders: RunFolders) -> None:
    for seed in range(3):
        folders.add("npg", seed=seed, returns=[0.0, 100.0 + seed])
        folders.add("trpo", seed=seed, returns=[0.0, 101.5 + seed])
        folders.add("ppo", seed=seed, returns=[0.0, 10.0 + seed])
    assert finals(folders) == {
        "npg": "**101.0** [100.0, 102.0]",
        "ppo": "11.0 [10.0, 12.0]",
        "trpo": "**102.5** [101.5, 103.5]",
    }


def test_the_best_alone_is_bold_where_it_is_ahead_of_every_other_one(folders: RunFolders) -> None:
    for seed in range(3):
        folders.add("npg", seed=seed, returns=[0.0, 100.0 + seed])
        folders.add("ppo", seed=seed, returns=[0.0, 10.0 + seed])
    assert finals(folders) == {"npg": "**101.0** [100.0, 102.0]", "ppo": "11.0 [10.0, 12.0]"}


def test_those_that_share_the_highest_mean_are_bold(folders: RunFolders) -> None:
    for seed in range(3):
        for algo in ("npg", "ppo", "trpo"):
            folders.add(algo, seed=seed, returns=[0.0, 500.0])
    assert set(finals(folders).values()) == {"**500.0** [500.0, 500.0]"}


def test_one_seed_has_no_interval_and_is_not_bold(folders: RunFolders) -> None:
    folders.add("npg", returns=[0.0, 100.0])
    folders.add("ppo", returns=[0.0, 10.0])
    assert finals(folders) == {"npg": "100.0 (1 seed)", "ppo": "10.0 (1 seed)"}


def test_variants_have_rows_of_their_own(folders: RunFolders) -> None:
    for critic in ("adam", "gauss_newton"):
        for seed in range(2):
            folders.add("npg", seed=seed, hyperparams={"critic": critic, "gamma": 0.99})
    (table,) = tables(section(folders).blocks)
    assert column(table, "algorithm") == ["npg (critic=adam)", "npg (critic=gauss_newton)"]
    assert column(table, "seeds") == [2, 2]
    assert headers(table) == [
        "algorithm",
        "final return",
        "best evaluation",
        "area under curve",
        "seeds",
        "steps",
    ]


def test_each_environment_has_a_table_and_where_there_are_several_a_figure(
    folders: RunFolders,
) -> None:
    folders.add("npg")
    assert figures_of(section(folders).blocks) == []
    folders.add("npg", "ALE/Pong-v5")
    built = section(folders)
    assert list(tables_of(built.blocks)) == ["scores-ALE__Pong-v5", "scores-CartPole-v1"]
    assert [figure.name for figure in figures_of(built.blocks)] == [
        "learning_curve_ALE__Pong-v5",
        "learning_curve_CartPole-v1",
    ]
    assert [each.title for each in built.blocks if isinstance(each, Section)] == [
        "ALE/Pong-v5",
        "CartPole-v1",
    ]
    for figure in figures_of(built.blocks):
        (ax,) = figure.draw().axes
        assert ax.get_title() == figure.title.removeprefix("Learning curves on ")


def test_budgets_that_do_not_compare_are_said_beside_the_table(folders: RunFolders) -> None:
    folders.add("npg", n_timesteps=50_000)
    folders.add("npg", n_timesteps=100_000)
    (_, cartpole) = section(folders, allow_mixed=True).blocks
    assert isinstance(cartpole, Section)
    warning = cartpole.blocks[0]
    assert isinstance(warning, Paragraph)
    assert text_of(warning.text).startswith("Mixed: 100,000 steps and 50,000 steps do not compare")


def test_scores_and_pairs_are_files(study: RunFolders) -> None:
    files = section(study).files
    assert list(files) == ["scores.csv", "comparisons.csv"]
    rows = list(csv.DictReader(io.StringIO(files["scores.csv"])))
    assert [row["label"] for row in rows] == ["npg", "ppo", "trpo"] * 2
    context = load(study.root)
    for row, expected in zip(rows, context.scores.to_dict("records"), strict=True):
        assert float(row["final_mean"]) == pytest.approx(expected["final_mean"], rel=1e-9)
    pairs = list(csv.DictReader(io.StringIO(files["comparisons.csv"])))
    assert len(pairs) == 6 * 2 * 3
