"""Fast rollouts fill the buffer that SB3's own collection fills."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import sb3_natural
from sb3_natural.networks.mlp import actor_mlp
from sb3_natural.rollouts.returns import advantages_and_returns
from tests.helpers import ACTION_SPACES, DEVICES, OBSERVATION_SPACES, SpacesEnv

POLICIES = {
    "mlp": "MlpPolicy",
    "discrete": "MlpPolicy",
    "cnn": "CnnPolicy",
    "dict": "MultiInputPolicy",
}
COLUMNS = [
    "actions",
    "rewards",
    "episode_starts",
    "values",
    "log_probs",
    "advantages",
    "returns",
]


class Limited(SpacesEnv):
    """Every other episode ends by a time limit."""

    episodes = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        observation, reward, done, _, info = super().step(action)
        self.episodes += done
        cut_off = done and self.episodes % 2 == 0
        return observation, reward, done and not cut_off, cut_off, info


class Recorder(BaseCallback):
    """Keeps what a callback sees, and what it sees of a tensor at once."""

    KEPT = ("n_steps", "actions", "clipped_actions", "new_obs", "rewards", "dones", "infos")
    TENSORS = ("obs_tensor", "values", "log_probs")

    def __init__(self, look_at_once: bool = True) -> None:
        super().__init__()
        self.look_at_once = look_at_once
        self.seen: list[dict[str, Any]] = []
        self.tensors: list[dict[str, Any]] = []
        self.at_end: dict[str, Any] = {}

    def _on_step(self) -> bool:
        self.seen.append({key: copy.deepcopy(self.locals[key]) for key in self.KEPT})
        tensors = {key: self.locals[key] for key in self.TENSORS}
        self.tensors.append(as_arrays(tensors) if self.look_at_once else tensors)
        assert self.locals["self"] is self.model
        assert self.locals["rollout_buffer"] is self.model.rollout_buffer
        assert self.locals["rollout_buffer"].pos == self.locals["n_steps"]
        return True

    def _on_rollout_end(self) -> None:
        self.at_end = as_arrays({key: self.locals[key] for key in ("values", "rewards", "dones")})


def as_arrays(tensors):
    return {
        key: {k: np.array(v) for k, v in value.items()}
        if isinstance(value, dict)
        else np.array(value.cpu() if isinstance(value, torch.Tensor) else value)
        for key, value in tensors.items()
    }


def train_nothing(model):
    model.train = lambda: None
    return model


def collect(cls, policy, env, path=None, callback=None, **kwargs):
    """The buffer after two rollouts; the policy is the same in both."""
    kwargs = {"n_steps": 24, "device": "cpu", **kwargs}
    if issubclass(cls, sb3.PPO):
        kwargs["batch_size"] = kwargs["n_steps"]  # it warns of uneven minibatches
    model = train_nothing(cls(policy, env, seed=0, **kwargs))
    if path:
        model.rollout_path = path
    with torch.no_grad():  # SB3's first policies are nearly uniform; larger outputs show more
        model.policy.action_net.weight.mul_(20)
    model.learn(2 * model.n_steps * model.n_envs, callback=callback)
    return model


def columns(model):
    buffer = model.rollout_buffer
    observations = buffer.observations
    parts = observations.items() if isinstance(observations, dict) else [("obs", observations)]
    return {**{name: getattr(buffer, name) for name in COLUMNS}, **dict(parts)}


def assert_same_rollouts(ours, theirs, tolerance=1e-4):
    left, right = columns(ours), columns(theirs)
    assert left.keys() == right.keys()
    for name in right:
        assert left[name].dtype == right[name].dtype, name
        np.testing.assert_allclose(left[name], right[name], tolerance, tolerance, err_msg=name)
    assert ours.num_timesteps == theirs.num_timesteps
    assert [ep["l"] for ep in ours.ep_info_buffer] == [ep["l"] for ep in theirs.ep_info_buffer]
    np.testing.assert_array_equal(ours._last_episode_starts, theirs._last_episode_starts)


def make_envs(actions, observations, n_envs):
    pair = (OBSERVATION_SPACES[observations], ACTION_SPACES[actions])
    return make_vec_env(lambda: Limited(*copy.deepcopy(pair)), n_envs, seed=0)


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("observations", OBSERVATION_SPACES)
@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_buffer_equals_sb3s_in_every_space(actions, observations, n_envs):
    sde = {"use_sde": True, "sde_sample_freq": 5} if actions == "gsde" else {}

    def run(cls, path=None):
        torch.manual_seed(0)
        env = make_envs(actions, observations, n_envs)
        model = collect(cls, POLICIES[observations], env, path, **sde)
        return model, torch.get_rng_state()

    theirs, random_state = run(sb3.PPO)
    assert theirs.rollout_buffer.episode_starts.sum() > 2
    usual = observations in ("mlp", "discrete") and actions != "gsde"
    for path in (None, "torch", "sb3"):
        ours, ours_random_state = run(sb3_natural.PPO, path)
        assert ours.rollout_path == (path or ("numpy" if usual else "torch"))
        assert_same_rollouts(ours, theirs)
        assert torch.equal(random_state, ours_random_state)


@pytest.mark.parametrize("path", ["numpy", "torch"])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Hopper-v5"])
def test_buffer_equals_sb3s_in_real_environments(env_id, path):
    """Pendulum-v1 and Hopper-v5 with VecNormalize; long enough for Pendulum's time limit."""

    def run(cls, path=None):
        env = make_vec_env(env_id, 2, seed=0)
        env = VecNormalize(env, gamma=0.9) if env_id != "CartPole-v1" else env
        return collect(cls, "MlpPolicy", env, path, n_steps=256, gamma=0.9)

    assert_same_rollouts(run(sb3_natural.PPO, path), run(sb3.PPO))


def test_torch_path_gives_the_same_bits_where_rounding_would_grow():
    def run(cls, path=None):
        env = make_vec_env("HalfCheetah-v5", 1, seed=0)
        return collect(cls, "MlpPolicy", env, path, n_steps=1024)

    ours, theirs = run(sb3_natural.PPO, "torch"), run(sb3.PPO)
    assert_same_rollouts(ours, theirs)
    np.testing.assert_array_equal(ours.rollout_buffer.actions, theirs.rollout_buffer.actions)
    np.testing.assert_array_equal(
        ours.rollout_buffer.observations, theirs.rollout_buffer.observations
    )


@pytest.mark.parametrize(
    "activation",
    [
        torch.nn.Tanh,
        torch.nn.ReLU,
        torch.nn.ELU,
        torch.nn.LeakyReLU,
        torch.nn.Sigmoid,
        torch.nn.SiLU,
        torch.nn.GELU,
        torch.nn.PReLU,
    ],
)
@pytest.mark.parametrize("net_arch", [[], [8], [16, 8, 4]])
def test_networks_of_any_depth_and_activation(activation, net_arch):
    def run(cls, path=None):
        env = make_vec_env("Pendulum-v1", 2, seed=0)
        kwargs = {"policy_kwargs": {"net_arch": net_arch, "activation_fn": activation}}
        return collect(cls, "MlpPolicy", env, path, **kwargs)

    theirs = run(sb3.A2C)
    for path in (None, "torch"):
        ours = run(sb3_natural.A2C, path)
        in_numpy = activation not in (torch.nn.GELU, torch.nn.PReLU) or not net_arch
        numpy = path is None and in_numpy
        assert ours.rollout_path == ("numpy" if numpy else "torch")
        assert_same_rollouts(ours, theirs, 1e-5)


def original(cls):
    """The first of its base classes that is not ours."""
    theirs = ("stable_baselines3", "sb3_contrib")
    return next(base for base in cls.__mro__ if base.__module__.startswith(theirs))


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "TRPO"])
def test_training_gives_what_the_original_gives(algorithm):
    """Three updates: rounding has no time to grow."""
    ours_cls = getattr(sb3_natural, algorithm)
    theirs_cls = original(ours_cls)

    def run(cls):
        env = make_vec_env("CartPole-v1", 2, seed=0)
        model = cls("MlpPolicy", env, n_steps=64, seed=0, device="cpu")
        return model.learn(3 * 128).policy.state_dict()

    ours, theirs = run(ours_cls), run(theirs_cls)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "TRPO"])
def test_models_are_interchangeable_with_the_originals(algorithm, tmp_path):
    ours_cls = getattr(sb3_natural, algorithm)
    theirs_cls = original(ours_cls)
    for source, target in ((ours_cls, theirs_cls), (theirs_cls, ours_cls)):
        env = make_vec_env("CartPole-v1", 2)
        model = source("MlpPolicy", env, n_steps=32, seed=0, device="cpu").learn(64)
        model.save(tmp_path / "model")
        loaded = target.load(tmp_path / "model", env=env, device="cpu")
        assert type(loaded) is target
        for name, value in model.policy.state_dict().items():
            assert torch.equal(loaded.policy.state_dict()[name], value)
        loaded.learn(64, reset_num_timesteps=False)
        assert loaded.num_timesteps == 128


@pytest.mark.parametrize("observations", ["mlp", "dict"])
def test_callbacks_see_the_same(observations):
    def run(cls, recorder):
        env = make_envs("gaussian", observations, 2)
        collect(cls, POLICIES[observations], env, callback=recorder)
        return recorder

    theirs = run(sb3.PPO, Recorder())
    for at_once in (True, False):
        ours = run(sb3_natural.PPO, Recorder(look_at_once=at_once))
        assert len(ours.seen) == len(theirs.seen) == 48
        # Looked at after training, a step's values are those of the policy that took the step.
        tensors = [t if at_once else as_arrays(t) for t in ours.tensors]
        for left, right in zip(
            [*ours.seen, *tensors, ours.at_end],
            [*theirs.seen, *theirs.tensors, theirs.at_end],
            strict=True,
        ):
            assert_same_locals(left, right)


def assert_same_locals(left, right):
    assert left.keys() == right.keys()
    for key, value in right.items():
        if key == "infos":
            assert [sorted(info) for info in left[key]] == [sorted(info) for info in value]
        elif isinstance(value, dict):
            assert_same_locals(left[key], value)
        else:
            assert np.shape(left[key]) == np.shape(value), key
            np.testing.assert_allclose(left[key], value, 1e-5, 1e-5, err_msg=key)


def test_a_callback_stops_training_at_the_same_step():
    def run(cls):
        env = make_envs("categorical", "mlp", 2)
        callback = StopTrainingOnMaxEpisodes(max_episodes=5)
        return collect(cls, "MlpPolicy", env, callback=callback)

    ours, theirs = run(sb3_natural.PPO), run(sb3.PPO)
    assert ours.num_timesteps == theirs.num_timesteps < 96
    assert_same_rollouts(ours, theirs)


@pytest.mark.parametrize("device", DEVICES)
def test_works_on_every_device(device):
    model = sb3_natural.A2C("MlpPolicy", "CartPole-v1", n_steps=32, device=device, seed=0)
    assert model.rollout_path == ("numpy" if device == "cpu" else "torch")
    model.learn(64)


class OwnForward(ActorCriticPolicy):
    """Acts greedily, which only its forward knows."""

    def forward(self, obs, deterministic=False):
        return super().forward(obs, deterministic=True)


class OwnBuffer(RolloutBuffer):
    n_added = 0

    def add(self, *args, **kwargs):
        self.n_added += 1
        super().add(*args, **kwargs)


class OwnReturns(RolloutBuffer):
    def compute_returns_and_advantage(self, last_values, dones):
        super().compute_returns_and_advantage(last_values, dones)
        self.returns += 100


def test_policies_and_buffers_of_ones_own_are_served():
    def run(cls, policy="MlpPolicy", **kwargs):
        return collect(cls, policy, make_envs("gaussian", "mlp", 2), **kwargs)

    for policy, kwargs in (
        (OwnForward, {}),
        ("MlpPolicy", {"rollout_buffer_class": OwnBuffer}),
    ):
        ours = run(sb3_natural.PPO, policy, **kwargs)
        assert ours.rollout_path == "sb3"
        assert_same_rollouts(ours, run(sb3.PPO, policy, **kwargs))
    assert ours.rollout_buffer.n_added == 48

    ours = run(sb3_natural.PPO, rollout_buffer_class=OwnReturns)
    assert ours.rollout_path == "numpy"
    assert_same_rollouts(ours, run(sb3.PPO, rollout_buffer_class=OwnReturns))


def test_networks_that_do_more_than_linear_layers_take_the_torch_path():
    model = sb3_natural.PPO("MlpPolicy", "CartPole-v1", device="cpu")
    assert model.rollout_path == "numpy"
    torch.nn.utils.parametrizations.weight_norm(model.policy.mlp_extractor.policy_net[0])
    assert actor_mlp(model.policy) is None
    assert model.rollout_path == "torch"

    model = sb3_natural.PPO("MlpPolicy", "CartPole-v1", device="cpu")
    handle = model.policy.action_net.register_forward_hook(lambda *_: None)
    assert model.rollout_path == "torch"
    handle.remove()
    assert model.rollout_path == "numpy"


def test_the_path_is_told_once_and_can_be_forced(capfd):
    model = sb3_natural.PPO("MlpPolicy", "CartPole-v1", n_steps=16, device="cpu", verbose=1)
    train_nothing(model).learn(64)
    assert capfd.readouterr().out.count("path 'numpy'") == 1
    model.rollout_path = "torch"
    assert model.rollout_path == "torch"
    model.learn(32)
    assert capfd.readouterr().out.count("path 'torch'") == 1
    model.rollout_path = None
    assert model.rollout_path == "numpy"
    with pytest.raises(ValueError, match=r"must be one of numpy, torch, sb3.*'fast'"):
        model.rollout_path = "fast"
    image = sb3_natural.PPO("CnnPolicy", make_envs("gaussian", "cnn", 1), device="cpu")
    with pytest.raises(ValueError, match=r"rollout_path='numpy' does not fit .*Cnn.*'torch' does"):
        image.rollout_path = "numpy"


def test_a_forced_path_is_saved(tmp_path):
    model = sb3_natural.PPO("MlpPolicy", "CartPole-v1", device="cpu")
    model.rollout_path = "torch"
    model.save(tmp_path / "model")
    assert sb3_natural.PPO.load(tmp_path / "model", device="cpu").rollout_path == "torch"


@pytest.mark.parametrize("net", ["action_net", "value_net"])
@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
@pytest.mark.parametrize("path", ["numpy", "torch"])
def test_a_policy_with_nan_is_stopped(path, env_id, net):
    model = sb3_natural.A2C("MlpPolicy", env_id, n_steps=16, device="cpu")
    model.rollout_path = path
    with torch.no_grad():
        getattr(model.policy, net).bias.fill_(np.nan)
    with pytest.raises((ValueError, RuntimeError), match="nan"):
        model.learn(16)


def test_the_users_thread_count_is_kept_and_small_networks_use_one_thread(monkeypatch):
    before = torch.get_num_threads()
    seen = []

    class Threads(BaseCallback):
        def _on_step(self) -> bool:
            seen.append(torch.get_num_threads())
            return True

    monkeypatch.setattr("sb3_natural.networks.threads.SMALL", 2 * 100 * 100)
    try:
        torch.set_num_threads(2)
        for width, expected in ((100, 1), (101, 2)):
            seen.clear()
            kwargs = {"policy_kwargs": {"net_arch": [width, width], "ortho_init": False}}
            env = make_vec_env("CartPole-v1", 2)
            model = sb3_natural.A2C("MlpPolicy", env, n_steps=2, device="cpu", **kwargs)
            train_nothing(model).learn(4, callback=Threads())
            assert seen == [expected] * 2
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
def test_advantages_equal_sb3s_bit_for_bit(gae_lambda):
    rng = np.random.default_rng(0)
    shape = (50, 3)
    buffer = RolloutBuffer(
        50, spaces.Box(-1, 1, (1,)), spaces.Discrete(2), "cpu", gae_lambda, 0.97, n_envs=3
    )
    buffer.rewards = rng.normal(size=shape).astype(np.float32)
    buffer.values = rng.normal(size=shape).astype(np.float32)
    buffer.episode_starts = (rng.random(shape) < 0.1).astype(np.float32)
    last_values, dones = rng.normal(size=3).astype(np.float32), np.array([True, False, False])
    advantages, returns = advantages_and_returns(
        buffer.rewards, buffer.values, buffer.episode_starts, last_values, dones, 0.97, gae_lambda
    )
    buffer.compute_returns_and_advantage(torch.as_tensor(last_values), dones)
    np.testing.assert_array_equal(advantages, buffer.advantages)
    np.testing.assert_array_equal(returns, buffer.returns)
    assert advantages.dtype == np.float32


@pytest.mark.parametrize("gae_lambda", [0.0, 0.97, 1.0])
def test_returns_are_those_of_the_forward_view(gae_lambda):
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 30, 3))
    starts = (rng.random((30, 3)) < 0.1).astype(float)
    last_values, dones = rng.normal(size=3), np.array([True, False, False])
    _, returns = advantages_and_returns(
        rewards, values, starts, last_values, dones, 0.9, gae_lambda
    )
    ends = np.concatenate([starts[1:], dones[None]])
    later = np.concatenate([values[1:], last_values[None]])

    def forward(t: int, env: int) -> float:
        """(1 - lambda) sum of lambda^(n-1) G_n, as in Sutton & Barto 2018, equation 12.3."""
        total, weight, so_far = 0.0, 1.0, 0.0
        for n, step in enumerate(range(t, 30)):
            so_far += 0.9**n * rewards[step, env]
            if ends[step, env]:
                return total + weight * so_far
            bootstrapped = so_far + 0.9 ** (n + 1) * later[step, env]
            if step == 29:
                return total + weight * bootstrapped
            total += weight * (1 - gae_lambda) * bootstrapped
            weight *= gae_lambda
        raise AssertionError

    expected = [[forward(t, env) for env in range(3)] for t in range(30)]
    np.testing.assert_allclose(returns, expected, rtol=1e-10)


def test_one_step_rollouts_have_advantages():
    one = np.ones((1, 2), np.float32)
    advantages, _ = advantages_and_returns(
        one, 0 * one, one, np.array([2.0, 2.0], np.float32), np.array([False, True]), 0.5, 0.9
    )
    np.testing.assert_array_equal(advantages, [[2.0, 1.0]])


def test_environments_without_a_monitor_get_one_and_the_lean_vec_env():
    class Bare(gym.Wrapper):
        pass

    model = sb3_natural.PPO("MlpPolicy", Bare(gym.make("CartPole-v1")), n_steps=64, device="cpu")
    train_nothing(model).learn(64)
    assert isinstance(model.get_env(), DummyVecEnv)
    assert model.ep_info_buffer


@pytest.mark.parametrize("name", ["values", "episode_starts", "last_values", "dones"])
def test_an_array_of_another_shape_is_named(name):
    one = np.ones((4, 2), np.float32)
    arrays = dict(values=one, episode_starts=one, last_values=one[0], dones=one[0] > 0)
    arrays[name] = arrays[name][..., :1]
    with pytest.raises(ValueError, match=rf"{name} must have shape \((4, )?2,?\), got shape"):
        advantages_and_returns(one, **arrays, gamma=0.5, gae_lambda=0.9)
