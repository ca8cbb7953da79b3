"""Claims: their data give their verdicts, and other data would give others."""

import json

import matplotlib as mpl
import pytest
from typer.testing import CliRunner

from docs import verdicts
from studies.__main__ import app
from studies.claims.claim import Verdict
from studies.claims.registry import CLAIMS
from studies.claims.store import figure_file, load
from studies.errors import StudyError

STORED = verdicts.FOLDER


def stored(name):
    return json.loads((STORED / f"{name}.json").read_text())


@pytest.mark.parametrize("name", CLAIMS)
def test_the_quick_version_comes_to_the_same_verdict(name, tmp_path):
    out, runs = tmp_path / "out", tmp_path / "runs"
    command = ["claims", "run", name, "--quick", "--out", str(out), "--runs", str(runs)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    quick = json.loads((out / f"{name}.json").read_text())
    assert quick["quick"]
    if not CLAIMS[name].trained:  # of trainings the quick version has too few to say
        assert quick["verdict"] == stored(name)["verdict"]
    assert quick["measured"] in result.output
    assert figure_file(out, CLAIMS[name]).stat().st_size > 5_000
    assert len(list(out.iterdir())) == 3
    # What is written is what was measured, to the last digit.
    finding = CLAIMS[name].judge(load(out, CLAIMS[name]))
    assert (str(finding), finding.measured) == (quick["verdict"], quick["measured"])


@pytest.mark.parametrize("name", CLAIMS)
def test_stored_verdicts_and_figures_are_those_of_the_stored_data(name):
    claim, verdict = CLAIMS[name], stored(name)
    data = load(STORED, claim)
    finding = claim.judge(data)
    assert not verdict["quick"]
    assert (verdict["claim"], verdict["rule"]) == (claim.text, claim.rule)
    assert (str(finding), finding.measured) == (verdict["verdict"], verdict["measured"])
    assert all(panel.get_xlabel() for panel in claim.draw(data).axes)
    assert mpl.rcParams["axes.grid"] is False  # drawing leaves the settings as they were


def plain_paths_together(data):
    natural = data[data["gradient"] == "natural"].reset_index(drop=True)
    plain = data["gradient"] == "plain"
    data.loc[plain, ["k", "sigma"]] = natural[["k", "sigma"]].to_numpy()


def set_to(column, value, **where):
    def change(data):
        rows = data[column].notna()
        for other, wanted in where.items():
            rows &= data[other] == wanted
        data.loc[rows, column] = value

    return change


def clip_without_effect(data):
    data["outside"] = 0.5
    data["kl 50%"] = 0.01


# What would speak against each claim.
CONTRARY = {
    "parameterisation": plain_paths_together,
    "distance": set_to("kl", 1.0),
    "fisher": set_to("error", 0.1, way="curvature"),
    "bernoulli": set_to("exact step", 0.1),
    "plateau": set_to("step", 10, gradient="plain"),
    "angles": set_to("angle", 90.0),
    "compatible": set_to("error", 0.1, samples=0),
    "lower-bound": set_to("sound", False),
    "mean-or-max": set_to("lowered", 10, bounded="mean"),
    "conservative": set_to("kept", False),
    "monotone": set_to("share", 0.9),
    "saturated": set_to("step", 1000, gradient="plain"),
    "sampled": set_to("way", 0.0, samples=8192),
    "plain-gradient": set_to("value", -2000.0, what="return", gradient="natural"),
    "approximations": set_to("fisher cosine", 0.5),
    "empirical": set_to("cosine", 0.5, kind="direction"),
    "mean-or-max-trained": set_to("value", 0.0, what="return", bounded="mean"),
    "monotone-cartpole": set_to("lowered", 10, method="TRPO"),
    "penalty": set_to("value", 0.0, what="return", kind="price"),
    "stable-steps": set_to("return", 0.0, method="TRPO"),
    "ppo-clip": clip_without_effect,
    "layers": set_to("return_mean", 1000.0, method="TRPO"),
    "convergence": set_to("final", 500.0, method="TRPO"),
    "costs": set_to("seconds", float("nan"), method="ACKTR"),
    "acer": set_to("area", 100.0),
    "natural-dqn": set_to("change", 1.0),
}


@pytest.mark.parametrize("name", [name for name in CLAIMS if name in CONTRARY])
def test_contrary_data_are_judged_so(name):
    claim = CLAIMS[name]
    data = load(STORED, claim)
    CONTRARY[name](data)
    assert claim.judge(data).verdict == Verdict.FAILS


def test_the_claimed_rates_would_be_accepted():
    claim = CLAIMS["rates"]
    data = load(STORED, claim)
    powers = data["method"].map({"plain gradient": -0.5}).fillna(-1.0)
    data["gap"] = data["step"] ** powers
    assert claim.judge(data).verdict == Verdict.HOLDS


def test_every_claim_could_have_come_out_otherwise():
    assert set(CONTRARY) == set(CLAIMS) - {"rates"}


def test_the_page_says_what_was_found():
    page = STORED.parent / "claims.md"
    text = page.read_text()
    assert {match["name"] for match in verdicts.MARKED.finditer(text)} == set(CLAIMS)
    assert verdicts.with_verdicts(text, verdicts.verdicts()) == text


def test_names_and_data_that_are_missing_are_told(tmp_path):
    result = CliRunner().invoke(app, ["claims", "run", "rate", "--out", str(tmp_path)])
    assert result.exit_code != 0
    assert "no such claim: rate; there are parameterisation," in result.output
    with pytest.raises(StudyError, match=r"rates\.csv is missing: python -m studies claims run"):
        load(tmp_path, CLAIMS["rates"])
    listed = CliRunner().invoke(app, ["claims", "list"]).output
    assert all(f"{name} " in listed and claim.text in listed for name, claim in CLAIMS.items())
