"""ACKTR does what a user of A2C expects of any SB3 algorithm."""

import copy
import csv

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from sb3_natural import ACKTR
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES
from tests.npg.test_sb3_contract import POLICIES, make_envs, same, weights


def finite(model):
    return all(torch.isfinite(value).all() for value in weights(model).values())


@pytest.mark.parametrize("observations", OBSERVATION_SPACES)
@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_learns_saves_and_predicts_in_every_space(actions, observations, tmp_path):
    env = make_envs(actions, observations, 2)
    model = ACKTR(POLICIES[observations], env, n_steps=4, use_sde=actions == "gsde", seed=0)
    start = weights(model)
    model.learn(24)
    assert not same(start, weights(model))
    assert finite(model)
    assert model._n_updates == 3
    assert model._skipped_updates == 0
    batch, single = env.reset(), OBSERVATION_SPACES[observations].sample()
    space = ACTION_SPACES[actions]
    assert model.predict(batch)[0].shape == (2, *space.shape)
    action, _ = model.predict(single, deterministic=True)
    model.save(tmp_path / "model")
    loaded = ACKTR.load(tmp_path / "model", env=env)
    assert same(weights(model), weights(loaded))
    np.testing.assert_array_equal(loaded.predict(single, deterministic=True)[0], action)
    loaded.learn(8, reset_num_timesteps=False)
    assert loaded.num_timesteps == 32
    assert not same(weights(model), weights(loaded))
    assert finite(loaded)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("observations", ["cnn", "dict"])
def test_features_extractors_are_shared_or_separate(observations, share):
    env = make_envs("categorical", observations, 2)
    kwargs = dict(policy_kwargs=dict(share_features_extractor=share), n_steps=4, seed=0)
    model = ACKTR(POLICIES[observations], env, **kwargs)
    start = weights(model)
    model.learn(16)
    assert (model.policy.pi_features_extractor is model.policy.vf_features_extractor) == share
    trained = [name for name, _ in model.policy.named_parameters()]
    assert all(not torch.equal(start[name], weights(model)[name]) for name in trained)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_vec_envs_and_rollout_paths_give_the_same_run(env_id):
    runs = []
    for cls, path in ((DummyVecEnv, "torch"), (SubprocVecEnv, "torch"), (DummyVecEnv, "sb3")):
        env = make_vec_env(env_id, 3, seed=0, vec_env_cls=cls)
        model = ACKTR("MlpPolicy", env, seed=0, device="cpu")
        model.rollout_path = path
        runs.append(weights(model.learn(240)))
        env.close()
    assert same(runs[0], runs[1])
    for name, value in runs[0].items():
        torch.testing.assert_close(value, runs[2][name], rtol=1e-3, atol=1e-4)


def test_same_seed_gives_the_same_weights():
    def run(seed):
        return weights(ACKTR("MlpPolicy", "CartPole-v1", seed=seed).learn(160))

    first = run(3)
    assert same(first, run(3))
    assert not same(first, run(4))


class Rollouts(BaseCallback):
    """Saves the model when a rollout starts, and keeps the rollout and its scale."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.kept = folder, []

    def _on_rollout_start(self):
        self.model.save(self.folder / f"update-{len(self.kept)}")

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        np.random.seed(7)  # noqa: NPY002  (what SB3 shuffles batches with)
        self.kept.append(copy.deepcopy((self.model.rollout_buffer, self.model._return_scale)))


def test_a_loaded_model_continues_exactly(tmp_path):
    """At every update: load what was saved before it, give it the same rollout, compare."""
    callback = Rollouts(tmp_path)
    schedule = LinearSchedule(0.25, 0.0, 1.0)
    model = ACKTR("MlpPolicy", "Pendulum-v1", schedule, seed=0, kfac_update=3, device="cpu")
    model.learn(80, callback=callback)
    model.save(tmp_path / "update-4")
    for update in range(4):
        loaded = ACKTR.load(tmp_path / f"update-{update}", device="cpu")
        loaded.set_logger(configure(None, []))
        loaded.rollout_buffer, loaded._return_scale = callback.kept[update]
        loaded.num_timesteps += 20
        loaded._update_current_progress_remaining(loaded.num_timesteps, 80)
        np.random.seed(7)  # noqa: NPY002
        loaded.train()
        expected = ACKTR.load(tmp_path / f"update-{update + 1}", device="cpu")
        assert same(weights(loaded), weights(expected)), f"update {update}"
        ours, theirs = (each._kfac.state_dict() for each in (loaded, expected))
        assert ours["n_updates"] == theirs["n_updates"] == update + 1
        assert same(ours["averages"], theirs["averages"])
        assert same(ours["inverses"], theirs["inverses"])


def test_callbacks_logs_and_vec_normalize(tmp_path):
    env = VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0))
    model = ACKTR("MlpPolicy", env, seed=0, device="cpu")
    model.set_logger(configure(str(tmp_path), ["csv"]))
    evaluation = VecNormalize(make_vec_env("Pendulum-v1", 1, seed=1), training=False)
    model.learn(
        400,
        [
            EvalCallback(evaluation, n_eval_episodes=1, eval_freq=100, verbose=0),
            CheckpointCallback(100, tmp_path / "checkpoints"),
        ],
        log_interval=1,
    )
    assert len(list((tmp_path / "checkpoints").glob("*.zip"))) == 2
    with (tmp_path / "progress.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/kl"]]
    last = rows[-1]
    assert {
        "train/policy_loss",
        "train/value_loss",
        "train/entropy_loss",
        "train/explained_variance",
        "train/learning_rate",
        "train/step_length",
        "train/step_share",
        "train/kl_predicted",
        "train/kl",
        "train/grad_norm",
        "train/std",
        "train/return_std",
        "train/skipped_updates",
        "train/n_updates",
        "time/collect_fraction",
    } <= set(last)
    assert all(
        float(row["train/kl_predicted"]) <= 1.001e-3 for row in rows if row["train/kl_predicted"]
    )
    assert 0 < float(last["train/step_share"]) <= 1


def test_rollouts_are_fast_where_those_of_the_others_are():
    assert ACKTR("MlpPolicy", "CartPole-v1", device="cpu").rollout_path == "numpy"
    assert ACKTR("MlpPolicy", "Pendulum-v1", use_sde=True, device="cpu").rollout_path == "torch"


def test_frozen_parameters_stay():
    model = ACKTR("MlpPolicy", "CartPole-v1", n_steps=16, seed=0, device="cpu")
    frozen = list(model.policy.mlp_extractor.value_net.parameters())
    frozen += list(model.policy.value_net.parameters())
    for param in frozen:
        param.requires_grad_(False)
    before = [param.clone() for param in frozen]
    start = weights(model)
    model.learn(64)
    assert all(map(torch.equal, frozen, before))
    assert not torch.equal(start["action_net.weight"], model.policy.action_net.weight)


def test_a_policy_that_is_frozen_whole_is_refused():
    model = ACKTR("MlpPolicy", "CartPole-v1", n_steps=16, seed=0, device="cpu")
    model.policy.requires_grad_(False)
    with pytest.raises(ValueError, match="all parameters of ActorCriticPolicy are frozen"):
        model.learn(16)
