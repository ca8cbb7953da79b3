"""What a study may say of its best values: with one seed nothing, with two no more."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from optuna.trial import create_trial
from typer.testing import CliRunner

from reports.data.context import Context, Studies
from reports.rendering.blocks import tables_of
from reports.sections.studies import build
from studies import sensitivity
from studies.__main__ import app
from studies.estimates import as_text, compare, verdict
from studies.objective import Problem
from studies.storage import connect
from studies.study import CONFIRMED, DEFAULT, RETURNS, SCORES, create

ONE, TWO = "1 seed decides nothing: what differs may be", "2 seeds decide nothing: what differs may"


def said(command: str, *arguments: object) -> str:
    result = CliRunner().invoke(app, [command, *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    ("defaults", "best", "text"),
    [
        ([0.1], [12.2], ONE),
        ([0.1, 0.2], [12.2, 12.4], TWO),
        ([0.1, 0.2, 0.1], [12.2, 12.4, 12.3], "they beat the defaults beyond chance"),
        ([12.2, 12.4, 12.3], [0.1, 0.2, 0.1], "they are worse than the defaults beyond chance"),
        ([0.1, 0.2, 0.3], [12.0, 0.1, 0.4], "they are not told apart from the defaults"),
    ],
)
def test_a_claim_needs_three_seeds_and_an_interval_without_zero(
    defaults: list[float], best: list[float], text: str
) -> None:
    columns = [np.array(scores)[:, None] for scores in (defaults, best)]

    gain = compare(range(len(best)), *columns).gain

    assert gain.value == pytest.approx(np.mean(best) - np.mean(defaults))
    assert verdict(gain).startswith(text)
    assert np.isnan(gain.low) == (len(best) == 1)
    assert ("(1 seed)" in as_text(gain)) == (len(best) == 1)
    assert ("] (2 seeds)" in as_text(gain)) == (len(best) == 2)


@pytest.fixture
def finished(problem: Problem, tmp_path: Path) -> Path:
    """Studies of so many seeds whose best values are far ahead on fresh seeds; nothing trained."""
    for name, n_seeds in (("one", 1), ("two", 2), ("three", 3)):
        seeds = list(range(1000, 1000 + n_seeds))
        study = create(
            name, replace(problem, seeds=tuple(seeds)), connect("", made(tmp_path / name))
        )
        (parameter,) = problem.space
        for number, value in enumerate((0.2, 0.1, 0.4)):
            scores = [number + 0.1 * seed for seed in range(n_seeds)]
            study.add_trial(
                create_trial(
                    params={parameter.name: value},
                    distributions={parameter.name: parameter.distribution},
                    value=float(np.mean(scores)),
                    user_attrs={SCORES: scores, RETURNS: scores, DEFAULT: number == 0},
                )
            )
        best = study.best_trial
        found = {"trial": best.number, "searched": best.value, "seeds": [s + 1000 for s in seeds]}
        found |= {"scores": [12.2, 12.4, 12.3][:n_seeds], "returns": seeds}
        found |= {"default_scores": [0.2, 0.1, 0.1][:n_seeds], "default_returns": seeds}
        study.set_user_attr(CONFIRMED, found)
    return tmp_path


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_what_is_shown_of_a_study_claims_nothing_with_few_seeds(finished: Path) -> None:
    shown = {name: said("show", name, "--root", finished) for name in ("one", "two", "three")}

    assert "on fresh seeds: score 12.2 (1 seed), seed 2000" in shown["one"]
    assert "difference:     +12.0 (1 seed)" in shown["one"]
    assert shown["one"].splitlines()[-1].startswith(ONE)
    assert "difference:     +12.2 [+12.0, +12.3] (2 seeds)" in shown["two"]
    assert shown["two"].splitlines()[-1].startswith(TWO)
    assert "on fresh seeds: score 12.3 [12.2, 12.4], seeds 2000 to 2002" in shown["three"]
    assert shown["three"].splitlines()[-1] == "they beat the defaults beyond chance"
    for name in ("one", "two"):
        assert "beat" not in shown[name]


def test_scores_and_raw_returns_are_called_what_they_are(finished: Path, problem: Problem) -> None:
    header, *_ = said("show", "one", "--root", finished).strip().splitlines()
    assert header.split() == ["trial", "clip_range", "score", "return,", "seed", "1000"]
    text = said("show", "one", "--root", finished)
    assert (
        "score: final return (mean of the last 10% of evaluations), 0 for a random policy" in text
    )
    raw = replace(problem, scales={"CartPole-v1": None}, objective="area")
    study = create("raw", raw, connect("", made(finished / "raw")))
    params, (parameter,) = {"clip_range": 0.2}, problem.space
    distributions = {"clip_range": parameter.distribution}
    attrs = {SCORES: [0.00012, 0.00013], RETURNS: [1.0, 2.0]}
    study.add_trial(
        create_trial(params=params, distributions=distributions, value=0.000125, user_attrs=attrs)
    )

    text = said("show", "raw", "--root", finished)

    assert "return: mean return over the training" in text
    assert "score" not in text
    assert "0.00013" in text or "0.00012" in text


def test_an_entry_says_how_much_its_values_are_worth(finished: Path) -> None:
    entries = {
        name: said("best", name, "--yaml", "--root", finished) for name in ("one", "two", "three")
    }

    for name, text in entries.items():
        comment = [line for line in text.splitlines() if line.startswith("#")]
        assert list(yaml.safe_load(text)) == ["CartPole-v1"], name
        assert ("decide" in comment[-1]) == (name != "three")
    assert (
        "# difference +12.2 [+12.0, +12.3]: they beat the defaults beyond chance"
        in (entries["three"])
    )
    assert "score 2.050 (2 seeds) on seeds 1000 to 1001" in entries["two"]
    assert "score 2.000 (1 seed)" in said("best", "one", "--root", finished)


@pytest.mark.parametrize(("n_seeds", "text"), [(1, ONE), (2, TWO), (3, None)])
def test_a_width_says_of_how_few_seeds_it_is(
    n_seeds: int, text: str | None, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object, **__: object) -> pd.DataFrame:
        rows = [
            ("clip_range", value, "CartPole-v1", 1000 + seed, 0.0, score + 0.01 * seed)
            for value, score in ((0.1, 0.5), (0.2, 1.0), (0.4, 0.5))
            for seed in range(n_seeds)
        ]
        return pd.DataFrame(rows, columns=sensitivity.RUN_COLUMNS).assign(base=0)

    monkeypatch.setattr(sensitivity, "measure", measure)
    name = ("one", "two", "three")[n_seeds - 1]

    output = said("sensitivity", name, "--root", finished)

    assert text is None or text in output
    assert ("decide" in output) == (text is not None)
    assert ("(1 seed)" in output, "] (2 seeds)" in output) == (n_seeds == 1, n_seeds == 2)
    stored = pd.read_csv(finished / name / "widths.csv")
    assert stored["seeds"].tolist() == [n_seeds]
    assert stored["decades_low"].isna().tolist() == [n_seeds == 1]


def test_a_report_claims_nothing_with_few_seeds(finished: Path) -> None:
    wanted = Studies(["one", "two", "three"], finished)
    section = build(Context(studies=wanted))

    assert section is not None
    table = tables_of([section])["studies-findings"]
    *_, gains, verdicts = table.columns
    assert [gain.value for gain in gains.values] == pytest.approx([12.2] * 3, abs=0.2)
    one, two, three = verdicts.values
    assert ONE in one
    assert TWO in two
    assert three == "they beat the defaults beyond chance"
    assert [cell.bold for cell in gains.shown()] == [False, False, True]


def test_a_study_of_few_seeds_says_so_before_it_begins(tmp_path: Path) -> None:
    arguments = ["--algo", "ppo", "--env", "CartPole-v1", "--trials", "1", "--timeout", "0"]
    arguments += ["--steps", "64", "--root", str(tmp_path)]
    for n_seeds, text in ((1, f"--seeds: {ONE}"), (2, f"--seeds: {TWO}"), (3, None)):
        options = ["--seeds", str(n_seeds), "--name", f"study-{n_seeds}"]

        result = CliRunner().invoke(app, ["run", *arguments, *options])

        assert "no trial has completed" in result.stderr
        assert text is None or text in result.stderr
        assert ("decide" in result.stderr) == (text is not None)
