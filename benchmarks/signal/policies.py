"""The frozen policy: that of a finished run, or one that is trained here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.environments import check_environment
from benchmarks.errors import SpecError
from benchmarks.records import Evaluation, RunSpec
from benchmarks.storage import RECORD
from benchmarks.suite import Suite, SuiteEnv
from benchmarks.zoo import model_arguments

if TYPE_CHECKING:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

MODEL, STATISTICS = "model.zip", "vecnormalize.pkl"


@dataclass(frozen=True)
class Source:
    """Where the policy comes from; ``run`` is None if it is trained here."""

    spec: RunSpec
    run: Path | None


def source_of_run(folder: Path, env_id: str) -> Source:
    """The policy of a finished run.

    :param env_id: that the run must be on; empty: any
    :raises SpecError: it is on another environment, or has no model
    :raises BrokenRunError: the run cannot be read
    """
    from benchmarks.run_files import read_run

    spec = read_run(folder).spec
    if env_id and env_id != spec.env_id:
        raise SpecError(f"--env: must be {spec.env_id}, that of the run in --model, got {env_id}")
    if not (folder / MODEL).is_file():
        raise SpecError(f"--model: {folder}: must be the folder of a run, has no {MODEL}")
    return Source(spec, folder)


def source_to_train(
    env_id: str, algo: str, n_timesteps: int, seed: int, overrides: Mapping[str, Any]
) -> Source:
    """A policy that is to be trained, with the suite's hyperparameters.

    :param overrides: hyperparameters that take precedence
    :raises SpecError: the environment, the algorithm or a hyperparameter is not valid
    """
    from benchmarks.specs import plan

    check_environment(env_id, "--env")
    suite = Suite("signal", [SuiteEnv(env_id, n_timesteps)], Evaluation(points=1), "--env")
    (spec,) = plan(suite, [algo], [env_id], [seed], n_timesteps, overrides)
    return Source(spec, None)


def make(source: Source) -> OnPolicyAlgorithm:
    """The model, trained if it is a run's; its environments' statistics are frozen if so.

    :raises SpecError: it is not on-policy, has no rollout buffer of SB3's kind, has a memory, or is
        on a GPU
    :raises BrokenRunError: its files cannot be read
    """
    from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
    from stable_baselines3.common.buffers import RolloutBuffer
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    from benchmarks.run import make_env, make_model

    spec = source.spec
    where = "--set" if source.run is None else str(source.run / RECORD)
    arguments = model_arguments(spec.algo, spec.hyperparams, where)
    if source.run is None:
        env = make_env(spec, arguments, arguments.n_envs, spec.seed)
        model = make_model(spec, arguments, env)
    else:
        model = _load(source.run, spec)
    buffer = getattr(model, "rollout_buffer", None)
    if not isinstance(model, OnPolicyAlgorithm) or not isinstance(buffer, RolloutBuffer):
        option = "--algo" if source.run is None else "--model"
        raise SpecError(
            f"{option}: must be of an on-policy algorithm with a rollout buffer, such as npg, "
            f"trpo, ppo or a2c, got {spec.algo}"
        )
    if isinstance(model.policy, RecurrentActorCriticPolicy):
        option = "--algo" if source.run is None else "--model"
        raise SpecError(f"{option}: must be of policies without a memory, got {spec.algo}")
    if model.device.type != "cpu":
        raise SpecError(f"--set: device: must be 'cpu', where samples are kept, got {model.device}")
    return model


def _load(folder: Path, spec: RunSpec) -> Any:
    """The model of a run in its environments. Executes what is pickled in its files."""
    from dataclasses import replace

    from stable_baselines3.common.vec_env import VecNormalize

    from benchmarks.algorithms import algorithm_class
    from benchmarks.records import BrokenRunError
    from benchmarks.run import make_env

    arguments = model_arguments(spec.algo, spec.hyperparams, str(folder / RECORD))
    env = make_env(spec, replace(arguments, normalize=None), arguments.n_envs, spec.seed)
    path = folder / STATISTICS
    try:
        if arguments.normalize is not None:
            env = VecNormalize.load(str(path), env)
        path = folder / MODEL
        return algorithm_class(spec.algo).load(path, env, device="cpu")
    except Exception as error:  # pickles and zip files promise nothing about what they raise
        env.close()
        raise BrokenRunError(f"{path}: cannot be read: {error}") from error


def freeze(model: OnPolicyAlgorithm) -> None:
    """Keep the statistics of the environments' observations and rewards as they are."""
    from stable_baselines3.common.vec_env import VecNormalize, unwrap_vec_wrapper

    env = model.get_env()
    assert env is not None
    normalize = unwrap_vec_wrapper(env, VecNormalize)
    if isinstance(normalize, VecNormalize):
        normalize.training = False
