"""What a user of PPO expects of any SB3 algorithm."""

import copy
import csv

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
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from sb3_natural import NPG
from sb3_natural.curvature.solvers import KFAC, ConjugateGradient, Solution, Solver
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, SpacesEnv

POLICIES = {
    "mlp": "MlpPolicy",
    "discrete": "MlpPolicy",
    "cnn": "CnnPolicy",
    "dict": "MultiInputPolicy",
}


def make_envs(actions, observations, n_envs, vec_env_cls=DummyVecEnv):
    spaces_of = (OBSERVATION_SPACES[observations], ACTION_SPACES[actions])
    return make_vec_env(
        lambda: SpacesEnv(*copy.deepcopy(spaces_of)), n_envs, seed=0, vec_env_cls=vec_env_cls
    )


def weights(model):
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


def same(left, right):
    return all(torch.equal(left[name], right[name]) for name in left | right)


@pytest.mark.parametrize("n_envs", [1, 8])
@pytest.mark.parametrize("observations", OBSERVATION_SPACES)
@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_learns_saves_and_predicts_in_every_space(actions, observations, n_envs, tmp_path):
    env = make_envs(actions, observations, n_envs)
    model = NPG(
        POLICIES[observations],
        env,
        n_steps=32 // n_envs,
        batch_size=16,
        use_sde=actions == "gsde",
        seed=0,
    )
    start = weights(model)
    model.learn(64)
    assert not same(start, weights(model))
    assert model.logger.name_to_value["train/skipped_updates"] == 0
    assert all(torch.isfinite(value).all() for value in weights(model).values())

    batch, single = env.reset(), OBSERVATION_SPACES[observations].sample()
    space = ACTION_SPACES[actions]
    assert model.predict(batch)[0].shape == (n_envs, *space.shape)
    action, _ = model.predict(single, deterministic=True)
    assert np.shape(action) == space.shape

    model.save(tmp_path / "model")
    loaded = NPG.load(tmp_path / "model", env=env)
    assert same(weights(model), weights(loaded))
    np.testing.assert_array_equal(loaded.predict(single, deterministic=True)[0], action)
    loaded.learn(32, reset_num_timesteps=False)
    assert loaded.num_timesteps == 96


@pytest.mark.parametrize("vec_env_cls", [DummyVecEnv, SubprocVecEnv])
def test_vec_envs_give_the_same_run(vec_env_cls):
    runs = []
    for cls in (DummyVecEnv, vec_env_cls):
        env = make_vec_env("Pendulum-v1", 3, seed=0, vec_env_cls=cls)
        runs.append(weights(NPG("MlpPolicy", env, n_steps=32, seed=0).learn(192)))
        env.close()
    assert same(*runs)


@pytest.mark.parametrize("critic", ["adam", "gauss_newton"])
def test_same_seed_gives_the_same_weights(critic):
    def run(seed):
        model = NPG("MlpPolicy", "CartPole-v1", n_steps=128, critic=critic, seed=seed)
        return weights(model.learn(512))

    first = run(3)
    assert same(first, run(3))
    assert not same(first, run(4))


def test_vec_normalize_and_callbacks(tmp_path):
    env = VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0))
    eval_env = VecNormalize(make_vec_env("Pendulum-v1", 1, seed=1), training=False)
    evaluation = EvalCallback(
        eval_env, eval_freq=64, n_eval_episodes=1, log_path=str(tmp_path), verbose=0
    )
    checkpoints = CheckpointCallback(64, str(tmp_path), save_vecnormalize=True)
    model = NPG("MlpPolicy", env, n_steps=64, seed=0)
    model.learn(256, callback=[evaluation, checkpoints])
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [128, 256]
    assert len(list(tmp_path.glob("rl_model_*_steps.zip"))) == 2
    assert len(list(tmp_path.glob("*vecnormalize*.pkl"))) == 2
    NPG.load(tmp_path / "rl_model_128_steps.zip", env=env)


class StopAfter(BaseCallback):
    def __init__(self, n_calls):
        super().__init__()
        self.stop_at = n_calls

    def _on_step(self):
        return self.n_calls < self.stop_at


def test_a_callback_can_stop_training():
    model = NPG("MlpPolicy", "CartPole-v1", n_steps=64, seed=0)
    model.learn(1000, callback=StopAfter(100))
    assert model.num_timesteps == 100
    assert model._n_updates == 1


def test_everything_that_is_promised_is_logged(tmp_path):
    env = make_vec_env("Pendulum-v1", 2, seed=0)
    model = NPG("MlpPolicy", env, n_steps=128, seed=0)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(4 * 256)
    with (tmp_path / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    last = {key: float(value) for key, value in rows[-1].items() if value}
    assert len(rows) == 4
    assert {
        "train/policy_objective",
        "train/kl",
        "train/kl_divergence_loss",
        "train/kl_predicted",
        "train/step_length",
        "train/cg_iterations",
        "train/cg_residual",
        "train/value_loss",
        "train/explained_variance",
        "train/std",
        "train/skipped_updates",
        "train/n_updates",
        "time/fps",
        "time/collect_fraction",
        "rollout/ep_rew_mean",
    } <= set(last)
    assert 0 < last["time/collect_fraction"] < 1
    assert last["train/std"] == pytest.approx(3**-0.5, rel=0.1)
    discrete = NPG("MlpPolicy", "CartPole-v1", n_steps=64, seed=0)
    discrete.learn(64)
    assert 0 < discrete.logger.name_to_value["train/entropy"] <= np.log(2)


def test_tensorboard_log_and_progress_bar(tmp_path, capfd):
    model = NPG("MlpPolicy", "CartPole-v1", n_steps=64, seed=0, tensorboard_log=str(tmp_path))
    model.learn(128, progress_bar=True)
    assert list(tmp_path.glob("NPG_1/events.out.tfevents.*"))
    assert "128/128" in "".join(capfd.readouterr())


class Recorder(BaseCallback):
    """Saves the model when a rollout starts and keeps the rollout that follows."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.rollouts = []
        self.scales = []

    def _on_rollout_start(self):
        self.model.save(self.folder / f"update-{len(self.rollouts)}")

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        np.random.seed(7)  # noqa: NPY002  (what SB3 shuffles minibatches with)
        self.rollouts.append(copy.deepcopy(self.model.rollout_buffer))
        self.scales.append(
            copy.deepcopy(self.model._return_scale)
        )  # of this rollout's rewards, too


class Remembering(Solver):
    """The mean of the last two directions."""

    def __init__(self):
        self.last = None

    def solve(self, operator, b):
        now = ConjugateGradient(5).solve(operator, b).direction
        direction = now if self.last is None else (now + self.last) / 2
        self.last = now
        return Solution(direction)


CONTINUED = {
    "gauss_newton": dict(critic="gauss_newton"),
    "adam": dict(critic="adam", learning_rate=LinearSchedule(1e-3, 0.0, 1.0)),
    "schedule": dict(target_kl=LinearSchedule(0.05, 0.0, 1.0), line_search=True),
    "kfac": dict(fisher_solver=KFAC(inverse_every=3), critic_solver="kfac"),
    "fixed": dict(step_size=lambda progress: 0.01 * progress),
    "penalised": dict(kl_penalty=2.0, kl_constraint="max"),
    "adaptive": dict(kl_penalty="adaptive"),
}


@pytest.mark.parametrize("case", [*CONTINUED, "solver_state"])
def test_a_loaded_model_continues_exactly(case, tmp_path):
    """At every update: load what was saved before it, give it the same rollout, compare."""
    arguments = CONTINUED.get(case) or dict(fisher_solver=Remembering())
    n_updates = 4
    recorder = Recorder(tmp_path)
    model = NPG("MlpPolicy", "Pendulum-v1", n_steps=64, seed=0, **arguments)
    model.learn(n_updates * 64, callback=recorder)
    model.save(tmp_path / f"update-{n_updates}")
    for update in range(n_updates):
        loaded = NPG.load(tmp_path / f"update-{update}")
        loaded.set_logger(configure(None, []))
        loaded.rollout_buffer = recorder.rollouts[update]
        loaded._return_scale = recorder.scales[update]
        loaded.num_timesteps += 64
        loaded._update_current_progress_remaining(loaded.num_timesteps, n_updates * 64)
        np.random.seed(7)  # noqa: NPY002
        loaded.train()
        expected = NPG.load(tmp_path / f"update-{update + 1}")
        assert same(weights(loaded), weights(expected)), f"update {update}"
        assert loaded._n_updates == expected._n_updates
        ours, theirs = (m.policy.optimizer.state_dict() for m in (loaded, expected))
        assert ours["param_groups"] == theirs["param_groups"]
        assert ours["state"].keys() == theirs["state"].keys()
        for index, state in ours["state"].items():
            assert all(torch.equal(state[key], theirs["state"][index][key]) for key in state)


def test_interrupted_learning_goes_on_with_the_schedule():
    seen = []

    def schedule(progress):
        seen.append(progress)
        return 0.01

    whole = NPG("MlpPolicy", "Pendulum-v1", n_steps=64, target_kl=schedule, seed=0)
    whole.learn(256)
    in_one_go, seen[:] = list(seen), []
    model = NPG("MlpPolicy", "Pendulum-v1", n_steps=64, target_kl=schedule, seed=0)
    model.learn(256, callback=StopAfter(128))
    model.num_timesteps = 64  # the rollout that was cut off is collected again
    model.learn(192, reset_num_timesteps=False)
    assert seen == in_one_go


def test_load_accepts_new_arguments_and_checks_them(tmp_path):
    model = NPG("MlpPolicy", "Pendulum-v1", n_steps=64, seed=0)
    model.save(tmp_path / "model")
    assert NPG.load(tmp_path / "model", fisher_solver="dense").fisher_solver == "dense"
    with pytest.raises(ValueError, match="exclude each other"):
        NPG.load(tmp_path / "model", step_size=0.1)
    switched = NPG.load(tmp_path / "model", step_size=0.1, target_kl=None)
    assert switched.step_size(1.0) == 0.1


class Breaks(gym.Wrapper):
    """Turns one value of one step into something else."""

    def __init__(self, env, step, reward=None, observation=None):
        super().__init__(env)
        self.at = step
        self.reward = reward
        self.observation = observation
        self.steps = 0

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        if self.steps == self.at:
            reward = reward if self.reward is None else self.reward
            if self.observation is not None:
                observation = self.observation(observation)
        return observation, reward, terminated, truncated, info


def spoil_vector(observation):
    observation = copy.deepcopy(observation)
    target = observation["vector"] if isinstance(observation, dict) else observation
    target[1] = np.inf
    return observation


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
    model = NPG(POLICIES[observations], venv, n_steps=16, seed=0)
    with pytest.raises(
        ValueError, match=rf"environment 2 returned a non-finite .*{what}.* at step 20 .*80\)"
    ):
        model.learn(1000)
    assert all(torch.isfinite(value).all() for value in weights(model).values())


def test_non_finite_first_observation_is_found():
    class BadStart(SpacesEnv):
        def reset(self, **kwargs):
            observation, info = super().reset(**kwargs)
            return observation * np.nan, info

    env = BadStart(spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
    with pytest.raises(ValueError, match="environment 0 returned a non-finite observation"):
        NPG("MlpPolicy", env, n_steps=16).learn(16)


def test_observation_spaces_as_wide_as_floats_go_are_accepted():
    limit = np.finfo(np.float32).max
    env = SpacesEnv(spaces.Box(-limit, limit, (3,)), spaces.Box(-1, 1, (2,)))
    assert NPG("MlpPolicy", env, n_steps=16).learn(16)._n_updates == 1


def test_constructor_arguments_are_those_of_ppo_where_both_have_them():
    import inspect

    ours, theirs = (set(inspect.signature(cls.__init__).parameters) for cls in (NPG, PPO))
    only_ppo = {
        "n_epochs",
        "clip_range",
        "clip_range_vf",
        "ent_coef",
        "vf_coef",
        "max_grad_norm",
    }
    assert theirs - ours == only_ppo
