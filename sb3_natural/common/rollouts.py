"""Rollout collection: what every on-policy algorithm here adds to SB3's own."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

__all__ = ["CheckedRollouts", "VecCheckFinite"]


class VecCheckFinite(VecEnvWrapper):
    """Raises where an environment first returns a NaN or an infinity.

    SB3's ``VecCheckNan`` finds the value; this one also says whose and when, which is what one
    needs to reproduce it.

    :param venv: the environments
    :param n_steps_before: environment steps (over all environments) taken before this wrapper
    """

    def __init__(self, venv: VecEnv, n_steps_before: int) -> None:
        super().__init__(venv)
        self._n_steps = n_steps_before

    def reset(self) -> VecEnvObs:
        observations = self.venv.reset()
        self.check(observations)
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the step, and check what it brought; see :meth:`check`."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self._n_steps += self.num_envs
        self._check_array("reward", rewards)
        self.check(observations)
        for index in np.flatnonzero(dones):
            # Of an episode's last observation only the value is used, after a time limit.
            self._check_terminal(int(index), infos[index].get("terminal_observation"))
        return observations, rewards, dones, infos

    def check(self, observations: VecEnvObs) -> None:
        """Check observations of all environments.

        :raises ValueError: naming the environment's index, the step and the value
        """
        for name, array in _named_arrays(observations):
            self._check_array(name, array)

    def _check_terminal(self, index: int, observation: Any) -> None:
        if observation is not None:
            for name, array in _named_arrays(observation):
                self._check_array(f"terminal {name}", np.asarray(array)[None], first_index=index)

    def _check_array(self, name: str, array: np.ndarray, first_index: int = 0) -> None:
        if array.dtype.kind != "f":
            return
        finite = np.isfinite(array)
        if not finite.all():
            offset, *place = np.argwhere(~finite)[0]
            raise ValueError(
                f"environment {first_index + offset} returned a non-finite {name}"
                f"{'' if not place else ' at position ' + str(tuple(map(int, place)))}"
                f" ({array[(offset, *place)]}) at step {self._n_steps // self.num_envs}"
                f" of this environment (num_timesteps={self._n_steps})"
            )


class CheckedRollouts(OnPolicyAlgorithm):
    """SB3's rollout collection, watched: non-finite values raise, and the time spent is logged.

    Logs ``time/collect_fraction``: the share of ``learn``'s time so far that went into collecting
    (callbacks included, so evaluations done by an ``EvalCallback`` count as collection).
    """

    _collect_seconds = 0.0

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        self._collect_seconds = 0.0
        return super()._setup_learn(*args, **kwargs)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Fill the rollout buffer, as SB3 does.

        :raises ValueError: an observation or a reward is NaN or infinite; names the environment's
            index and the step
        """
        start = time.perf_counter()
        checked = VecCheckFinite(env, self.num_timesteps)
        assert self._last_obs is not None, "collect_rollouts is called by learn()"
        checked.check(self._last_obs)
        try:
            return super().collect_rollouts(checked, callback, rollout_buffer, n_rollout_steps)
        finally:
            self._collect_seconds += time.perf_counter() - start

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log, with ``time/collect_fraction`` added."""
        elapsed = (time.time_ns() - self.start_time) / 1e9
        self.logger.record("time/collect_fraction", min(1.0, self._collect_seconds / elapsed))
        super().dump_logs(iteration)


def _named_arrays(observations: Any) -> list[tuple[str, np.ndarray]]:
    if isinstance(observations, Mapping):
        return [(f"observation '{key}'", value) for key, value in observations.items()]
    return [("observation", np.asarray(observations))]
