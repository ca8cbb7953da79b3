"""The section on studies: read from studies that were carried out, recomputed from run folders."""

from __future__ import annotations

import json
import math
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from matplotlib.figure import Figure
from optuna.distributions import FloatDistribution
from optuna.importance import get_param_importances
from optuna.trial import TrialState, create_trial
from typer.testing import CliRunner

from benchmarks.records import Evaluation, RunSpec
from benchmarks.run import run as train
from benchmarks.run_files import is_finished
from benchmarks.statistics import Estimate
from benchmarks.sweep import SweepResult
from reports import figures, tuning_data, tuning_figures
from reports.__main__ import app
from reports.runs import ReportError
from reports.tables import Table
from reports.templates import template
from reports.tuning import Studies as Wanted
from reports.tuning import Tuning, tuning_of
from reports.tuning_data import losses_at
from reports.tuning_wording import estimate_text, measure, titles_of
from studies import confirmation, estimates, sensitivity, trials
from studies.definition import define
from studies.estimates import compare
from studies.objective import Problem
from studies.search import Search
from studies.search_spaces import space_for
from studies.storage import connect
from studies.study import completed, create, load, values_of
from studies.workers import Task, work
from tests.reports.conftest import RunFolders

Maker = Callable[[RunSpec, Path, str], Path]
Returns = Callable[[RunSpec], float]


@pytest.fixture(autouse=True)
def _quick_and_quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(estimates, "REPETITIONS", 200)
    monkeypatch.setattr(sensitivity, "_REPETITIONS", 200)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
    optuna.logging.set_verbosity(before)


def small(algo: str, env_ids: Sequence[str], n_seeds: int, **more: Any) -> Problem:
    """A problem with the suite's own ranges, whose runs are as short as can be."""
    settings = {"n_steps": 64, "batch_size": 32, "policy_kwargs": "dict(net_arch=[8])"}
    space = more.pop("space", None) or space_for(algo)
    defined = define(algo, env_ids, n_seeds, 64, space, **more)
    hyperparams = {env_id: settings if algo == "ppo" else {} for env_id in env_ids}
    protocol = Evaluation(points=2, episodes=2, seed=7)
    return replace(defined, hyperparams=hyperparams, evaluation=protocol)


@dataclass
class Studies:
    """Carries studies out below ``root``, all in this process."""

    root: Path
    monkeypatch: pytest.MonkeyPatch
    drawn: dict[str, Figure] = field(default_factory=dict)

    def made_by(self, make: Maker) -> None:
        """From now on runs are made by this function."""

        def sweep(specs: Sequence[RunSpec], out: Path, *_: object, **__: object) -> SweepResult:
            for spec in specs:
                if not is_finished(spec.folder(out)):
                    make(spec, out, "the command")
            return SweepResult([], [], [])

        def run(spec: RunSpec, out: Path, command: str, watch: Callable[[Any], None]) -> Path:
            return make(spec, out, command)

        self.monkeypatch.setattr(trials, "run", run)
        self.monkeypatch.setattr(trials, "sweep", sweep)

    def with_returns(self, returns: Returns) -> None:
        """From now on runs are folders with such a final return, in the suite's own form."""

        def make(spec: RunSpec, out: Path, command: str) -> Path:
            return write_run(spec, out, command, [0.0, 1.0, returns(spec)])

        self.made_by(make)

    def study(self, name: str, problem: Problem, n_trials: int) -> None:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        create(name, problem, connect("", folder))
        work(Task(name, "", folder, Search("random", n_trials=n_trials), "the command"))

    def confirm(self, name: str) -> None:
        study, problem = self.load(name)
        confirmation.confirm(study, problem, self.root / name, 1, "the command", shown=False)

    def sweep(self, name: str, *symbols: str, points: int = 5) -> None:
        study, problem = self.load(name)
        runs = sensitivity.stored(self.root / name)
        for symbol in symbols:
            parameter = sensitivity.swept(problem, symbol)
            runs[parameter.name] = sensitivity.measure(
                study, problem, self.root / name, parameter, points, 1, "the command", shown=False
            )
        sensitivity.store(runs, self.root / name)

    def load(self, name: str) -> tuple[optuna.Study, Problem]:
        return load(name, connect("", self.root / name))

    def report(self, *names: str, out: str = "report", saved: bool = False) -> Tuning:
        """The section; its figures are drawn, but saved only where asked, which takes longest."""
        with self.monkeypatch.context() as patch:
            if not saved:
                patch.setattr(
                    figures, "save", lambda figure, path: self.drawn.update({path.name: figure})
                )
            return tuning_of(Wanted(names, self.root), self.root.parent / out)


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studies:
    return Studies(tmp_path / "studies-out", monkeypatch)


def write_run(spec: RunSpec, out: Path, command: str, returns: Sequence[float]) -> Path:
    folder = spec.folder(out)
    folder.mkdir(parents=True)
    steps = np.linspace(0, spec.n_timesteps, len(returns)).astype(int)
    pd.DataFrame(
        {
            "timesteps": steps,
            "wall_seconds": steps / 1_000,
            "return_mean": returns,
            "return_std": 1.0,
            "length_mean": 100.0,
            "episodes": 2,
        }
    ).to_csv(folder / "evaluations.csv", index=False)
    record = {
        "format": 1,
        "spec": spec.to_dict(),
        "config": spec.config,
        "command": command,
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "versions": {"python": "3.11.9"},
        "machine": {"system": "Linux", "cores": 2},
        "started": "2026-01-01T00:00:00+00:00",
        "wall_seconds": 1.0,
        "evaluation_seconds": 0.5,
        "timesteps": spec.n_timesteps,
    }
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def noise(spec: RunSpec, size: float) -> float:
    """The same for a seed, whatever else."""
    return size * float(np.random.default_rng(spec.seed).normal())


def hill(
    name: str,
    top: float,
    steepness: float,
    size: float = 10.0,
    height: float = 450.0,
    default: float = 0.02,
) -> Returns:
    """Final returns that are highest where the parameter has a certain value."""

    def returns(spec: RunSpec) -> float:
        distance = math.log10(float(spec.hyperparams.get(name, default)) / top)
        return height * math.exp(-steepness * distance**2) + noise(spec, size)

    return returns


def rendered(section: Tuning) -> str:
    return template("tuning.md.j2").render(tuning=section)


def column(table: Table | None, name: str) -> list[str]:
    assert table is not None
    return [row[list(table.headers).index(name)] for row in table.rows]


def scores_of(problem: Problem, specs: Sequence[RunSpec], runs: Path) -> list[float]:
    """Read off the run folders by hand: CartPole-v1, a random policy has 23.14, reference 475."""
    finals = [
        pd.read_csv(spec.folder(runs) / "evaluations.csv")["return_mean"].iloc[-1] for spec in specs
    ]
    return [(final - 23.14) / (475 - 23.14) for final in finals]


def test_numbers_are_those_of_the_run_folders(studies: Studies) -> None:
    """A real study, trained: on its own seeds, on fresh ones, and over the range."""
    problem = small("ppo", ["CartPole-v1"], 2)
    studies.made_by(train)
    studies.study("mine", problem, 3)
    studies.confirm("mine")
    studies.sweep("mine", "epsilon", points=3)

    section = studies.report("mine")

    study, _ = studies.load("mine")
    best, runs = study.best_trial, studies.root / "mine" / "runs"
    values = values_of(problem, best)
    # Runs with the defaults on fresh seeds do not have them written out.
    kept = {} if values[problem.space[0]] == 0.2 else values
    for position, (defaults, tuned) in enumerate(
        [
            (problem.specs("mine", {problem.space[0]: 0.2}), problem.specs("mine", values)),
            (problem.specs("mine", {}, [2000, 2001]), problem.specs("mine", kept, [2000, 2001])),
        ]
    ):
        before, after = (np.mean(scores_of(problem, specs, runs)) for specs in (defaults, tuned))
        _, seeds, *cells = section.scores.rows[position]
        assert seeds == ["the search's: 1000 to 1001", "fresh: 2000 to 2001"][position]
        assert [float(cell.split()[0]) for cell in cells] == pytest.approx(
            [before, after, after - before], abs=6e-4
        )
    assert section.values.rows == [
        ["mine", "clip_range (epsilon)", "0.02 to 0.8, log scale", "0.2",
         f"{best.params['clip_range']:.4g}"]
    ]  # fmt: skip
    assert section.studies.rows == [
        ["mine", "ppo", "CartPole-v1", "64", "2", "final return, normalised", "3", "0", "0"]
    ]
    assert section.sensitivity is not None
    swept = {
        value: np.mean(
            scores_of(problem, problem.specs("mine", {problem.space[0]: float(value)}), runs)
        )
        for value in [0.02, 0.126491, 0.8, *(trial.params["clip_range"] for trial in study.trials)]
    }
    found = float(column(section.sensitivity, "best in the sweep")[0])
    assert found == pytest.approx(max(sorted(swept), key=lambda value: swept[value]), rel=1e-3)
    assert section.origin is not None
    assert section.origin.commands == ["the command"]
    text = rendered(section)
    assert "](studies_sensitivity.png)" in text
    assert "](studies_widths.svg)" in text


def test_a_gain_is_of_pairs_of_runs_with_the_same_seed() -> None:
    """With two seeds the ends of a 95% interval are those of either seed alone, and no proof."""
    defaults, best = np.array([[0.1], [0.8]]), np.array([[0.3], [0.9]])

    found = compare([0, 1], defaults, best)

    assert (found.defaults.value, found.best.value) == pytest.approx((0.45, 0.6))
    assert (found.defaults.low, found.defaults.high) == pytest.approx((0.1, 0.8))
    assert (found.gain.value, found.gain.low, found.gain.high) == pytest.approx((0.15, 0.1, 0.2))
    assert not found.gain.is_positive
    assert not compare([0, 1], best, defaults).gain.is_negative
    defaults, best = np.array([[0.1], [0.8], [0.5]]), np.array([[0.3], [0.9], [0.7]])
    assert compare([0, 1, 2], defaults, best).gain.is_positive
    assert compare([0, 1, 2], best, defaults).gain.is_negative


def test_scores_are_interquartile_means_over_seeds_and_environments() -> None:
    best = np.array([[0.0, 0.4], [0.2, 100.0], [0.3, 0.5], [0.1, 0.6]])

    found = compare(range(4), np.zeros((4, 2)), best)

    assert found.best.value == pytest.approx((0.2 + 0.3 + 0.4 + 0.5) / 4)


def test_one_seed_has_no_interval_and_nothing_is_claimed() -> None:
    gain = compare([0], np.array([[0.0]]), np.array([[1.0]])).gain

    assert gain.value == 1.0
    assert not gain.is_positive
    assert not gain.is_negative
    assert estimate_text(gain) == "1.000 (1 seed)"


def sweep_runs(scores: Sequence[Sequence[float]], values: Sequence[float]) -> pd.DataFrame:
    """A row of scores, one for each seed, for each value."""
    rows = [
        ("delta", value, "CartPole-v1", seed, 0.0, score)
        for value, of_value in zip(values, scores, strict=True)
        for seed, score in enumerate(of_value)
    ]
    return pd.DataFrame(rows, columns=sensitivity.RUN_COLUMNS)


def test_what_is_lost_at_a_value_is_between_the_points_around_it() -> None:
    runs = sweep_runs([[0.2, 0.4], [1.0, 1.2], [0.8, 0.4]], [0.01, 0.1, 1.0])

    third, threefold, edge, beyond = losses_at(runs, [0.1 / 3, 0.3, 1.0, 1.1])

    share = math.log10(3)  # of the way to the next point, a decade off
    assert third is not None
    assert threefold is not None
    assert third.value == pytest.approx(share * 0.8)
    assert threefold.value == pytest.approx(share * 0.5)
    assert (threefold.low, threefold.high) == pytest.approx((share * 0.2, share * 0.8))
    assert edge is not None
    assert edge.value == pytest.approx(0.5)
    assert beyond is None


@pytest.fixture
def three(studies: Studies) -> Studies:
    """A study whose best value is better, one where it is worse on fresh seeds, one level."""
    studies.with_returns(hill("target_kl", 0.1, 1.0))
    studies.study("better", small("npg", ["CartPole-v1"], 3), 6)
    studies.confirm("better")

    def reversed_later(spec: RunSpec) -> float:
        value = float(spec.hyperparams.get("target_kl", 0.01))
        return 100 * (value if spec.seed < 2000 else 1 - value) + noise(spec, 1.0)

    studies.with_returns(reversed_later)
    studies.study("worse", small("trpo", ["CartPole-v1"], 3), 6)
    studies.confirm("worse")

    def chance(spec: RunSpec) -> float:
        value = float(spec.hyperparams.get("clip_range", 0.2))
        return 100 + 10 * math.sin(1e4 * value * spec.seed)

    studies.with_returns(chance)
    studies.study("level", small("ppo", ["CartPole-v1"], 4), 6)
    studies.confirm("level")
    return studies


def test_findings_say_which_best_values_are_better_beyond_chance(three: Studies) -> None:
    section = three.report("better", "worse", "level")

    (line,) = [line for line in section.findings if line.startswith("**Best values**")]
    better, worse, level = line.split("; ")
    assert better.startswith(
        "**Best values**, on fresh seeds: better than the defaults for npg on CartPole-v1 "
        "(target_kl = "
    )
    assert worse.startswith("worse for trpo on CartPole-v1 (target_kl = ")
    assert worse.endswith(", so keep the defaults there")
    assert level.startswith(
        "not told apart from the defaults for ppo on CartPole-v1 (clip_range = "
    )
    gains = column(section.scores, "difference")[1::2]
    for text, gain in zip((better, worse, level), gains, strict=True):
        assert gain in text
    assert gains[0].startswith("+")
    assert gains[1].startswith("-")


def test_a_default_that_is_the_best_is_kept(studies: Studies) -> None:
    studies.with_returns(hill("clip_range", 0.2, 5.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 4)
    studies.confirm("mine")

    section = studies.report("mine")

    assert (
        "No value was found that is better than the default for ppo on CartPole-v1."
        in section.findings
    )
    assert not any("Best values" in line for line in section.findings)
    assert column(section.scores, "difference") == ["+0.000 [+0.000, +0.000]"] * 2


def swept_study(studies: Studies, name: str, algo: str, symbol: str, returns: Returns) -> None:
    studies.with_returns(returns)
    studies.study(name, small(algo, ["CartPole-v1"], 3), 2)
    studies.sweep(name, symbol, points=9)


def test_widths_are_compared_only_where_the_range_does_not_cut_the_narrower_one(
    studies: Studies,
) -> None:
    swept_study(studies, "wide", "npg", "delta", hill("target_kl", 0.02, 0.1))
    swept_study(studies, "narrow", "trpo", "delta", hill("target_kl", 0.02, 2.0, default=0.01))
    swept_study(studies, "cut", "ppo", "epsilon", hill("clip_range", 0.8, 2.0, default=0.2))

    section = studies.report("wide", "narrow", "cut")

    widths = dict(
        zip(column(section.sensitivity, "study"), column(section.sensitivity, "decades wide"),
            strict=True)
    )  # fmt: skip
    assert widths["cut"].startswith("at least ")
    assert not widths["narrow"].startswith("at least ")
    for name in widths:
        expected = sensitivity.width(sensitivity.stored(studies.root / name).popitem()[1])
        assert f"{expected.decades:.2f} [{expected.decades_low:.2f}," in widths[name]
    (line,) = [line for line in section.findings if line.startswith("**Width**")]
    assert f"target_kl of npg on CartPole-v1 with {widths['wide']}" in line
    assert line.endswith(
        "Beyond the intervals, target_kl of npg on CartPole-v1 has a wider one than target_kl of "
        "trpo on CartPole-v1."
    )
    (line,) = [line for line in section.findings if line.startswith("**A wrong value**")]
    assert "costs score beyond chance for " in line
    assert "target_kl of trpo on CartPole-v1 (up to 0." in line


def test_a_wrong_value_costs_nothing_that_is_known_where_the_curve_is_flat(
    studies: Studies,
) -> None:
    def flat(spec: RunSpec) -> float:
        return 100 + 10 * math.sin(1e4 * float(spec.hyperparams["target_kl"]) * spec.seed)

    swept_study(studies, "mine", "npg", "delta", flat)

    (line,) = [
        line for line in studies.report("mine").findings if line.startswith("**A wrong value**")
    ]
    assert line.endswith("costs score no more than chance may for target_kl of npg on CartPole-v1.")


def test_the_loss_at_the_default_is_that_of_its_trial(studies: Studies) -> None:
    swept_study(studies, "mine", "npg", "delta", hill("target_kl", 0.1, 1.0))

    section = studies.report("mine")

    _, problem = studies.load("mine")
    runs = studies.root / "mine" / "runs"
    best = float(sensitivity.width(sensitivity.stored(studies.root / "mine")["target_kl"]).best)
    at_best, at_default = (
        np.mean(scores_of(problem, problem.specs("mine", {problem.space[0]: value}), runs))
        for value in (best, 0.02)
    )
    (lost,) = column(section.sensitivity, "lost at the default")
    assert float(lost.split()[0]) == pytest.approx(at_best - at_default, abs=6e-4)


def test_without_sensitivity_there_are_trials_alone_and_the_report_says_so(three: Studies) -> None:
    section = three.report("better", saved=True)

    assert section.sensitivity is None
    assert list(section.figures) == ["trials"]
    assert section.findings[-1] == (
        "**Not known yet**: range not swept, so that there are trials alone: target_kl of npg on "
        "CartPole-v1."
    )
    text = rendered(section)
    assert "### Sensitivity" not in text
    assert "### Trials" in text
    files = sorted(path.name for path in (three.root.parent / "report").iterdir())
    assert files == ["studies_trials.png", "studies_trials.svg"]


def test_a_study_without_a_completed_trial_says_what_became_of_them(studies: Studies) -> None:
    def broken(spec: RunSpec, out: Path, command: str) -> Path:
        raise ValueError("no")

    studies.made_by(broken)
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 2)

    section = studies.report("mine")

    assert section.studies.rows[0][-3:] == ["0", "0", "2"]
    assert section.values.rows[0][-2:] == ["0.2", "–"]
    assert section.scores.rows == [
        ["mine", "the search's: no trial has completed", "–", "–", "–"],
        ["mine", "fresh: not run yet", "–", "–", "–"],
    ]
    assert section.findings == ["**Not known yet**: no trial has completed: ppo on CartPole-v1."]
    assert section.figures == {}
    assert section.origin is None
    assert "](studies_" not in rendered(section)


def test_trials_are_counted_by_how_they_ended(studies: Studies) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 2)
    study, _ = studies.load("mine")
    range_ = {"clip_range": FloatDistribution(0.02, 0.8, log=True)}
    for state in (TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL):
        params = {"clip_range": 0.3}
        study.add_trial(create_trial(state=state, params=params, distributions=range_))
    study.enqueue_trial({"clip_range": 0.7})

    section = studies.report("mine")

    assert section.studies.rows[0][-3:] == ["2", "2", "1"]
    assert "best values not tried on fresh seeds: ppo on CartPole-v1" in section.findings[-1]
    assert section.findings[-1].endswith("trials that have not ended: ppo on CartPole-v1 (1).")


def test_two_studies_share_tables_and_figures_and_keep_their_looks(studies: Studies) -> None:
    swept_study(studies, "one", "npg", "delta", hill("target_kl", 0.02, 1.0))
    swept_study(studies, "two", "ppo", "epsilon", hill("clip_range", 0.2, 2.0, default=0.2))

    section = studies.report("one", "two")

    drawn = studies.drawn
    assert column(section.studies, "study") == ["one", "two"]
    assert column(section.scores, "study") == ["one", "one", "two", "two"]
    assert column(section.sensitivity, "study") == ["one", "two"]
    first, second = drawn["studies_sensitivity"].axes
    assert (first.get_title(), second.get_title()) == ("npg on CartPole-v1", "ppo on CartPole-v1")
    assert first.get_xlabel() == "target_kl (delta):\nKL divergence of an update [nats]"
    assert (first.get_xscale(), first.get_ylim()) == ("log", second.get_ylim())
    looks = figures.looks(["npg", "ppo", "trpo"])
    for axes, algo, name, default in (
        (first, "npg", "one", 0.02),
        (second, "ppo", "two", 0.2),
    ):
        curve, mark = axes.lines
        assert curve.get_color() == looks[algo].colour
        assert curve.get_marker() == looks[algo].marker
        (runs,) = sensitivity.stored(studies.root / name).values()
        np.testing.assert_array_equal(curve.get_xdata(), sorted(set(runs["value"])))
        means = runs.groupby("value")["score"].mean()  # of three: their plain mean
        np.testing.assert_allclose(curve.get_ydata(), means)
        assert list(mark.get_xdata()) == [default, default]
    legend = [text.get_text() for text in drawn["studies_sensitivity"].legends[0].get_texts()]
    assert legend == ["npg", "ppo", "default", "within 10% of the best", "95% interval"]
    (axes,) = drawn["studies_widths"].axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["npg on CartPole-v1: target_kl", "ppo on CartPole-v1: clip_range"]
    marks = [float(line.get_xdata()[0]) for line in axes.lines]
    widths = [
        sensitivity.width(sensitivity.stored(studies.root / name).popitem()[1]).decades
        for name in ("one", "two")
    ]
    assert marks == pytest.approx(widths)
    assert axes.get_xlabel().startswith("decades within 10% of the best score")


def test_studies_whose_runs_are_elsewhere_are_named(studies: Studies) -> None:
    studies.with_returns(lambda spec: 100.0)
    for name in ("here", "elsewhere"):
        studies.study(name, small("ppo", ["CartPole-v1"], 1), 1)
    shutil.rmtree(studies.root / "elsewhere" / "runs")

    section = studies.report("here", "elsewhere")

    assert section.origin is not None
    assert section.origin.absent == "elsewhere"
    assert "- Of the runs that are here; those of elsewhere are not." in rendered(section)
    assert "that are here" not in rendered(studies.report("here"))


def test_the_same_studies_give_the_same_bytes(studies: Studies) -> None:
    returns = hill("correction_term", 5.0, 1.0)
    studies.with_returns(returns)
    studies.study("mine", small("acer", ["CartPole-v1"], 2), 5)
    studies.sweep("mine", "c")
    before = {path: path.read_bytes() for path in studies.root.rglob("*") if path.is_file()}

    first, second = (
        rendered(studies.report("mine", out=name, saved=True)) for name in ("first", "second")
    )

    assert first == second
    one, two = (sorted((studies.root.parent / name).iterdir()) for name in ("first", "second"))
    assert [path.name for path in one] == [path.name for path in two]
    assert len(one) == 6
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    # Nor has anything been written among the studies.
    assert before == {path: path.read_bytes() for path in studies.root.rglob("*") if path.is_file()}


def test_importances_of_several_parameters_and_sweeps_around_an_earlier_best_trial(
    studies: Studies,
) -> None:
    def returns(spec: RunSpec) -> float:
        c = float(spec.hyperparams.get("correction_term", 10.0))
        delta = float(spec.hyperparams.get("delta", 1.0))
        return 100 * math.log10(c) + 10 * math.log10(delta) + noise(spec, 1.0)

    studies.with_returns(returns)
    studies.study("mine", small("acer", ["CartPole-v1"], 2), 5)
    studies.sweep("mine", "c")
    before = studies.load("mine")[0].best_trial.number
    studies.study("mine", small("acer", ["CartPole-v1"], 2), 30)
    assert studies.load("mine")[0].best_trial.number != before

    section = studies.report("mine")

    study, problem = studies.load("mine")
    shares = get_param_importances(study)
    assert section.importances is not None
    labels = {each.name: str(each) for each in problem.space}
    assert {row[1]: row[2] for row in section.importances.rows} == {
        labels[name]: f"{share:.0%}" for name, share in shares.items()
    }
    assert len(shares) == 2
    assert (
        "swept around a trial that is not the best one any more: correction_term of acer on "
        f"CartPole-v1 (trial {before})"
    ) in section.findings[-1]
    assert "trials alone: delta of acer on CartPole-v1" in section.findings[-1]
    assert set(section.figures) == {"sensitivity", "widths", "trials"}
    studies.sweep("mine", "c")
    assert not any("any more" in line for line in studies.report("mine").findings)


def test_one_parameter_has_no_importance_and_any_best_trial_gives_the_same_sweep(
    studies: Studies,
) -> None:
    swept_study(studies, "mine", "npg", "delta", hill("target_kl", 0.033, 1.0))
    before = studies.load("mine")[0].best_trial.number
    studies.study("mine", small("npg", ["CartPole-v1"], 3), 12)
    assert studies.load("mine")[0].best_trial.number != before

    section = studies.report("mine")

    assert section.importances is None
    assert not any("any more" in line for line in section.findings)


def test_environments_have_their_own_defaults(studies: Studies) -> None:
    """The defaults' score is of each environment's runs with its own default."""
    problem = small("ppo", ["CartPole-v1", "Acrobot-v1"], 2)
    hyperparams = {
        env_id: fields | {"clip_range": value}
        for (env_id, fields), value in zip(problem.hyperparams.items(), (0.1, 0.4), strict=True)
    }
    problem = replace(problem, hyperparams=hyperparams)
    studies.with_returns(lambda spec: 100 * float(spec.hyperparams["clip_range"]))
    studies.study("mine", problem, 3)

    section = studies.report("mine")

    assert column(section.values, "default") == ["0.1 (CartPole-v1), 0.4 (Acrobot-v1)"]
    cartpole = problem.normalised("CartPole-v1", [10.0])[0]
    acrobot = problem.normalised("Acrobot-v1", [40.0])[0]
    assert float(column(section.scores, "the defaults")[0].split()[0]) == pytest.approx(
        (cartpole + acrobot) / 2, abs=6e-4
    )


def test_a_database_is_read_too(studies: Studies) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    url = f"sqlite:///{studies.root.parent / 'studies.db'}"
    problem, folder = small("ppo", ["CartPole-v1"], 2), studies.root / "mine"
    create("mine", problem, connect(url, folder))
    work(Task("mine", url, folder, Search(n_trials=2), "the command"))

    section = tuning_of(Wanted(["mine"], studies.root, url), studies.root.parent / "report")

    assert section.studies.rows[0][-3:] == ["2", "0", "0"]
    with pytest.raises(ReportError, match=r"'yours' is not a study in this storage; .*: mine"):
        tuning_of(Wanted(["yours"], studies.root, url), studies.root.parent / "report")


def test_what_cannot_be_reported_is_refused_and_nothing_is_written(studies: Studies) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("b", small("ppo", ["CartPole-v1"], 2), 1)
    studies.study("a", small("ppo", ["CartPole-v1"], 2), 1)
    (studies.root / "c").mkdir()

    for names, message in (
        (["c"], r"--studies: 'c' is not a study in .*studies-out; there are: a, b"),
        (["d"], "there are: a, b"),
        (["a", "a"], "--studies: 'a' is given twice"),
        ([], "--studies: must name at least one study"),
    ):
        with pytest.raises(ReportError, match=message):
            studies.report(*names)
    assert list((studies.root / "c").iterdir()) == []
    assert not (studies.root.parent / "report").exists()


def test_files_that_are_broken_or_of_another_study_are_named(studies: Studies) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 1)
    studies.study("theirs", small("ppo", ["CartPole-v1"], 3), 1)
    studies.sweep("theirs", "epsilon", points=3)
    stored, mine = (studies.root / name / "sensitivity.csv" for name in ("theirs", "mine"))

    mine.write_bytes(stored.read_bytes())
    section = studies.report("mine")
    assert "mine/sensitivity.csv: must have a run for each value" in section.broken[0]
    assert section.sensitivity is None
    pd.read_csv(stored).drop(columns="base").to_csv(mine, index=False)
    section = studies.report("mine")
    assert "mine/sensitivity.csv: has no column base; remove it" in section.broken[0]
    assert "**Left out**, since it cannot be read: `" in rendered(section)
    journal = studies.root / "mine" / "journal.log"
    journal.write_text("no journal\n" + journal.read_text())
    with pytest.raises(ReportError, match="'mine' cannot be read"):
        studies.report("mine")
    section = studies.report("mine", "theirs")
    assert [row[0] for row in section.studies.rows] == ["theirs"]
    assert section.sensitivity is not None
    assert "'mine' cannot be read" in section.broken[0]


SWEPT = "parameter,value,env_id,seed,return,score,base"


@pytest.mark.parametrize(
    "sensitivity_csv",
    [
        "",
        "\0\0",
        SWEPT,
        "a,b\n1\n1,2,3\n",
        f"{SWEPT}\nclip_range,x,CartPole-v1,1000,1,1,0\n",
        f"{SWEPT}\nclip_range,0,CartPole-v1,1000,1,1,0\nclip_range,0,CartPole-v1,1001,1,1,0\n",
        f"{SWEPT}\nclip_range,1,CartPole-v1,1000,1,nan,0\nclip_range,1,CartPole-v1,1001,1,1,0\n",
        f"{SWEPT}\nclip_range,1,CartPole-v1,1000,1,1,x\nclip_range,1,CartPole-v1,1001,1,1,x\n",
        b"\xff\xfe\xff",
        None,
    ],
)
def test_a_sweep_that_is_tampered_with_costs_only_itself(
    studies: Studies, sensitivity_csv: str | bytes | None
) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 1)
    path = studies.root / "mine" / "sensitivity.csv"
    if sensitivity_csv is None:
        path.mkdir()
    else:
        path.write_bytes(
            sensitivity_csv if isinstance(sensitivity_csv, bytes) else sensitivity_csv.encode()
        )

    section = studies.report("mine")

    assert section.sensitivity is None
    assert section.studies.rows[0][-3:] == ["1", "0", "0"]
    if sensitivity_csv != SWEPT:  # which has no sweep, and so nothing is wrong with it
        assert "mine/sensitivity.csv: " in section.broken[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"scores": [', '"scores": ["a", '),
        ('"scores": [', '"scores": [1.0, '),
        ('"scores": [', '"scores": [], "x": ['),
        ('"scores": [', '"scores": [NaN], "x": ['),
        ('"algo": "ppo"', '"algo": 3'),
        ('"algo": "ppo"', '"alga": "ppo"'),
        ('"seeds": [', '"seeds": ["a", '),
        ('"space": {', '"space": 3, "x": {'),
        ('"values": [', '"values": ["a", '),
        ('"op_code": 0', '"op_code": 99'),
    ],
)
def test_a_study_that_is_tampered_with_costs_only_itself(
    studies: Studies, old: str, new: str
) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 1)
    studies.study("theirs", small("ppo", ["CartPole-v1"], 2), 1)
    journal = studies.root / "mine" / "journal.log"
    text = journal.read_text()
    compact = old.replace(": ", ":") if old not in text else old
    assert compact in text
    journal.write_text(text.replace(compact, new))

    section = studies.report("mine", "theirs")

    assert [row[0] for row in section.studies.rows] == ["theirs"]
    assert section.broken[0].startswith("`'mine' cannot be read: ")
    assert len(section.broken[0]) < 600


def test_a_run_of_a_study_that_is_broken_costs_only_itself(studies: Studies) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 1)
    (record, _) = sorted((studies.root / "mine" / "runs").rglob("run.json"))
    record.write_text("{")

    section = studies.report("mine")

    assert str(record.parent.name) in section.broken[0]
    assert section.origin is not None


def test_titles_are_never_the_same(studies: Studies) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("a", small("ppo", ["CartPole-v1"], 2), 1)
    studies.study("b", small("ppo", ["CartPole-v1"], 3), 1)
    env_ids = ["CartPole-v1", "Acrobot-v1", "Pendulum-v1"]
    studies.study("c", small("ppo", env_ids, 2), 1)

    read = tuning_data.read(["a", "b", "c"], studies.root, None)

    assert titles_of(read) == {
        "a": "ppo on CartPole-v1 (a)",
        "b": "ppo on CartPole-v1 (b)",
        "c": "ppo on 3 environments",
    }


def test_scores_are_called_what_they_are() -> None:
    problem = small("ppo", ["CartPole-v1"], 1, objective="area")

    assert measure(problem) == "mean return over the training, normalised"
    assert (
        measure(replace(problem, scales={"CartPole-v1": None})) == "mean return over the training"
    )


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.5, 0.25, 0.75, 5), "0.500 [0.250, 0.750]"),
        (Estimate(-0.0001, -0.25, 0.75, 5), "0.000 [-0.250, 0.750]"),
        (Estimate(4500.0, 4000.0, 5000.0, 5), "4,500 [4,000, 5,000]"),
        (Estimate(45.0, math.nan, math.nan, 1), "45.0 (1 seed)"),
    ],
)
def test_estimates_have_digits_as_they_need(estimate: Estimate, text: str) -> None:
    assert estimate_text(estimate) == text


def test_choices_and_trials_of_other_parameters_are_drawn(studies: Studies) -> None:
    def returns(spec: RunSpec) -> float:
        return 100 * float(spec.hyperparams.get("gamma", 0.99)) + noise(spec, 0.1)

    studies.with_returns(returns)
    space = space_for("ppo", ["epsilon", "gamma"])
    studies.study("mine", small("ppo", ["CartPole-v1"], 2, space=space), 6)
    read = tuning_data.read(["mine"], studies.root, None)

    figure = tuning_figures.trials(read, titles_of(read), figures.looks(["ppo"]))

    epsilon, gamma = figure.axes
    assert [label.get_text() for label in gamma.get_xticklabels()] == [
        "0.98", "0.99", "0.995", "0.999"
    ]  # fmt: skip
    for axes, name in ((epsilon, "clip_range"), (gamma, "gamma")):
        points, ring, *_ = axes.lines
        study = studies.load("mine")[0]
        np.testing.assert_allclose(points.get_ydata(), [t.value for t in completed(study)])
        assert ring.get_ydata()[0] == study.best_trial.value
        tried = [trial.params[name] for trial in completed(study)]
        if name == "gamma":
            tried = [(0.98, 0.99, 0.995, 0.999).index(value) for value in tried]
        np.testing.assert_allclose(points.get_xdata(), tried)
        assert points.get_linestyle() == "None"


def test_a_report_shows_studies_beside_runs_and_alone(
    studies: Studies, folders: RunFolders
) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 2)
    folders.add("ppo")
    where = ["--studies", "mine", "--studies-root", str(studies.root), "--csv"]

    texts = []
    for runs_given in ([str(folders.root)], []):
        out = studies.root.parent / f"report-{len(runs_given)}"
        result = CliRunner().invoke(app, ["build", *runs_given, *where, "--out", str(out)])
        assert result.exit_code == 0, result.output
        texts.append((out / "report.md").read_text())
        assert "<h2" in (out / "report.html").read_text()
        assert (out / "tables" / "studies-values.csv").is_file()
        for figure in re.findall(r"\]\((\S+\.(?:png|svg))\)", texts[-1]):
            assert (out / figure).is_file()

    with_runs, alone = texts
    section = alone.partition("## Studies")[2]
    assert section
    assert section.rstrip() in with_runs
    assert "## Scores" in with_runs
    assert "## Scores" not in alone


@pytest.mark.parametrize(
    "arguments",
    [
        ["--studies", "mine", "--studies", "yours"],
        ["--studies", "mine,yours"],
        ["--studies", " mine , yours,"],
    ],
)
def test_several_studies_are_named_in_one_option_or_in_several(
    studies: Studies, arguments: list[str]
) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    for name in ("mine", "yours"):
        studies.study(name, small("ppo", ["CartPole-v1"], 2), 2)
    out = studies.root.parent / "report"
    where = ["--studies-root", str(studies.root), "--out", str(out), "--csv", "--format", "md"]
    result = CliRunner().invoke(app, ["build", *arguments, *where])
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out / "tables" / "studies.csv")
    assert table["study"].tolist() == ["mine", "yours"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--studies", ","], "--studies: must name at least one study"),
        (["--studies", "yours"], "'yours' is not a study in"),
        ([], "RUNS: must be given, or --studies"),
    ],
)
def test_a_report_on_nothing_is_refused_and_nothing_is_written(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    out = tmp_path / "report"
    arguments = ["build", *arguments, "--studies-root", str(tmp_path), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert not out.exists()
