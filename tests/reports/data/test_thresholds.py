"""Steps to threshold in the report: which thresholds, what is shown, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from reports import document
from reports.__main__ import app
from reports.data import runs, thresholds
from reports.data.runs import ReportError
from reports.data.thresholds import Threshold
from tests.reports.conftest import RunFolders


def section(folders: RunFolders, **given: float) -> document.StepsSection | None:
    names = {name.replace("_", "-"): value for name, value in given.items()}
    return document.steps_section(runs.load(folders.root), names)


def build(folders: RunFolders, *options: str) -> str:
    out = folders.root.parent / "report"
    arguments = ["build", str(folders.root), "--out", str(out), *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return (out / "report.md").read_text()


def refusal(folders: RunFolders, *options: str) -> str:
    out = folders.root.parent / "report"
    arguments = ["build", str(folders.root), "--out", str(out), *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert not out.exists()
    return result.stderr


def test_given_thresholds_are_read() -> None:
    given = thresholds.parse(["CartPole-v1=475", "Acrobot-v1=-85", "ALE/Pong-v5=1.5e1"])
    assert given == {"CartPole-v1": 475.0, "Acrobot-v1": -85.0, "ALE/Pong-v5": 15.0}


def test_what_is_given_precedes_what_gymnasium_has() -> None:
    env_ids = ["Hopper-v5", "CartPole-v1", "Acrobot-v1", "Pendulum-v1", "Mine-v0"]
    assert thresholds.resolve(env_ids, {"CartPole-v1": 100.0, "Mine-v0": -1.0}) == {
        "Acrobot-v1": Threshold(-100.0, given=False),
        "CartPole-v1": Threshold(100.0, given=True),
        "Hopper-v5": Threshold(3_800.0, given=False),
        "Mine-v0": Threshold(-1.0, given=True),
    }


@pytest.mark.parametrize(
    ("env_id", "value"),
    [
        ("CartPole-v1", 475.0),
        ("some.module:CartPole-v1", 475.0),
        ("Pendulum-v1", None),
        ("Nobody/Knows-v0", None),
        ("not an id", None),
    ],
)
def test_registered_threshold(env_id: str, value: float | None) -> None:
    assert thresholds.registered(env_id) == value


def test_the_report_has_the_table_its_caption_and_its_explanation(folders: RunFolders) -> None:
    for seed, returns in enumerate([[0, 475, 9, 9, 9], [0, 9, 9, 9, 500], [0, 9, 9, 9, 9]]):
        folders.add("acer", seed=seed, returns=returns, hyperparams={"replay_ratio": 4})
        folders.add("acer", seed=seed, returns=[0] * 5, hyperparams={"replay_ratio": 0})
    folders.add("npg", returns=[0, 0, 480, 0, 0])
    folders.add("npg", "Acrobot-v1", returns=[-500, -85], n_timesteps=1_000)
    folders.add("npg", "Pendulum-v1")
    text = build(folders, "--threshold", "Acrobot-v1=-85")
    part = text.split("## Steps to threshold\n\n")[1].split("\n\n## ")[0]
    assert part.splitlines() == [
        "Thresholds: Gymnasium's registered `reward_threshold` for CartPole-v1 (475); "
        "given with `--threshold` for Acrobot-v1 (-85).",
        "",
        "| environment (threshold) | algorithm             | seeds that reached it "
        "| steps: median (lowest, highest) |",
        "| ----------------------- | --------------------- | --------------------: "
        "| ------------------------------: |",
        "| Acrobot-v1 (-85)        | npg                   |                1 of 1 "
        "|        1,000 (1 seed)           |",
        "| CartPole-v1 (475)       | acer (replay_ratio=0) |                0 of 3 "
        "|               not within 50,000 |",
        "| CartPole-v1 (475)       | acer (replay_ratio=4) |                2 of 3 "
        "|       50,000 (12,500, > 50,000) |",
        "| CartPole-v1 (475)       | npg                   |                1 of 1 "
        "|       25,000 (1 seed)           |",
        "",
        "Steps are environment steps at the first evaluation whose mean return is at or above the "
        "threshold: the median over seeds (lowest, highest).",
        "A seed that never gets there counts as infinitely many steps: `>` or `not within` the "
        "steps of the run.",
        "Evaluations come every 1,000 steps on Acrobot-v1 and every 12,500 steps on CartPole-v1, "
        "which limits the resolution, and the first one to reach a threshold is a noisy event: the "
        "next may lie below it again.",
    ]


def test_no_section_without_a_threshold(folders: RunFolders) -> None:
    folders.add("npg", "Pendulum-v1")
    assert "Steps to threshold" not in build(folders)


def test_a_given_threshold_is_enough_for_a_section(folders: RunFolders) -> None:
    folders.add("npg", "Pendulum-v1", returns=[-1_500.0, -149.5, -150.0])
    steps = section(folders, Pendulum_v1=-149.5)
    assert steps is not None
    assert steps.caption == "Threshold: given with `--threshold` for Pendulum-v1 (-149.5)."
    assert [row[-1].strip() for row in steps.table.rows] == ["25,000 (1 seed)"]
    assert "infinitely" not in " ".join(steps.notes)
    assert "Evaluations come every 25,000 steps, which" in steps.notes[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["CartPole-v1"], "must be ENV=RETURN, such as CartPole-v1=475, got 'CartPole-v1'"),
        (["=475"], "must be ENV=RETURN, such as CartPole-v1=475, got '=475'"),
        (["CartPole-v1=high"], "CartPole-v1: must be a finite number, got 'high'"),
        (["CartPole-v1="], "CartPole-v1: must be a finite number, got ''"),
        (["CartPole-v1=nan"], "CartPole-v1: must be a finite number, got 'nan'"),
        (["CartPole-v1=inf"], "CartPole-v1: must be a finite number, got 'inf'"),
        (
            ["CartPole-v1=475", "CartPole-v1=400"],
            "CartPole-v1: is given twice, 475 and 400; give one",
        ),
        (
            ["Cartpole-v1=475"],
            "Cartpole-v1: no finished run is on it; it must be one of Acrobot-v1, CartPole-v1",
        ),
    ],
)
def test_bad_thresholds_are_refused_with_the_value_and_what_is_valid(
    folders: RunFolders, options: list[str], message: str
) -> None:
    folders.add("npg", "CartPole-v1")
    folders.add("npg", "Acrobot-v1")
    arguments = [part for option in options for part in ("--threshold", option)]
    assert refusal(folders, *arguments) == f"error: --threshold: {message}\n"


def test_an_unknown_environment_is_a_report_error_in_python_too(
    folders: RunFolders, tmp_path: Path
) -> None:
    folders.add("npg")
    with pytest.raises(ReportError, match="it must be one of CartPole-v1"):
        document.build(folders.root, tmp_path / "out", given_thresholds={"Hopper-v5": 1.0})
    assert not (tmp_path / "out").exists()
