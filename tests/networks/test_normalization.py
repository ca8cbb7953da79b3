"""Observations normalised by the policy itself: the numbers of ``VecNormalize``, on every path."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from sb3_natural.networks import normalization
from sb3_natural.networks.mlp import actor_mlp, critic_mlp, flat_features
from sb3_natural.networks.normalization import ObservationNormalizer, normalizable
from sb3_natural.networks.passes import torch_forward
from sb3_natural.npg import CnnPolicy, MlpPolicy, MultiInputPolicy
from tests.helpers import SpacesEnv, make_observations

WIDE = 1e4
IMAGE = spaces.Box(0, 255, (3, 36, 36), np.uint8)
SPACES = {
    "vector": spaces.Box(-WIDE, WIDE, (5,)),
    "matrix": spaces.Box(-WIDE, WIDE, (2, 3)),
    "doubles": spaces.Box(-WIDE, WIDE, (5,), np.float64),
    "number": spaces.Box(-WIDE, WIDE, ()),
    "integers": spaces.Box(0, 1000, (4,), np.int32),
    "words": spaces.Box(0, 60_000, (4,), np.uint16),
    "bytes": spaces.Box(0, 255, (6,), np.uint8),
    "dict": spaces.Dict(
        # No key is a name that torch would take for a module.
        {"b.c": spaces.Box(-3, 9, (3,)), "keys": spaces.Box(0, 50, (2, 2)), "a": IMAGE}
    ),
}


def samples(space, n, seed=0):
    """Observations whose elements differ in mean and deviation."""
    space = copy.deepcopy(space)
    space.seed(seed)
    drawn = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([each[key] for each in drawn]) for key in space.spaces}
    stacked = np.stack(drawn)
    scales = 10.0 ** -np.arange(max(1, stacked[0].size)).reshape(stacked[0].shape)
    return (stacked * scales + scales).astype(stacked.dtype)


def part(observations, rows):
    if isinstance(observations, dict):
        return {key: array[rows] for key, array in observations.items()}
    return observations[rows]


def tensors(observations):
    if isinstance(observations, dict):
        return {key: torch.as_tensor(array) for key, array in observations.items()}
    return torch.as_tensor(observations)


def vec_normalize(space):
    """``VecNormalize`` for a space, images left out."""
    env = DummyVecEnv([lambda: SpacesEnv(copy.deepcopy(space), spaces.Discrete(2))])
    keys = None
    if isinstance(space, spaces.Dict):
        keys = [str(key) for key in normalizable(space)]
    return VecNormalize(env, norm_obs_keys=keys)


def updated(space, observations):
    normalizer = ObservationNormalizer(space)
    normalizer.update(tensors(observations))
    return normalizer


@pytest.mark.parametrize("kind", SPACES)
def test_statistics_and_outputs_are_those_of_vec_normalize(kind, monkeypatch):
    monkeypatch.setattr(normalization, "_CHUNK_ELEMENTS", 100)  # more than one chunk
    space = SPACES[kind]
    ours, theirs = ObservationNormalizer(space), vec_normalize(space)
    first = samples(space, 7, seed=5)
    observations = samples(space, 200)
    for rows in (slice(0, 120), slice(120, 200)):
        ours.update(tensors(part(observations, rows)))
    for start in range(0, 200, 4):  # as if from four environments
        for rms, array in moments_of(theirs, part(observations, slice(start, start + 4))):
            rms.update(array)
    pairs = moments_of(theirs, observations)
    np.testing.assert_allclose(ours.mean, np.concatenate([r.mean.ravel() for r, _ in pairs]), 1e-6)
    np.testing.assert_allclose(ours.var, np.concatenate([r.var.ravel() for r, _ in pairs]), 1e-6)
    assert ours.count.item() == pytest.approx(200.0001, abs=1e-9)

    set_statistics(ours, pairs)
    before = copy.deepcopy(first)
    expected, actual = theirs.normalize_obs(first), ours(tensors(first))
    if isinstance(space, spaces.Dict):
        for key in space.spaces:
            np.testing.assert_array_equal(actual[key], expected[key])
            np.testing.assert_array_equal(first[key], before[key])
    else:
        assert actual.dtype == torch.float32
        np.testing.assert_array_equal(actual, expected)
        np.testing.assert_array_equal(first, before)


def moments_of(wrapper, observations):
    """Each of ``VecNormalize``'s statistics, with the observations for it."""
    if isinstance(wrapper.obs_rms, dict):
        return [(wrapper.obs_rms[key], observations[key]) for key in sorted(wrapper.obs_rms)]
    return [(wrapper.obs_rms, observations)]


def set_statistics(normalizer, pairs):
    """Rounding errors of the statistics would turn up in the outputs' last bits."""
    for name in ("mean", "var"):
        value = np.concatenate([np.ravel(getattr(rms, name)) for rms, _ in pairs])
        normalizer.get_buffer(name).copy_(torch.as_tensor(value))


@pytest.mark.parametrize("kind", [kind for kind in SPACES if kind != "dict"])
def test_numpy_gives_the_same_bits_and_reads_the_statistics_at_each_call(kind):
    space = SPACES[kind]
    normalizer = ObservationNormalizer(space)
    in_numpy = normalizer.numpy_forward()
    for seed in range(3):
        observations = samples(space, 50, seed)
        before = observations.copy()
        actual = in_numpy(observations)
        assert actual.dtype == np.float32
        np.testing.assert_array_equal(actual, normalizer(tensors(observations)).reshape(50, -1))
        np.testing.assert_array_equal(observations, before)
        normalizer.update(tensors(observations))


def test_observations_are_rounded_as_a_rollout_buffer_rounds_them():
    """``SubprocVecEnv`` hands on the dtype of the environment, whatever the space says."""
    normalizer = updated(SPACES["vector"], samples(SPACES["vector"], 50))
    observations = np.random.default_rng(0).normal(1000, 1, (20, 5))
    rounded = normalizer(torch.as_tensor(observations.astype(np.float32)))
    assert torch.equal(normalizer(torch.as_tensor(observations)), rounded)
    np.testing.assert_array_equal(normalizer.numpy_forward()(observations), rounded)


def test_before_any_data_observations_are_clipped_only():
    normalizer = ObservationNormalizer(spaces.Box(-np.inf, np.inf, (3,)))
    rows = torch.tensor([[0.1, -3.7, 9.9], [-1e6, 10.5, 0.0]])
    expected = torch.tensor([[0.1, -3.7, 9.9], [-10.0, 10.0, 0.0]])
    torch.testing.assert_close(normalizer(rows), expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    ("space", "normalize_images", "expected"),
    [
        (spaces.Box(-1, 1, (2, 3)), True, {None: (2, 3)}),
        (spaces.Box(0, 255, (128,), np.uint8), True, {None: (128,)}),
        (IMAGE, True, {}),
        (spaces.Box(0, 1, (3, 36, 36)), True, {None: (3, 36, 36)}),
        (spaces.Box(0, 1, (3, 36, 36)), False, {}),  # images as floats
        (spaces.Discrete(3), True, {}),
        (spaces.MultiDiscrete([2, 3]), True, {}),
        (spaces.MultiBinary(3), True, {}),
        (
            spaces.Dict(z=spaces.Box(-1, 1, (2,)), image=IMAGE, mode=spaces.Discrete(3)),
            True,
            {"z": (2,)},
        ),
    ],
)
def test_what_is_normalised(space, normalize_images, expected):
    found = normalizable(space, normalize_images)
    assert {key: box.shape for key, box in found.items()} == expected


def test_the_order_of_keys_does_not_matter():
    parts = {"b": spaces.Box(0, 1, (1,)), "a": spaces.Box(5, 9, (2,))}
    ordered = spaces.Dict(parts)
    ordered.spaces = {"b": parts["b"], "a": parts["a"]}  # as of an OrderedDict
    observations = samples(ordered, 30)
    one, other = updated(ordered, observations), updated(spaces.Dict(parts), observations)
    assert torch.equal(one.mean, other.mean)
    assert one.mean[:2].min() > 1 > one.mean[2]


def test_statistics_stay_in_float64_except_where_there_is_none():
    normalizer = updated(SPACES["vector"], samples(SPACES["vector"], 30))
    expected = normalizer(tensors(samples(SPACES["vector"], 5, 1)))

    def to_apples_gpu(tensor):
        if tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return tensor.clone()

    assert normalizer.mean.dtype == torch.float64
    normalizer._apply(to_apples_gpu)
    assert normalizer.mean.dtype == torch.float32
    actual = normalizer(tensors(samples(SPACES["vector"], 5, 1)))
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)
    normalizer.update(tensors(samples(SPACES["vector"], 5, 1)))


class Squared(FlattenExtractor):
    def forward(self, observations):
        return super().forward(observations).square()


POLICIES = {
    "plain": (MlpPolicy, spaces.Box(-50, 90, (4,)), {}),
    "matrix": (MlpPolicy, spaces.Box(-50, 90, (2, 3)), dict(net_arch=[7])),
    "own extractor": (MlpPolicy, spaces.Box(-50, 90, (4,)), dict(features_extractor_class=Squared)),
    "two extractors": (
        MlpPolicy,
        spaces.Box(-50, 90, (4,)),
        dict(features_extractor_class=Squared, share_features_extractor=False),
    ),
    "gSDE": (MlpPolicy, spaces.Box(-50, 90, (4,)), dict(use_sde=True)),
    "image": (CnnPolicy, IMAGE, {}),
    "discrete": (MlpPolicy, spaces.Discrete(4), {}),
    "dict": (
        MultiInputPolicy,
        spaces.Dict(z=spaces.Box(-50, 90, (3,)), image=IMAGE, mode=spaces.Discrete(3)),
        {},
    ),
}


def make_pair(kind):
    """A policy that normalises, with statistics, and the same without."""
    cls, space, kwargs = POLICIES[kind]
    action_space = spaces.Box(-1, 1, (2,))
    torch.manual_seed(0)
    policy = cls(space, action_space, lambda _: 0.0, normalize_observations=True, **kwargs)
    torch.manual_seed(0)
    plain = cls(space, action_space, lambda _: 0.0, **kwargs)
    if policy.normalizer is not None:
        policy.normalizer.update(make_observations(policy, 200, seed=1))
    for each in (policy, plain):
        each.set_training_mode(False)
    return policy, plain


def distribution_of(policy, observations):
    return policy.get_distribution(observations).distribution


@torch.no_grad()
@pytest.mark.parametrize("kind", POLICIES)
def test_every_method_of_a_policy_normalises_once(kind):
    policy, plain = make_pair(kind)
    observations = make_observations(policy, 20)
    given = observations if policy.normalizer is None else policy.normalizer(observations)
    assert (policy.normalizer is None) == (kind in ("image", "discrete"))
    actions = torch.randn(20, 2)
    for ours, theirs in zip(
        policy.evaluate_actions(observations, actions),
        plain.evaluate_actions(given, actions),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(
        policy(observations, deterministic=True), plain(given, deterministic=True), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert torch.equal(policy.predict_values(observations), plain.predict_values(given))
    ours, theirs = distribution_of(policy, observations), distribution_of(plain, given)
    assert torch.equal(ours.mean, theirs.mean)
    assert torch.equal(ours.stddev, theirs.stddev)
    as_arrays = (
        {key: value.numpy() for key, value in observations.items()}
        if isinstance(observations, dict)
        else observations.numpy()
    )
    predicted, _ = policy.predict(as_arrays, deterministic=True)
    np.testing.assert_array_equal(predicted, ours.mean.clamp(-1, 1))
    again, _ = policy.predict(as_arrays, deterministic=True)
    np.testing.assert_array_equal(again, predicted)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["plain", "matrix"])
def test_the_networks_of_a_plain_policy_are_found_and_get_normalised_features(kind):
    policy, plain = make_pair(kind)
    observations = make_observations(policy, 20)
    features = flat_features(policy, observations)
    expected = preprocess_obs(policy.normalizer(observations), policy.observation_space).flatten(1)
    assert torch.equal(features, expected)
    assert not torch.equal(features, flat_features(plain, observations))
    actor, critic = actor_mlp(policy), critic_mlp(policy)
    mean = distribution_of(policy, observations).mean
    torch.testing.assert_close(torch_forward(actor)(features), mean)
    torch.testing.assert_close(torch_forward(critic)(features), policy.predict_values(observations))


@pytest.mark.parametrize("kind", POLICIES)
def test_a_policy_is_saved_with_its_statistics(kind, tmp_path):
    policy, plain = make_pair(kind)
    for each in (policy, plain):
        each.save(tmp_path / "policy.pth")
        loaded = type(each).load(tmp_path / "policy.pth", device="cpu")
        assert loaded.normalize_observations == each.normalize_observations
        ours, theirs = each.state_dict(), loaded.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_only_the_features_move_no_gradient_reaches_the_statistics():
    policy, _ = make_pair("plain")
    names = [name for name, _ in policy.named_parameters()]
    assert not any("normalizer" in name for name in names)
    assert {name for name, _ in policy.named_buffers()} == {
        "normalizer.mean",
        "normalizer.var",
        "normalizer.count",
    }


class ShiftedNormalizer(nn.Module):
    """A user's own."""

    def forward(self, observations):
        return observations + 1


@torch.no_grad()
def test_a_normalizer_of_the_users_own_is_called():
    from sb3_natural.rollouts.actors import make_actor

    policy, _ = make_pair("plain")
    policy.normalizer = ShiftedNormalizer()
    observations = make_observations(policy, 6)
    assert torch.equal(flat_features(policy, observations), observations + 1)
    policy.log_std.fill_(-30.0)
    mean = distribution_of(policy, observations).mean
    for path in ("numpy", "torch"):
        actor = make_actor(policy, path)
        np.testing.assert_allclose(actor.sample(observations.numpy()), mean, 1e-5, 1e-6)


def test_sb3s_own_policies_are_untouched():
    policy = ActorCriticPolicy(spaces.Box(-50, 90, (4,)), spaces.Discrete(2), lambda _: 0.0)
    observations = make_observations(policy, 6)
    assert torch.equal(flat_features(policy, observations), observations)
