"""Algorithms that others bring along."""

from pathlib import Path

import pandas as pd
import pytest
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise

from benchmarks.algorithms import ALGORITHMS, algorithm_class, parameters_of
from benchmarks.errors import SpecError
from benchmarks.results import load_runs
from benchmarks.run import run
from benchmarks.specs import parse_files, plan
from benchmarks.suite import load_suite
from benchmarks.sweep import sweep
from benchmarks.zoo import model_arguments


@pytest.mark.parametrize("path", ["stable_baselines3:SAC", "stable_baselines3.SAC"])
def test_a_class_is_found_by_its_path(path: str) -> None:
    assert algorithm_class(path) is SAC


def test_a_class_by_its_path_is_run_beside_ours(tiny_suite: Path, tmp_path: Path) -> None:
    """An off-policy one even, with a file of its own; evaluated as all others are."""
    tiny_suite.write_text(
        "{evaluation: {points: 2, episodes: 1}, environments: {Pendulum-v1: {n_timesteps: 120}}}"
    )
    file = tmp_path / "sac.yml"
    file.write_text('default: {learning_starts: 50, policy_kwargs: "dict(net_arch=[8])"}\n')

    specs = plan(
        load_suite(str(tiny_suite)),
        ["stable_baselines3:SAC", "ppo"],
        ["Pendulum-v1"],
        [0],
        overrides={"gamma": 0.9},
        files={"stable_baselines3:SAC": file},
    )
    result = sweep(specs, tmp_path / "runs", 2, "", show_progress=False)

    assert not result.failed
    runs = load_runs(tmp_path / "runs")
    assert list(runs["algo"]) == ["ppo", "stable_baselines3:SAC"]
    assert runs["path"][1].parts[-3] == "stable_baselines3__SAC"
    assert runs["hyperparams"][1] == {
        "learning_starts": 50,
        "policy_kwargs": "dict(net_arch=[8])",
        "gamma": 0.9,
    }


def test_a_class_without_mlp_policy_and_one_with_noise_are_run(
    tiny_suite: Path, tmp_path: Path
) -> None:
    tiny_suite.write_text(
        "{evaluation: {points: 1, episodes: 1}, environments: {Pendulum-v1: {n_timesteps: 450}}}"
    )
    file = tmp_path / "td3.yml"
    file.write_text(
        "default: {noise_type: normal, noise_std: 0.1, train_freq: [1, episode], n_envs: 1,\n"
        '  learning_starts: 100, gradient_steps: 2, policy_kwargs: "dict(net_arch=[8])"}\n'
    )
    recurrent, td3 = "sb3_contrib:RecurrentPPO", "stable_baselines3:TD3"

    specs = plan(
        load_suite(str(tiny_suite)), [recurrent, td3], ["Pendulum-v1"], [0], files={td3: file}
    )
    result = sweep(specs, tmp_path / "runs", 1, "", show_progress=False)

    assert [failed.error for failed in result.failed] == []
    folders = dict(load_runs(tmp_path / "runs")[["algo", "path"]].itertuples(index=False))
    model = TD3.load(folders[td3] / "model.zip")
    assert isinstance(model.action_noise, NormalActionNoise)
    assert (model.train_freq.frequency, model.train_freq.unit.value) == (1, "episode")
    assert model._n_updates == 2 * 3  # after each of three episodes of 200 steps


class Unannotated(PPO):
    """Of a user who writes no types."""

    def __init__(self, policy, env, bonus=0.0, **more):  # type: ignore[no-untyped-def]
        super().__init__(policy, env, **more)
        self.bonus = bonus


class Passing(Unannotated):
    """Of a user who passes all on."""

    def __init__(self, *args, extra: int = 1, **kwargs):  # type: ignore[no-untyped-def]
        super().__init__(*args, **kwargs)
        self.extra = extra

    def learn(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        return super().learn(*args, **kwargs)


def test_what_a_constructor_passes_on_is_a_hyperparameter(make_spec, tmp_path: Path) -> None:
    """And the right one is taken: checked as it is where it is written out."""
    algo = f"{__name__}:Passing"
    folder = run(make_spec(algo, extra=7, bonus=0.5), tmp_path, "")
    assert len(pd.read_csv(folder / "progress.csv")) == 2
    assert Passing.load(folder / "model.zip").n_steps == 64
    for wrong, message in (
        ({"n_steps": "many"}, "n_steps: must be an integer, got 'many'"),
        ({"extra": 0.5}, "extra: must be an integer"),
        ({"args": 1}, "args: 1 is for a hyperparameter that .* does not have"),
        ({"kwargs": {}}, "kwargs: {} is for a hyperparameter"),
    ):
        with pytest.raises(SpecError, match=message):
            model_arguments(algo, wrong, "hyperparams")


class Closed(PPO):
    """Passes nothing on."""

    def __init__(self, policy, env, seed=None, verbose=0, device="auto"):  # type: ignore[no-untyped-def]
        super().__init__(policy, env, seed=seed, verbose=verbose, device=device, n_steps=64)


def test_what_a_constructor_does_not_pass_on_is_none() -> None:
    assert list(parameters_of(Closed)) == ["policy", "env", "seed", "verbose", "device"]
    with pytest.raises(SpecError, match="n_steps: 8 is for a hyperparameter that"):
        model_arguments(f"{__name__}:Closed", {"n_steps": 8}, "hyperparams")


def test_arguments_without_a_type_take_any_value() -> None:
    arguments = model_arguments(
        f"{__name__}:Unannotated", {"bonus": 0.5, "policy": "MlpPolicy"}, "hyperparams"
    )
    assert arguments.constructor["bonus"] == 0.5


def test_without_a_file_it_has_its_constructors_defaults(tiny_suite: Path) -> None:
    (spec,) = plan(load_suite(str(tiny_suite)), ["sb3_contrib:ARS"], ["CartPole-v1"], [0])

    assert spec.hyperparams == {}


@pytest.mark.parametrize(
    ("algo", "message"),
    [
        ("a3c", f"'a3c' is not one of {', '.join(ALGORITHMS)}, nor the path of a class"),
        ("nowhere:PPO", "'nowhere:PPO' cannot be imported: No module named 'nowhere'"),
        ("sb3_contrib:Nothing", "'sb3_contrib:Nothing' cannot be imported"),
        ("sb3_contrib.Nothing", "'sb3_contrib.Nothing' cannot be imported"),
        ("gymnasium:Env", "'gymnasium:Env' is not a subclass of SB3's BaseAlgorithm"),
        (".PPO", "'.PPO' is not one of"),
    ],
)
def test_what_is_no_algorithm_is_refused(tiny_suite: Path, algo: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        plan(load_suite(str(tiny_suite)), [algo], ["CartPole-v1"], [0])
    assert str(error.value).startswith(f"--algos: {message}")


def test_a_file_for_an_algorithm_replaces_its_own(tiny_suite: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yml"
    file.write_text("CartPole-v1: {gamma: 0.5}\n")
    suite = load_suite(str(tiny_suite))

    theirs, ours = plan(suite, ["ppo", "trpo"], ["CartPole-v1"], [0], files={"ppo": file})

    assert theirs.hyperparams == {"gamma": 0.5}
    assert "gamma" in ours.hyperparams
    file.write_text("CartPole-v1: {gama: 0.5}\n")
    with pytest.raises(SpecError, match=r"mine\.yml: CartPole-v1: gama: 0\.5 is for"):
        plan(suite, ["ppo"], ["CartPole-v1"], [0], files={"ppo": file})
    with pytest.raises(SpecError, match="--hyperparams: 'acer' is not one of ppo"):
        plan(suite, ["ppo"], ["CartPole-v1"], [0], files={"acer": file})


@pytest.mark.parametrize("text", ["ppo", "=x.yml", "ppo="])
def test_a_file_must_be_given_for_an_algorithm(text: str) -> None:
    with pytest.raises(SpecError, match="--hyperparams: must be ALGO=FILE"):
        parse_files([text])
    with pytest.raises(SpecError, match="--hyperparams: ppo: is given twice"):
        parse_files(["ppo=a.yml", "ppo=b.yml"])
