"""The PPO of other libraries, as its speed is measured, against SB3's."""

import gymnasium as gym
import pytest
from stable_baselines3 import PPO

from benchmarks.speed import sbx_worker, tianshou_worker

SETTING = {"env_id": "Pendulum-v1", "n_envs": 2, "steps_per_update": 256}


@pytest.fixture(scope="module")
def model() -> PPO:
    return PPO("MlpPolicy", "Pendulum-v1", device="cpu")


def test_sbx_has_the_numbers_of_sb3(model: PPO) -> None:
    peer = sbx_worker._trained(**SETTING)
    for name in ("batch_size", "n_epochs", "gamma", "gae_lambda", "vf_coef", "ent_coef"):
        assert getattr(peer, name) == getattr(model, name)
    assert peer.max_grad_norm == model.max_grad_norm
    assert peer.clip_range == model.clip_range(1.0)
    assert peer.learning_rate == model.learning_rate
    assert peer.policy.net_arch_pi == peer.policy.net_arch_vf == [64, 64]


def test_sbx_is_compiled_for_the_end_of_an_episode() -> None:
    peer = sbx_worker._trained(**SETTING)
    assert len(peer.ep_info_buffer) > 0
    before = peer.num_timesteps
    assert sbx_worker.train(updates=2, **SETTING)["steps"] == 512
    assert peer.num_timesteps == before + 512


def test_tianshou_has_the_numbers_of_sb3(model: PPO) -> None:
    env = gym.make("Pendulum-v1")
    peer = tianshou_worker._ppo(env.observation_space, env.action_space)
    assert (peer.gamma, peer.gae_lambda) == (model.gamma, model.gae_lambda)
    assert (peer.eps_clip, peer.vf_coef) == (model.clip_range(1.0), model.vf_coef)
    assert (peer.ent_coef, peer.value_clip) == (model.ent_coef, False)
    assert peer.optim._max_grad_norm == model.max_grad_norm
    _, updates = tianshou_worker._ALGORITHMS["PPO"]
    wanted = {"batch_size": model.batch_size, "update_step_num_repetitions": model.n_epochs}
    assert updates == wanted


@pytest.mark.parametrize("algorithm", ["NPG", "PPO"])
def test_tianshou_trains(algorithm: str) -> None:
    trained = tianshou_worker.train(algorithm=algorithm, updates=2, **SETTING)
    assert trained["steps"] == 512
