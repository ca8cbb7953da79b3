"""For every algorithm: schedules, copies, changes after construction, odd policies."""

import copy
import math
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import set_random_seed
from torch import nn

from sb3_natural import A2C, ACER, ACKTR, NAC, NPG, PPO, TRPO, RecurrentNPG
from tests.helpers import ACTION_SPACES, DEVICES, OBSERVATION_SPACES, SpacesEnv

FAMILY = {
    "NPG": (NPG, {}),
    "NPG, Adam": (NPG, {"critic": "adam"}),
    "NPG, line search": (NPG, {"line_search": True}),
    "NPG, long steps": (NPG, {"target_kl": 2.0}),
    "RecurrentNPG": (RecurrentNPG, {"policy_kwargs": {"lstm_hidden_size": 8}}),
    "NPG, adaptive penalty": (NPG, {"kl_penalty": "adaptive"}),
    "PPO": (PPO, {"batch_size": 32, "n_epochs": 2}),
    "A2C": (A2C, {}),
    "TRPO": (TRPO, {"batch_size": 32}),
    "NPG, K-FAC": (NPG, {"fisher_solver": "kfac", "critic_solver": "kfac"}),
    "ACKTR": (ACKTR, {}),
    "ACER": (ACER, {"replay_start": 64}),
    # Linear: the critic's hidden layers do not learn.
    "NAC": (NAC, {"policy_kwargs": {"net_arch": []}}),
    "NAC, episodic": (
        NAC,
        {"variant": "episodic", "n_steps": 128, "n_episodes": 2, "policy_kwargs": {"net_arch": []}},
    ),
}


ON_POLICY = (NPG, RecurrentNPG, PPO, A2C, TRPO, ACKTR)  # with a rollout buffer


def build(name, env="CartPole-v1", policy="MlpPolicy", **kwargs):
    cls, own = FAMILY[name]
    if policy not in cls.policy_aliases and isinstance(policy, str):
        policy = policy.replace("Policy", "LstmPolicy")
    given = {"n_steps": 32, "seed": 0, "device": "cpu", **own, **kwargs}
    given["policy_kwargs"] = own.get("policy_kwargs", {}) | kwargs.get("policy_kwargs", {})
    return cls(policy, env, **given)


def weights(model):
    return [param.detach().clone() for param in model.policy.parameters()]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_learns_and_continues_on_every_device(name, env, device, tmp_path):
    model = build(name, env, device=device).learn(512)  # two episodes of Pendulum-v1
    assert {param.device.type for param in model.policy.parameters()} == {device}
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", gym.make(env), device=device)
    before = weights(loaded)
    assert all(map(torch.equal, weights(model), before))
    loaded.learn(512)
    assert all(torch.isfinite(param).all() for param in weights(loaded))
    assert not all(map(torch.equal, weights(loaded), before))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [name for name, (cls, _) in FAMILY.items() if cls in ON_POLICY])
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_an_update_is_the_same_on_every_device(name, env, device):
    class Collect(BaseCallback):
        def _on_rollout_end(self):
            self.collected = copy.deepcopy(self.model.rollout_buffer)

        def _on_step(self):
            return True

    found = []
    for place in ("cpu", device):
        model = build(name, env, device=place)
        model.learn(0)
        if not found:
            seen = Collect()
            build(name, env).learn(32, seen)
        model.rollout_buffer = copy.deepcopy(seen.collected)
        model.rollout_buffer.device = model.device
        before = weights(model)
        set_random_seed(0)  # the order of minibatches
        model.train()
        found.append([(a - b).cpu() for a, b in zip(weights(model), before, strict=True)])
    # Each parameter by itself: the critic's changes are far larger than the actor's.
    moved = [steps for steps in zip(*found, strict=True) if steps[0].norm() > 0]
    assert len(moved) > 1
    assert all((other - step).norm() < 0.02 * step.norm() for step, other in moved)


def falling(progress):
    """A schedule as users write it: it knows nothing of a progress below zero."""
    assert 0 <= progress <= 1
    return 1e-2 * progress


SCHEDULES = [
    ("NPG", "target_kl"),
    ("NPG", "step_size"),
    ("NPG, line search", "target_kl"),
    ("NPG, Adam", "learning_rate"),
    ("RecurrentNPG", "target_kl"),
    ("PPO", "learning_rate"),
    ("PPO", "clip_range"),
    ("PPO", "clip_range_vf"),
    ("A2C", "learning_rate"),
    ("TRPO", "learning_rate"),
    ("ACER", "learning_rate"),
    ("ACKTR", "learning_rate"),
    ("NAC", "target_kl"),
    ("NAC", "step_size"),
]


@pytest.mark.parametrize(("name", "argument"), SCHEDULES)
def test_a_budget_that_is_no_multiple_of_rollouts_ends_at_a_progress_of_zero(name, argument):
    model = build(name, **{argument: falling}).learn(101)
    assert model.num_timesteps == 128
    assert model._current_progress_remaining == 0
    model.learn(50, reset_num_timesteps=False)
    assert model.num_timesteps == 192
    assert all(torch.isfinite(param).all() for param in weights(model))


@pytest.mark.parametrize(
    ("name", "sde"),
    [(name, sde) for name in FAMILY for sde in (False, True) if not (sde and name == "ACER")],
)
def test_models_and_policies_can_be_copied_and_pickled_at_any_time(name, sde):
    options = {"use_sde": True} if sde else {}
    model = build(name, "Pendulum-v1", **options)

    class InTheMiddle(BaseCallback):
        def _on_training_start(self):
            copy.deepcopy(self.model.policy)

        def _on_rollout_start(self):
            copy.deepcopy(self.model.policy)

        def _on_step(self):
            if self.n_calls == 20:
                copy.deepcopy(self.model.policy)
            return True

    for _ in range(2):  # new, and trained
        before = weights(model)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert all(map(torch.equal, weights(twin), before))
            twin.learn(64)
            assert not all(map(torch.equal, weights(twin), before))
            assert all(map(torch.equal, weights(model), before))
        copy.deepcopy(model.policy)
        model.learn(64, InTheMiddle())


def test_a_copy_goes_on_as_the_original_does():
    model = build("NPG").learn(64)
    results = []
    for each in (copy.deepcopy(model), model):
        each.set_random_seed(3)
        each.learn(64)
        results.append(weights(each))
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("name", FAMILY)
def test_an_assigned_policy_is_the_one_that_learns(name):
    model, donor = build(name), build(name, seed=1)
    assigned = model.policy = donor.policy
    before = weights(model)
    model.learn(256)
    assert model.policy is assigned
    moved = [
        not torch.equal(old, new)
        for old, new, param in zip(before, weights(model), assigned.parameters(), strict=True)
        if param.requires_grad
    ]
    assert all(moved)


PARTS = {
    "actor's body": lambda p: [p.mlp_extractor.policy_net],
    "actor": lambda p: [p.mlp_extractor.policy_net, p.action_net],
    "critic's body": lambda p: [p.mlp_extractor.value_net],
    "critic": lambda p: [p.mlp_extractor.value_net, p.value_net],
    "one bias": lambda p: [p.action_net],
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", [name for name in FAMILY if name != "TRPO"])
def test_frozen_parameters_stay_and_the_others_learn(name, part):
    model = build(name)
    frozen = [param for module in PARTS[part](model.policy) for param in module.parameters()]
    if part == "one bias":
        frozen = [model.policy.action_net.bias]
    for param in frozen:
        param.requires_grad_(False)
    trainable = [param for param in model.policy.parameters() if param.requires_grad]
    before = [param.detach().clone() for param in frozen], [p.detach().clone() for p in trainable]
    model.learn(256)
    assert all(map(torch.equal, frozen, before[0]))
    assert not any(map(torch.equal, trainable, before[1]))
    for param in frozen:  # thawed, they learn again
        param.requires_grad_(True)
    model.learn(64)
    assert not any(map(torch.equal, frozen, before[0]))


CHANGES = [
    ("NPG", "target_kl", 0.001),
    ("NPG", "target_kl", lambda progress: 0.001),
    ("NPG", "cg_max_steps", 1),
    ("NPG", "cg_tol", 0.5),
    ("NPG", "cg_damping", 10.0),
    ("NPG", "critic_damping", 1e6),
    ("NPG", "n_critic_updates", 5),
    ("NPG", "critic_curvature_samples", 3),
    ("NPG", "critic", "adam"),
    ("NPG", "kl_penalty", "adaptive"),
    ("NPG", "kl_constraint", "max"),
    ("NPG", "fisher_solver", "identity"),
    ("NPG", "critic_solver", "identity"),
    ("NPG, long steps", "line_search", True),
    ("NPG", "normalize_advantage", False),
    ("NPG", "normalize_returns", False),
    ("NPG", "sub_sampling_factor", 4),
    ("NPG", "gamma", 0.5),
    ("NPG", "gae_lambda", 0.5),
    ("NPG", "n_steps", 16),
    ("NPG, Adam", "batch_size", 7),
    ("NPG, Adam", "learning_rate", 0.1),
    ("RecurrentNPG", "target_kl", 0.001),
    ("RecurrentNPG", "critic", "adam"),
    ("RecurrentNPG", "gamma", 0.5),
    ("RecurrentNPG", "n_steps", 16),
    ("PPO", "gamma", 0.5),
    ("PPO", "learning_rate", 0.1),
    ("PPO", "n_steps", 64),
    ("A2C", "gae_lambda", 0.5),
    ("TRPO", "gamma", 0.5),
    ("NPG", "fisher_solver", "kfac"),
    ("NPG, K-FAC", "fisher_solver", "cg"),
    ("ACKTR", "kfac_clip", 1e-5),
    ("ACKTR", "kfac_damping", 1.0),
    ("ACKTR", "vf_fisher_coef", 10.0),
    ("ACKTR", "learning_rate", 1e-3),
    ("ACKTR", "n_steps", 16),
    ("ACKTR", "gamma", 0.5),
    ("NAC", "target_kl", 0.001),
    ("NAC", "gamma", 0.5),
    ("NAC", "trace", 0.1),
    ("NAC", "ridge", 1.0),
    ("NAC", "forgetting_factor", 0.5),
    ("NAC", "variant", "episodic"),
    ("NAC", "n_steps", 64),
    ("NAC, episodic", "n_episodes", 12),
]


@pytest.mark.parametrize(("name", "argument", "value"), CHANGES)
def test_an_argument_assigned_later_is_one_given_from_the_start(name, argument, value, tmp_path):
    """As if the model had been loaded with it."""

    def after(change):
        model = build(name).learn(64)
        if change == "assigned":
            setattr(model, argument, value)
        if change == "loaded":
            model.save(tmp_path / "model")
            model = type(model).load(
                tmp_path / "model", model.get_env(), force_reset=False, **{argument: value}
            )
        model.set_random_seed(5)
        return weights(model.learn(128, reset_num_timesteps=False))

    assigned, loaded, neither = after("assigned"), after("loaded"), after(None)
    for left, right in zip(assigned, loaded, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)
    assert not all(map(torch.equal, assigned, neither))


@pytest.mark.parametrize(
    ("argument", "value"),
    [("step_size", 0.1), ("cg_damping", -1.0), ("target_kl", math.nan), ("critic", "foo")],
)
def test_wrong_values_assigned_later_are_refused_before_any_step(argument, value):
    model = build("NPG")
    setattr(model, argument, value)
    with pytest.raises(ValueError, match=argument):
        model.learn(64)
    assert model.num_timesteps == 0


class OneHot(SpacesEnv):
    """Observations of which at least one of two actions is valid, as its masks say."""

    def __init__(self):
        super().__init__(spaces.Box(0, 1, (3,)), spaces.Discrete(2))

    def _look(self):
        mask = self.np_random.random(3) < 0.5
        mask[self.np_random.integers(2)] = True
        return mask.astype(np.float32)

    def reset(self, **kwargs):
        super().reset(**kwargs)
        return self._look(), {}

    def step(self, action):
        _, _, done, cut_off, info = super().step(action)
        return self._look(), float(action), done, cut_off, info


class Masked(ActorCriticPolicy):
    """Invalid actions have no chance; an observation that allows none is an error."""

    def get_distribution(self, obs):
        distribution = super().get_distribution(obs)
        logits = distribution.distribution.logits.masked_fill(obs[:, :2] < 0.5, -math.inf)
        return distribution.proba_distribution(logits)

    def forward(self, obs, deterministic=False):
        distribution = self.get_distribution(obs)
        actions = distribution.get_actions(deterministic)
        return actions, self.predict_values(obs), distribution.log_prob(actions)

    def evaluate_actions(self, obs, actions):
        distribution = self.get_distribution(obs)
        return self.predict_values(obs), distribution.log_prob(actions), distribution.entropy()


@pytest.mark.parametrize("name", ["NPG", "NPG, Adam", "NPG, K-FAC", "ACKTR", "PPO", "A2C", "NAC"])
def test_policies_see_no_observation_that_no_environment_gives(name):
    model = build(name, OneHot(), Masked).learn(96)
    assert model.num_timesteps == 96
    assert all(torch.isfinite(param).all() for param in weights(model))


class Normed(BaseFeaturesExtractor):
    """Features that depend on the rest of the batch, in training mode."""

    def __init__(self, space):
        super().__init__(space, 8)
        self.net = nn.Sequential(nn.Linear(space.shape[0], 8), nn.BatchNorm1d(8), nn.Dropout(0.1))

    def forward(self, observations):
        return self.net(observations)


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize(
    "name",
    ["NPG", "NPG, Adam", "NPG, K-FAC", "RecurrentNPG", "ACKTR", "ACER", "PPO", "A2C", "NAC"],
)
def test_policies_with_batch_norm_and_dropout(name, env):
    model = build(name, env, policy_kwargs={"features_extractor_class": Normed})
    extractor = model.policy.features_extractor
    seen = extractor.net[1].running_mean.clone()
    assert torch.equal(seen, torch.zeros(8)), "construction looks at nothing"
    model.learn(96)
    assert all(torch.isfinite(param).all() for param in weights(model))


class Raw(gym.Env):
    """Observations in their units: so large that a fresh policy is certain of its action."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,))

    def __init__(self, action_space):
        self.action_space = action_space

    def _look(self):
        scale = [1e-30, 1.0, 1e4]
        return (scale * self.np_random.normal(size=3)).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._look(), {}

    def step(self, action):
        self.t += 1
        return self._look(), float(np.sum(action)), False, self.t == 50, {}


@pytest.mark.parametrize("actions", ["categorical", "multicategorical", "bernoulli", "gaussian"])
@pytest.mark.parametrize("name", FAMILY)
def test_numpy_may_raise_on_every_floating_point_error(name, actions):
    policy_kwargs = {"activation_fn": nn.ReLU}
    with np.errstate(all="raise"):
        model = build(name, Raw(ACTION_SPACES[actions]), policy_kwargs=policy_kwargs)
        model.learn(512)
        assert np.geterr()["under"] == "raise"
    assert model.num_timesteps == 512


@pytest.mark.parametrize("critic", ["adam", "gauss_newton"])
def test_a_return_beyond_single_precision_costs_the_update_not_the_critic(critic):
    """Squared it is infinite, and would stay in Adam's second moment for good."""

    class Spike(SpacesEnv):
        steps = 0

        def step(self, action):
            observation, reward, *rest = super().step(action)
            self.steps += 1
            return observation, 1e22 if self.steps == 40 else reward, *rest

    env = Spike(OBSERVATION_SPACES["mlp"], ACTION_SPACES["gaussian"])
    model = build("NPG", env, critic=critic, normalize_returns=False)
    value_net = model.policy.value_net.weight
    model.learn(32)
    before = value_net.detach().clone()
    with pytest.warns(UserWarning, match="critic update skipped"):
        model.learn(32, reset_num_timesteps=False)
    assert torch.equal(value_net, before)
    assert model._skipped_updates >= 1
    for state in model.policy.optimizer.state.values():
        assert all(torch.isfinite(value).all() for value in state.values())
    model.learn(32, reset_num_timesteps=False)
    assert not torch.equal(value_net, before), "it goes on learning"


@pytest.mark.parametrize("cls", [NPG, ACKTR, NAC])
def test_policies_with_a_memory_are_refused_by_name(cls):
    with pytest.raises(ValueError, match="policy must have no memory, got RecurrentActorCritic"):
        cls(RecurrentActorCriticPolicy, "CartPole-v1")
