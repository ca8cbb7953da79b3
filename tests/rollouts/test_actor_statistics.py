"""An actor's statistics are those of the policy's own distribution."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
)
from torch import nn

from sb3_natural.curvature.families import CategoricalFamily, family_of
from sb3_natural.networks.activations import ACTIVATIONS
from sb3_natural.rollouts.actors import MlpActor, NumpyActor, TorchActor, make_actor
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, make_observations

SPACES = {
    **ACTION_SPACES,
    "squashed gsde": spaces.Box(-1, 1, (2,)),
    "matrix": spaces.Box(-2, 3, (2, 3)),
    "one block": spaces.MultiDiscrete([4]),
}
ACTORS = {
    "numpy": lambda policy: make_actor(policy, "numpy"),
    "mlp": lambda policy: make_actor(policy, "torch"),
    "generic": TorchActor,
}
KINDS = {"numpy": NumpyActor, "mlp": MlpActor, "generic": TorchActor}
POLICIES = {
    "mlp": ActorCriticPolicy,
    "discrete": ActorCriticPolicy,
    "cnn": ActorCriticCnnPolicy,
    "dict": MultiInputActorCriticPolicy,
}
N_ENVS = 4


def float32_policy(actions, observations="mlp", **kwargs):
    """In float32, as it is trained: the quick actors want nothing else."""
    torch.manual_seed(0)
    if "gsde" in actions:
        kwargs = {**kwargs, "use_sde": True, "squash_output": "squashed" in actions}
    policy = POLICIES[observations](
        OBSERVATION_SPACES[observations], SPACES[actions], lambda _: 1e-3, **kwargs
    )
    with torch.no_grad():
        policy.action_net.weight.normal_()
        policy.action_net.bias.normal_()
        if hasattr(policy, "log_std"):
            policy.log_std.normal_(mean=-0.5, std=0.3)
    if policy.use_sde:
        policy.reset_noise(N_ENVS)
    policy.set_training_mode(False)
    return policy


def as_arrays(observations):
    if isinstance(observations, dict):
        return {key: value.numpy() for key, value in observations.items()}
    return observations.numpy()


def expected_statistics(policy, observations):
    with torch.no_grad():
        distribution = policy.get_distribution(observations)
        family = family_of(distribution)
        return family, family.statistics(distribution).numpy()


def without_shift(family, phi):
    """Logits of which each block's sum to zero."""
    if not isinstance(family, CategoricalFamily):
        return phi
    blocks = np.split(phi, np.cumsum(family.sizes)[:-1], axis=1)
    return np.concatenate([block - block.mean(axis=1, keepdims=True) for block in blocks], axis=1)


def assert_statistics(actor, policy, seed=0):
    observations = make_observations(policy, N_ENVS, seed)
    actor.sample(as_arrays(observations))
    statistics = actor.statistics()
    family, expected = expected_statistics(policy, observations)
    assert isinstance(statistics, np.ndarray)
    assert statistics.dtype == np.float32
    assert statistics.shape == expected.shape
    assert expected.std() > 0.1
    np.testing.assert_allclose(
        without_shift(family, statistics), without_shift(family, expected), rtol=1e-5, atol=1e-5
    )
    # Sampling again changes the actions but not what they are drawn from.
    actor.sample(as_arrays(observations))
    np.testing.assert_array_equal(actor.statistics(), statistics)


@pytest.mark.parametrize("path", ACTORS)
@pytest.mark.parametrize("actions", SPACES)
def test_statistics_are_the_distributions(actions, path):
    policy = float32_policy(actions)
    actor = ACTORS[path](policy)
    if "gsde" in actions and path != "generic":
        assert not isinstance(actor, KINDS[path])  # its noise needs the last hidden layer
        return
    assert isinstance(actor, KINDS[path])
    for seed in range(3):
        assert_statistics(actor, policy, seed)


@pytest.mark.parametrize("path", ACTORS)
@pytest.mark.parametrize("actions", ["categorical", "gaussian"])
def test_statistics_in_every_observation_space(actions, path):
    for observations in OBSERVATION_SPACES:
        policy = float32_policy(actions, observations)
        actor = ACTORS[path](policy)
        if actor is not None:
            assert_statistics(actor, policy)
        assert (actor is None) == (path == "numpy" and observations in ("cnn", "dict"))


@pytest.mark.parametrize("path", ["numpy", "mlp"])
@pytest.mark.parametrize("activation", [*ACTIVATIONS, nn.GELU])
@pytest.mark.parametrize("net_arch", [[], [7], [6, 5, 4]])
def test_statistics_of_every_network(net_arch, activation, path):
    policy = float32_policy("gaussian", net_arch=net_arch, activation_fn=activation)
    actor = ACTORS[path](policy)
    if path == "numpy" and activation is nn.GELU and net_arch:
        assert actor is None
        return
    assert isinstance(actor, KINDS[path])
    assert_statistics(actor, policy)


@pytest.mark.parametrize("path", ACTORS)
@pytest.mark.parametrize("actions", ["gaussian", "multicategorical", "bernoulli"])
def test_statistics_do_not_change_with_the_next_sample(actions, path):
    """Whoever asked for them may keep them."""
    policy = float32_policy(actions)
    actor = ACTORS[path](policy)
    first, second = (as_arrays(make_observations(policy, N_ENVS, seed)) for seed in (0, 1))
    actor.sample(first)
    statistics = actor.statistics()
    kept = statistics.copy()
    actor.sample(second)
    assert not np.array_equal(actor.statistics(), kept)
    np.testing.assert_array_equal(statistics, kept)


@pytest.mark.parametrize("path", ACTORS)
@pytest.mark.parametrize("actions", ["categorical", "gaussian", "matrix", "multicategorical"])
def test_actions_follow_the_statistics(actions, path):
    """The scores of what was drawn average to zero under the statistics, and only there."""
    policy = float32_policy(actions)
    actor = ACTORS[path](policy)
    n = 5000
    one = make_observations(policy, 1)
    taken = torch.as_tensor(actor.sample(as_arrays(one.expand(n, *one.shape[1:]))))
    phi = torch.as_tensor(actor.statistics())
    distribution = policy.get_distribution(one)
    if actions == "matrix":
        taken = taken.flatten(1)
    scores = family_of(distribution).score(distribution, phi, taken)
    assert (scores.mean(dim=0).abs() < 5 * scores.std(dim=0) / n**0.5).all()
    off = family_of(distribution).score(distribution, 0.5 * phi, taken)
    assert (off.mean(dim=0).abs() > 5 * off.std(dim=0) / n**0.5).any()
