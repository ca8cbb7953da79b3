"""What ACER cannot work with is refused, by name; what goes wrong on the way leaves no trace."""

import copy
import io
import math
import pathlib
import pickle
import re
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.save_util import save_to_pkl
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from sb3_natural import ACER
from tests.helpers import OBSERVATION_SPACES, SpacesEnv
from tests.npg.test_sb3_contract import POLICIES, Breaks, same, spoil_vector, weights

NOT_A_NUMBER = math.nan
BAD_ARGUMENTS = [
    ("n_steps", 0, "at least 1"),
    ("n_steps", -5, "at least 1"),
    ("buffer_size", 0, "at least 1"),
    ("n_sdn_samples", 0, "at least 1"),
    ("replay_batch_size", 0, "at least 1"),
    ("replay_ratio", -0.5, "finite and not negative"),
    ("replay_ratio", math.inf, "finite and not negative"),
    ("replay_ratio", NOT_A_NUMBER, "finite and not negative"),
    ("delta", -1.0, "finite and not negative"),
    ("delta", math.inf, "finite and not negative"),
    ("q_coef", -0.5, "finite and not negative"),
    ("ent_coef", -0.01, "finite and not negative"),
    ("ent_coef", NOT_A_NUMBER, "finite and not negative"),
    ("gamma", 1.01, "between 0 and 1"),
    ("gamma", -0.1, "between 0 and 1"),
    ("gamma", NOT_A_NUMBER, "between 0 and 1"),
    ("alpha", 1.01, "between 0 and 1"),
    ("alpha", -0.1, "between 0 and 1"),
    ("alpha", NOT_A_NUMBER, "between 0 and 1"),
    ("correction_term", 0.0, "positive"),
    ("correction_term", -1.0, "positive"),
    ("correction_term", NOT_A_NUMBER, "positive"),
    ("max_grad_norm", 0.0, "positive"),
    ("max_grad_norm", NOT_A_NUMBER, "positive"),
    ("replay_start", -1, "between 0 and 50000"),
    ("replay_start", 50_001, "between 0 and 50000"),
]


class Untouched(VecEnvWrapper):
    """Neither resets nor steps."""

    def reset(self):
        raise AssertionError("the environment was reset")

    def step_wait(self):
        raise AssertionError("the environment was stepped")


def untouched(n_envs=2):
    return Untouched(make_vec_env("CartPole-v1", n_envs))


@pytest.mark.parametrize(("name", "value", "valid"), BAD_ARGUMENTS)
def test_arguments_out_of_range_are_named(name, value, valid, tmp_path):
    message = f"{name} must be .*{valid}.*got {re.escape(str(value))}"
    with pytest.raises(ValueError, match=message):
        ACER("MlpPolicy", untouched(), **{name: value})
    ACER("MlpPolicy", untouched()).save(tmp_path / "model")
    with pytest.raises(ValueError, match=message):
        ACER.load(tmp_path / "model", env=untouched(), **{name: value})


def test_a_buffer_smaller_than_a_rollout_is_refused():
    message = r"buffer_size=79 .* n_steps=20 .* 4 environments.* at least 80"
    with pytest.raises(ValueError, match=message):
        ACER("MlpPolicy", untouched(4), buffer_size=79, replay_start=0)
    ACER("MlpPolicy", untouched(4), buffer_size=80, replay_start=0)


def test_the_ends_of_the_ranges_are_accepted():
    kwargs = dict(
        gamma=1.0,
        alpha=1.0,
        delta=0.0,
        q_coef=0.0,
        ent_coef=0.0,
        replay_ratio=0.0,
        replay_start=0,
        correction_term=math.inf,
        max_grad_norm=math.inf,
        n_steps=2,
        n_sdn_samples=1,
        replay_batch_size=1,
    )
    for env_id in ("CartPole-v1", "Pendulum-v1"):
        model = ACER("MlpPolicy", env_id, seed=0, **kwargs)
        model.learn(8)
        assert all(torch.isfinite(value).all() for value in weights(model).values())
    for name in ("gamma", "alpha"):
        ACER("MlpPolicy", "Pendulum-v1", seed=0, n_steps=4, **{name: 0.0}).learn(8)


@pytest.mark.parametrize("observations", ["mlp", "dict"])
@pytest.mark.parametrize("what", ["reward", "observation"])
@pytest.mark.parametrize("length", [7, 10])
def test_non_finite_values_name_environment_and_step(observations, what, length):
    """At step 20 of an episode's middle (length 7) and at its end (length 10)."""

    def make(index):
        def env():
            inner = SpacesEnv(
                copy.deepcopy(OBSERVATION_SPACES[observations]), spaces.Discrete(2), length
            )
            if index != 2:
                return Monitor(inner)
            fault = {"reward": np.nan} if what == "reward" else {"observation": spoil_vector}
            return Monitor(Breaks(inner, 20, **fault))

        return env

    venv = DummyVecEnv([make(index) for index in range(4)])
    model = ACER(POLICIES[observations], venv, n_steps=8, replay_start=0, seed=0)
    with pytest.raises(
        ValueError, match=rf"environment 2 returned a non-finite .*{what}.* at step 20 .*80\)"
    ):
        model.learn(1000)
    assert all(torch.isfinite(value).all() for value in weights(model).values())
    # Nor does the replay buffer hold it.
    held = model._to_batch(model.replay_buffer.latest(19))
    assert np.isfinite(held.rewards).all()
    parts = held.observations.values() if observations == "dict" else [held.observations]
    assert all(torch.isfinite(part.float()).all() for part in parts)


def test_non_finite_first_observation_is_found():
    class BadStart(SpacesEnv):
        def reset(self, **kwargs):
            observation, info = super().reset(**kwargs)
            return observation * np.nan, info

    env = BadStart(spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
    with pytest.raises(ValueError, match="environment 0 returned a non-finite observation"):
        ACER("MlpPolicy", env).learn(20)


@pytest.mark.parametrize(
    "space", [spaces.Tuple([spaces.Discrete(2)]), spaces.Text(3), spaces.Dict(a=spaces.Discrete(2))]
)
def test_other_action_spaces_are_refused(space):
    env = SpacesEnv(OBSERVATION_SPACES["mlp"], space)
    with pytest.raises(AssertionError, match=rf"only supports.*Box.*{type(space).__name__}"):
        ACER("MlpPolicy", env)


def test_sde_is_refused():
    with pytest.raises(ValueError, match="use_sde=True: ACER does not support gSDE"):
        ACER("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(use_sde=True))
    with pytest.raises(TypeError, match="use_sde"):
        ACER("MlpPolicy", "Pendulum-v1", use_sde=True)


class Derived(ActorCriticPolicy):
    pass


@pytest.mark.parametrize("policy", [ActorCriticPolicy, Derived])
def test_policies_without_a_critic_of_actions_are_refused(policy):
    with pytest.raises(ValueError, match=rf"ACERPolicy.*got {policy.__name__}"):
        ACER(policy, "CartPole-v1")


def test_unknown_policies_are_refused():
    with pytest.raises(ValueError, match="Policy MlpLstmPolicy unknown"):
        ACER("MlpLstmPolicy", "CartPole-v1")
    env = SpacesEnv(OBSERVATION_SPACES["dict"], spaces.Discrete(2))
    with pytest.raises(ValueError, match="MultiInputPolicy"):
        ACER("MlpPolicy", env)


def small_model(observation_space=None, action_space=None, n_envs=2, **kwargs):
    pair = (
        spaces.Box(-1, 1, (4,)) if observation_space is None else observation_space,
        spaces.Discrete(3) if action_space is None else action_space,
    )
    env = DummyVecEnv([lambda: SpacesEnv(*copy.deepcopy(pair)) for _ in range(n_envs)])
    arguments = dict(n_steps=4, buffer_size=200, replay_start=0, seed=0) | kwargs
    return ACER("MlpPolicy", env, **arguments)


OTHER_BUFFERS = {
    "observation_space": dict(observation_space=spaces.Box(-1, 1, (5,))),
    "action_space": dict(action_space=spaces.Discrete(4)),
    "n_envs": dict(n_envs=3),
}


@pytest.mark.parametrize("what", [*OTHER_BUFFERS, "format", "list", "ReplayBuffer"])
def test_files_that_are_no_replay_buffer_for_this_model(what, tmp_path):
    path, trust = tmp_path / "buffer.pkl", what in ("list", "ReplayBuffer")
    if what in OTHER_BUFFERS:
        small_model(**OTHER_BUFFERS[what]).learn(24).save_replay_buffer(path)
    elif what == "format":
        other = small_model()
        other.replay_buffer.format = -1
        other.save_replay_buffer(path)
    else:
        space = spaces.Box(-1, 1, (4,))
        thing = [1, 2] if what == "list" else ReplayBuffer(8, space, spaces.Discrete(3))
        path.write_bytes(pickle.dumps(thing))
    model = small_model().learn(16)
    held, before = model.replay_buffer, model.replay_buffer.latest(8)
    with pytest.raises(ValueError, match=rf"{what}\b") as error:
        model.load_replay_buffer(path, trust=trust)
    if what in OTHER_BUFFERS or what == "format":
        assert re.search(rf"its {what} is .*, the model's is ", str(error.value))
    else:
        assert "not one of ACER's replay buffers" in str(error.value)
    assert model.replay_buffer is held
    assert len(held) == 16
    for array, copied in zip(held.latest(8), before, strict=True):
        np.testing.assert_array_equal(array, copied)
    model.learn(8, reset_num_timesteps=False)


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (pathlib.Path.touch, (self.marker,))


def test_a_pickle_is_not_loaded_unless_it_is_trusted(tmp_path):
    path, marker = tmp_path / "buffer.pkl", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Bomb(marker)))
    model = small_model()
    for file in (path, str(path), io.BytesIO(path.read_bytes())):
        with pytest.raises(ValueError, match=r"is not in npz format.*trust=True.*executes"):
            model.load_replay_buffer(file)
    assert not marker.exists()
    arrays = {"header": np.array(Bomb(marker), dtype=object)}
    np.savez(tmp_path / "objects.npz", allow_pickle=True, **arrays)
    with pytest.raises(ValueError, match=r"objects.npz: not one of ACER's replay buffers"):
        model.load_replay_buffer(tmp_path / "objects.npz", trust=True)
    assert not marker.exists()
    with pytest.raises(ValueError, match="holds a NoneType, not one of ACER's"):
        model.load_replay_buffer(path, trust=True)
    assert marker.exists()


class OwnBox(spaces.Box):
    pass


class OwnDiscrete(spaces.Discrete):
    pass


def test_a_replay_buffer_of_derived_spaces_goes_on(tmp_path):
    derived = dict(observation_space=OwnBox(-1, 1, (4,)), action_space=OwnDiscrete(3))
    small_model(**derived).learn(16).save_replay_buffer(tmp_path / "buffer")
    for kwargs in (derived, {}):
        model = small_model(**kwargs)
        model.load_replay_buffer(tmp_path / "buffer")
        assert len(model.replay_buffer) == 16
        model.learn(8)


def test_a_replay_buffer_that_could_not_be_loaded_is_not_saved(tmp_path):
    space = spaces.Box(-1, 1, (4,), np.dtype(">f4"))
    model = small_model().learn(16)
    model.save_replay_buffer(tmp_path / "buffer")
    before = (tmp_path / "buffer.npz").read_bytes()
    model.replay_buffer.observation_space = space
    with pytest.raises(ValueError, match=r"^Box\(.* cannot be saved"):
        model.save_replay_buffer(tmp_path / "buffer")
    assert (tmp_path / "buffer.npz").read_bytes() == before


def test_a_broken_replay_buffer_is_named(tmp_path):
    path = tmp_path / "buffer.npz"
    small_model().learn(16).save_replay_buffer(path)
    with np.load(path) as held:
        arrays = dict(held)
    model = small_model()
    held = model.replay_buffer
    contents = [arrays | {"rewards": arrays["rewards"] * np.nan}, {"x": np.zeros(2)}]
    for content in contents:
        np.savez(path, **content)
        with pytest.raises(ValueError, match=r"buffer\.npz: not one of ACER's replay buffers"):
            model.load_replay_buffer(path)
    path.write_bytes(b"PK and nothing else")
    with pytest.raises(ValueError, match=r"buffer\.npz: not one of ACER's replay buffers"):
        model.load_replay_buffer(path)
    assert model.replay_buffer is held


def test_pickles_of_earlier_versions_go_on(tmp_path):
    model = small_model().learn(16)
    before = copy.deepcopy(model.replay_buffer)
    early = copy.copy(before)
    for name in ("_n_before", "_starts_anew"):
        vars(early).pop(name, None)
    save_to_pkl(tmp_path / "buffer", early)
    other = small_model()
    other.load_replay_buffer(tmp_path / "buffer.pkl", trust=True)
    for ours, theirs in zip(other.replay_buffer.latest(8), before.latest(8), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    other.learn(16)
    assert len(other.replay_buffer) == 32


def test_a_replay_buffer_too_small_for_a_segment_is_refused(tmp_path):
    small_model(buffer_size=16).learn(32).save_replay_buffer(tmp_path / "buffer")
    model = small_model(n_steps=40)
    held = model.replay_buffer
    with pytest.raises(ValueError, match=r"holds at most 16 steps.* need 80"):
        model.load_replay_buffer(tmp_path / "buffer")
    assert model.replay_buffer is held


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_a_gradient_that_is_not_finite_changes_nothing(env_id):
    model = ACER("MlpPolicy", env_id, n_steps=8, replay_start=0, seed=0)
    model.learn(16)
    updates = model._n_updates
    assert model._skipped_updates == 0
    bias = [*model.policy.value_net.parameters()][-1]
    bias.register_hook(lambda gradient: gradient * torch.nan)
    before = weights(model)
    moments = copy.deepcopy(model.policy.optimizer.state_dict()["state"])
    with pytest.warns(UserWarning, match=r"update \d+ was skipped: its gradient is not finite"):
        model.learn(16, reset_num_timesteps=False)
    after = weights(model)
    assert before.keys() == after.keys()
    for key, value in before.items():
        torch.testing.assert_close(value, after[key], rtol=0, atol=0)
    for index, state in model.policy.optimizer.state_dict()["state"].items():
        assert all(torch.equal(state[key], moments[index][key]) for key in state)
    skipped = model.logger.name_to_value["train/skipped_updates"]
    assert skipped == model._skipped_updates == model._n_updates - updates > 0


def test_learning_goes_on_after_a_skipped_update():
    model = ACER("MlpPolicy", "CartPole-v1", n_steps=8, replay_ratio=0, seed=0)
    model.learn(8)
    before = weights(model)
    policy_step = model._step
    model._step = lambda loss: policy_step(loss * torch.inf)
    with pytest.warns(UserWarning, match="skipped"):
        model.learn(8)
    assert same(before, weights(model))
    model._step = policy_step
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(8)
    assert not same(before, weights(model))
    assert model.logger.name_to_value["train/skipped_updates"] == 1


class Huge(gym.RewardWrapper):
    def reward(self, reward):
        return 1e30 * reward


def test_rewards_of_any_size_are_learnt_from():
    model = ACER("MlpPolicy", Huge(gym.make("CartPole-v1")), n_steps=8, replay_start=0, seed=0)
    start = weights(model)
    model.learn(64)
    assert not same(start, weights(model))
    assert model._skipped_updates == 0


def test_without_normalisation_huge_rewards_are_skipped():
    model = ACER(
        "MlpPolicy", Huge(gym.make("CartPole-v1")), n_steps=8, normalize_returns=False, seed=0
    )
    start = weights(model)
    with pytest.warns(UserWarning, match="skipped"):
        model.learn(8)
    assert same(start, weights(model))
    assert model.logger.name_to_value["train/skipped_updates"] == 1
