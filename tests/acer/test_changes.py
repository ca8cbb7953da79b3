"""What users change on a model: attributes, policies, layers, parameters; and copies of it."""

import copy
import math
import pickle
from itertools import product

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_natural import ACER
from tests.acer.test_sb3_contract import REPLAYED
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, SpacesEnv
from tests.npg.test_sb3_contract import make_envs, same, weights

ENVS = ["CartPole-v1", "Pendulum-v1"]


def make(env_id="CartPole-v1", **kwargs):
    return ACER("MlpPolicy", env_id, device="cpu", **{"seed": 0, **REPLAYED, **kwargs})


class Calls(BaseCallback):
    """Calls a function with the model when a rollout has ended."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.function(self.model)


# Attributes: all are read when they are used.

SET = dict(
    learning_rate=1e-2,
    n_steps=4,
    gamma=0.5,
    replay_ratio=0,
    replay_start=30,
    replay_batch_size=3,
    correction_term=0.5,
    trust_region=False,
    delta=1e-5,
    alpha=0.1,
    q_coef=0.01,
    ent_coef=1.0,
    max_grad_norm=0.01,
    n_sdn_samples=1,
    retrace=False,
    duelling=False,
    normalize_returns=False,
)


@pytest.mark.parametrize("name", SET)
def test_an_attribute_that_is_set_is_as_good_as_an_argument(name):
    usual = dict(env_id="Pendulum-v1", delta=0.01)  # small enough to matter
    plain, built = (make(**usual | new).learn(64) for new in ({}, {name: SET[name]}))
    changed = make(**usual)
    setattr(changed, name, SET[name])
    changed.learn(64)
    assert same(weights(built), weights(changed))
    assert not same(weights(plain), weights(changed))


@pytest.mark.parametrize(
    ("name", "value"), [("delta", math.nan), ("gamma", 1.5), ("n_steps", "8"), ("retrace", "no")]
)
def test_an_attribute_that_cannot_be_is_refused_by_name(name, value):
    model = make().learn(16)
    n_updates, kept, held = model._n_updates, getattr(model, name), weights(model)
    with pytest.raises(ValueError, match=f"^{name} must be .*, got {value!r}$"):
        model.learn(16, Calls(lambda model: setattr(model, name, value)))
    assert (model._n_updates, len(model.replay_buffer)) == (n_updates, 24)
    assert same(held, weights(model))
    setattr(model, name, kept)
    model.learn(16)
    assert model._n_updates > n_updates


@pytest.mark.parametrize("name", ["n_steps", "buffer_size"])
def test_a_rollout_that_does_not_fit_the_replay_buffer_is_not_begun(name):
    model = make(buffer_size=100).learn(16)
    setattr(model, name, dict(n_steps=101, buffer_size=64)[name])
    with pytest.raises(ValueError, match=rf"buffer_size=.*{name}=|buffer_size=64 was set too late"):
        model.learn(16)
    assert len(model.replay_buffer) == 16


def test_a_new_buffer_size_takes_effect_on_loading(tmp_path):
    model = make(buffer_size=100).learn(16)
    model.buffer_size = 64
    model.save(tmp_path / "model")
    loaded = ACER.load(tmp_path / "model", env=model.env)
    loaded.learn(80)
    assert len(loaded.replay_buffer) == 64


@pytest.mark.parametrize(("before", "after"), [(8, 4), (4, 8)])
def test_an_update_takes_the_whole_rollout_whatever_n_steps_is_by_now(before, after):
    changed = make(n_steps=before)
    changed.learn(2 * 8, Calls(lambda model: setattr(model, "n_steps", after)))
    parted = make(n_steps=before).learn(before)
    parted.n_steps = after
    parted.learn(2 * 8 - before, reset_num_timesteps=False)
    assert changed.num_timesteps == parted.num_timesteps
    assert changed._n_updates == parted._n_updates
    assert same(weights(changed), weights(parted))


# Policies, layers, parameters.


def test_another_policy_that_is_assigned_is_trained():
    model, donor = make("Pendulum-v1").learn(16), make("Pendulum-v1", seed=1).learn(16)
    left, policy = model.policy, donor.policy
    model.policy = policy
    before, before_left = weights(model), {k: v.clone() for k, v in left.state_dict().items()}
    model.learn(16)
    assert all(not torch.equal(value, weights(model)[name]) for name, value in before.items())
    assert same(before_left, left.state_dict())
    assert model.policy is policy


@pytest.mark.parametrize("env_id", ENVS)
def test_the_average_follows_a_layer_that_was_exchanged(env_id):
    model = make(env_id, alpha=0.5).learn(16)
    policy = model.policy
    policy.action_net = nn.Linear(policy.action_net.in_features, policy.action_net.out_features)
    policy.optimizer = torch.optim.SGD([*policy.action_net.parameters()], lr=1e-3)
    model.learn(16)
    with torch.no_grad():
        observations = policy.obs_to_tensor(model._last_obs)[0]
        phi, _ = policy.statistics_and_latent(observations)
    far = (policy.average_statistics(observations) - phi).abs().max()
    policy.update_average(0.0)
    assert torch.equal(policy.average_statistics(observations), phi)
    assert far > 0


PARTS = {
    "actor body": lambda policy: policy.mlp_extractor.policy_net,
    "actor": lambda policy: nn.ModuleList([policy.mlp_extractor.policy_net, policy.action_net]),
    "critic body": lambda policy: policy.mlp_extractor.value_net,
    "critic": lambda policy: nn.ModuleList([policy.mlp_extractor.value_net, policy.value_net]),
}


@pytest.mark.parametrize("trained_before", [False, True])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("env_id", ENVS)
def test_frozen_parameters_stay_and_the_others_move(env_id, part, trained_before):
    model = make(env_id)
    if trained_before:  # so that the optimiser and the average have something to go on with
        model.learn(16)
    for parameter in PARTS[part](model.policy).parameters():
        parameter.requires_grad_(False)
    before = {name: value.clone() for name, value in model.policy.named_parameters()}
    frozen = {id(parameter) for parameter in PARTS[part](model.policy).parameters()}
    model.learn(32)
    for name, value in model.policy.named_parameters():
        if not name.startswith("average"):
            assert torch.equal(value, before[name]) == (id(value) in frozen), name


@pytest.mark.parametrize(
    ("env_id", "which"),
    [
        *product(ENVS, ["action_net.bias", "value_net", "average", ""]),
        ("Pendulum-v1", "log_std"),
    ],
)
def test_parameters_that_are_not_finite_stop_training_by_name(env_id, which):
    model = make(env_id).learn(16)
    spoilt = {k: v for k, v in model.policy.named_parameters() if k.startswith(which)}
    with torch.no_grad():
        for parameter in spoilt.values():
            parameter.fill_(math.nan)
    # Non-finite actions are found before that, where actions are numbers.
    message = (
        rf"({'|'.join(spoilt)}) of the policy is no longer finite.*num_timesteps=8, after \d+ upd"
    )
    with pytest.raises(ValueError, match=rf"^{message}|returned a non-finite action"):
        model.learn(16)
    assert model._skipped_updates == 0


def test_a_last_step_that_leaves_numbers_behind_is_found():
    model = make(replay_ratio=0, learning_rate=1e38)
    with pytest.raises(ValueError, match="of the policy is no longer finite"):
        model.learn(8)
    assert model.num_timesteps == 8


# Extractors that mind what they see.


class Normed(BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, 8)
        self.net = nn.Sequential(
            nn.Linear(space.shape[0], 8), nn.BatchNorm1d(8, momentum=0.5), nn.Dropout(0.1)
        )

    def forward(self, x):
        return self.net(x)


class Unprobed(Normed):
    """Refuses observations that no environment gives."""

    def forward(self, x):
        assert (x != 0).any(dim=1).all(), "an observation of zeros"
        return super().forward(x)


@pytest.mark.parametrize("extractor", [Normed, Unprobed])
@pytest.mark.parametrize("env_id", ENVS)
def test_extractors_see_no_observation_but_the_environments(env_id, extractor):
    model = make(env_id, policy_kwargs=dict(features_extractor_class=extractor))
    norm = model.policy.features_extractor.net[1]
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros(8))
    model.learn(32)
    assert norm.num_batches_tracked == 0  # updates run in evaluation mode


@pytest.mark.parametrize("actions", [name for name in ACTION_SPACES if name != "gsde"])
def test_the_number_of_statistics_is_that_of_the_outputs(actions):
    model = ACER("MlpPolicy", make_envs(actions, "mlp", 1))
    observation, _ = model.policy.obs_to_tensor(OBSERVATION_SPACES["mlp"].sample())
    phi, _ = model.policy.statistics_and_latent(observation)
    assert model.policy.n_statistics == model.replay_buffer.n_statistics == phi.shape[1]


# What a callback changes between steps.


class Anneal(BaseCallback):
    """Sets log_std after each step."""

    def _on_step(self):
        self.model.policy.log_std.data.fill_(-0.1 * self.num_timesteps)
        return True


@pytest.mark.parametrize("path", ["numpy", "torch"])
def test_a_deviation_set_between_steps_is_what_acts_and_what_is_stored(path):
    n, k = 24, 2
    drawn = []
    for callback in (None, Anneal()):
        env = SpacesEnv(spaces.Box(-1, 1, (4,)), spaces.Box(-1, 1, (k,)))
        model = ACER("MlpPolicy", env, n_steps=n, seed=0, device="cpu")
        model.rollout_path = path
        model.train = lambda: None  # so that the means stay
        model.learn(n, callback)
        drawn.append(model.replay_buffer.latest(n))
    plain, annealed = drawn
    log_std = -0.1 * torch.arange(n)[:, None].expand(n, k)
    assert torch.allclose(torch.as_tensor(annealed.statistics[:, 0, k:]), log_std)
    assert (plain.observations == annealed.observations).all()
    means = torch.as_tensor(annealed.statistics[:, 0, :k])
    noise = torch.as_tensor(plain.actions[:, 0]) - means
    expected = means + log_std.exp() * noise
    assert torch.allclose(torch.as_tensor(annealed.actions[:, 0]), expected, atol=1e-6)


# Copies.


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("how", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
@pytest.mark.parametrize("env_id", ENVS)
def test_copies_of_a_model_go_on_as_it_does_and_leave_it_alone(env_id, how, trained):
    model = ACER("MlpPolicy", gym.make(env_id), seed=0, device="cpu", **REPLAYED)
    if trained:
        model.learn(32)
    before = weights(model)
    copied, policy = how(model), how(model.policy)
    assert same(before, policy.state_dict())
    for each in (copied, model):
        each.set_random_seed(1)
        each.learn(32)
        assert not same(before, weights(each))
    assert same(weights(copied), weights(model))
    assert same(before, policy.state_dict())
    # The copy's average follows the copy, and its optimiser moves it.
    observations = policy.obs_to_tensor(model._last_obs)[0]
    with torch.no_grad():
        policy.action_net.bias.add_(1.0)
        phi, _ = policy.statistics_and_latent(observations)
    policy.update_average(0.0)
    assert torch.equal(policy.average_statistics(observations), phi)
    held = {id(parameter) for parameter in policy.parameters()}
    assert {id(parameter) for parameter in policy.trained} < held
