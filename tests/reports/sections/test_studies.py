"""The section on studies: values read from studies that were carried out, and from run folders."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.importance import get_param_importances
from optuna.trial import TrialState, create_trial

from benchmarks.records import RunSpec
from benchmarks.run import run as train
from benchmarks.tables import Table
from reports.data.context import Context
from reports.rendering import figures, markdown
from reports.rendering.blocks import CodeBlock, Section, figures_of, tables_of, walk
from reports.sections import studies as section
from studies import sensitivity
from studies.search_spaces import space_for
from studies.study import completed, values_of
from tests.reports.study_folders import (
    StudyFolders,
    carry_out_three,
    hill,
    noise,
    scores_of,
    small,
    start_of,
    swept_study,
)
from tests.reports.values import cells, column, headers, rows, texts

FINDINGS, VALUES, SCORES = "studies-findings", "studies-values", "studies-scores"
SENSITIVITY, IMPORTANCES = "studies-sensitivity", "studies-importances"
GAIN = "gain over the defaults, on fresh seeds"


def tables(made: Section) -> dict[str, Table]:
    return tables_of([made])


def numbers(table: Table, header: str) -> list[float]:
    """The values of a column of estimates."""
    return [estimate.value for estimate in column(table, header)]


def figure_names(made: Section) -> list[str]:
    return [figure.name for figure in figures_of([made])]


def titles(made: Section) -> list[str]:
    return [str(block.title) for block in walk([made]) if isinstance(block, Section)]


def test_numbers_are_those_of_the_run_folders(studies: StudyFolders) -> None:
    """A real study, trained: on its own seeds, on fresh ones, and over the range."""
    problem = small("ppo", ["CartPole-v1"], 2)
    studies.made_by(train)
    studies.study("mine", problem, 3)
    studies.confirm("mine")
    studies.sweep("mine", "epsilon", points=3)

    made = studies.section("mine")

    study, _ = studies.load("mine")
    best, runs = study.best_trial, studies.root / "mine" / "runs"
    values = values_of(problem, best)
    # Runs with the defaults on fresh seeds do not have them written out.
    kept = {} if values[problem.space[0]] == 0.2 else values
    found = tables(made)
    for position, (defaults, tuned) in enumerate(
        [
            (problem.specs("mine", {problem.space[0]: 0.2}), problem.specs("mine", values)),
            (problem.specs("mine", {}, [2000, 2001]), problem.specs("mine", kept, [2000, 2001])),
        ]
    ):
        before, after = (np.mean(scores_of(problem, specs, runs)) for specs in (defaults, tuned))
        _, seeds, *estimates = rows(found[SCORES])[position]
        assert seeds == ["the search's: 1000 to 1001", "fresh: 2000 to 2001"][position]
        assert [each.value for each in estimates] == pytest.approx([before, after, after - before])
    assert rows(found[VALUES]) == [
        ["mine", "clip_range (epsilon)", "0.02 to 0.8, log scale", 0.2, best.params["clip_range"]]
    ]
    assert rows(found["studies"]) == [
        ["mine", "ppo", "CartPole-v1", 64, 2, "final return, normalised", 3, 0, 0]
    ]
    swept = {
        value: np.mean(
            scores_of(problem, problem.specs("mine", {problem.space[0]: float(value)}), runs)
        )
        for value in [0.02, 0.126491, 0.8, *(trial.params["clip_range"] for trial in study.trials)]
    }
    (best_in_sweep,) = column(found[SENSITIVITY], "best in the sweep")
    assert best_in_sweep == pytest.approx(
        max(sorted(swept), key=lambda value: swept[value]), rel=1e-3
    )
    (commands,) = [block for block in walk([made]) if isinstance(block, CodeBlock)]
    assert commands.lines == ["the command"]
    assert figure_names(made) == ["studies_sensitivity", "studies_widths"]


def test_findings_say_which_best_values_are_better_beyond_chance(studies: StudyFolders) -> None:
    carry_out_three(studies)

    found = tables(studies.section("better", "worse", "level"))

    verdicts = column(found[FINDINGS], "verdict")
    for text, words in zip(verdicts, ("beat", "worse", "not told apart"), strict=True):
        assert words in text
    gains = column(found[FINDINGS], GAIN)
    better, worse, level = gains
    assert better.is_positive
    assert worse.is_negative
    assert not level.is_positive
    assert not level.is_negative
    assert gains == column(found[SCORES], "difference")[1::2]
    shown = cells(found[FINDINGS], GAIN)
    assert shown[0].startswith("**+")
    assert shown[1].startswith("**-")
    assert "**" not in shown[2]
    for name, text, parameter in zip(
        ("better", "worse", "level"),
        column(found[FINDINGS], "best values"),
        ("target_kl", "target_kl", "clip_range"),
        strict=True,
    ):
        best = studies.load(name)[0].best_trial.params[parameter]
        assert text == f"{parameter}={best:.4g}"


def test_a_default_that_is_the_best_is_kept(studies: StudyFolders) -> None:
    studies.with_returns(hill("clip_range", 0.2, 5.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 4)
    studies.confirm("mine")

    found = tables(studies.section("mine"))

    assert "no better values" in column(found[FINDINGS], "verdict")[0]
    assert cells(found[SCORES], "difference") == ["+0.000 [+0.000, +0.000]"] * 2


def test_two_seeds_decide_nothing(studies: StudyFolders) -> None:
    studies.with_returns(hill("target_kl", 0.3, 1.0, size=0.1))
    studies.study("mine", small("npg", ["CartPole-v1"], 2), 6)
    studies.confirm("mine")

    table = tables(studies.section("mine"))[FINDINGS]

    (gain,) = column(table, GAIN)
    assert gain.low > 0
    assert "2 seeds decide nothing" in column(table, "verdict")[0]
    assert not cells(table, GAIN)[0].startswith("**")


def test_widths_have_intervals_and_say_where_the_range_cuts_them(studies: StudyFolders) -> None:
    swept_study(studies, "wide", "npg", "delta", hill("target_kl", 0.02, 0.1))
    swept_study(studies, "narrow", "trpo", "delta", hill("target_kl", 0.02, 2.0, default=0.01))
    swept_study(studies, "cut", "ppo", "epsilon", hill("clip_range", 0.8, 2.0, default=0.2))

    table = tables(studies.section("wide", "narrow", "cut"))[SENSITIVITY]

    names = column(table, "study")
    estimates = dict(zip(names, column(table, "decades wide"), strict=True))
    shown = dict(zip(names, cells(table, "decades wide"), strict=True))
    assert shown["cut"].startswith("at least ")
    assert not shown["narrow"].startswith("at least ")
    for name in names:
        width = sensitivity.width(sensitivity.stored(studies.root / name).popitem()[1])
        assert estimates[name] == width.estimate
        assert f"{width.decades:.2f} [{width.decades_low:.2f}," in shown[name]
    # Beyond the intervals, the one is wider than the other.
    assert estimates["narrow"].high < estimates["wide"].low


def test_a_loss_beyond_chance_is_bold(studies: StudyFolders) -> None:
    def flat(spec: RunSpec) -> float:
        return 100 + 10 * math.sin(1e4 * start_of(spec, "target_kl") * spec.seed)

    swept_study(studies, "steep", "trpo", "delta", hill("target_kl", 0.02, 2.0, default=0.01))
    swept_study(studies, "flat", "npg", "delta", flat)

    table = tables(studies.section("steep", "flat"))[SENSITIVITY]

    marked = []
    for header in ("at a third of the best", "at three times the best"):
        shown = cells(table, header)
        for loss, text in zip(column(table, header), shown, strict=True):
            if not isinstance(loss, str):
                assert text.startswith("**") == loss.is_positive
        marked.append([text.startswith("**") for text in shown])
    steep, level = zip(*marked, strict=True)
    assert any(steep)
    assert not any(level)


def test_the_loss_at_the_default_is_that_of_its_trial(studies: StudyFolders) -> None:
    swept_study(studies, "mine", "npg", "delta", hill("target_kl", 0.1, 1.0))

    table = tables(studies.section("mine"))[SENSITIVITY]

    _, problem = studies.load("mine")
    runs = studies.root / "mine" / "runs"
    best = float(sensitivity.width(sensitivity.stored(studies.root / "mine")["target_kl"]).best)
    at_best, at_default = (
        np.mean(scores_of(problem, problem.specs("mine", {problem.space[0]: value}), runs))
        for value in (best, 0.04)
    )
    assert numbers(table, "lost at the default") == pytest.approx([at_best - at_default])


def test_without_sensitivity_there_are_trials_alone(studies: StudyFolders) -> None:
    carry_out_three(studies)

    made = studies.section("better")

    assert SENSITIVITY not in tables(made)
    assert figure_names(made) == ["studies_trials"]
    assert "Sensitivity" not in titles(made)
    assert "Trials" in titles(made)


def test_a_study_without_a_completed_trial_says_what_became_of_them(
    studies: StudyFolders,
) -> None:
    def broken(spec: RunSpec, out: Path, command: str) -> Path:
        raise ValueError("no")

    studies.made_by(broken)
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 2)

    made = studies.section("mine")

    found = tables(made)
    assert rows(found["studies"])[0][-3:] == [0, 0, 2]
    assert rows(found[VALUES])[0][-2:] == [0.2, None]
    assert rows(found[SCORES]) == [
        ["mine", "the search's: no trial has completed", None, None, None],
        ["mine", "fresh: not run yet", None, None, None],
    ]
    assert rows(found[FINDINGS]) == [["mine", None, None, "no trial has completed"]]
    assert figure_names(made) == []
    assert "How the studies were made" not in titles(made)


def test_trials_are_counted_by_how_they_ended(studies: StudyFolders) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 2)
    study, _ = studies.load("mine")
    range_ = {"clip_range": FloatDistribution(0.02, 0.8, log=True)}
    for state in (TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL):
        params = {"clip_range": 0.3}
        study.add_trial(create_trial(state=state, params=params, distributions=range_))
    before = tables(studies.section("mine"))
    study.enqueue_trial({"clip_range": 0.7})

    after = tables(studies.section("mine"))

    assert rows(before["studies"])[0][-3:] == [2, 2, 1]
    assert headers(after["studies"])[-4:] == ["trials completed", "pruned", "failed", "not ended"]
    assert rows(after["studies"])[0][-4:] == [2, 2, 1, 1]
    assert "not ended" not in headers(before["studies"])
    if not study.best_trial.user_attrs.get("default"):
        assert column(after[FINDINGS], GAIN) == [None]


def test_two_studies_share_tables_and_figures_and_keep_their_looks(studies: StudyFolders) -> None:
    swept_study(studies, "one", "npg", "delta", hill("target_kl", 0.02, 1.0))
    swept_study(studies, "two", "ppo", "epsilon", hill("clip_range", 0.2, 2.0, default=0.2))

    made = studies.section("one", "two")

    found = tables(made)
    assert column(found["studies"], "study") == ["one", "two"]
    assert column(found[SCORES], "study") == ["one", "one", "two", "two"]
    assert column(found[SENSITIVITY], "study") == ["one", "two"]
    curves, widths = (figure.draw() for figure in figures_of([made]))
    first, second = curves.axes
    assert (first.get_title(), second.get_title()) == ("npg on CartPole-v1", "ppo on CartPole-v1")
    assert first.get_xlabel() == "target_kl (delta):\nKL divergence of an update [nats]"
    assert (first.get_xscale(), first.get_ylim()) == ("log", second.get_ylim())
    looks = figures.looks(["npg", "ppo", "trpo"])
    for axes, algo, name, default in (
        (first, "npg", "one", 0.04),
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
    legend = [text.get_text() for text in curves.legends[0].get_texts()]
    assert legend == ["npg", "ppo", "default", "within 10% of the best", "95% interval"]
    (axes,) = widths.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["npg on CartPole-v1: target_kl", "ppo on CartPole-v1: clip_range"]
    marks = [float(line.get_xdata()[0]) for line in axes.lines]
    expected = [
        sensitivity.width(sensitivity.stored(studies.root / name).popitem()[1]).decades
        for name in ("one", "two")
    ]
    assert marks == pytest.approx(expected)


def test_studies_whose_runs_are_elsewhere_are_named(studies: StudyFolders) -> None:
    studies.with_returns(lambda spec: 100.0)
    for name in ("here", "elsewhere"):
        studies.study(name, small("ppo", ["CartPole-v1"], 1), 1)
    shutil.rmtree(studies.root / "elsewhere" / "runs")

    both, one = (texts([studies.section(*names)]) for names in (["here", "elsewhere"], ["here"]))

    (line,) = [line for line in both if line not in one]
    assert "elsewhere" in line
    assert any("0123456789abcdef0123456789abcdef01234567 (clean)" in line for line in one)
    assert any("python 3.11.9" in line for line in one)
    assert any("Linux, 2 cores" in line for line in one)


def test_facts_of_runs_are_lines_and_have_no_secrets(studies: StudyFolders) -> None:
    studies.with_returns(lambda spec: 100.0)
    studies.study("mine", small("ppo", ["CartPole-v1"], 1), 1)
    (path,) = (studies.root / "mine" / "runs").rglob("run.json")
    command = "run --storage postgresql://me:secret@host/db"
    odd = {"versions": {"<i>" * 400_000: "1"}, "machine": {"system": "$a|b$" * 200_000}}
    path.write_text(json.dumps(json.loads(path.read_text()) | odd | {"command": command}))

    made = studies.section("mine")

    said = markdown.document("x", [made])
    assert max(map(len, texts([made]))) < 1_500
    assert "secret" not in said
    assert "postgresql://" in said


def test_the_same_studies_give_the_same_bytes(studies: StudyFolders, tmp_path: Path) -> None:
    studies.with_returns(hill("correction_term", 5.0, 1.0))
    studies.study("mine", small("acer", ["CartPole-v1"], 2), 5)
    studies.sweep("mine", "c")
    before = {path: path.read_bytes() for path in studies.root.rglob("*") if path.is_file()}

    written = []
    for name in ("first", "second"):
        made = studies.section("mine")
        written.append(markdown.document("x", [made]))
        (tmp_path / name).mkdir()
        for figure in figures_of([made]):
            figures.save(figure.draw(), tmp_path / name / figure.name)

    assert written[0] == written[1]
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("first", "second"))
    assert [path.name for path in one] == [path.name for path in two]
    assert len(one) == 6
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    # Nor has anything been written among the studies.
    assert before == {path: path.read_bytes() for path in studies.root.rglob("*") if path.is_file()}


def test_importances_of_several_parameters_and_sweeps_around_an_earlier_best_trial(
    studies: StudyFolders,
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

    made = studies.section("mine")

    study, problem = studies.load("mine")
    shares = get_param_importances(study)
    labels = {each.name: str(each) for each in problem.space}
    table = tables(made)[IMPORTANCES]
    found = dict(zip(column(table, "parameter"), column(table, "importance"), strict=True))
    assert found == pytest.approx({labels[name]: share for name, share in shares.items()})
    assert len(shares) == 2
    earlier = f"correction_term of mine (trial {before})"
    assert any(earlier in line for line in texts([made]))
    assert figure_names(made) == ["studies_sensitivity", "studies_widths", "studies_trials"]
    studies.sweep("mine", "c")
    assert not any("(trial " in line for line in texts([studies.section("mine")]))


def test_one_parameter_has_no_importance_and_any_best_trial_gives_the_same_sweep(
    studies: StudyFolders,
) -> None:
    swept_study(studies, "mine", "npg", "delta", hill("target_kl", 0.033, 1.0))
    before = studies.load("mine")[0].best_trial.number
    studies.study("mine", small("npg", ["CartPole-v1"], 3), 12)
    assert studies.load("mine")[0].best_trial.number != before

    made = studies.section("mine")

    assert IMPORTANCES not in tables(made)
    assert not any("(trial " in line for line in texts([made]))


def test_environments_have_their_own_defaults(studies: StudyFolders) -> None:
    """The defaults' score is of each environment's runs with its own default."""
    problem = small("ppo", ["CartPole-v1", "Acrobot-v1"], 2)
    hyperparams = {
        env_id: fields | {"clip_range": value}
        for (env_id, fields), value in zip(problem.hyperparams.items(), (0.1, 0.4), strict=True)
    }
    problem = replace(problem, hyperparams=hyperparams)
    studies.with_returns(lambda spec: 100 * float(spec.hyperparams["clip_range"]))
    studies.study("mine", problem, 3)

    found = tables(studies.section("mine"))

    assert column(found[VALUES], "default") == ["0.1 (CartPole-v1), 0.4 (Acrobot-v1)"]
    cartpole = problem.normalised("CartPole-v1", [10.0])[0]
    acrobot = problem.normalised("Acrobot-v1", [40.0])[0]
    searched = column(found[SCORES], "the defaults")[0]
    assert searched.value == pytest.approx((cartpole + acrobot) / 2)


def test_what_is_left_out_is_warned_of_and_stands_in_the_section(studies: StudyFolders) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 1)
    (studies.root / "mine" / "sensitivity.csv").write_text("a,b\n1\n1,2,3\n")
    warnings: list[str] = []

    made = studies.section("mine", warn=warnings.append)

    (warning,) = warnings
    what = warning.removeprefix("left out of the studies: ")
    assert "mine/sensitivity.csv: " in what
    assert any(what in line for line in texts([made]))
    assert SENSITIVITY not in tables(made)


def test_titles_are_never_the_same(studies: StudyFolders) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("a", small("ppo", ["CartPole-v1"], 2), 1)
    studies.study("b", small("ppo", ["CartPole-v1"], 3), 1)
    env_ids = ["CartPole-v1", "Acrobot-v1", "Pendulum-v1"]
    studies.study("c", small("ppo", env_ids, 2), 1)

    assert section.titles_of(studies.read("a", "b", "c")) == {
        "a": "ppo on CartPole-v1 (a)",
        "b": "ppo on CartPole-v1 (b)",
        "c": "ppo on 3 environments",
    }


def test_scores_are_called_what_they_are() -> None:
    problem = small("ppo", ["CartPole-v1"], 1, objective="area")
    raw = replace(problem, scales={"CartPole-v1": None})

    assert section.score_name(problem) == "mean return over the training, normalised"
    assert section.score_name(raw) == "mean return over the training"


def test_choices_and_trials_of_other_parameters_are_drawn(studies: StudyFolders) -> None:
    def returns(spec: RunSpec) -> float:
        return 100 * float(spec.hyperparams.get("gamma", 0.99)) + noise(spec, 0.1)

    studies.with_returns(returns)
    space = space_for("ppo", ["epsilon", "gamma"])
    studies.study("mine", small("ppo", ["CartPole-v1"], 2, space=space), 6)

    (drawn,) = figures_of([studies.section("mine")])

    epsilon, gamma = drawn.draw().axes
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


def test_there_is_no_section_where_no_study_is_wanted() -> None:
    assert section.build(Context()) is None
