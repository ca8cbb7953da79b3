"""Small random decision processes, and softmax policies for them as SB3 has them."""

from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from studies.exact.mdp import Mdp
from tests.helpers import FlattenExtractor64


def random_mdp(rng: np.random.Generator, n_states: int, n_actions: int, gamma: float) -> Mdp:
    """Sparse transitions and normal rewards."""
    return Mdp(
        rng.dirichlet(np.full(n_states, 0.3), size=(n_states, n_actions)),
        rng.normal(size=(n_states, n_actions)),
        rng.dirichlet(np.ones(n_states)),
        gamma,
    )


def softmax_policy(features: np.ndarray, weights: np.ndarray) -> ActorCriticPolicy:
    """SB3's policy with logits that are linear in features of the state, in float64.

    With the identity as features there is a free logit for each state and action.

    :param features: (S, F)
    :param weights: (F, A)
    """
    n_features, n_actions = weights.shape
    policy = ActorCriticPolicy(
        spaces.Box(-np.inf, np.inf, (n_features,)),
        spaces.Discrete(n_actions),
        lambda _: 1e-3,
        net_arch=[],
        features_extractor_class=FlattenExtractor64,
    ).double()
    with torch.no_grad():
        policy.action_net.weight.copy_(torch.as_tensor(weights.T))
        policy.action_net.bias.zero_()
    policy.set_training_mode(False)
    return policy


def probabilities(policy: ActorCriticPolicy, features: np.ndarray) -> np.ndarray:
    """pi(a|s), (S, A)."""
    with torch.no_grad():
        return policy.get_distribution(torch.as_tensor(features)).distribution.probs.numpy()


class AllPairs(NamedTuple):
    """Every state with every action once, as a batch of N = S * A samples."""

    observations: Tensor
    actions: Tensor
    old_log_prob: Tensor
    weights: Tensor
    """Such that the mean of rho * weights is the sum over s and a of d(s) pi'(a|s) A(s, a)"""


def all_pairs(
    features: np.ndarray, state_weights: np.ndarray, advantages: np.ndarray, pi: np.ndarray
) -> AllPairs:
    """The batch whose surrogate is sum_s d(s) sum_a pi'(a|s) A(s, a), without sampling.

    :param state_weights: d, (S,)
    """
    n_states, n_actions = pi.shape
    weights = n_states * n_actions * state_weights[:, None] * pi * advantages
    return AllPairs(
        torch.as_tensor(features).repeat_interleave(n_actions, dim=0),
        torch.arange(n_actions).repeat(n_states),
        torch.as_tensor(np.log(pi).reshape(-1)),
        torch.as_tensor(weights.reshape(-1)),
    )
