"""Finding NaNs and infinities where they first appear: in what an environment returns."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_natural.environments.takeover import LeanSteps

__all__ = ["CheckedSteps", "FiniteCheck", "VecCheckFinite", "surely_finite"]


class FiniteCheck:
    """Raises when a non-finite value first appears, and names the environment and the step.

    SB3's ``VecCheckNan`` finds the value only; to reproduce it, one needs environment and step.

    :param n_envs: number of environments
    :param n_steps_before: environment steps (over all environments) taken so far
    """

    def __init__(self, n_envs: int, n_steps_before: int) -> None:
        self._n_envs = n_envs
        self._n_steps = n_steps_before

    def check_step(
        self, observations: VecEnvObs, rewards: np.ndarray, dones: np.ndarray, infos: list[dict]
    ) -> None:
        """Check what one step of all environments returned.

        :raises ValueError: naming the environment's index, the step and the value
        """
        self._n_steps += self._n_envs
        if not surely_finite(rewards):
            self._check_array("reward", rewards)
        if not (isinstance(observations, np.ndarray) and surely_finite(observations)):
            self.check_observations(observations)
        if dones.any():
            for index in np.flatnonzero(dones):
                # It is used only after a time limit, for its value.
                self._check_terminal(int(index), infos[index].get("terminal_observation"))

    def check_observations(self, observations: VecEnvObs) -> None:
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
                f" ({array[(offset, *place)]}) at step {self._n_steps // self._n_envs}"
                f" of this environment (num_timesteps={self._n_steps})"
            )


class CheckedSteps:
    """A :class:`FiniteCheck` of what environments return, and of what wrappers make of it.

    SB3's own environments step with the lean code
    (:class:`~sb3_natural.environments.takeover.LeanSteps`).

    ``VecNormalize`` spreads one environment's NaN over all of them, so the innermost ``VecEnv`` is
    checked as well. It is wrapped for that only while it steps: code that walks through the
    wrappers at another time (as SB3's ``sync_envs_normalization`` does) finds them as the user made
    them.

    :param env: the environments
    :param n_steps_before: environment steps (over all environments) taken so far
    """

    def __init__(self, env: VecEnv, n_steps_before: int) -> None:
        self._env = env
        self._lean = LeanSteps(env)
        self._check = FiniteCheck(env.num_envs, n_steps_before)
        self.check_observations = self._check.check_observations
        self._innermost_wrapper: VecEnvWrapper | None = None
        while isinstance(env, VecEnvWrapper):
            self._innermost_wrapper, env = env, env.venv
        self._inside: Any = _Checking(env, FiniteCheck(env.num_envs, n_steps_before))

    def step(self, actions: np.ndarray) -> VecEnvStepReturn:
        """``env.step(actions)``, checked.

        :raises ValueError: naming the environment's index, the step and the value
        """
        return self.checked(lambda: self._env.step(actions))

    def checked(self, step: Callable[[], VecEnvStepReturn]) -> VecEnvStepReturn:
        """What ``step`` returns, which makes the environments step; checked."""
        with self._lean:
            result = self._step_inside(step)
        self._check.check_step(*result)
        return result

    def _step_inside(self, step: Callable[[], VecEnvStepReturn]) -> VecEnvStepReturn:
        wrapper = self._innermost_wrapper
        if wrapper is None:
            return step()
        wrapper.venv = self._inside
        try:
            return step()
        finally:
            wrapper.venv = self._inside.venv


class _Checking:
    """Takes the place of a ``VecEnv``, and checks what its steps return."""

    def __init__(self, venv: VecEnv, check: FiniteCheck) -> None:
        self.venv = venv
        self._check = check

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the step, and check what it returned."""
        result = self.venv.step_wait()
        self._check.check_step(*result)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.venv, name)


class VecCheckFinite(VecEnvWrapper):
    """:class:`CheckedSteps` as a wrapper, for code that steps a ``VecEnv`` by itself.

    :param venv: the environments
    :param n_steps_before: environment steps (over all environments) taken before this wrapper
    """

    def __init__(self, venv: VecEnv, n_steps_before: int) -> None:
        super().__init__(venv)
        self._steps = CheckedSteps(venv, n_steps_before)

    def reset(self) -> VecEnvObs:
        """Reset the environments, and check their observations."""
        observations = self.venv.reset()
        self._steps.check_observations(observations)
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the step, and check what it returned."""
        # Looked up while it steps, when the class of the environments may be another.
        return self._steps.checked(lambda: self.venv.step_wait())


def surely_finite(array: np.ndarray) -> bool:
    """Whether a quick check shows that all is finite: the sum of squares is.

    The sum may also overflow, so False means "look closer".
    """
    return array.dtype.kind != "f" or math.isfinite(np.vdot(array, array))


def _named_arrays(observations: Any) -> list[tuple[str, np.ndarray]]:
    if isinstance(observations, Mapping):
        return [(f"observation '{key}'", value) for key, value in observations.items()]
    return [("observation", np.asarray(observations))]
