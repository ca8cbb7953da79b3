"""What a user of PPO expects of any SB3 algorithm."""

import copy
import csv
import inspect

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize
from torch import nn

from sb3_natural import NAC
from sb3_natural.nac.episodes import Episodes
from sb3_natural.nac.lstd import Lstd
from sb3_natural.nac.policies import NET_ARCH
from tests.helpers import ACTION_SPACES, DEVICES, OBSERVATION_SPACES, SpacesEnv

# SB3's extractors of images have 70,000 parameters and more: too many for LSTD's matrix.
SPACES = {
    "mlp": ("MlpPolicy", "lstd"),
    "discrete": ("MlpPolicy", "lstd"),
    "cnn": ("CnnPolicy", "episodic"),
    "dict": ("MultiInputPolicy", "episodic"),
}


VECTORS = ("mlp", "discrete")


def make_envs(actions, observations, n_envs, vec_env_cls=DummyVecEnv):
    spaces_of = (OBSERVATION_SPACES[observations], ACTION_SPACES[actions])
    return make_vec_env(
        lambda: SpacesEnv(*copy.deepcopy(spaces_of)), n_envs, seed=0, vec_env_cls=vec_env_cls
    )


def weights(model):
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


def state(model):
    """What is saved with the model besides the policy."""
    return {
        "last": model._last_direction.clone(),
        **{name: getattr(model._lstd, name).clone() for name in Lstd.VARIABLES},
        **{name: getattr(model._episodes, name).clone() for name in Episodes.VARIABLES},
    }


def same(left, right):
    return all(torch.equal(left[name], right[name]) for name in left | right)


@pytest.mark.parametrize("n_envs", [1, 8])
@pytest.mark.parametrize(
    ("actions", "observations"),
    [
        *((actions, observations) for actions in ACTION_SPACES for observations in VECTORS),
        ("categorical", "cnn"),
        ("gsde", "cnn"),
        ("multicategorical", "dict"),
    ],
)
def test_learns_saves_and_predicts_in_every_space(actions, observations, n_envs, tmp_path):
    env = make_envs(actions, observations, n_envs)
    policy, variant = SPACES[observations]
    model = NAC(
        policy, env, variant, n_steps=64 // n_envs, use_sde=actions == "gsde", n_episodes=5, seed=0
    )
    start = weights(model)
    model.learn(128)
    assert not same(start, weights(model))
    assert model.logger.name_to_value["train/skipped_updates"] == 0
    assert model.logger.name_to_value["train/kl"] > 0
    assert all(torch.isfinite(value).all() for value in weights(model).values())

    batch, single = env.reset(), OBSERVATION_SPACES[observations].sample()
    space = ACTION_SPACES[actions]
    assert model.predict(batch)[0].shape == (n_envs, *space.shape)
    action, _ = model.predict(single, deterministic=True)
    assert np.shape(action) == space.shape

    model.save(tmp_path / "model")
    loaded = NAC.load(tmp_path / "model", env=env)
    assert same(weights(model), weights(loaded))
    assert same(state(model), state(loaded))
    np.testing.assert_array_equal(loaded.predict(single, deterministic=True)[0], action)
    loaded.learn(64, reset_num_timesteps=False)
    assert loaded.num_timesteps == 192


@pytest.mark.parametrize("observations", ["cnn", "dict"])
def test_small_extractors_of_images_fit_lstd(observations):
    class Small(torch.nn.Module):
        features_dim = 4

        def __init__(self, space):
            super().__init__()
            self.scale = torch.nn.Linear(1, 4)

        def forward(self, observations):
            image = observations["image"] if isinstance(observations, dict) else observations
            return self.scale(image.flatten(1).mean(dim=1, keepdim=True))

    env = make_envs("categorical", observations, 2)
    kwargs = dict(features_extractor_class=Small, net_arch=[])
    model = NAC(SPACES[observations][0], env, n_steps=64, policy_kwargs=kwargs, seed=0)
    model.learn(128)
    assert model.logger.name_to_value["train/kl"] > 0


def test_vec_envs_give_the_same_run():
    runs = []
    for cls in (DummyVecEnv, SubprocVecEnv):
        env = make_vec_env("CartPole-v1", 2, seed=0, vec_env_cls=cls)
        runs.append(weights(NAC("MlpPolicy", env, n_steps=64, seed=0).learn(256)))
        env.close()
    assert same(*runs)


@pytest.mark.parametrize("variant", ["lstd", "episodic"])
def test_same_seed_gives_the_same_weights(variant):
    def run(seed):
        model = NAC("MlpPolicy", "CartPole-v1", variant, n_steps=256, seed=seed)
        return weights(model.learn(1024))

    first = run(3)
    assert same(first, run(3))
    assert not same(first, run(4))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("variant", ["lstd", "episodic"])
def test_learns_and_continues_on_every_device(device, variant, tmp_path):
    model = NAC("MlpPolicy", "CartPole-v1", variant, n_steps=128, seed=0, device=device)
    model.learn(256).save(tmp_path / "model")
    loaded = NAC.load(tmp_path / "model", make_vec_env("CartPole-v1"), device=device)
    assert same(state(model), state(loaded))
    before = weights(loaded)
    loaded.learn(256)
    assert not same(before, weights(loaded))


@pytest.mark.parametrize("variant", ["lstd", "episodic"])
def test_vec_normalize_and_callbacks(variant, tmp_path):
    env = VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0))
    eval_env = VecNormalize(make_vec_env("Pendulum-v1", 1, seed=1), training=False)
    evaluation = EvalCallback(
        eval_env, eval_freq=256, n_eval_episodes=1, log_path=str(tmp_path), verbose=0
    )
    checkpoints = CheckpointCallback(256, str(tmp_path), save_vecnormalize=True)
    model = NAC("MlpPolicy", env, variant, n_steps=256, n_episodes=2, seed=0)
    model.learn(1024, callback=[evaluation, checkpoints])
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [512, 1024]
    assert len(list(tmp_path.glob("rl_model_*_steps.zip"))) == 2
    assert len(list(tmp_path.glob("*vecnormalize*.pkl"))) == 2
    NAC.load(tmp_path / "rl_model_512_steps.zip", env=env)
    assert model.logger.name_to_value["train/kl"] > 0


class StopAfter(BaseCallback):
    def __init__(self, n_calls):
        super().__init__()
        self.stop_at = n_calls

    def _on_step(self):
        return self.n_calls < self.stop_at


def test_a_callback_can_stop_training():
    model = NAC("MlpPolicy", "CartPole-v1", n_steps=64, seed=0)
    model.learn(1000, callback=StopAfter(100))
    assert model.num_timesteps == 100
    assert model._n_updates == 1


def test_callbacks_see_what_ppos_see():
    """At each step, and in the rollout buffer at the end of a rollout."""

    class Look(BaseCallback):
        def __init__(self):
            super().__init__()
            self.values, self.log_probs = [], []

        def _on_step(self):
            self.values.append(self.locals["values"].numpy().copy())
            self.log_probs.append(self.locals["log_probs"].numpy().copy())
            return True

        def _on_rollout_end(self):
            self.buffer = copy.deepcopy(self.model.rollout_buffer)

    def watched(cls, policy, **kwargs):
        look = Look()
        env = make_vec_env("Pendulum-v1", 2, seed=0)  # with time limits
        arguments = dict(n_steps=250, policy_kwargs=dict(net_arch=NET_ARCH), seed=0, device="cpu")
        cls(policy, env, **arguments, **kwargs).learn(500, callback=look)
        return look

    look = watched(NAC, "MlpPolicy", trace=0.8)
    theirs = watched(
        PPO, "MlpPolicy", gae_lambda=0.8, n_epochs=1, batch_size=500, learning_rate=0.0
    )
    np.testing.assert_allclose(np.array(look.values), np.array(theirs.values), atol=1e-3)
    np.testing.assert_allclose(np.array(look.log_probs), np.array(theirs.log_probs), atol=1e-3)
    for name in ("actions", "rewards", "episode_starts", "values", "returns"):
        ours, expected = (getattr(each.buffer, name) for each in (look, theirs))
        np.testing.assert_allclose(ours, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("variant", ["lstd", "episodic"])
def test_everything_that_is_promised_is_logged(variant, tmp_path):
    env = make_vec_env("Pendulum-v1", 2, seed=0)
    model = NAC("MlpPolicy", env, variant, n_steps=256, n_episodes=2, max_angle=3.1, seed=0)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(4 * 512)
    with (tmp_path / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    seen = {key for row in rows for key, value in row.items() if value}
    assert len(rows) == 4
    assert {
        "train/policy_objective",
        "train/kl",
        "train/kl_predicted",
        "train/target_kl",
        "train/step_length",
        "train/step_shortenings",
        "train/angle",
        "train/value_loss",
        "train/explained_variance",
        "train/std",
        "train/skipped_updates",
        "train/n_updates",
        "time/fps",
        "time/collect_fraction",
        "rollout/ep_rew_mean",
        *(["train/n_episodes"] if variant == "episodic" else []),
    } <= seen
    discrete = NAC("MlpPolicy", "CartPole-v1", variant, n_steps=64, seed=0)
    discrete.learn(64)
    assert 0 < discrete.logger.name_to_value["train/entropy"] <= np.log(2)


def test_tensorboard_log_and_progress_bar(tmp_path, capfd):
    model = NAC("MlpPolicy", "CartPole-v1", n_steps=64, seed=0, tensorboard_log=str(tmp_path))
    model.learn(128, progress_bar=True)
    assert list(tmp_path.glob("NAC_1/events.out.tfevents.*"))
    assert "128/128" in "".join(capfd.readouterr())


class Recorder(BaseCallback):
    """Saves the model when a rollout starts and keeps the rollout that follows."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.rollouts = []

    def _on_rollout_start(self):
        self.model.save(self.folder / f"update-{len(self.rollouts)}")

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        rollout = self.model.rollout_buffer, self.model._transitions
        self.rollouts.append(copy.deepcopy(rollout))


CONTINUED = {
    "lstd": dict(forgetting_factor=0.7),
    "schedule": dict(target_kl=LinearSchedule(0.05, 0.0, 1.0), forgetting_factor=1.0),
    "fixed": dict(step_size=lambda progress: 1e-4 * progress),
    "angle": dict(max_angle=1.0),
    "episodic": dict(variant="episodic", n_episodes=5),
    "episodic, few": dict(variant="episodic", n_episodes=15, max_angle=2.0),
}


@pytest.mark.parametrize("weights_only", [False, True])
@pytest.mark.parametrize("case", CONTINUED)
def test_a_loaded_model_continues_exactly(case, weights_only, tmp_path):
    """At every update: load what was saved before it, give it the same rollout, compare."""
    n_updates, arguments = 5, CONTINUED[case]
    given = dict(step_size=arguments["step_size"]) if case == "fixed" and weights_only else {}
    recorder = Recorder(tmp_path)
    model = NAC("MlpPolicy", "CartPole-v1", n_steps=128, seed=0, **arguments)
    model.learn(n_updates * 128, callback=recorder)
    model.save(tmp_path / f"update-{n_updates}")
    moved = []
    for update in range(n_updates):
        path = tmp_path / f"update-{update}"
        loaded = NAC.load(path, weights_only=weights_only, **given)
        before = weights(loaded)
        loaded.set_logger(configure(None, []))
        loaded.rollout_buffer, loaded._transitions = recorder.rollouts[update]
        loaded.num_timesteps += 128
        loaded._update_current_progress_remaining(loaded.num_timesteps, n_updates * 128)
        loaded.train()
        expected = NAC.load(tmp_path / f"update-{update + 1}")
        assert same(weights(loaded), weights(expected)), f"update {update}"
        assert same(state(loaded), state(expected)), f"update {update}"
        assert loaded._n_updates == expected._n_updates
        moved.append(not same(before, weights(loaded)))
    assert any(moved)


def test_a_loaded_model_goes_on_in_other_environments(tmp_path):
    model = NAC("MlpPolicy", make_vec_env("CartPole-v1", 2), n_steps=64, forgetting_factor=0.5)
    model.learn(128).save(tmp_path / "model")
    loaded = NAC.load(tmp_path / "model", make_vec_env("CartPole-v1", 3))
    count = loaded._lstd.count.item()
    loaded.learn(3 * 64, reset_num_timesteps=False)
    assert loaded._lstd.count == pytest.approx(0.5 * (count + 3 * 64))


def test_the_middle_of_an_episode_is_no_start():
    """learn() twice goes on in the episode; a reset starts another."""
    model = NAC("MlpPolicy", "Pendulum-v1", "episodic", n_steps=50, seed=0).learn(50)
    assert model._episodes.ages.tolist() == [50]
    model.learn(50, reset_num_timesteps=False)
    assert model._episodes.ages.tolist() == [100]
    model.learn(50)
    assert model._episodes.ages.tolist() == [50]


def test_load_accepts_new_arguments_and_checks_them(tmp_path):
    model = NAC("MlpPolicy", "Pendulum-v1", n_steps=64, seed=0)
    model.save(tmp_path / "model")
    assert NAC.load(tmp_path / "model", ridge=0.5).ridge == 0.5
    with pytest.raises(ValueError, match="exclude each other"):
        NAC.load(tmp_path / "model", step_size=0.1)
    switched = NAC.load(tmp_path / "model", step_size=0.1, target_kl=None)
    assert switched.step_size(1.0) == 0.1


class Breaks(gym.Wrapper):
    """Turns one reward into something else."""

    def __init__(self, env, step, reward):
        super().__init__(env)
        self.at, self.reward, self.steps = step, reward, 0

    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        self.steps += 1
        return observation, self.reward if self.steps == self.at else reward, *rest


def test_non_finite_values_name_environment_and_step():
    def make(index):
        def env():
            inner = SpacesEnv(copy.deepcopy(OBSERVATION_SPACES["mlp"]), spaces.Discrete(2))
            return Monitor(inner if index != 2 else Breaks(inner, 20, np.nan))

        return env

    venv = DummyVecEnv([make(index) for index in range(4)])
    model = NAC("MlpPolicy", venv, n_steps=16, seed=0)
    with pytest.raises(ValueError, match=r"environment 2 returned a non-finite .*reward.* step 20"):
        model.learn(1000)
    assert all(torch.isfinite(value).all() for value in weights(model).values())


def test_policies_with_their_own_forward_act_with_it():
    """SB3's loop would, too; it keeps too little for NAC, which has one of its own for them."""

    class Own(ActorCriticPolicy):
        calls = 0

        def forward(self, obs, deterministic=False):
            type(self).calls += 1
            return super().forward(obs, deterministic)

    env = make_vec_env("CartPole-v1", 2, seed=0)
    model = NAC(Own, env, n_steps=32, policy_kwargs=dict(net_arch=[8]), seed=0).learn(64)
    assert Own.calls == 32
    assert model.rollout_path == "sb3"
    assert model.logger.name_to_value["train/kl"] > 0


def test_constructor_arguments_are_those_of_ppo_where_both_have_them():
    ours, theirs = (set(inspect.signature(cls.__init__).parameters) for cls in (NAC, PPO))
    only_ppo = {
        "batch_size",
        "clip_range",
        "clip_range_vf",
        "ent_coef",
        "gae_lambda",
        "learning_rate",
        "max_grad_norm",
        "n_epochs",
        "normalize_advantage",
        "rollout_buffer_class",
        "rollout_buffer_kwargs",
        "vf_coef",
    }
    assert theirs - ours == only_ppo


def test_features_that_the_policy_moves_exclude_sums_over_several_policies():
    options = dict(n_steps=32, forgetting_factor=0.5, device="cpu")
    moved = dict(features_extractor_class=Moved)
    model = NAC("MlpPolicy", "CartPole-v1", policy_kwargs=moved, **options)
    with pytest.raises(ValueError, match=r"forgetting_factor=0\.5 keeps sums over features"):
        model.learn(32)
    own = moved | dict(share_features_extractor=False)
    NAC("MlpPolicy", "CartPole-v1", policy_kwargs=own, **options).learn(32)


class Moved(FlattenExtractor):
    def __init__(self, space):
        super().__init__(space)
        self.layer = nn.Linear(self.features_dim, self.features_dim)

    def forward(self, observations):
        return self.layer(super().forward(observations))
