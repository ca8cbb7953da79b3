"""Action masks: which actions an environment allows in its present state.

The convention is that of sb3-contrib's ``MaskablePPO``: an environment, or a wrapper such as
``ActionMasker``, has a method ``action_masks`` that returns an array of True (valid) and False, one
for each action of a Discrete space, or for each choice of every dimension of a MultiDiscrete one,
side by side. NPG and ACER use masks wherever an environment has that method; other algorithms do
not, as SB3's own.
"""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from sb3_natural.curvature.masking import masked_distribution
from sb3_natural.rollouts.collection import FastRollouts

__all__ = ["MaskedPredictions", "MaskedRollouts", "fitting_buffer", "masks_of"]

_MASKABLE = (MaskableRolloutBuffer, MaskableDictRolloutBuffer)


def _sizes(space: spaces.Space) -> list[int]:
    """How many choices each dimension of an action has.

    :raises ValueError: the space has no masks
    """
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(size) for size in space.nvec.flatten()]
    raise ValueError(
        f"action_masks are for Discrete and MultiDiscrete actions, not for {space}: to train "
        "without them, hide the environment's method of that name"
    )


def _as_masks(given: Any, space: spaces.Space, n: int) -> np.ndarray:
    """Masks as a new array of booleans, (n, K).

    :raises ValueError: they have another size, or leave no choice in a dimension; names the row
    """
    sizes = _sizes(space)
    masks = np.array(given, dtype=bool)
    if masks.size != n * sum(sizes):
        raise ValueError(
            f"action_masks must be {n} masks of {sum(sizes)} values for {space}, got an array of "
            f"shape {masks.shape}"
        )
    masks = masks.reshape(n, -1)
    starts = np.cumsum([0, *sizes[:-1]])
    has_choice = np.logical_or.reduceat(masks, starts, axis=1)
    if not has_choice.all():
        row, dimension = np.argwhere(~has_choice)[0].tolist()
        where = f" of dimension {dimension}" if len(sizes) > 1 else ""
        raise ValueError(f"action_masks of environment {row} allow no action{where}")
    return masks


class MaskedRollouts(FastRollouts):
    """Rollouts and predictions that choose among valid actions only."""

    _is_masked = False
    """Whether the environment of the present or last training has masks."""

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        result = super()._setup_learn(*args, **kwargs)
        self._is_masked = self._offers_masks()
        if self._is_masked:
            _sizes(self.action_space)  # refuses other spaces
        return result

    def _offers_masks(self) -> bool:
        # Not asked where masks mean nothing: a VecEnv of one's own may know no such question.
        if isinstance(self.action_space, spaces.Box):
            return False
        assert self.env is not None
        return is_masking_supported(self.env)

    def _action_masks(self, env: VecEnv) -> np.ndarray | None:
        if not self._is_masked:
            return None
        return _as_masks(get_action_masks(env), self.action_space, env.num_envs)

    def _collect_as_sb3(
        self, env: VecEnv, callback: BaseCallback, buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        if self._is_masked:
            raise ValueError(
                f"the environment has action_masks, which rollout_path='sb3' does not use; it is "
                f"taken because {type(self.policy).__name__} has its own forward(), or "
                f"{type(buffer).__name__} its own add(), or because it was assigned"
            )
        return super()._collect_as_sb3(env, callback, buffer, n_rollout_steps)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """SB3's ``predict``, among valid actions.

        :param action_masks: True where an action is valid: (K,) for one observation, or (n, K); K
            is the number of actions, or of all choices of a MultiDiscrete space
        :raises ValueError: masks of another size, that allow no action, or for another space
        """
        if action_masks is None:
            return super().predict(observation, state, episode_start, deterministic)
        policy: ActorCriticPolicy = self.policy
        policy.set_training_mode(False)
        on_device, is_batch = policy.obs_to_tensor(observation)
        with torch.no_grad():
            distribution = policy.get_distribution(on_device)
            n = len(distribution.mode())
            masks = _as_masks(action_masks, self.action_space, n)
            distribution = masked_distribution(
                distribution, torch.as_tensor(masks, device=policy.device)
            )
            chosen = distribution.get_actions(deterministic=deterministic).cpu().numpy()
        assert self.action_space.shape is not None
        actions = chosen.reshape(n, *self.action_space.shape)
        return (actions if is_batch else actions[0]), state


class MaskedPredictions:
    """A model for SB3's ``evaluate_policy``, which asks for no masks: predicts with the masks of an
    environment as it is at the time.

    :param model: an algorithm that takes masks
    :param env: the environment that is evaluated
    """

    def __init__(self, model: Any, env: VecEnv) -> None:
        self._model = model
        self._env = env

    @staticmethod
    def apply_to(model: Any, env: VecEnv) -> bool:
        """Whether the model takes masks and the environment has them."""
        takes = isinstance(model, MaskedRollouts) and not isinstance(model.action_space, spaces.Box)
        return takes and is_masking_supported(env)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """The model's ``predict``."""
        masks = get_action_masks(self._env)
        return self._model.predict(*args, **kwargs, action_masks=masks)


def masks_of(batch: Any) -> Tensor | None:
    """The masks of a rollout buffer's batch, (N, K), True where an action is valid, or None."""
    masks = getattr(batch, "action_masks", None)
    return None if masks is None else masks > 0.5


def fitting_buffer(algorithm: Any, is_masked: bool) -> Any:
    """The algorithm's rollout buffer, or a new one of the same size that holds masks or does not.

    :param is_masked: whether there are masks to hold
    :raises ValueError: there are, and the user's own class of buffers does not hold them
    """
    held, wanted = algorithm.rollout_buffer, algorithm.rollout_buffer_class
    if is_masked and not issubclass(wanted, _MASKABLE):
        if wanted not in (RolloutBuffer, DictRolloutBuffer):
            raise ValueError(
                f"rollout_buffer_class={wanted.__name__} does not hold the environment's "
                "action_masks: derive it from sb3-contrib's MaskableRolloutBuffer or "
                "MaskableDictRolloutBuffer"
            )
        wanted = MaskableRolloutBuffer if wanted is RolloutBuffer else MaskableDictRolloutBuffer
    if type(held) is wanted or not isinstance(held, (RolloutBuffer, *_MASKABLE)):
        return held
    if is_masked == isinstance(held, _MASKABLE):
        return held
    return wanted(
        held.buffer_size,
        held.observation_space,
        held.action_space,
        held.device,
        gamma=held.gamma,
        gae_lambda=held.gae_lambda,
        n_envs=held.n_envs,
        **algorithm.rollout_buffer_kwargs,
    )
