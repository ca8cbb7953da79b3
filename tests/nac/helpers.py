"""What several tests of NAC need."""

import torch
from stable_baselines3.common.callbacks import BaseCallback

from sb3_natural.curvature.operators import FisherOperator
from sb3_natural.nac import estimation
from sb3_natural.networks.parameters import flatten

LINEAR = dict(net_arch=[])


class AfterRollout(BaseCallback):
    """Calls a function with the model before each rollout: after the update before it."""

    def __init__(self, look):
        super().__init__()
        self.look = look

    def _on_rollout_start(self):
        self.look(self.model)

    def _on_step(self):
        return True


def theta(model):
    """The policy's parameters as one vector."""
    observation, _ = model.policy.obs_to_tensor(model.observation_space.sample())
    params = FisherOperator(model.policy, observation).params
    return flatten(param.detach() for param in params).clone()


def collected(model):
    """Learn from one rollout: theta before it, its batch, and w."""
    seen = []
    original = model._natural_gradient
    model._natural_gradient = lambda *args: seen.append(original(*args)) or seen[-1]
    before = theta(model)
    model.learn(model.n_steps * model.n_envs)
    assert len(seen) == 1
    assert torch.isfinite(seen[0]).all()
    return before, estimation.batch_of(model.rollout_buffer, model.device), seen[0]
