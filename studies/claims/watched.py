"""PPO and TRPO that log how far each update moves the policy, over all states of its rollout.

SB3's own ``approx_kl`` is a mean over the last epoch's minibatches, each before its step; and
sb3-contrib's TRPO divides the divergence of a Gaussian policy by the number of action dimensions.
"""

from copy import deepcopy

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import kl_divergence
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

import sb3_natural

__all__ = ["PPO", "TRPO", "USUAL_CLIP"]

USUAL_CLIP = 0.2  # of SB3's PPO


class _Watched(OnPolicyAlgorithm):
    """Logs of each update, from the distributions before and after it.

    ``watched/kl``: the mean KL divergence of the new policy from the old one, in nats;
    ``watched/outside``: the share of samples whose ratio of new to old action probability is
    farther from 1 than ``clip_range``, of TRPO than 0.2.
    """

    def train(self) -> None:
        """Update the policy, and log how far that has moved it."""
        flat = self.rollout_buffer.swap_and_flatten
        observations = self.policy.obs_to_tensor(flat(self.rollout_buffer.observations))[0]
        actions = torch.as_tensor(flat(self.rollout_buffer.actions), device=self.device)
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()
        with torch.no_grad():
            old = deepcopy(self.policy.get_distribution(observations))  # SB3 reuses the object
        super().train()
        with torch.no_grad():
            new = self.policy.get_distribution(observations)
            kl = kl_divergence(old, new)
            ratio = (new.log_prob(actions) - old.log_prob(actions)).exp()
        clip = getattr(self, "clip_range", lambda _: USUAL_CLIP)
        outside = (ratio - 1).abs() > clip(self._current_progress_remaining)
        # Of a Gaussian there is one divergence for each action dimension.
        self.logger.record("watched/kl", kl.reshape(len(kl), -1).sum(dim=1).mean().item())
        self.logger.record("watched/outside", outside.float().mean().item())


class PPO(_Watched, sb3_natural.PPO):
    """PPO that logs how far its updates go."""


class TRPO(_Watched, sb3_natural.TRPO):
    """TRPO that logs how far its updates go."""
