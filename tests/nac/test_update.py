"""One update of NAC: the critic, the natural gradient and the step, against other computations."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_natural import NAC
from sb3_natural.curvature.operators import Damped, FisherOperator
from sb3_natural.curvature.solvers import Empirical
from sb3_natural.nac import estimation
from sb3_natural.nac.lstd import Lstd
from sb3_natural.nac.policies import value_features
from sb3_natural.networks.parameters import assign_flat, flatten
from tests.helpers import make_observations, make_policy
from tests.nac.helpers import LINEAR, AfterRollout, collected, theta

GAMMA = 0.9


def flat(array):
    return array.reshape(-1, *array.shape[2:])


def td_errors(model):
    """r + gamma V(s') - V(s) under the policy's critic, (N,), step by step."""
    buffer, seen = model.rollout_buffer, model._transitions
    with torch.no_grad():
        values = model.policy.predict_values(torch.as_tensor(flat(buffer.observations)))
        last = model.policy.predict_values(torch.as_tensor(seen.last_observations))
    values = values.double().numpy().reshape(seen.rewards.shape)
    following = np.concatenate([values[1:], last.double().numpy().reshape(1, -1)])
    following[seen.dones] = 0
    if seen.cut_off is not None:
        with torch.no_grad():
            ends = model.policy.predict_values(torch.as_tensor(seen.cut_off))
        following[seen.cut_off_at] = ends.double().numpy().reshape(-1)
    return torch.as_tensor((seen.rewards + model.gamma * following - values).reshape(-1))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("ridge", [1e-6, 1e-2])
def test_w_is_npgs_direction_with_the_empirical_fisher_and_td_errors_for_advantages(env_id, ridge):
    model = NAC(
        "MlpPolicy", make_vec_env(env_id, 2, seed=0), n_steps=300, trace=0.0, ridge=ridge,
        gamma=GAMMA, seed=0, device="cpu", policy_kwargs=dict(net_arch=dict(pi=[4], vf=[6])),
    )  # fmt: skip
    before, batch, w = collected(model)
    after = theta(model)
    assign_flat(FisherOperator(model.policy, batch.observations).params, before)
    fisher = FisherOperator(model.policy, batch.observations, batch.actions)
    gradient = fisher.scores().double().T @ td_errors(model) / fisher.n_samples
    expected = Empirical().solve(Damped(fisher, ridge), gradient).direction
    torch.testing.assert_close(w, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    cosine = torch.nn.functional.cosine_similarity(after - before, w.float(), dim=0)
    assert cosine > 0.9999, "and the policy moves along it"


def test_a_fixed_step_is_alpha_w():
    model = NAC("MlpPolicy", "CartPole-v1", n_steps=200, step_size=1e-3, seed=0, device="cpu",
                policy_kwargs=LINEAR)  # fmt: skip
    before, _, w = collected(model)
    torch.testing.assert_close(theta(model) - before, 1e-3 * w.float(), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("variant", ["lstd", "episodic"])
def test_a_step_has_the_kl_divergence_asked_for_whatever_rewards_are_worth(variant):
    moved = []
    for scale in (1.0, 1e4):
        env = gym.wrappers.TransformReward(gym.make("CartPole-v1"), lambda r, c=scale: c * r)
        model = NAC("MlpPolicy", env, variant, n_steps=400, target_kl=1e-3, seed=0, device="cpu")
        before, _, _ = collected(model)
        log = model.logger.name_to_value
        assert log["train/kl"] == pytest.approx(1e-3, rel=0.2)
        assert log["train/kl_predicted"] == pytest.approx(1e-3, rel=1e-3)
        moved.append(theta(model) - before)
    torch.testing.assert_close(*moved, rtol=1e-2, atol=1e-4)


class Ones(gym.Env):
    """Reward 1 at every step; an episode ends after five steps, by the rules or by the clock."""

    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Discrete(2)

    def __init__(self, by_the_clock):
        self.by_the_clock = by_the_clock

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        self.age += 1
        over = self.age == 5
        observation = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return observation, 1.0, over and not self.by_the_clock, over and self.by_the_clock, {}


@pytest.mark.parametrize("variant", ["lstd", "episodic"])
@pytest.mark.parametrize("trace", [0.0, 0.8])
@pytest.mark.filterwarnings("ignore:policy update skipped")  # no action is better than another
def test_time_limits_are_no_terminations(variant, trace):
    """Beyond a time limit the rewards go on: V = 1 / (1 - gamma). A terminated episode is worth
    less, and so is its last step."""
    values = {}
    for by_the_clock in (True, False):
        model = NAC(
            "MlpPolicy", Ones(by_the_clock), variant, n_steps=400, trace=trace, gamma=GAMMA,
            policy_kwargs=LINEAR, seed=0, device="cpu",
        )  # fmt: skip
        model.learn(400)
        with torch.no_grad():
            values[by_the_clock] = model.policy.predict_values(torch.zeros(1, 2)).item()
    assert values[True] == pytest.approx(1 / (1 - GAMMA), rel=1e-3)
    assert values[False] < 1 + GAMMA + GAMMA**2 + GAMMA**3 + GAMMA**4


def test_a_time_limit_adds_the_value_of_the_last_state_to_an_episodes_return():
    model = NAC("MlpPolicy", Ones(True), "episodic", n_steps=403, gamma=GAMMA, n_episodes=1_000,
                seed=0, device="cpu").learn(403)  # fmt: skip
    assert len(model._episodes) == 80
    assert (model._transitions.rewards == 1).all(), "they stay as they came"
    torch.testing.assert_close(
        model._episodes.returns, torch.full((80,), 1 / (1 - GAMMA)).double(), rtol=1e-3, atol=0
    )


def test_episodes_that_span_rollouts_have_the_returns_that_the_monitor_saw():
    """Also while the critic cannot be solved for: without a discount or an end, V is unbounded."""
    env = make_vec_env("CartPole-v1", 3, seed=0)
    model = NAC("MlpPolicy", env, "episodic", n_steps=5, gamma=1.0, n_episodes=10_000, seed=0,
                device="cpu")  # fmt: skip
    with pytest.warns(UserWarning, match="critic update skipped"):
        model.learn(900)
    expected = [info["r"] for info in model.ep_info_buffer]
    assert len(expected) > 30
    assert sorted(model._episodes.returns.tolist()) == sorted(expected)
    assert model.logger.name_to_value["train/step_length"] == 0, "there was no step"


def test_summed_scores_are_those_of_the_steps_of_the_episode():
    model = NAC("MlpPolicy", "CartPole-v1", "episodic", n_steps=200, gamma=GAMMA, seed=0,
                n_episodes=1_000, device="cpu").learn(200)  # fmt: skip
    batch = estimation.batch_of(model.rollout_buffer, model.device)
    scores = FisherOperator(model.policy, batch.observations, batch.actions).scores().double()
    ends = np.flatnonzero(model._transitions.dones[:, 0])
    start = 0
    for index, end in enumerate(ends):
        weights = torch.from_numpy(GAMMA ** np.arange(end + 1.0 - start))
        expected = weights @ scores[start : end + 1]
        torch.testing.assert_close(model._episodes.scores[index], expected, rtol=1e-5, atol=1e-6)
        start = end + 1
    assert len(ends) == len(model._episodes) > 3


def test_an_interrupted_episode_counts_with_the_scores_of_the_policies_that_acted():
    """It started before a step of the policy, and ends after it."""
    model = NAC("MlpPolicy", "CartPole-v1", "episodic", n_steps=64, gamma=1.0, n_episodes=2,
                seed=0, device="cpu", policy_kwargs=LINEAR)  # fmt: skip
    model.learn(64)
    underway, before = model._episodes.open_scores.clone(), theta(model)
    assert model.logger.name_to_value["train/step_length"] > 0
    assert underway.abs().max() > 0
    model.n_episodes = 1_000
    model.learn(64, reset_num_timesteps=False)
    assert torch.equal(theta(model), before)
    batch = estimation.batch_of(model.rollout_buffer, model.device)
    scores = FisherOperator(model.policy, batch.observations, batch.actions).scores().double()
    first_end = int(np.flatnonzero(model._transitions.dones[:, 0])[0])
    expected = underway[0] + scores[: first_end + 1].sum(dim=0)
    torch.testing.assert_close(model._episodes.scores[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", ["lstd", "episodic"])
def test_the_number_of_scores_in_memory_changes_nothing(variant, monkeypatch):
    results = []
    for elements in (estimation._BLOCK_ELEMENTS, 1):
        monkeypatch.setattr(estimation, "_BLOCK_ELEMENTS", elements)
        env = make_vec_env("CartPole-v1", 2, seed=0)
        model = NAC("MlpPolicy", env, variant, n_steps=100, seed=0, device="cpu").learn(400)
        results.append(theta(model))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0])
def test_the_sums_forget_when_the_policy_has_moved(factor):
    """Two rollouts: with a step after the first, and without one."""
    counts = {}
    for moves in (True, False):
        model = NAC("MlpPolicy", "CartPole-v1", n_steps=100, forgetting_factor=factor, seed=0,
                    max_angle=None if moves else 0.0, device="cpu").learn(200)  # fmt: skip
        counts[moves] = model._lstd.count.item()
    assert counts[True] == pytest.approx(factor * (100 + factor * 100))
    assert counts[False] == 200


def test_the_policy_waits_until_the_natural_gradient_has_settled():
    model = NAC("MlpPolicy", "CartPole-v1", n_steps=256, max_angle=0.5, seed=0, device="cpu",
                policy_kwargs=LINEAR, ridge=1e-3)  # fmt: skip
    lengths, angles, directions = [], [], []

    def look(model):
        log = model.logger.name_to_value
        lengths.append(log["train/step_length"])
        angles.append(log.get("train/angle"))

    original = model._natural_gradient
    model._natural_gradient = lambda *args: directions.append(original(*args)) or directions[-1]
    model.learn(20 * 256, callback=AfterRollout(look))
    look(model)
    lengths, angles = lengths[1:], angles[1:]
    assert any(length > 0 for length in lengths)
    assert any(length == 0 for length in lengths[1:])
    for now in range(1, len(lengths)):
        if lengths[now - 1] > 0:  # another policy's direction is no measure
            assert lengths[now] == 0
            continue
        left, right = directions[now - 1].numpy(), directions[now].numpy()
        cosine = left @ right / np.linalg.norm(left) / np.linalg.norm(right)
        assert angles[now] == pytest.approx(math.acos(cosine), abs=1e-5)
        assert (lengths[now] > 0) == (angles[now] <= 0.5)


def test_a_rollout_that_a_callback_stops_breaks_traces_and_episodes():
    for variant in ("lstd", "episodic"):
        model = NAC("MlpPolicy", "Pendulum-v1", variant, n_steps=50, forgetting_factor=1.0,
                    n_episodes=1_000, seed=0, device="cpu").learn(50)  # fmt: skip
        assert model._lstd.traces.abs().max() > 0

        class Stop(AfterRollout):
            def _on_step(self):
                return self.n_calls < 20

        model.learn(50, callback=Stop(lambda model: None), reset_num_timesteps=False)
        assert model._lstd.traces.abs().max() == 0
        if variant == "episodic":
            assert not model._episodes.known.any()


@pytest.mark.parametrize("observations", ["mlp", "cnn", "dict", "discrete"])
@pytest.mark.parametrize("shared", [True, False])
def test_values_are_linear_in_the_features(observations, shared):
    policy = make_policy("categorical", observations, share_features_extractor=shared)
    states = make_observations(policy, 6)
    psi = value_features(policy, states)
    v = torch.cat([policy.value_net.bias, policy.value_net.weight[0]])
    with torch.no_grad():
        torch.testing.assert_close(psi @ v, policy.predict_values(states)[:, 0])
    assert not policy.value_net._forward_pre_hooks


def test_only_the_last_layer_of_the_critic_moves():
    model = NAC("MlpPolicy", "CartPole-v1", n_steps=64, seed=0, device="cpu")
    body = flatten(model.policy.mlp_extractor.value_net.parameters()).detach().clone()
    head = model.policy.value_net.weight.detach().clone()
    model.learn(64)
    assert torch.equal(flatten(model.policy.mlp_extractor.value_net.parameters()), body)
    assert not torch.equal(model.policy.value_net.weight, head)


@pytest.mark.parametrize("variant", ["lstd", "episodic"])
def test_rewards_that_prefer_no_action_move_nothing(variant):
    class Nothing(Ones):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, 0.0, *rest

    model = NAC("MlpPolicy", Nothing(False), variant, n_steps=100, seed=0, device="cpu")
    before = theta(model)
    with pytest.warns(UserWarning, match="vanishes"):
        model.learn(100)
    assert torch.equal(theta(model), before)
    assert model.logger.name_to_value["train/skipped_updates"] == 1
    assert len(model._episodes) == 0, "they are not heard again"


def test_one_environment_after_another_or_side_by_side_gives_the_same_sums():
    """Traces belong to environments."""

    env = DummyVecEnv([lambda: Ones(False)] * 4)
    model = NAC("MlpPolicy", env, n_steps=10, seed=0, max_angle=0.0, device="cpu",
                policy_kwargs=LINEAR).learn(40)  # fmt: skip
    batch = estimation.batch_of(model.rollout_buffer, model.device)
    psi, following = estimation.state_features(model.policy, batch, model._transitions)
    (_, scores), = estimation.score_blocks(model.policy, batch, theta(model).numel())  # fmt: skip
    features = torch.cat([psi, scores], dim=2)
    total = torch.zeros_like(model._lstd.a)
    for env in range(4):
        alone = Lstd(model.device)
        alone.prepare(features.shape[2], 1)
        one = slice(env, env + 1)
        alone.add(
            features[:, one], following[:, one],
            torch.from_numpy(model._transitions.rewards[:, one]),
            torch.from_numpy(batch.starts[:, one]), model.gamma, model.trace,
        )  # fmt: skip
        total += alone.a
    torch.testing.assert_close(model._lstd.a, total, rtol=1e-6, atol=1e-6)
