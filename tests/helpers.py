"""Policies and batches that several tests need."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

ACTION_SPACES = {
    "categorical": spaces.Discrete(3),
    "gaussian": spaces.Box(-1, 1, (2,)),
    "gsde": spaces.Box(-1, 1, (2,)),
    "multicategorical": spaces.MultiDiscrete([2, 3]),
    "bernoulli": spaces.MultiBinary(3),
}
OBSERVATION_SPACES = {
    "mlp": spaces.Box(-1, 1, (4,)),
    "cnn": spaces.Box(0, 255, (1, 36, 36), np.uint8),
    "dict": spaces.Dict(
        image=spaces.Box(0, 255, (1, 36, 36), np.uint8),
        vector=spaces.Box(-1, 1, (3,)),
        mode=spaces.Discrete(3),
    ),
    "discrete": spaces.Discrete(5),
}


class _Float64:
    """SB3 turns observations into float32; this turns them into float64 for exact tests."""

    def forward(self, observations: Any) -> torch.Tensor:
        if isinstance(observations, dict):
            observations = {key: value.double() for key, value in observations.items()}
        else:
            observations = observations.double()
        return super().forward(observations)  # type: ignore[misc]


class FlattenExtractor64(_Float64, FlattenExtractor):
    pass


class NatureCNN64(_Float64, NatureCNN):
    pass


class CombinedExtractor64(_Float64, CombinedExtractor):
    pass


def make_policy(
    actions: str = "gaussian",
    observations: str = "mlp",
    share_features_extractor: bool = True,
    net_arch: tuple[int, ...] = (5, 5),
    **kwargs: Any,
) -> ActorCriticPolicy:
    """A small policy in float64, with parameters far enough from zero to matter."""
    torch.manual_seed(0)
    cls, extractor, extractor_kwargs = {
        "mlp": (ActorCriticPolicy, FlattenExtractor64, {}),
        "discrete": (ActorCriticPolicy, FlattenExtractor64, {}),
        "cnn": (ActorCriticCnnPolicy, NatureCNN64, {"features_dim": 3}),
        "dict": (MultiInputActorCriticPolicy, CombinedExtractor64, {"cnn_output_dim": 3}),
    }[observations]
    policy = cls(
        OBSERVATION_SPACES[observations],
        ACTION_SPACES[actions],
        lambda _: 1e-3,
        net_arch=list(net_arch),
        use_sde=actions == "gsde",
        features_extractor_class=extractor,
        features_extractor_kwargs=extractor_kwargs,
        share_features_extractor=share_features_extractor,
        **kwargs,
    ).double()
    # SB3 starts with an output layer of nearly zero: every action equally likely hides mistakes.
    with torch.no_grad():
        for param in policy.action_net.parameters():
            param.normal_()
        if hasattr(policy, "log_std"):
            policy.log_std.normal_(mean=-0.5, std=0.3)
    if policy.use_sde:
        policy.reset_noise()  # in float64 now
    policy.set_training_mode(False)
    return policy


def make_observations(policy: ActorCriticPolicy, n: int, seed: int = 0) -> Any:
    """n random observations as the rollout buffer would give them."""
    space = policy.observation_space
    space.seed(seed)
    samples = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        stacked: Any = {
            key: np.stack([np.asarray(s[key]) for s in samples]).reshape(n, *sub.shape)
            for key, sub in space.spaces.items()
        }
        return {key: torch.as_tensor(value) for key, value in stacked.items()}
    return torch.as_tensor(np.stack([np.asarray(s) for s in samples]).reshape(n, *space.shape))


class SpacesEnv(gym.Env):
    """Episodes of random observations and rewards, for any pair of spaces."""

    def __init__(
        self, observation_space: gym.Space, action_space: gym.Space, length: int = 7
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.length = length
        self._step = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._step = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        self._step += 1
        done = self._step >= self.length
        reward = float(np.sum(action)) + float(self.np_random.normal())
        return self.observation_space.sample(), reward, done, False, {}
