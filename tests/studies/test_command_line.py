"""What ``python -m studies`` refuses, and what it prints of a finished study."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.algorithms import ALGORITHMS
from studies.__main__ import app
from studies.objective import Problem
from studies.search_spaces import space_for
from tests.studies.conftest import CarryOn


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            ["--algo", "a3c"],
            f"--algo: 'a3c' is not one of {', '.join(ALGORITHMS)}, nor the path",
        ),
        (["--env", "CartPol-v1"], "--env: 'CartPol-v1' is not an environment of Gymnasium"),
        (["--env", "CartPole-v1"], "--env: must be different ones, got CartPole-v1, CartPole-v1"),
        (["--steps", "19"], "--steps: must be at least 20"),
        (["--seeds", "0"], "--seeds"),
        (["--trials", "0"], "--trials"),
        (["--params", "delta"], "--params: 'delta' is not one of ppo's parameters clip_range"),
        (["--space", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["--hyperparams", "nowhere.yml"], "nowhere.yml: No such file"),
        (["--space", "nowhere.yaml", "--extended"], "--space: exclude --params and --extended"),
        (["--sampler", "best"], "--sampler: 'best' is not one of tpe, gp, cmaes, random, grid"),
        (["--sampler", "cmaes"], "--sampler: 'cmaes' needs two or more parameters"),
        (["--pruner", "best"], "--pruner: 'best' is not one of none, wilcoxon"),
        (["--objective", "best"], "--objective: 'best' is not one of final, area"),
        (
            ["--objective", "final-and-seconds", "--pruner", "median"],
            "--pruner: 'median' compares returns alone",
        ),
        (["--storage", "nonsense://here"], "--storage: 'nonsense://here'"),
        (["--engine", "ray", "--address", "here"], "--address: must be host:port or auto"),
    ],
)
def test_a_study_that_cannot_be_run_is_refused(
    tmp_path: Path, changed: list[str], message: str
) -> None:
    arguments = ["--algo", "ppo", "--env", "CartPole-v1", "--trials", "1", "--seeds", "1"]
    arguments += ["--steps", "64", "--root", str(tmp_path / "root")]

    code, _, errors = invoke("run", *arguments, *changed)

    assert code == 2
    assert message in errors
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("space", "named"),
    [
        (
            "policy_kwargs.activation_fn: {choices: [nn.Nope, nn.Tanh]}",
            "policy_kwargs.activation_fn: policy_kwargs: {'activation_fn': 'nn.Nope'} cannot",
        ),
        (
            "policy_kwargs.log_std_init: {choices: [a, b]}",
            "policy_kwargs.log_std_init: policy_kwargs: {'log_std_init': 'a'} cannot",
        ),
        ("batch_size: {choices: [1, 64]}", "batch_size: 1 cannot"),
        (
            "policy_kwargs.net_arch.foo.bar: {choices: [1, 2]}",
            "policy_kwargs.net_arch.foo.bar: has",
        ),
    ],
)
def test_a_space_that_cannot_be_used_is_refused_with_file_and_parameter(
    tmp_path: Path, space: str, named: str
) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(space)
    arguments = ["--algo", "ppo", "--env", "Pendulum-v1", "--trials", "1", "--seeds", "1"]
    arguments += ["--steps", "64", "--space", str(path), "--root", str(tmp_path / "root")]

    code, _, errors = invoke("run", *arguments)

    assert code == 2
    assert errors.startswith(f"error: {path}: {named}")
    assert errors.count("ppo on Pendulum-v1") == ("cannot" in named)
    assert errors.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["space.yaml"]


def test_without_steps_the_suites_say_them(tmp_path: Path) -> None:
    arguments = ["run", "--algo", "ppo", "--env", "CartPole-v1", "--env", "Acrobot-v1"]

    code, _, errors = invoke(*arguments, "--trials", 1, "--seeds", 1, "--root", tmp_path)

    assert code == 2
    assert "--steps: must be given" in errors
    assert "CartPole-v1: 50000, Acrobot-v1: 100000" in errors


@pytest.mark.parametrize("command", ["show", "best", "plot", "sensitivity"])
def test_a_study_that_is_not_there_is_refused(
    command: str, problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    carry_on(problem, 1, "theirs")

    code, _, errors = invoke(command, "mine", "--root", tmp_path)

    assert code == 2
    assert f"'mine' is not a study in {tmp_path}; there are: theirs" in errors


def test_a_finished_study_is_shown(problem: Problem, carry_on: CarryOn, tmp_path: Path) -> None:
    study = carry_on(problem, 2)

    code, output, _ = invoke("show", "mine", "--root", tmp_path)

    assert code == 0
    header, first, *_ = output.splitlines()
    assert header.split()[:2] == ["trial", "clip_range"]
    assert "return, seed 1000" in header
    assert first.endswith("defaults")
    assert f"best trial: {study.best_trial.number}; not tried on fresh seeds yet" in output


def test_the_best_trial_is_printed_and_an_entry_that_is_there_already_is_named(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    carry_on(problem, 1)

    assert invoke("best", "mine", "--root", tmp_path)[1].startswith("clip_range=0.2: score ")
    code, output, errors = invoke("best", "mine", "--yaml", "--root", tmp_path)

    assert code == 0
    assert output.startswith("# Study mine, trial 0: score ")
    assert "CartPole-v1:\n  n_timesteps: 64\n" in output
    assert "benchmarks/hyperparams/ppo.yml has an entry 'CartPole-v1' already" in errors


def test_figures_go_where_they_are_wanted(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    carry_on(replace(problem, seeds=(1000,)), 1)  # each run is a process that has to start

    assert invoke("plot", "mine", "--root", tmp_path, "--out", tmp_path / "figures")[0] == 0
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == ["history.png", "values.png"]

    options = ["--points", 3, "--root", tmp_path, "--out", tmp_path / "more"]
    code, output, _ = invoke("sensitivity", "mine", *options)
    assert code == 0
    assert "decades" in output
    names = sorted(path.name for path in (tmp_path / "more").iterdir())
    assert names == ["sensitivity.csv", "sensitivity.png", "widths.csv"]
    # The study keeps its runs, wherever the figure goes.
    kept, out = (tmp_path / folder / "sensitivity.csv" for folder in ("mine", "more"))
    assert kept.read_bytes() == out.read_bytes()


@pytest.mark.usefixtures("sweeps_in_this_process")
def test_a_sweep_leaves_those_of_other_parameters_in_place(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    two = replace(problem, space=space_for("ppo", ["epsilon", "learning_rate"]), seeds=(1000,))
    carry_on(two, 1)

    for name in ("epsilon", "learning_rate"):
        options = ["--params", name, "--points", 3, "--root", tmp_path]
        code, output, errors = invoke("sensitivity", "mine", *options)
        assert code == 0, errors

    assert "clip_range" in output
    runs = pd.read_csv(tmp_path / "mine" / "sensitivity.csv")
    # The default's trial is a point of both; clip_range's default is not one of three values.
    assert runs["parameter"].tolist() == ["clip_range"] * 4 + ["learning_rate"] * 4
    assert set(runs["base"]) == {0}


@pytest.mark.usefixtures("sweeps_in_this_process")
def test_what_is_made_of_runs_of_another_source_is_said_once(
    problem: Problem, carry_on: CarryOn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "my_ppo.py"
    module.write_text("from stable_baselines3 import PPO\nclass MyPPO(PPO):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    space = tuple(replace(each, default=0.2) for each in problem.space)
    own = replace(problem, algo="my_ppo:MyPPO", space=space, seeds=(1000,))
    monkeypatch.setattr("studies.definition.define", lambda *_: own)
    carry_on(own, 2)
    pruning = ["pruning", "mine", "--orders", 1]
    assert "source" not in invoke(*pruning, "--root", tmp_path)[2]
    module.write_text(module.read_text() + "A = 1\n")

    run = ["run", "--algo", "my_ppo:MyPPO", "--env", "CartPole-v1", "--trials", 2, "--seeds", 1]
    run += ["--name", "mine", "--params", "clip_range"]
    for command in (pruning, ["sensitivity", "mine", "--points", 3], run):
        code, _, errors = invoke(*command, "--root", tmp_path)
        assert code == 0, errors
        assert errors.count("2 of the study's runs were made with another source of my_ppo; ") == 1
        assert errors.count("another source") == 1
