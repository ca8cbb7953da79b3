"""ACER does what a user of PPO expects of any SB3 algorithm."""

import csv
import inspect

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_natural import ACER
from sb3_natural.acer import MlpPolicy
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, SpacesEnv
from tests.npg.test_sb3_contract import POLICIES, StopAfter, make_envs, same, weights

ACTIONS = [name for name in ACTION_SPACES if name != "gsde"]
REPLAYED = dict(n_steps=8, replay_start=0, replay_ratio=2.0)


def average(model):
    """The average policy's part of the weights."""
    return {key: value for key, value in weights(model).items() if key.startswith("average")}


def finite(model):
    return all(torch.isfinite(value).all() for value in weights(model).values())


@pytest.mark.parametrize("n_envs", [1, 8])
@pytest.mark.parametrize("observations", OBSERVATION_SPACES)
@pytest.mark.parametrize("actions", ACTIONS)
def test_learns_saves_and_predicts_in_every_space(actions, observations, n_envs, tmp_path):
    env = make_envs(actions, observations, n_envs)
    model = ACER(POLICIES[observations], env, n_steps=4, replay_start=0, seed=0)
    start, start_average = weights(model), average(model)
    model.learn(12 * n_envs)
    assert not same(start, weights(model))
    assert all(not torch.equal(old, average(model)[key]) for key, old in start_average.items())
    assert finite(model)
    assert model._n_updates > 3  # there was replay
    assert model._skipped_updates == 0

    batch, single = env.reset(), OBSERVATION_SPACES[observations].sample()
    space = ACTION_SPACES[actions]
    assert model.predict(batch)[0].shape == (n_envs, *space.shape)
    action, _ = model.predict(single, deterministic=True)
    assert np.shape(action) == space.shape

    model.save(tmp_path / "model")
    loaded = ACER.load(tmp_path / "model", env=env)
    assert average(loaded)
    assert same(weights(model), weights(loaded))
    assert loaded._return_scale.std == model._return_scale.std != 1.0
    assert loaded._n_updates == model._n_updates
    np.testing.assert_array_equal(loaded.predict(single, deterministic=True)[0], action)
    loaded.learn(4 * n_envs, reset_num_timesteps=False)
    assert loaded.num_timesteps == 16 * n_envs
    assert not same(weights(model), weights(loaded))
    assert finite(loaded)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("actions", ["categorical", "gaussian"])
@pytest.mark.parametrize("observations", ["cnn", "dict"])
def test_features_extractors_are_shared_or_separate(observations, actions, share, tmp_path):
    env = make_envs(actions, observations, 2)
    kwargs = dict(policy_kwargs=dict(share_features_extractor=share), seed=0, **REPLAYED)
    model = ACER(POLICIES[observations], env, **kwargs)
    start = weights(model)
    model.learn(32)
    policy = model.policy
    assert (policy.pi_features_extractor is policy.vf_features_extractor) == share
    for name in ("pi_features_extractor", "vf_features_extractor"):
        parameters = [key for key in start if key.startswith(name)]
        assert any(not torch.equal(start[key], weights(model)[key]) for key in parameters)
    model.save(tmp_path / "model")
    loaded = ACER.load(tmp_path / "model", env=env)
    assert same(weights(model), weights(loaded))
    loaded.learn(32, reset_num_timesteps=False)
    assert finite(loaded)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_vec_envs_give_the_same_run(env_id):
    runs = []
    for cls in (DummyVecEnv, SubprocVecEnv):
        env = make_vec_env(env_id, 3, seed=0, vec_env_cls=cls)
        runs.append(weights(ACER("MlpPolicy", env, seed=0, **REPLAYED).learn(240)))
        env.close()
    assert same(*runs)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_same_seed_gives_the_same_weights(env_id):
    def run(seed):
        return weights(ACER("MlpPolicy", env_id, seed=seed, **REPLAYED).learn(160))

    first = run(3)
    assert same(first, run(3))
    assert not same(first, run(4))


@pytest.mark.parametrize("case", ["numpy", "torch", "cnn"])
def test_what_a_callback_predicts_changes_nothing(case):
    """Such as an evaluation does, with other observations than the rollout's."""
    observations = "cnn" if case == "cnn" else "mlp"
    other = OBSERVATION_SPACES[observations].sample()

    class Predicts(BaseCallback):
        def _on_step(self):
            self.model.predict(other, deterministic=True)
            return True

    def run(callback):
        model = ACER(POLICIES[observations], make_envs("gaussian", observations, 2), **arguments)
        model.rollout_path = None if case == "cnn" else case
        return weights(model.learn(48, callback=callback))

    arguments = dict(seed=0, **REPLAYED)
    assert same(run(None), run(Predicts()))


def test_evaluations_and_checkpoints(tmp_path):
    env = make_vec_env("Pendulum-v1", 2, seed=0)
    eval_env = make_vec_env("Pendulum-v1", 1, seed=1)
    evaluation = EvalCallback(
        eval_env, eval_freq=64, n_eval_episodes=1, log_path=str(tmp_path), verbose=0
    )
    checkpoints = CheckpointCallback(64, str(tmp_path), save_replay_buffer=True)
    model = ACER("MlpPolicy", env, seed=0, **REPLAYED)
    model.learn(256, callback=[evaluation, checkpoints])
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [128, 256]
    assert len(list(tmp_path.glob("rl_model_*_steps.zip"))) == 2
    assert len(list(tmp_path.glob("rl_model_replay_buffer_*_steps.pkl"))) == 2
    loaded = ACER.load(tmp_path / "rl_model_128_steps.zip", env=env)
    loaded.load_replay_buffer(tmp_path / "rl_model_replay_buffer_128_steps.pkl")
    assert len(loaded.replay_buffer) == 126  # a checkpoint sees the steps before its own
    loaded.learn(64, reset_num_timesteps=False)
    mean, _ = evaluate_policy(loaded, eval_env, n_eval_episodes=1)
    assert np.isfinite(mean)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_a_callback_can_stop_training_and_it_goes_on(env_id):
    env = make_vec_env(env_id, 2, seed=0)
    model = ACER("MlpPolicy", env, seed=0, n_steps=8, replay_start=0, replay_ratio=0)
    model.learn(1000, callback=StopAfter(21))
    assert model.num_timesteps == 42
    assert model._n_updates == 2
    assert len(model.replay_buffer) == 42  # with the step that was stopped at
    model.learn(32, reset_num_timesteps=False)
    assert model.num_timesteps == 74
    assert model._n_updates == 4
    assert len(model.replay_buffer) == 74
    model.learn(1000, callback=StopAfter(3), reset_num_timesteps=False)
    model.learn(16)
    assert model.num_timesteps == 16
    assert model._n_updates == 5
    assert finite(model)
    assert len(model.replay_buffer) == 74 + 6 + 16


def test_learning_rates_follow_their_schedule():
    rates = []

    class Watch(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_start(self):
            rates.append(self.model.policy.optimizer.param_groups[0]["lr"])

    schedule = LinearSchedule(1e-3, 0.0, 1.0)
    model = ACER("MlpPolicy", "CartPole-v1", learning_rate=schedule, seed=0, **REPLAYED)
    model.learn(32, callback=Watch(), log_interval=1)
    rates.append(model.policy.optimizer.param_groups[0]["lr"])
    assert rates[1:] == pytest.approx([0.75e-3, 0.5e-3, 0.25e-3, 0.0])


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_everything_that_is_promised_is_logged(env_id, tmp_path):
    env = make_vec_env(env_id, 4, seed=0)
    # 400 steps of each environment: Pendulum's episodes have 200.
    model = ACER("MlpPolicy", env, n_steps=50, replay_start=200, seed=0)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(8 * 200, log_interval=1)
    with (tmp_path / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    last = {key: float(value) for key, value in rows[-1].items() if value}
    spread = "train/entropy" if env_id == "CartPole-v1" else "train/std"
    assert {
        "train/policy_loss",
        "train/correction_loss",
        "train/value_loss",
        "train/entropy_loss",
        "train/rho_mean",
        "train/rho_p95",
        "train/rho_truncated",
        "train/projected",
        "train/projection",
        "train/kl_average",
        "train/grad_norm",
        "train/grad_norm_clipped",
        "train/replay_age",
        "train/explained_variance",
        "train/return_std",
        "train/n_updates",
        "train/skipped_updates",
        "train/learning_rate",
        spread,
        "time/fps",
        "time/iterations",
        "time/time_elapsed",
        "time/total_timesteps",
        "time/collect_fraction",
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
    } <= set(last)
    for row in rows[1:]:  # SB3 writes the first one before there was an update
        train = {key[6:]: float(row[key]) for key in row if key.startswith("train/")}
        if not np.isnan(train["replay_age"]):
            assert 200 <= train["replay_age"] <= 1600
        assert 0.5 < train["rho_mean"] < 2
        assert train["rho_mean"] < train["rho_p95"] + 0.1
        for fraction in ("rho_truncated", "projected"):
            assert 0 <= train[fraction] <= 1
        # Each z is at most as far from g as 0 is, and k^T g > 0 where it is moved.
        assert 0 <= train["projection"] <= 1
        assert train["kl_average"] >= -1e-6
        assert train["value_loss"] >= 0
        assert train["grad_norm"] >= train["grad_norm_clipped"] > 0
        assert train["grad_norm_clipped"] <= model.max_grad_norm
        assert train["explained_variance"] <= 1
        assert train["return_std"] > 0
        assert train["learning_rate"] == 7e-4
        assert train["skipped_updates"] == 0
    assert 8 < last["train/n_updates"] <= model._n_updates
    assert last["time/total_timesteps"] == 1600
    assert 0 < last["time/collect_fraction"] < 1
    if env_id == "CartPole-v1":
        assert 0 < last["train/entropy"] <= np.log(2)
        assert last["train/entropy_loss"] == pytest.approx(-last["train/entropy"])
    else:
        assert last["train/std"] == pytest.approx(1.0, rel=0.3)


def test_what_does_not_apply_is_not_logged():
    model = ACER(
        "MlpPolicy",
        "CartPole-v1",
        n_steps=8,
        replay_ratio=0,
        trust_region=False,
        normalize_returns=False,
        seed=0,
    )
    model.learn(8)
    logged = model.logger.name_to_value
    assert not {"train/projected", "train/projection", "train/return_std"} & set(logged)
    assert np.isnan(logged["train/replay_age"])
    assert logged["train/rho_mean"] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.filterwarnings("error:var")
def test_rollouts_of_a_single_step_bring_no_warnings():
    model = ACER("MlpPolicy", "CartPole-v1", n_steps=1, replay_ratio=0, seed=0)
    model.learn(3)
    assert model._n_updates == 3


def test_tensorboard_log_and_progress_bar(tmp_path, capfd):
    model = ACER("MlpPolicy", "CartPole-v1", seed=0, tensorboard_log=str(tmp_path), **REPLAYED)
    model.learn(128, progress_bar=True)
    assert list(tmp_path.glob("ACER_1/events.out.tfevents.*"))
    assert "128/128" in "".join(capfd.readouterr())


class Recorder(BaseCallback):
    """Saves the model when a rollout starts, and the replay buffer when it is full."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.n_rollouts = 0

    def _on_rollout_start(self):
        self.model.save(self.folder / f"update-{self.n_rollouts}")

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.model.save_replay_buffer(self.folder / f"buffer-{self.n_rollouts}")
        seed_training(self.model, self.n_rollouts)
        self.n_rollouts += 1


def seed_training(model, seed):
    model._rng = np.random.default_rng(seed)
    torch.manual_seed(seed)


@pytest.mark.parametrize("schedule", [False, True])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_a_loaded_model_continues_exactly(env_id, schedule, tmp_path):
    """At every update: load what was saved before it, give it the same rollout, compare."""
    n_updates = 4
    env = make_vec_env(env_id, 2, seed=0)
    rate = LinearSchedule(1e-3, 0.0, 1.0) if schedule else 1e-3
    model = ACER("MlpPolicy", env, n_steps=16, replay_start=0, learning_rate=rate, seed=0)
    model.learn(n_updates * 32, callback=Recorder(tmp_path))
    model.save(tmp_path / f"update-{n_updates}")
    assert model._n_updates > n_updates
    for update in range(n_updates):
        loaded = ACER.load(tmp_path / f"update-{update}")
        loaded.load_replay_buffer(tmp_path / f"buffer-{update}")
        loaded.set_logger(configure(None, []))
        loaded.num_timesteps += 32
        loaded._update_current_progress_remaining(loaded.num_timesteps, n_updates * 32)
        seed_training(loaded, update)
        loaded.train()
        expected = ACER.load(tmp_path / f"update-{update + 1}")
        assert same(weights(loaded), weights(expected)), f"update {update}"
        assert loaded._n_updates == expected._n_updates
        assert loaded._return_scale.std == expected._return_scale.std
        ours, theirs = (m.policy.optimizer.state_dict() for m in (loaded, expected))
        assert ours["param_groups"] == theirs["param_groups"]
        assert ours["state"].keys() == theirs["state"].keys()
        for index, state in ours["state"].items():
            assert all(torch.equal(state[key], theirs["state"][index][key]) for key in state)


def test_a_model_goes_on_with_another_number_of_environments(tmp_path):
    model = ACER("MlpPolicy", make_vec_env("CartPole-v1", 2, seed=0), seed=0, **REPLAYED)
    model.learn(64)
    model.save(tmp_path / "model")
    loaded = ACER.load(tmp_path / "model", env=make_vec_env("CartPole-v1", 5, seed=0))
    assert same(weights(model), weights(loaded))
    assert loaded.replay_buffer.n_envs == 5
    assert loaded._return_scale.std == model._return_scale.std
    loaded.learn(80)
    assert len(loaded.replay_buffer) == 80
    assert finite(loaded)


def test_load_accepts_new_arguments_and_checks_them(tmp_path):
    ACER("MlpPolicy", "CartPole-v1", seed=0).save(tmp_path / "model")
    assert ACER.load(tmp_path / "model", delta=0.5).delta == 0.5
    with pytest.raises(ValueError, match="alpha must be between 0 and 1, got 2"):
        ACER.load(tmp_path / "model", alpha=2)
    assert ACER.load(tmp_path / "model", buffer_size=6400).replay_buffer.capacity == 6400


def test_a_new_discount_factor_also_scales_returns(tmp_path):
    ACER("MlpPolicy", "CartPole-v1", seed=0).save(tmp_path / "model")
    loaded = ACER.load(tmp_path / "model", gamma=0.5)
    fresh = ACER("MlpPolicy", "CartPole-v1", gamma=0.5)
    for model in (loaded, fresh):
        model._return_scale.update(np.ones((50, 1)), np.zeros((50, 1), dtype=bool))
    assert loaded._return_scale.std == fresh._return_scale.std


def test_rewards_of_zero_have_no_scale():
    model = ACER("MlpPolicy", "CartPole-v1")
    for _ in range(3):
        model._return_scale.update(np.zeros((20, 1)), np.zeros((20, 1), dtype=bool))
    assert model._return_scale.std == 1.0


def test_saving_leaves_the_replay_buffer_out(tmp_path):
    model = ACER("MlpPolicy", "CartPole-v1", seed=0, **REPLAYED).learn(64)
    model.save(tmp_path / "model")
    loaded = ACER.load(tmp_path / "model")
    assert len(loaded.replay_buffer) == 0
    model.save_replay_buffer(tmp_path / "buffer")
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert len(loaded.replay_buffer) == 64
    loaded.save_replay_buffer(tmp_path / "again")
    with np.load(tmp_path / "buffer.npz") as first, np.load(tmp_path / "again.npz") as second:
        assert first.files == second.files
        assert all((first[name] == second[name]).all() for name in first.files)


@pytest.mark.parametrize("truncate", [True, False])
def test_the_last_episodes_of_a_loaded_replay_buffer_are_cut_off_or_go_on(truncate, tmp_path):
    """Also where the first observation of the next episode is the last one's last."""
    env = make_vec_env(lambda: SpacesEnv(gym.spaces.Discrete(1), gym.spaces.Discrete(2)), 2)
    model = ACER("MlpPolicy", env, n_steps=3, seed=0).learn(6)
    model.save_replay_buffer(tmp_path / "buffer")
    model.load_replay_buffer(tmp_path / "buffer", truncate_last_traj=truncate)
    assert model.replay_buffer.latest(3).continues.all()
    model.learn(6, reset_num_timesteps=False)
    segments = model.replay_buffer.latest(6)
    assert segments.continues[2].tolist() == [not truncate] * 2
    assert not segments.terminals[2].any()


def test_a_loaded_replay_buffer_brings_its_size(tmp_path):
    ACER("MlpPolicy", "CartPole-v1", buffer_size=300, replay_start=0).save_replay_buffer(
        tmp_path / "buffer"
    )
    model = ACER("MlpPolicy", "CartPole-v1", seed=0, **REPLAYED)
    model.load_replay_buffer(tmp_path / "buffer")
    assert model.buffer_size == 300
    model.learn(400)
    assert len(model.replay_buffer) == 300


def test_envpool_runs():
    pytest.importorskip("envpool", reason="EnvPool has no wheel for this platform or Python")
    from sb3_natural.environments.envpool import make_vec_env as make_pool

    for env_id in ("CartPole-v1", "Pendulum-v1"):
        one_thread = dict(num_threads=1)
        pool = make_pool(env_id, 4, seed=0, backend="envpool", vec_env_kwargs=one_thread)
        model = ACER("MlpPolicy", pool, seed=0, **REPLAYED)
        model.learn(4 * 64)
        assert bool(model.ep_info_buffer) == (env_id == "CartPole-v1")  # the other has 200 steps
        assert finite(model)
        assert model._n_updates > 8
        pool.close()


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_rollout_paths_pick_the_same_actions(env_id):
    runs = {}
    for path in ("numpy", "torch"):
        model = ACER("MlpPolicy", env_id, seed=0, learning_rate=0.0, **REPLAYED)
        assert model.rollout_path == "numpy"
        model.rollout_path = path
        assert model.rollout_path == path
        model.learn(48)
        runs[path] = model.replay_buffer.latest(48)
    np.testing.assert_allclose(runs["numpy"].actions, runs["torch"].actions, atol=1e-4)
    np.testing.assert_allclose(runs["numpy"].observations, runs["torch"].observations, atol=1e-3)


def test_rollout_paths_that_do_not_fit_are_refused():
    model = ACER("MlpPolicy", "CartPole-v1", seed=0)
    with pytest.raises(ValueError, match=r"rollout_path='sb3' does not fit .*'numpy' does"):
        model.rollout_path = "sb3"
    with pytest.raises(ValueError, match=r"numpy, torch, sb3.* got 'gpu'"):
        model.rollout_path = "gpu"
    assert model.rollout_path == "numpy"
    cnn = ACER("CnnPolicy", make_envs("categorical", "cnn", 1), seed=0)
    assert cnn.rollout_path == "torch"
    with pytest.raises(ValueError, match="'torch' does"):
        cnn.rollout_path = "numpy"
    assert cnn.rollout_path == "torch"


class OwnForward(MlpPolicy):
    def forward(self, obs, deterministic=False):
        actions, values, log_prob = super().forward(obs, deterministic)
        return actions, values + 0.0, log_prob


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_a_policy_may_have_its_own_forward(env_id, tmp_path):
    model = ACER(OwnForward, env_id, seed=0, **REPLAYED)
    start = weights(model)
    model.learn(64)
    assert not same(start, weights(model))
    assert finite(model)
    model.save(tmp_path / "model")
    assert isinstance(ACER.load(tmp_path / "model").policy, OwnForward)


def test_a_forward_put_on_the_instance_is_no_crash():
    """What ``policy.forward = torch.compile(policy.forward)`` does."""
    model = ACER("MlpPolicy", "CartPole-v1", seed=0, **REPLAYED)
    forward = model.policy.forward
    model.policy.forward = lambda *args, **kwargs: forward(*args, **kwargs)
    assert model.rollout_path == "torch"
    model.learn(16)


class AnyAction(SpacesEnv):
    """Takes actions of every dtype: SB3 hands on what the policy says, clipped."""

    def step(self, action):
        self.seen = action
        self._step += 1
        done = self._step >= self.length
        return self.observation_space.sample(), float(np.sum(action)), done, False, {}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32])
def test_boxes_of_every_dtype_hold_the_actions_that_were_drawn(dtype):
    actions = spaces.Box(-3, 3, (2,), dtype)
    env = DummyVecEnv([lambda: AnyAction(OBSERVATION_SPACES["mlp"], actions)])
    model = ACER("MlpPolicy", env, n_steps=16, replay_ratio=0, seed=0)
    model.learn(32)
    # rho compares the actions in the buffer with the policy that drew them.
    assert model.logger.name_to_value["train/rho_mean"] == pytest.approx(1.0, abs=1e-5)
    held = model.replay_buffer.latest(32).actions
    assert (held != np.round(held)).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_boxes_of_every_dtype_are_observed(dtype):
    env = SpacesEnv(spaces.Box(-3, 3, (2,), dtype), spaces.Discrete(2))
    model = ACER("MlpPolicy", env, seed=0, **REPLAYED)
    model.learn(32)
    assert finite(model)


def test_replay_starts_where_the_buffer_is_full_but_for_a_remainder():
    """buffer_size=100 steps are 12 of each of 8 environments, and 4 are left over."""
    env = make_envs("categorical", "mlp", 8)
    try:
        model = ACER("MlpPolicy", env, n_steps=4, buffer_size=100, replay_start=100, seed=0)
    except ValueError as error:
        assert "replay_start" in str(error)  # noqa: PT017  (either of the two will do)
        return
    model.learn(20 * 32)
    assert model._n_updates > 20


def test_constructor_arguments_are_those_of_stable_baselines_2():
    parameters = inspect.signature(ACER.__init__).parameters
    theirs = dict(
        gamma=0.99,
        n_steps=20,
        q_coef=0.5,
        ent_coef=0.01,
        max_grad_norm=10,
        learning_rate=7e-4,
        replay_ratio=4,
        replay_start=1000,
        correction_term=10.0,
        trust_region=True,
        alpha=0.99,
        delta=1,
        verbose=0,
        tensorboard_log=None,
        policy_kwargs=None,
        seed=None,
        _init_setup_model=True,
    )
    assert {name: parameters[name].default for name in theirs} == theirs
    assert list(parameters)[1:3] == ["policy", "env"]
    assert "buffer_size" in parameters


def test_gym_environments_are_wrapped_as_in_sb3(capsys):
    model = ACER("MlpPolicy", gym.make("CartPole-v1"), verbose=1, seed=0, **REPLAYED)
    model.learn(16)
    printed = capsys.readouterr().out
    assert "Wrapping the env in a DummyVecEnv" in printed
    assert "Collecting rollouts through path 'numpy'" in printed
