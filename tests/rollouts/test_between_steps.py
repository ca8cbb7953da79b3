"""Between two steps: callbacks change the policy, environments reuse arrays."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
    sync_envs_normalization,
)

import sb3_natural
from sb3_natural import ACER, NPG
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, SpacesEnv
from tests.rollouts.test_collection import Limited, assert_same_rollouts, collect, train_nothing

ON_POLICY = [sb3_natural.PPO, sb3_natural.A2C, sb3_natural.TRPO, NPG]


class Change(BaseCallback):
    """Calls a function of the model and the number of steps so far after each step."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    def _on_step(self) -> bool:
        self.change(self.model, self.num_timesteps)
        return True


def anneal(model, step):
    """In place, past torch's version counters, as SB3's users do it."""
    model.policy.log_std.data.fill_(-step / 48)


def exchange_log_std(model, step):
    model.policy.log_std = torch.nn.Parameter(torch.full((2,), -step / 48))


def exchange_data(model, step):
    model.policy.action_net.weight.data = model.policy.action_net.weight.data * 1.01


def exchange_layer(model, step):
    layer = torch.nn.Linear(64, model.policy.action_net.out_features)
    with torch.no_grad():
        for param in layer.parameters():
            param.fill_(0.01 * (step % 7))
    model.policy.action_net = layer


def exchange_network(model, step):
    net = model.policy.mlp_extractor.policy_net
    net[1] = torch.nn.ReLU() if step % 2 else torch.nn.Tanh()


def move_weights(model, step):
    with torch.no_grad():
        model.policy.mlp_extractor.policy_net[0].weight.mul_(1.01)


def hook_a_layer(model, step):
    if step == 20:
        model.policy.action_net.register_forward_hook(lambda _, __, output: output + 1)


def assign_forward(model, step):
    if step == 20:
        policy = model.policy
        policy.forward = lambda obs, deterministic=False: type(policy).forward(policy, obs, True)


@pytest.mark.parametrize("path", ["numpy", "torch"])
@pytest.mark.parametrize(
    "change",
    [
        anneal,
        exchange_log_std,
        exchange_data,
        exchange_layer,
        exchange_network,
        move_weights,
        hook_a_layer,
        assign_forward,
    ],
)
def test_what_a_callback_changes_acts_at_the_next_step(change, path):
    """Actions and log-probabilities are those of SB3, which evaluates at each step."""

    def run(cls, forced):
        env = make_vec_env(
            lambda: SpacesEnv(OBSERVATION_SPACES["mlp"], ACTION_SPACES["gaussian"]), 2, seed=0
        )
        return collect(cls, "MlpPolicy", env, forced, callback=Change(change))

    ours, theirs = run(sb3_natural.PPO, path), run(sb3.PPO, None)
    for name in ("actions", "log_probs", "rewards"):
        np.testing.assert_allclose(
            getattr(ours.rollout_buffer, name), getattr(theirs.rollout_buffer, name), 1e-4, 1e-4
        )


@pytest.mark.parametrize("actions", ["categorical", "multicategorical", "bernoulli", "gsde"])
@pytest.mark.parametrize("change", [exchange_layer, move_weights, hook_a_layer, assign_forward])
def test_what_a_callback_changes_acts_for_every_kind_of_action(change, actions):
    def run(cls):
        env = make_vec_env(
            lambda: SpacesEnv(OBSERVATION_SPACES["mlp"], ACTION_SPACES[actions]), 2, seed=0
        )
        sde = {"use_sde": True} if actions == "gsde" else {}
        return collect(cls, "MlpPolicy", env, None, callback=Change(change), **sde)

    ours, theirs = run(sb3_natural.PPO), run(sb3.PPO)
    for name in ("actions", "log_probs"):
        np.testing.assert_allclose(
            getattr(ours.rollout_buffer, name), getattr(theirs.rollout_buffer, name), 1e-4, 1e-4
        )


@pytest.mark.parametrize("cls", ON_POLICY)
def test_annealed_noise_is_that_of_the_actions_and_their_log_probabilities(cls):
    n = 256
    given = dict(n_steps=n, policy_kwargs=dict(log_std_init=0.0), seed=0, device="cpu")
    model = train_nothing(cls("MlpPolicy", "Pendulum-v1", **given))
    model.learn(n, Change(lambda model, step: model.policy.log_std.data.fill_(-2 * step / n)))
    buffer = model.rollout_buffer
    with torch.no_grad():
        observations = torch.as_tensor(buffer.observations.reshape(n, -1))
        mean = model.policy.get_distribution(observations).distribution.mean
    actions = torch.as_tensor(buffer.actions.reshape(n, -1))
    std = torch.exp(-2 * torch.arange(n) / n)[:, None]
    expected = torch.distributions.Normal(mean, std).log_prob(actions).sum(dim=1)
    np.testing.assert_allclose(buffer.log_probs.reshape(-1), expected, 1e-4, 1e-4)
    assert ((actions - mean) / std).std().item() == pytest.approx(1, abs=0.15)


def test_what_a_callback_changes_as_a_rollout_starts_acts_from_its_first_step():
    class Exchange(BaseCallback):
        def _on_rollout_start(self):
            self.model.policy.log_std = torch.nn.Parameter(torch.full((1,), -5.0))

        def _on_step(self):
            return True

    model = train_nothing(NPG("MlpPolicy", "Pendulum-v1", n_steps=32, seed=0, device="cpu"))
    model.learn(32, Exchange())
    with torch.no_grad():
        observations = torch.as_tensor(model.rollout_buffer.observations.reshape(32, -1))
        mean = model.policy.get_distribution(observations).distribution.mean.numpy()
    assert np.abs(model.rollout_buffer.actions.reshape(32, 1) - mean).max() < 0.1


def test_a_callback_that_looks_after_its_change_sees_the_action_that_was_taken():
    seen = []

    class Look(BaseCallback):
        def _on_step(self):
            self.model.policy.log_std.data.fill_(-3.0)
            seen.append(float(self.locals["log_probs"]))
            return True

    model = train_nothing(NPG("MlpPolicy", "Pendulum-v1", n_steps=32, seed=0, device="cpu"))
    model.learn(32, Look())
    np.testing.assert_allclose(seen, model.rollout_buffer.log_probs.reshape(-1), 1e-5, 1e-5)


def test_a_policy_that_a_callback_assigns_acts_at_once():
    env = gym.make("CartPole-v1")
    model = train_nothing(NPG("MlpPolicy", env, n_steps=32, seed=0, device="cpu"))
    donor = NPG("MlpPolicy", env, seed=1, device="cpu").policy
    with torch.no_grad():
        donor.action_net.bias.copy_(torch.tensor([50.0, 0.0]))  # always to the left

    def assign(model, step):
        if step == 10:
            model.policy = donor

    model.learn(32, Change(assign))
    assert model.rollout_buffer.actions[:10].sum() > 0
    assert (model.rollout_buffer.actions[10:] == 0).all()
    np.testing.assert_allclose(model.rollout_buffer.log_probs[10:], 0, atol=1e-6)


class Reusing(VecEnvWrapper):
    """Hands over the same arrays at each step, and overwrites them at the next."""

    def __init__(self, venv: Any) -> None:
        super().__init__(venv)
        self._held: tuple[Any, ...] | None = None

    def reset(self) -> Any:
        self._held = None
        self._observations = self.venv.reset()
        return self._observations

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        if self._held is None:
            last = np.zeros(observations.shape[1:], observations.dtype)
            self._held = (rewards, dones, infos, last)
        held_rewards, held_dones, held_infos, held_last = self._held
        np.copyto(self._observations, observations)
        np.copyto(held_rewards, rewards)
        np.copyto(held_dones, dones)
        for held, info in zip(held_infos, infos, strict=True):
            held.clear()
            held.update(info)
            if "terminal_observation" in held:
                np.copyto(held_last, held["terminal_observation"])
                held["terminal_observation"] = held_last
        return self._observations, held_rewards, held_dones, held_infos


def limited_envs(wrap):
    return wrap(
        DummyVecEnv([lambda: Limited(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)), length=5)])
    )


@pytest.mark.parametrize("path", ["numpy", "torch"])
@pytest.mark.parametrize("cls", [sb3_natural.PPO, NPG])
def test_arrays_that_an_environment_reuses_are_read_in_time(cls, path):
    def run(wrap):
        env = limited_envs(wrap)
        env.seed(0)
        return collect(cls, "MlpPolicy", env, path, gamma=0.9)

    assert_same_rollouts(run(Reusing), run(lambda env: env), tolerance=1e-6)


@pytest.mark.parametrize("cls", [sb3_natural.PPO, ACER])
def test_what_a_callback_sees_is_of_its_step_where_an_environment_reuses_arrays(cls):
    seen = {}

    class Look(BaseCallback):
        def _on_step(self):
            seen[self.wrap].append(float(self.locals["values"]))
            return True

    def run(wrap):
        env = limited_envs(wrap)
        env.seed(0)
        callback = Look()
        callback.wrap, seen[wrap] = wrap, []
        train_nothing(cls("MlpPolicy", env, n_steps=16, seed=0, device="cpu")).learn(16, callback)

    def plain(env):
        return env

    run(Reusing)
    run(plain)
    np.testing.assert_allclose(seen[Reusing], seen[plain], 1e-6, 1e-6)


class OwnStep(VecEnvWrapper):
    """A wrapper whose ``step`` is its own."""

    steps = 0

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        return self.venv.step_wait()

    def step(self, actions):
        self.steps += 1
        return super().step(actions)


@pytest.mark.parametrize("cls", [sb3_natural.PPO, NPG, ACER])
def test_a_wrapper_that_steps_in_its_own_way_does_so(cls):
    env = OwnStep(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    train_nothing(cls("MlpPolicy", env, n_steps=16, device="cpu")).learn(16)
    assert env.steps == 16


def test_arrays_that_an_environment_reuses_are_replayed_as_they_were():
    def run(wrap):
        env = limited_envs(wrap)
        env.seed(0)
        return ACER("MlpPolicy", env, n_steps=8, seed=0, device="cpu").learn(64)

    ours, expected = (run(wrap).replay_buffer.latest(8) for wrap in (Reusing, lambda env: env))
    for name in ("observations", "actions", "rewards", "statistics", "terminals", "continues"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(expected, name), err_msg=name)


class OneBad(SpacesEnv):
    """Returns something that is not finite at its 21st step, and is well otherwise."""

    def __init__(self, what: str | None = None) -> None:
        super().__init__(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (1,)))
        self.what, self.steps = what, 0

    def step(self, action: Any) -> Any:
        observation, reward, done, cut_off, info = super().step(action)
        self.steps += 1
        if self.steps == 21 and self.what == "reward":
            reward = math.inf
        if self.steps == 20 and self.what == "observation":
            observation = np.full_like(observation, np.nan)
        return observation, reward, done, cut_off, info


WRAPPERS = {
    "VecNormalize": VecNormalize,
    "frames over VecNormalize": lambda env: VecFrameStack(VecNormalize(env), 2),
    "VecNormalize over frames": lambda env: VecNormalize(VecFrameStack(env, 2)),
    "none": lambda env: env,
}


@pytest.mark.parametrize("what", ["reward", "observation"])
@pytest.mark.parametrize("wrappers", WRAPPERS)
@pytest.mark.parametrize("cls", [NPG, ACER, sb3_natural.PPO, "sb3 path"])
def test_what_is_not_finite_is_found_before_it_is_spread_over_all(cls, wrappers, what):
    env = WRAPPERS[wrappers](DummyVecEnv([OneBad, lambda: OneBad(what), OneBad]))
    model = (NPG if cls == "sb3 path" else cls)("MlpPolicy", env, n_steps=16, device="cpu")
    if cls == "sb3 path":
        model.rollout_path = "sb3"
    step, value = (21, "inf") if what == "reward" else (20, "nan")
    expected = rf"environment 1 returned a non-finite {what} .*{value}.* at step {step}"
    with pytest.raises(ValueError, match=expected):
        model.learn(600)
    # What was gathered before is unspoilt.
    normalize = model.get_vec_normalize_env()
    if normalize is not None:
        assert np.isfinite(normalize.obs_rms.mean).all()
        assert np.isfinite(normalize.ret_rms.var)


def test_callbacks_find_the_wrappers_as_the_user_made_them():
    def make():
        return VecNormalize(VecFrameStack(DummyVecEnv([OneBad]), 2))

    other = make()
    counted = []

    class Sync(BaseCallback):
        def _on_step(self):
            sync_envs_normalization(self.training_env, other)  # asserts equal wrappers
            counted.append(other.obs_rms.count)
            return True

    env = make()
    inside = env.venv.venv
    NPG("MlpPolicy", env, n_steps=16, device="cpu").learn(16, Sync())
    assert counted == sorted(counted)
    assert counted[-1] > 15
    assert env.venv.venv is inside
