"""The lean ``VecNormalize`` against SB3's: bit for bit, and on the same files."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.common.vec_env as sb3
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_natural.environments.envpool import make_vec_env as make_ours
from sb3_natural.environments.vec_normalize import VecNormalize

SPACES = {
    "float32": spaces.Box(-np.inf, np.inf, (3,), np.float32),
    "float64": spaces.Box(-np.inf, np.inf, (3,), np.float64),
    "float16": spaces.Box(-100, 100, (3,), np.float16),
    "integers": spaces.Box(-1000, 1000, (2,), np.int64),
    "matrices": spaces.Box(-np.inf, np.inf, (2, 3), np.float64),
    "images": spaces.Box(0, 255, (1, 36, 36), np.uint8),
    "dict": spaces.Dict(
        {
            "far": spaces.Box(-np.inf, np.inf, (2,), np.float64),
            "kept": spaces.Box(-1, 1, (2,), np.float32),
        }
    ),
}


class Varied(gym.Env):
    """Observations of any space, far from normal; episodes of 7 steps, every third cut off."""

    action_space = spaces.Discrete(2)

    def __init__(self, space):
        self.observation_space = space
        self.episodes = 0

    def observe(self):
        def drawn(space):
            if space.dtype == np.uint8:
                return self.np_random.integers(0, 256, space.shape, np.uint8)
            values = 5 + 40 * self.np_random.standard_normal(space.shape)
            return values.astype(space.dtype)

        if isinstance(self.observation_space, spaces.Dict):
            return {key: drawn(part) for key, part in self.observation_space.items()}
        return drawn(self.observation_space)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        ended = self.steps == 7
        self.episodes += ended
        cut_off = ended and self.episodes % 3 == 0
        reward = 100 * float(self.np_random.standard_normal()) + 3
        return self.observe(), reward, ended and not cut_off, cut_off, {}


def pair(space, n_envs, **kwargs):
    """SB3's and ours, around environments that do the same."""
    return [
        cls(make_vec_env(lambda: Varied(copy.deepcopy(space)), n_envs, seed=0), **kwargs)
        for cls in (sb3.VecNormalize, VecNormalize)
    ]


def assert_equal(theirs, ours):
    if isinstance(theirs, dict):
        assert theirs.keys() == ours.keys()
        for key in theirs:
            assert_equal(theirs[key], ours[key])
    else:
        np.testing.assert_array_equal(theirs, ours)
        assert np.asarray(theirs).dtype == np.asarray(ours).dtype


def moments(env):
    of_observations = getattr(env, "obs_rms", {})
    each = of_observations if isinstance(of_observations, dict) else {"all": of_observations}
    return {
        (name, part): getattr(rms, part)
        for name, rms in {**each, "returns": env.ret_rms}.items()
        for part in ("mean", "var", "count")
    }


def assert_same_steps(theirs, ours, n_steps=30):
    assert_equal(theirs.reset(), ours.reset())
    for t in range(n_steps):
        actions = np.full(theirs.num_envs, t % 2)
        of_theirs, of_ours = theirs.step(actions), ours.step(actions)
        for left, right in zip(of_theirs[:3], of_ours[:3], strict=True):
            assert_equal(left, right)
        for left, right in zip(of_theirs[3], of_ours[3], strict=True):
            assert left.keys() == right.keys()
            if "terminal_observation" in left:
                assert_equal(left["terminal_observation"], right["terminal_observation"])
        assert_equal(theirs.get_original_obs(), ours.get_original_obs())
        assert_equal(theirs.get_original_reward(), ours.get_original_reward())
        assert_equal(theirs.returns, ours.returns)
        assert_equal(moments(theirs), moments(ours))


@pytest.mark.parametrize("n_envs", [1, 3, 20])
@pytest.mark.parametrize("space", SPACES)
def test_every_step_is_sb3s_bit_for_bit(space, n_envs):
    keys = {"norm_obs_keys": ["far"]} if space == "dict" else {}
    theirs, ours = pair(SPACES[space], n_envs, gamma=0.9, **keys)
    assert_same_steps(theirs, ours)
    assert theirs.observation_space == ours.observation_space
    clipped = ours.normalize_obs(ours.get_original_obs())
    for part in clipped.values() if isinstance(clipped, dict) else [clipped]:
        assert np.abs(part).max() > 0


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize(
    "kwargs",
    [
        {"training": False},
        {"norm_obs": False},
        {"norm_reward": False},
        {"clip_obs": 0.5, "clip_reward": 0.1, "epsilon": 0.3},
    ],
    ids=str,
)
@pytest.mark.parametrize("space", ["float64", "dict"])
def test_every_argument_means_the_same(space, kwargs, n_envs):
    assert_same_steps(*pair(SPACES[space], n_envs, **kwargs))


def test_switches_may_be_set_at_any_time():
    theirs, ours = pair(SPACES["float64"], 2)
    assert_same_steps(theirs, ours)
    for name in ("training", "norm_reward", "norm_obs"):
        for env in (theirs, ours):
            setattr(env, name, False)
        assert_same_steps(theirs, ours)


def test_what_was_returned_does_not_change_later():
    _, ours = pair(SPACES["dict"], 1, norm_obs_keys=["far"])
    first = ours.reset()
    kept, mean = copy.deepcopy(first), ours.obs_rms["far"].mean
    mean_then = mean.copy()
    for _ in range(10):
        ours.step(np.zeros(1))
    assert_equal(kept, first)
    np.testing.assert_array_equal(mean, mean_then)
    original = ours.get_original_obs()
    ours.normalize_obs(original)["kept"][:] = 0
    assert original["kept"].any()


def test_invalid_spaces_are_refused_as_by_sb3():
    env = make_vec_env("FrozenLake-v1")
    with pytest.raises(ValueError, match="only supports"):
        VecNormalize(env)


# Files


@pytest.mark.parametrize("saver", [sb3.VecNormalize, VecNormalize])
@pytest.mark.parametrize("loader", [sb3.VecNormalize, VecNormalize])
def test_each_class_loads_what_the_other_has_saved(saver, loader, tmp_path):
    theirs, ours = pair(SPACES["float64"], 2, gamma=0.8)
    assert_same_steps(theirs, ours)
    saved = theirs if saver is sb3.VecNormalize else ours
    saved.save(str(tmp_path / "vecnormalize.pkl"))
    venv = make_vec_env(lambda: Varied(SPACES["float64"]), 2, seed=5)
    loaded = loader.load(str(tmp_path / "vecnormalize.pkl"), venv)
    assert type(loaded) is loader
    assert loaded.gamma == 0.8
    assert_equal(moments(saved), moments(loaded))
    loaded.reset()
    loaded.step(np.zeros(2))


def test_a_file_of_ours_can_be_read_without_us(tmp_path):
    _, ours = pair(SPACES["float64"], 2)
    ours.save(str(tmp_path / "file"))
    assert b"sb3_natural" not in (tmp_path / "file").read_bytes()


def test_pickles_and_copies_stay_ours():
    _, ours = pair(SPACES["float64"], 2)
    ours.reset()
    for other in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        assert type(other) is VecNormalize
        assert_equal(moments(ours), moments(other))


# Where it is used


def test_make_vec_env_normalises_if_asked():
    plain = make_ours("Pendulum-v1", 2, seed=0)
    assert isinstance(plain, DummyVecEnv)
    default = make_ours("Pendulum-v1", 2, seed=0, normalize=True)
    assert type(default) is VecNormalize
    own = make_ours("Pendulum-v1", 2, seed=0, normalize=dict(gamma=0.9, norm_reward=False))
    assert (own.gamma, own.norm_reward) == (0.9, False)
    for value in ("yes", 1):
        with pytest.raises(
            ValueError, match=f"normalize must be True or False, or a Mapping, got {value!r}"
        ):
            make_ours("Pendulum-v1", normalize=value)
