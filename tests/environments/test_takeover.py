"""SB3's own environments step with the lean code, and nothing else about them changes."""

import copy
import pickle
import subprocess
import sys
from collections import UserDict

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.common.vec_env as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_natural
from sb3_natural.environments import takeover
from sb3_natural.environments.takeover import LeanSteps
from sb3_natural.environments.vec_env import LeanDummyVecEnv
from sb3_natural.environments.vec_normalize import VecNormalize
from tests.environments.test_vec_env import same

ALGORITHMS = {
    "NPG": dict(n_steps=64),
    "PPO": dict(n_steps=64, batch_size=32),
    "TRPO": dict(n_steps=64, batch_size=32),
    "A2C": dict(n_steps=8),
    "ACER": dict(n_steps=8, buffer_size=1_000, replay_start=32),
}


class Episodes(gym.Env):
    """Random observations; episodes of 7 steps, every third cut off; infos with arrays."""

    render_mode = None

    def __init__(self, space, actions):
        self.observation_space, self.action_space = space, actions
        self.episodes = 0

    def observe(self):
        parts = getattr(self.observation_space, "spaces", {None: self.observation_space})
        drawn = {
            key: (30 * self.np_random.standard_normal(part.shape) + 60).astype(part.dtype)
            for key, part in parts.items()
        }
        return drawn if isinstance(self.observation_space, spaces.Dict) else drawn[None]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {"episode": self.episodes, "options": options}

    def step(self, action):
        self.steps += 1
        ended = self.steps == 7
        self.episodes += ended
        cut_off = ended and self.episodes % 3 == 0
        info = {"action": np.asarray(action), "nested": {"steps": [self.steps]}, "name": "e"}
        reward = float(5 * self.np_random.standard_normal())
        return self.observe(), reward, ended and not cut_off, cut_off, info


VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float64)
IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
PARTS = spaces.Dict(far=VECTOR, kept=spaces.Box(-np.inf, np.inf, (2,), np.float32))
CHAINS = {
    "alone": (VECTOR, lambda env: env),
    "dict": (PARTS, lambda env: env),
    "normalised": (VECTOR, sb3.VecNormalize),
    "normalised dict": (PARTS, lambda env: sb3.VecNormalize(env, norm_obs_keys=["far"])),
    "monitored": (VECTOR, sb3.VecMonitor),
    "stacked": (VECTOR, lambda env: sb3.VecFrameStack(env, 3)),
    "normalised, stacked": (VECTOR, lambda env: sb3.VecFrameStack(sb3.VecNormalize(env), 3)),
    "stacked, normalised": (VECTOR, lambda env: sb3.VecNormalize(sb3.VecFrameStack(env, 3))),
    "normalised twice": (VECTOR, lambda env: sb3.VecNormalize(sb3.VecNormalize(env, gamma=0.5))),
    "images": (IMAGE, lambda env: sb3.VecTransposeImage(sb3.VecFrameStack(env, 2))),
}


def made(chain, n_envs=1):
    space, wrap = CHAINS[chain]
    actions = spaces.Box(-1, 1, (2,))
    return wrap(make_vec_env(lambda: Episodes(copy.deepcopy(space), actions), n_envs, seed=0))


def links(env):
    yield env
    while isinstance(env, sb3.VecEnvWrapper):
        env = env.venv
        yield env


def plain(value):
    """Moments of normalisations as arrays."""
    if isinstance(value, RunningMeanStd):
        return {key: np.asarray(each) for key, each in vars(value).items()}
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value


def state(env):
    """What the objects of a chain hold."""
    names = (
        *("buf_obs", "buf_rews", "buf_dones", "buf_infos", "reset_infos", "actions", "_seeds"),
        *("obs_rms", "ret_rms", "returns", "old_obs", "old_reward"),
    )
    return [{k: plain(vars(each)[k]) for k in names if k in vars(each)} for each in links(env)]


def equal(left, right):
    """Whether values and types are equal; an ``OrderedDict`` is a dict here."""
    left, right = (dict(x) if isinstance(x, dict) else x for x in (left, right))
    if isinstance(left, dict):
        assert list(left) == list(right)
        # Monitor's seconds since the beginning.
        return all(equal(left[key], right[key]) for key in left if key != "t")
    if isinstance(left, (list, tuple)):
        assert type(left) is type(right)
        return len(left) == len(right) and all(map(equal, left, right))
    return same(left, right)


@pytest.fixture
def lean_steps(monkeypatch):
    """Counts the environments' steps that the lean code has taken."""
    counted = []
    step = LeanDummyVecEnv._step

    def counting(self, index):
        counted.append(index)
        return step(self, index)

    monkeypatch.setattr(LeanDummyVecEnv, "_step", counting)
    return counted


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("chain", CHAINS)
def test_steps_and_states_are_sb3s(chain, n_envs, lean_steps):
    theirs, ours = made(chain, n_envs), made(chain, n_envs)
    types = [type(each) for each in links(ours)]
    assert equal(theirs.reset(), ours.reset())
    lean = LeanSteps(ours)
    rng = np.random.default_rng(0)
    for _ in range(40):
        actions = rng.uniform(-1, 1, (n_envs, 2)).astype(np.float32)
        expected = theirs.step(actions)
        with lean:
            found = ours.step(actions)
        assert equal(expected, found)
        assert equal(state(theirs), state(ours))
        assert [type(each) for each in links(ours)] == types
    assert len(lean_steps) == 40 * n_envs


def test_the_normalisation_is_the_lean_one_wherever_it_is():
    env = made("normalised, stacked")
    with LeanSteps(env):
        assert [type(each) for each in links(env)] == [
            sb3.VecFrameStack,
            VecNormalize,
            LeanDummyVecEnv,
        ]


def test_an_error_of_an_environment_leaves_the_classes_as_they_were():
    env = made("normalised")
    env.reset()
    env.unwrapped.envs[0].unwrapped.observe = None
    lean = LeanSteps(env)
    with pytest.raises(TypeError, match="not callable"), lean:
        env.step(np.zeros((1, 2)))
    assert [type(each) for each in links(env)] == [sb3.VecNormalize, DummyVecEnv]


# What is left alone


class OwnVecEnv(DummyVecEnv):
    pass


class OwnNormalize(sb3.VecNormalize):
    pass


def classes_of_a_step(env):
    with LeanSteps(env):
        return [type(each) for each in links(env)]


def test_derived_classes_are_left_alone():
    inner = make_vec_env("CartPole-v1", vec_env_cls=OwnVecEnv)
    assert classes_of_a_step(OwnNormalize(inner)) == [OwnNormalize, OwnVecEnv]
    # Each link is judged by itself.
    assert classes_of_a_step(sb3.VecNormalize(inner)) == [VecNormalize, OwnVecEnv]


@pytest.mark.parametrize("name", ["step_wait", "_obs_from_buf"])
def test_an_environment_with_a_method_of_its_own_is_left_alone(name):
    env = made("normalised")
    calls = []
    inner, method = env.venv, getattr(env.venv, name)
    setattr(inner, name, lambda: calls.append(name) or method())
    assert classes_of_a_step(env) == [VecNormalize, DummyVecEnv]
    env.reset()
    calls.clear()
    with LeanSteps(env):
        env.step(np.zeros((1, 2)))
    assert calls == [name]


def test_an_attribute_with_the_name_of_a_method_of_ours_is_left_alone():
    env = made("alone")
    env._step = 3  # which SB3's class has no use for
    assert classes_of_a_step(env) == [DummyVecEnv]


def test_a_normalisation_with_a_method_of_its_own_is_left_alone():
    env = made("normalised")
    env.normalize_reward = lambda reward: reward + 1
    assert classes_of_a_step(env) == [sb3.VecNormalize, LeanDummyVecEnv]


def test_a_method_replaced_on_sb3s_class_is_called(monkeypatch):
    env = made("normalised")
    monkeypatch.setattr(DummyVecEnv, "step_wait", lambda self: "replaced")
    assert classes_of_a_step(env) == [VecNormalize, DummyVecEnv]
    monkeypatch.setattr(sb3.VecNormalize, "normalize_obs", lambda self, obs: obs)
    assert classes_of_a_step(env) == [sb3.VecNormalize, DummyVecEnv]


def test_a_method_replaced_before_our_import_is_called():
    """Who changes SB3's classes need not do so after having imported this package."""
    script = """
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv
calls, step_wait = [], DummyVecEnv.step_wait
DummyVecEnv.step_wait = lambda self: calls.append(self) or step_wait(self)
from sb3_natural import PPO
PPO("MlpPolicy", make_vec_env("CartPole-v1"), n_steps=32, batch_size=32).learn(32)
print(len(calls))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "32\n", done.stderr


def freeze_object(env, monkeypatch):
    env.obs_rms.update = env.ret_rms.update = lambda batch: None


def freeze_class(env, monkeypatch):
    monkeypatch.setattr(RunningMeanStd, "update", lambda self, batch: None)


@pytest.mark.parametrize("freeze", [freeze_object, freeze_class])
@pytest.mark.parametrize("n_envs", [1, 2])
def test_moments_whose_update_is_replaced_stay_as_they_are(freeze, n_envs, monkeypatch):
    env = sb3.VecNormalize(make_vec_env("Pendulum-v1", n_envs))
    freeze(env, monkeypatch)
    env.reset()
    with LeanSteps(env):
        env.step(np.zeros((n_envs, 1)))
    assert env.obs_rms.count == env.ret_rms.count == 1e-4


def test_moments_of_a_class_of_ones_own_are_updated_by_it():
    class Frozen(RunningMeanStd):
        def update(self, arr):
            pass

    env = made("normalised")
    env.reset()
    env.obs_rms, env.ret_rms = Frozen(shape=(3,)), Frozen()
    with LeanSteps(env):
        env.step(np.zeros((1, 2)))
    assert env.obs_rms.count == env.ret_rms.count == 1e-4


def test_infos_of_another_kind_keep_it():
    class Info(dict):
        pass

    class Informing(Episodes):
        def step(self, action):
            *rest, info = super().step(action)
            return *rest, Info(info, more=UserDict(a=[1]))

    env = DummyVecEnv([lambda: Informing(VECTOR, spaces.Discrete(2))])
    env.reset()
    with LeanSteps(env):
        (info,) = env.step(np.zeros(1))[3]
    assert type(info) is Info
    assert info == env.buf_infos[0]
    assert info["more"].data["a"] is not env.buf_infos[0]["more"].data["a"]


# In the algorithms


def trained(name, env, n_steps=192, callback=None, **kwargs):
    arguments = {**ALGORITHMS[name], **kwargs}
    model = getattr(sb3_natural, name)("MlpPolicy", env, seed=0, device="cpu", **arguments)
    return model.learn(n_steps, callback=callback)


def assert_same_parameters(left, right):
    for name, value in left.policy.state_dict().items():
        assert torch.equal(value, right.policy.state_dict()[name]), name


def without_takeover(monkeypatch):
    monkeypatch.setattr(takeover, "_REPLACED", {})


@pytest.mark.parametrize("chain", ["alone", "normalised", "stacked, normalised"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_takes_them_over_and_learns_the_same(name, chain, lean_steps, monkeypatch):
    ours = made(chain, 2)
    model = trained(name, ours)
    assert len(lean_steps) == model.num_timesteps
    without_takeover(monkeypatch)
    theirs = made(chain, 2)
    expected = trained(name, theirs)
    assert len(lean_steps) == model.num_timesteps == expected.num_timesteps
    assert_same_parameters(model, expected)
    assert equal(state(theirs), state(ours))


def test_sb3s_own_loop_takes_them_over(lean_steps):
    model = sb3_natural.PPO("MlpPolicy", made("alone"), n_steps=64, device="cpu")
    model.rollout_path = "sb3"
    model.learn(64)
    assert len(lean_steps) == 64


def test_the_users_objects_stay_theirs_and_in_step():
    env = made("normalised")
    inner = env.venv
    model = trained("PPO", env)
    assert model.get_env() is model.get_vec_normalize_env() is env
    assert env.venv is env.unwrapped is inner
    assert (type(env), type(inner)) == (sb3.VecNormalize, DummyVecEnv)
    np.testing.assert_array_equal(inner.buf_obs[None], env.old_obs)
    np.testing.assert_array_equal(env.normalize_obs(inner.buf_obs[None]), model._last_obs)
    # The episode goes on where the rollout has left it.
    (before,) = env.get_attr("steps")
    env.step(np.zeros((1, 2)))
    assert env.get_attr("steps") == [before % 7 + 1]
    env.seed(3)
    first = env.venv.reset()
    env.seed(3)
    np.testing.assert_array_equal(first, env.venv.reset())


class Files(BaseCallback):
    """What files and comparisons find while a rollout is collected."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def _on_step(self):
        env = self.training_env
        self.found = [type(each) for each in links(env)]
        self.copied = type(copy.deepcopy(env.venv))
        self.pickled = pickle.dumps(env)
        env.save(str(self.path))
        return True


def test_callbacks_and_files_find_sb3s_classes(tmp_path, monkeypatch):
    callbacks = []
    for folder in ("ours", "theirs"):
        if folder == "theirs":
            without_takeover(monkeypatch)
        callbacks.append(Files(tmp_path / folder))
        trained("NPG", made("normalised"), callback=callbacks[-1])
    ours, theirs = callbacks
    assert ours.found == [sb3.VecNormalize, DummyVecEnv]
    assert ours.copied is DummyVecEnv
    # Bytes may differ in which of two equal dtypes an array refers to, so contents are compared.
    saved = [(tmp_path / folder).read_bytes() for folder in ("ours", "theirs")]
    for left, right in ((ours.pickled, theirs.pickled), saved):
        assert b"sb3_natural" not in left
        assert len(left) == len(right)
        restored = [pickle.loads(each) for each in (left, right)]
        assert [type(each) for each in restored] == [sb3.VecNormalize] * 2
        assert list(vars(restored[0])) == list(vars(restored[1]))
        assert equal(*(plain(vars(each)) for each in restored))


class Patching(BaseCallback):
    """Replaces ``step_wait`` in the midst of a rollout, and counts its calls."""

    def _on_training_start(self):
        self.calls = 0

    def _on_step(self):
        if self.n_calls == 10:
            self.theirs = self.training_env.step_wait
            self.training_env.step_wait = self.counted
        return True

    def counted(self):
        self.calls += 1
        return self.theirs()


def test_a_method_may_be_replaced_in_the_midst_of_a_rollout():
    callback = Patching()
    trained("PPO", made("alone"), 128, callback)
    assert callback.calls == 128 - 10


def test_saving_loading_and_another_environment(tmp_path, lean_steps):
    model = trained("PPO", made("normalised"))
    model.save(tmp_path / "model")
    model.get_vec_normalize_env().save(str(tmp_path / "moments"))

    venv = make_vec_env(lambda: Episodes(VECTOR, spaces.Box(-1, 1, (2,))), 1, seed=1)
    env = sb3.VecNormalize.load(str(tmp_path / "moments"), venv)
    loaded = sb3_natural.PPO.load(tmp_path / "model", env=env, device="cpu")
    assert loaded.get_env() is env
    lean_steps.clear()
    loaded.learn(64)
    assert len(lean_steps) == 64

    another = made("normalised")
    loaded.set_env(another)
    lean_steps.clear()
    loaded.learn(64)
    assert len(lean_steps) == 64
    assert loaded.get_vec_normalize_env() is another
    assert another.ret_rms.count > 60


def test_evaluation_and_synchronised_moments():
    env, evaluated = made("normalised"), made("normalised")
    evaluated.training = False
    callback = EvalCallback(evaluated, n_eval_episodes=2, eval_freq=64, verbose=0)
    model = trained("NPG", env, callback=callback)
    assert np.isfinite(callback.last_mean_reward)
    # Those of the last evaluation, which was the last step.
    np.testing.assert_array_equal(evaluated.obs_rms.mean, env.obs_rms.mean)
    assert evaluated.ret_rms.count == env.ret_rms.count
    mean, _ = evaluate_policy(model, env, n_eval_episodes=2)
    assert np.isfinite(mean)
