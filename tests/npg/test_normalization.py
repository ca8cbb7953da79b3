"""NPG with normalised observations and returns: what is learned from, and what is saved."""

import copy
import json
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_natural import NPG
from sb3_natural.npg import MlpPolicy
from sb3_natural.rollouts.scaling import ReturnScale
from tests.npg.test_sb3_contract import POLICIES, StopAfter, make_envs, same, weights

PATHS = ("numpy", "torch", "sb3")


class Odd(gym.Env):
    """Observations and rewards far from mean 0 and deviation 1; every other episode is cut off."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = spaces.Box(-1, 1, (2,))

    def __init__(self, factor=1.0):
        self.factor = factor
        self.episodes = self.steps = 0
        self.state = np.zeros(3)

    def observe(self):
        return self.state * [0.01, 1.0, 300.0] + [5.0, -1.0, 2000.0]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=3)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        self.state = 0.9 * self.state + 0.3 * self.np_random.normal(size=3)
        self.state[:2] += 0.1 * action
        self.steps += 1
        ended = self.steps >= 9
        self.episodes += ended
        cut_off = ended and self.episodes % 2 == 0
        reward = self.factor * (3.0 + float(self.state[:2].sum()))
        return self.observe(), reward, ended and not cut_off, cut_off, {}


def odd_envs(n_envs=2, factor=1.0):
    return make_vec_env(lambda: Odd(factor), n_envs, seed=0)


def make(env=None, path=None, **kwargs):
    arguments = dict(n_steps=64, seed=0, device="cpu") | kwargs
    model = NPG("MlpPolicy", odd_envs() if env is None else env, **arguments)
    model.set_logger(configure(None, []))
    model.rollout_path = path
    return model


class Rollouts(BaseCallback):
    """Keeps each rollout, and checks that the statistics stand still while it is collected."""

    def __init__(self):
        super().__init__()
        self.buffers = []
        self.rewards = []
        self.dones = []
        self.cut_off = []

    def _on_rollout_start(self):
        self.before = copy.deepcopy(self.model.policy.normalizer.state_dict())

    def _on_step(self):
        now = self.model.policy.normalizer.state_dict()
        assert all(torch.equal(now[name], self.before[name]) for name in now)
        self.rewards.append(self.locals["rewards"].copy())
        self.dones.append(self.locals["dones"].copy())
        self.cut_off.append([info["TimeLimit.truncated"] for info in self.locals["infos"]])
        return True

    def _on_rollout_end(self):
        self.buffers.append(copy.deepcopy(self.model.rollout_buffer))


def test_statistics_are_those_of_vec_normalize_on_the_same_observations():
    model, rollouts = make(), Rollouts()
    model.learn(3 * 128, callback=rollouts)
    theirs = RunningMeanStd(shape=(3,))
    for buffer in rollouts.buffers:
        assert buffer.observations[..., 2].mean() > 1000  # what is stored is raw
        for observations in buffer.observations:
            theirs.update(observations.astype(np.float64))
    normalizer = model.policy.normalizer
    np.testing.assert_allclose(normalizer.mean, theirs.mean, 1e-6)
    np.testing.assert_allclose(normalizer.var, theirs.var, 1e-6)
    wrapped = VecNormalize(odd_envs())
    wrapped.obs_rms = theirs
    raw = rollouts.buffers[-1].observations.reshape(-1, 3)
    np.testing.assert_allclose(
        normalizer(torch.as_tensor(raw)), wrapped.normalize_obs(raw), 1e-5, 1e-6
    )


@pytest.mark.parametrize("path", PATHS)
def test_rewards_are_in_units_of_the_returns_deviation_and_bootstrap_values_are_added(path):
    model, rollouts = make(path=path, gamma=0.9), Rollouts()
    _, callback = model._setup_learn(1000, rollouts)
    scale = ReturnScale()
    for gamma in (0.9, 0.5):
        model.gamma = gamma
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 64)
        raw, dones = np.stack(rollouts.rewards[-64:]), np.stack(rollouts.dones[-64:])
        scale.setup(gamma, 2)
        scale.update(raw, dones)
        assert model._return_scale.std == pytest.approx(scale.std, rel=1e-7)
        assert model._return_scale.std > 1.5
        added = model.rollout_buffer.rewards - raw / scale.std
        cut_off = np.array(rollouts.cut_off[-64:])
        assert dones.sum() > cut_off.sum() > 0
        np.testing.assert_array_equal(np.abs(added) > 1e-5, cut_off)
        expected = model.rollout_buffer.advantages.copy()
        last, _ = model.policy.obs_to_tensor(model._last_obs)
        with torch.no_grad():
            values = model.policy.predict_values(last)
        model.rollout_buffer.compute_returns_and_advantage(values, model._last_episode_starts)
        np.testing.assert_allclose(model.rollout_buffer.advantages, expected, 1e-4, 1e-5)


def states(model):
    return {"std": model._return_scale.std, **{k: v.numpy() for k, v in weights(model).items()}}


def assert_close(left, right, tolerance):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_allclose(left[name], right[name], tolerance, tolerance, err_msg=name)


def test_every_path_gives_the_same_training():
    runs = {path: make(path=path, critic="adam").learn(3 * 128) for path in PATHS}
    for path, model in runs.items():
        assert model.rollout_path == path
        assert model.logger.name_to_value["train/skipped_updates"] == 0
        assert_close(states(model), states(runs["sb3"]), 1e-4)


def test_the_torch_path_samples_what_sb3_samples_bit_for_bit():
    models = [make(path=path) for path in ("torch", "sb3")]
    models[0].learn(128)
    models[1].set_parameters(models[0].get_parameters())
    models[1].learn(0)
    actions = []
    for model in models:
        _, callback = model._setup_learn(128)
        torch.manual_seed(1)
        model.env.seed(1)
        model._last_obs = model.env.reset()
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 64)
        actions.append(model.rollout_buffer.actions)
    np.testing.assert_array_equal(*actions)


def two_scales(factor, **kwargs):
    """Three updates with rewards as they are, and multiplied."""
    models = [make(odd_envs(factor=each), **kwargs).learn(3 * 128) for each in (1.0, factor)]
    one, other = models
    assert one._n_updates == other._n_updates == 3
    assert other._return_scale.std == pytest.approx(factor * one._return_scale.std, rel=1e-5)
    return weights(one), weights(other)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("factor", [1000, 1e-3])
def test_training_does_not_depend_on_the_scale_of_rewards(factor, path):
    assert_close(*two_scales(factor, path=path, critic="adam"), 1e-4)


@pytest.mark.parametrize("path", ["numpy", "torch"])
def test_a_power_of_two_changes_no_bit(path):
    """Gauss-Newton steps magnify rounding errors, but here are none."""
    assert same(*two_scales(1024, path=path))


def test_training_depends_on_it_without_normalisation():
    one, other = (
        make(odd_envs(factor=factor), normalize_returns=False).learn(3 * 128)
        for factor in (1.0, 1000.0)
    )
    with pytest.raises(AssertionError):
        assert_close(weights(one), weights(other), 1e-2)
    assert "train/return_std" not in one.logger.name_to_value


def test_an_early_stop_leaves_no_trace():
    model = make()
    model.learn(128)
    std, before = model._return_scale.std, weights(model)
    model.learn(1000, callback=StopAfter(10), reset_num_timesteps=False)
    assert same(before, weights(model))
    assert model._return_scale.std == std
    model.learn(128, reset_num_timesteps=False)
    assert model._n_updates == 2


# Saving


PREDICT = """
import json, sys
import numpy as np
from sb3_natural import NPG
model = NPG.load(sys.argv[1], device="cpu", weights_only=sys.argv[2] == "True")
actions, _ = model.predict(np.array(json.load(sys.stdin)), deterministic=True)
print(json.dumps(actions.tolist()))
"""


@pytest.mark.parametrize("weights_only", [False, True])
def test_a_saved_model_predicts_the_same_bit_for_bit_in_a_fresh_process(weights_only, tmp_path):
    model = make().learn(256)
    model.save(tmp_path / "model")
    observations = model.rollout_buffer.observations.reshape(-1, 3).astype(float)
    expected, _ = model.predict(observations, deterministic=True)
    loaded = NPG.load(tmp_path / "model", weights_only=weights_only)
    assert same(weights(model), weights(loaded))
    assert loaded._return_scale.std == model._return_scale.std
    np.testing.assert_array_equal(loaded.predict(observations, deterministic=True)[0], expected)
    told = subprocess.run(
        [sys.executable, "-c", PREDICT, str(tmp_path / "model"), str(weights_only)],
        input=json.dumps(observations.tolist()),
        capture_output=True,
        text=True,
        check=True,
    )
    np.testing.assert_array_equal(np.array(json.loads(told.stdout), dtype=np.float32), expected)


@pytest.mark.parametrize("weights_only", [False, True])
def test_a_file_from_before_there_was_normalisation_loads_without_it(weights_only, tmp_path):
    model = make(normalize_observations=False, normalize_returns=False).learn(128)
    new = ["normalize_observations", "normalize_returns", "_return_scale"]
    new += ["plateau_threshold", "max_log_std_change", "_usual_variance", "_n_variances"]
    model.save(tmp_path / "model", exclude=new)
    loaded = NPG.load(tmp_path / "model", env=odd_envs(), weights_only=weights_only, device="cpu")
    assert same(weights(model), weights(loaded))
    assert loaded.policy.normalizer is None
    assert (loaded.plateau_threshold, loaded.max_log_std_change) == (0.0, None)
    loaded.learn(128, reset_num_timesteps=False)
    assert loaded._return_scale.std == 1.0


def test_a_loaded_model_learns_on_exactly(tmp_path):
    model = make(n_steps=50).learn(200)
    assert not model._last_episode_starts.any()  # it goes on in the middle of episodes
    model.save(tmp_path / "model")
    env = copy.deepcopy(model.env)
    loaded = NPG.load(tmp_path / "model", env=env, force_reset=False, device="cpu")
    rollouts = []
    for each in (model, loaded):
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        each.learn(200, reset_num_timesteps=False)
        rollouts.append(each.rollout_buffer)
    assert same(weights(model), weights(loaded))
    assert loaded.num_timesteps == 400
    assert loaded._return_scale.to_plain() == model._return_scale.to_plain()
    np.testing.assert_array_equal(rollouts[0].rewards, rollouts[1].rewards)


def test_a_copy_predicts_the_same_and_learns_on_its_own():
    model = make().learn(128)
    before = weights(model)
    copied = copy.deepcopy(model)
    observations = model.rollout_buffer.observations.reshape(-1, 3)
    np.testing.assert_array_equal(
        copied.predict(observations, deterministic=True)[0],
        model.predict(observations, deterministic=True)[0],
    )
    copied.learn(128, reset_num_timesteps=False)
    assert same(before, weights(model))
    assert not torch.equal(copied.policy.normalizer.mean, model.policy.normalizer.mean)


def test_parameters_that_are_taken_over_bring_their_statistics():
    donor, model = make().learn(256), make()
    model.set_parameters(donor.get_parameters())
    observations = donor.rollout_buffer.observations.reshape(-1, 3)
    np.testing.assert_array_equal(
        donor.predict(observations, deterministic=True)[0],
        model.predict(observations, deterministic=True)[0],
    )


# Policies and spaces


@pytest.mark.parametrize(
    ("observations", "n_elements"), [("mlp", 4), ("cnn", 0), ("discrete", 0), ("dict", 3)]
)
def test_vectors_are_normalised_in_every_space(observations, n_elements):
    env = make_envs("gaussian", observations, 2)
    model = NPG(POLICIES[observations], env, n_steps=16, seed=0, device="cpu").learn(64)
    normalizer = model.policy.normalizer
    if n_elements == 0:
        assert normalizer is None
        assert model.normalize_observations is True
        return
    assert normalizer.mean.shape == (n_elements,)
    assert normalizer.count.item() == pytest.approx(64.0001)
    assert normalizer.var.numpy() == pytest.approx(np.full(n_elements, 1 / 3), rel=0.4)


class Squared(FlattenExtractor):
    def forward(self, observations):
        assert observations.abs().max() <= 10
        return super().forward(observations).square()


def test_an_extractor_of_the_users_own_gets_normalised_observations():
    kwargs = dict(features_extractor_class=Squared, net_arch=[8])
    model = make(policy_kwargs=kwargs).learn(2 * 128)
    assert model.policy_kwargs == kwargs
    assert model.rollout_path == "torch"
    assert model.policy.normalizer.count.item() == pytest.approx(256.0001)


class Own(ActorCriticPolicy):
    pass


class Derived(MlpPolicy):
    def _build_mlp_extractor(self):
        super()._build_mlp_extractor()
        self.made = True


def test_a_policy_class_of_the_users_own_does_not_normalise_and_says_so(tmp_path):
    with pytest.warns(UserWarning, match=r"Own does not normalise.*sb3_natural\.npg") as caught:
        model = NPG(Own, odd_envs(), n_steps=16)
    assert caught[0].filename == __file__
    assert model.normalize_observations is False
    model.learn(32).save(tmp_path / "model")
    assert type(NPG.load(tmp_path / "model").policy) is Own


@pytest.mark.filterwarnings("error:.*normalise")
def test_a_policy_class_is_not_told_off_where_nothing_would_be_normalised():
    NPG(Own, odd_envs(), n_steps=16, normalize_observations=False)
    for observations in ("cnn", "discrete"):
        NPG(Own, make_envs("gaussian", observations, 2), n_steps=16)


def test_a_derived_policy_class_normalises(tmp_path):
    model = NPG(Derived, odd_envs(), n_steps=16, device="cpu").learn(64)
    assert model.policy.made
    assert model.policy.normalizer.count.item() == pytest.approx(64.0001)
    model.save(tmp_path / "model")
    assert same(weights(model), weights(NPG.load(tmp_path / "model")))


def test_without_normalisation_the_policy_is_sb3s():
    model = make(normalize_observations=False, normalize_returns=False)
    theirs = ActorCriticPolicy(model.observation_space, model.action_space, lambda _: 0.0)
    assert model.policy.state_dict().keys() == theirs.state_dict().keys()
    model.learn(128)
    assert model._return_scale.std == 1.0


def test_arguments_in_the_wrong_place_or_too_late_are_refused():
    with pytest.raises(ValueError, match="give normalize_observations to NPG itself"):
        make(policy_kwargs=dict(normalize_observations=True))
    model = make()
    model.normalize_observations = False
    with pytest.raises(ValueError, match="normalize_observations=False was set too late"):
        model.learn(128)


# What acts besides


class Seen(gym.Wrapper):
    """Remembers observations and actions."""

    def __init__(self, env):
        super().__init__(env)
        self.pairs = []

    def reset(self, **kwargs):
        self.observation, info = super().reset(**kwargs)
        return self.observation, info

    def step(self, action):
        self.pairs.append((self.observation, action))
        self.observation, *rest = super().step(action)
        return (self.observation, *rest)


def test_an_evaluation_in_a_plain_environment_is_of_the_policy_that_acts(tmp_path):
    seen = Seen(Odd())
    evaluation = EvalCallback(
        DummyVecEnv([lambda: seen]),
        eval_freq=64,
        n_eval_episodes=2,
        best_model_save_path=str(tmp_path),
        verbose=0,
        warn=False,
    )
    model = make()
    model.learn(128)
    before = copy.deepcopy(model.policy)
    model.learn(128, callback=evaluation, reset_num_timesteps=False)
    observations, actions = map(np.stack, zip(*seen.pairs, strict=True))
    normalizer = before.normalizer
    rows = (np.float32(observations) - normalizer.mean.numpy()) / np.sqrt(
        normalizer.var.numpy() + 1e-8
    )
    h = before.mlp_extractor.policy_net(torch.as_tensor(rows.clip(-10, 10), dtype=torch.float32))
    expected = before.action_net(h).detach().numpy().clip(-1, 1)
    np.testing.assert_allclose(actions, expected, 1e-5, 1e-6)
    best = NPG.load(tmp_path / "best_model")
    np.testing.assert_array_equal(best.policy.normalizer.mean, normalizer.mean)
    assert np.isfinite(evaluate_policy(best, odd_envs(1), 1)[0])


@pytest.mark.parametrize("change", ["load_state_dict", "replace", "in place"])
def test_statistics_that_a_callback_changes_act_at_the_next_step(change):
    class Change(BaseCallback):
        def _on_step(self):
            normalizer = self.model.policy.normalizer
            if self.n_calls == 10:
                mean = torch.tensor([5.0, -1.0, 2e3], dtype=torch.float64)
                if change == "load_state_dict":
                    normalizer.load_state_dict(normalizer.state_dict() | {"mean": mean})
                elif change == "replace":
                    normalizer.mean = mean
                else:
                    normalizer.mean.data[:] = mean
                self.policy_then = copy.deepcopy(self.model.policy)
            return True

    model, callback = make(odd_envs(1), n_steps=20), Change()
    model.train = lambda: None
    with torch.no_grad():
        model.policy.log_std.fill_(-20.0)
        model.policy.action_net.weight.mul_(50)
    model.learn(20, callback=callback)
    buffer = model.rollout_buffer
    with torch.no_grad():
        mean = callback.policy_then.get_distribution(torch.as_tensor(buffer.observations[10:, 0]))
    np.testing.assert_allclose(buffer.actions[10:, 0], mean.distribution.mean, 1e-4, 1e-5)


def test_vec_normalize_around_the_environment_does_no_harm():
    env = VecNormalize(odd_envs())
    model = make(env).learn(4 * 128)
    assert model.logger.name_to_value["train/skipped_updates"] == 0
    normalizer = model.policy.normalizer
    assert normalizer.mean.abs().max() < 0.5
    np.testing.assert_allclose(normalizer.var, 1, atol=0.5)
    assert 0.3 < model._return_scale.std < 3
