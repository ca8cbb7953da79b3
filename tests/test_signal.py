"""The share of signal in a policy gradient, where it is known."""

import copy
import random

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy

import sb3_natural
from sb3_natural import A2C, ACER, NPG, PPO, TRPO, SignalCallback, signal_share
from sb3_natural.curvature.operators import Damped, FisherOperator
from sb3_natural.curvature.solvers import Dense
from sb3_natural.signal import Signal, as_log_prob_takes, normalised, sample_gradients
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, SpacesEnv

N_ACTIONS = 6
SIGMA = 0.5
SLOPE = 0.2  # of the reward, per unit of each action
NOISE = 1.0


@pytest.fixture
def bandit() -> ActorCriticPolicy:
    """A policy of one state, which is 0: its action is b + SIGMA z, b and SIGMA are learned."""
    policy = ActorCriticPolicy(
        spaces.Box(-1, 1, (1,)), spaces.Box(-1, 1, (N_ACTIONS,)), lambda _: 1e-3, net_arch=[]
    )
    with torch.no_grad():
        policy.log_std.fill_(np.log(SIGMA))
    policy.set_training_mode(False)
    return policy


def bandit_rollout(
    policy: ActorCriticPolicy, rng: np.random.Generator, n_steps: int, n_envs: int
) -> RolloutBuffer:
    """A rollout whose advantages are SLOPE times the sum of the actions, and noise."""
    buffer = RolloutBuffer(
        n_steps, policy.observation_space, policy.action_space, "cpu", n_envs=n_envs
    )
    mean = policy.action_net.bias.detach().numpy()
    buffer.actions[:] = mean + SIGMA * rng.normal(size=(n_steps, n_envs, N_ACTIONS))
    noise = NOISE * rng.normal(size=(n_steps, n_envs))
    buffer.advantages = (SLOPE * buffer.actions.sum(axis=2) + noise).astype(np.float32)
    buffer.full = True
    return buffer


def true_signal(damping: float) -> float:
    """With g = SLOPE and F = SIGMA^-2 for each mean, and g = 0 for each log_std."""
    variance = N_ACTIONS * (SLOPE * SIGMA) ** 2 + NOISE**2
    return N_ACTIONS * SLOPE**2 / (SIGMA**-2 + damping) / variance


@pytest.mark.parametrize("n_steps", [64, 37])  # 37: halves of 18 and 19 steps
def test_the_signal_is_unbiased_and_the_total_is_not(bandit, n_steps):
    rng, damping, n_envs = np.random.default_rng(0), 0.1, 4
    found = [
        signal_share(bandit, bandit_rollout(bandit, rng, n_steps, n_envs), damping)
        for _ in range(500)
    ]
    signals, totals = np.array(found).T
    truth = true_signal(damping)
    error = signals.std() / np.sqrt(len(signals))
    assert error < 0.1 * truth, "precise enough to tell"
    assert abs(signals.mean() - truth) < 4 * error
    # Noise of (nearly) 1/N for each of the 2 N_ACTIONS parameters, that of log_std twice F^-1's.
    noise = totals.mean() - truth
    assert noise == pytest.approx(2 * N_ACTIONS / (n_steps * n_envs), rel=0.1)
    assert noise > 10 * error


def test_without_signal_the_mean_signal_is_zero(bandit):
    rng = np.random.default_rng(1)
    found = []
    for _ in range(200):
        buffer = bandit_rollout(bandit, rng, 32, 2)
        buffer.advantages = rng.normal(size=(32, 2)).astype(np.float32)
        found.append(signal_share(bandit, buffer))
    signals, totals = np.array(found).T
    assert abs(signals.mean()) < 4 * signals.std() / np.sqrt(len(signals))
    assert (signals < 0).any()
    assert (totals > 0).all()


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("n_steps", [16, 15])
@pytest.mark.parametrize("actions", ["gaussian", "categorical", "multicategorical", "bernoulli"])
def test_the_signal_is_what_halves_of_the_rollout_give(actions, n_steps, n_envs):
    """g1^T F^-1 g2 = g^T F^-1 g - d^T F^-1 d, with gradients by autograd and F as a matrix."""
    env = SpacesEnv(OBSERVATION_SPACES["mlp"], ACTION_SPACES[actions])
    vec_env = stable_baselines3.common.vec_env.DummyVecEnv([lambda: copy.deepcopy(env)] * n_envs)
    model = PPO(
        "MlpPolicy",
        vec_env,
        n_steps=n_steps,
        batch_size=n_steps,
        policy_kwargs={"net_arch": [4]},
        seed=0,
        device="cpu",
    )
    kept = {}

    class Keep(SignalCallback):
        def _on_rollout_end(self) -> None:
            kept["buffer"] = copy.deepcopy(self.model.rollout_buffer)
            kept["found"] = signal_share(self.model.policy, kept["buffer"], 0.5, cg_max_steps=500)
            kept["policy"] = copy.deepcopy(self.model.policy)

    model.learn(n_steps * n_envs, Keep())
    policy, buffer = kept["policy"], kept["buffer"]
    observations = torch.as_tensor(buffer.observations).flatten(0, 1)
    taken = as_log_prob_takes(policy, torch.as_tensor(buffer.actions).flatten(0, 1))
    advantages = torch.as_tensor(buffer.advantages).flatten()
    advantages = (advantages - advantages.mean()) / advantages.std(correction=0)
    fisher = FisherOperator(policy, observations)

    def gradient(half: slice) -> torch.Tensor:
        log_prob = policy.get_distribution(observations[half]).log_prob(taken[half])
        parts = torch.autograd.grad((log_prob * advantages[half]).mean(), fisher.params)
        return torch.cat([part.flatten() for part in parts])

    half = n_steps // 2 * n_envs
    first, second, whole = (gradient(s) for s in (slice(half), slice(half, None), slice(None)))

    def form(a: torch.Tensor, b: torch.Tensor) -> float:
        return (a @ Dense().solve(Damped(fisher, 0.5), b).direction).item()

    assert kept["found"].signal == pytest.approx(form(first, second), rel=1e-3, abs=1e-6)
    assert kept["found"].total == pytest.approx(form(whole, whole), rel=1e-3)
    if n_steps % 2 == 0:
        d = (first - second) / 2
        assert form(whole, whole) - form(d, d) == pytest.approx(
            form(first, second), rel=1e-3, abs=1e-6
        )


def test_the_share_is_the_ratio(bandit):
    assert Signal(1.0, 4.0).share == 0.25
    assert np.isnan(Signal(0.0, 0.0).share)
    buffer = bandit_rollout(bandit, np.random.default_rng(0), 8, 1)
    buffer.advantages[:] = 3.0
    assert signal_share(bandit, buffer) == (0.0, 0.0)


def test_a_sample_gradient_is_the_score_times_the_advantage(bandit):
    rng = np.random.default_rng(0)
    actions = torch.as_tensor(rng.normal(size=(5, N_ACTIONS)), dtype=torch.float32)
    advantages = torch.as_tensor(rng.normal(size=5), dtype=torch.float32)
    fisher = FisherOperator(bandit, torch.zeros(5, 1), actions)
    gradient = fisher.jacobian.vjp(sample_gradients(fisher, advantages))
    torch.testing.assert_close(gradient, fisher.scores().T @ advantages, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="advantages must have shape"):
        sample_gradients(fisher, advantages[:4])
    with pytest.raises(ValueError, match="actions"):
        sample_gradients(FisherOperator(bandit, torch.zeros(5, 1)), advantages)
    assert normalised(torch.full((4,), 0.1)).tolist() == [0.0] * 4


def test_a_buffer_that_cannot_be_halved_is_refused(bandit):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least 2 steps, got 1"):
        signal_share(bandit, bandit_rollout(bandit, rng, 1, 4))
    buffer = bandit_rollout(bandit, rng, 4, 1)
    buffer.full = False
    with pytest.raises(ValueError, match="not full"):
        signal_share(bandit, buffer)
    buffer.full = True
    next(buffer.get(4))
    with pytest.raises(ValueError, match="flattened by an update"):
        signal_share(bandit, buffer)
    with pytest.raises(ValueError, match="damping must be finite and not negative, got -1"):
        signal_share(bandit, bandit_rollout(bandit, rng, 4, 1), damping=-1)


ALGORITHMS = {
    "NPG": (NPG, {"n_steps": 32}),
    "TRPO": (TRPO, {"n_steps": 32, "batch_size": 32}),
    "PPO": (PPO, {"n_steps": 32, "batch_size": 32}),
    "A2C": (A2C, {"n_steps": 8}),
    "SB3's PPO": (stable_baselines3.PPO, {"n_steps": 32, "batch_size": 32}),
    "sb3-contrib's TRPO": (sb3_contrib.TRPO, {"n_steps": 32, "batch_size": 32}),
}


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("use_sde", [False, True])
def test_training_is_the_same_with_and_without_it(name, use_sde):
    cls, arguments = ALGORITHMS[name]

    def trained(callback: SignalCallback | None):
        env = gym.make("Pendulum-v1")
        model = cls("MlpPolicy", env, seed=0, device="cpu", use_sde=use_sde, **arguments)
        model.learn(96, callback)
        drawn = random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002
        return model, model.policy.state_dict(), drawn

    callback = SignalCallback(window=2)
    _, without, drawn_without = trained(None)
    model, with_it, drawn_with = trained(callback)
    assert drawn_with == drawn_without
    for key, value in without.items():
        assert torch.equal(with_it[key], value), key
    if cls.__module__.startswith("sb3_natural"):
        copy.deepcopy(model.policy)  # no graph is left behind
    latest = list(callback._latest)
    assert len(latest) == 2  # of more rollouts
    assert np.isfinite(latest).all()


def test_it_logs_the_mean_over_the_window():
    rows = []

    class Recording(SignalCallback):
        def _on_rollout_end(self) -> None:
            super()._on_rollout_end()
            rows.append((self._latest[-1], dict(self.logger.name_to_value)))

    NPG("MlpPolicy", "CartPole-v1", n_steps=32, seed=0, device="cpu").learn(
        5 * 32, Recording(window=3)
    )
    found = np.array([each for each, _ in rows])
    for i, (_, logged) in enumerate(rows):
        signal, total = found[max(0, i - 2) : i + 1].mean(axis=0)
        assert logged["train/signal"] == pytest.approx(signal)
        assert logged["train/signal_share"] == pytest.approx(signal / total)


def test_other_algorithms_are_refused():
    for model in (
        ACER("MlpPolicy", "CartPole-v1", device="cpu"),
        stable_baselines3.DQN("MlpPolicy", "CartPole-v1", device="cpu", buffer_size=10),
    ):
        with pytest.raises(ValueError, match=f"on-policy.*got {type(model).__name__}"):
            model.learn(10, SignalCallback())
    with pytest.raises(ValueError, match=r"window must be an integer that is at least 1, got 0\.5"):
        SignalCallback(window=0.5)


def test_it_is_public():
    assert {"SignalCallback", "signal_share"} <= set(sb3_natural.__all__)
