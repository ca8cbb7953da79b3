"""What a user of sb3-contrib's RecurrentPPO expects of a recurrent algorithm."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from sb3_natural import RecurrentNPG, SignalCallback
from sb3_natural.npg import MlpLstmPolicy
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES
from tests.npg.test_sb3_contract import Breaks as Breaks
from tests.npg.test_sb3_contract import Recorder, make_envs, same, spoil_vector, weights
from tests.recurrent import MEMORIES, POLICIES

SMALL = {"lstm_hidden_size": 8, "net_arch": [8]}
CASES = [
    *[(actions, "mlp") for actions in ACTION_SPACES],
    *[("categorical", each) for each in OBSERVATION_SPACES if each != "mlp"],
]


def build(env, policy="MlpLstmPolicy", policy_kwargs=SMALL, **given):
    return RecurrentNPG(
        policy, env, **{"n_steps": 16, "seed": 0, "policy_kwargs": policy_kwargs, **given}
    )


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize(("actions", "observations"), CASES)
def test_learns_saves_and_predicts_in_every_space(actions, observations, n_envs, tmp_path):
    env = make_envs(actions, observations, n_envs)
    model = build(env, POLICIES[observations], use_sde=actions == "gsde")
    start = weights(model)
    model.learn(32 * n_envs)
    assert not same(start, weights(model))
    assert model.logger.name_to_value["train/skipped_updates"] == 0
    assert all(torch.isfinite(value).all() for value in weights(model).values())

    batch, single = env.reset(), OBSERVATION_SPACES[observations].sample()
    space = ACTION_SPACES[actions]
    taken, state = model.predict(batch)
    assert taken.shape == (n_envs, *space.shape)
    assert [part.shape for part in state] == [(1, n_envs, 8)] * 2
    action, _ = model.predict(single, deterministic=True)
    assert np.shape(action) == space.shape

    model.save(tmp_path / "model")
    for weights_only in (False, True):
        loaded = RecurrentNPG.load(tmp_path / "model", env=env, weights_only=weights_only)
        assert same(weights(model), weights(loaded))
        np.testing.assert_array_equal(loaded.predict(single, deterministic=True)[0], action)
    loaded.learn(16 * n_envs, reset_num_timesteps=False)
    assert loaded.num_timesteps == 48 * n_envs


def test_predict_takes_the_memory_and_forgets_it_where_an_episode_starts():
    model = build("CartPole-v1")
    with torch.no_grad():
        for param in (*model.policy.lstm_actor.parameters(), *model.policy.action_net.parameters()):
            param.normal_()
    observation = np.array([[0.1, -0.2, 0.3, 0.4], [0.0, 0.1, 0.2, 0.3]], dtype=np.float32)
    _, fresh = model.predict(observation)
    _, later = model.predict(observation, fresh, episode_start=np.zeros(2, dtype=bool))
    _, mixed = model.predict(observation, fresh, episode_start=np.array([True, False]))
    for part in range(2):
        assert not np.allclose(fresh[part], later[part])
        np.testing.assert_allclose(mixed[part][:, 0], fresh[part][:, 0], rtol=1e-6)
        np.testing.assert_allclose(mixed[part][:, 1], later[part][:, 1], rtol=1e-6)


@pytest.mark.parametrize("vec_env_cls", [DummyVecEnv, SubprocVecEnv])
def test_vec_envs_give_the_same_run(vec_env_cls):
    runs = []
    for cls in (DummyVecEnv, vec_env_cls):
        env = make_vec_env("Pendulum-v1", 3, seed=0, vec_env_cls=cls)
        runs.append(weights(build(env).learn(96)))
        env.close()
    assert same(*runs)


@pytest.mark.parametrize("critic", ["adam", "gauss_newton"])
@pytest.mark.parametrize("memory", MEMORIES)
def test_same_seed_gives_the_same_weights(memory, critic):
    def run(seed):
        kwargs = SMALL | MEMORIES[memory]
        model = build("CartPole-v1", n_steps=64, critic=critic, seed=seed, policy_kwargs=kwargs)
        return weights(model.learn(256))

    first = run(3)
    assert same(first, run(3))
    assert not same(first, run(4))


def test_vec_normalize_and_callbacks(tmp_path):
    env = VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0))
    eval_env = VecNormalize(make_vec_env("Pendulum-v1", 1, seed=1), training=False)
    evaluation = EvalCallback(
        eval_env, eval_freq=16, n_eval_episodes=1, log_path=str(tmp_path), verbose=0
    )
    checkpoints = CheckpointCallback(16, str(tmp_path))
    build(env).learn(64, callback=[evaluation, checkpoints])
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [32, 64]
    loaded = RecurrentNPG.load(tmp_path / "rl_model_32_steps.zip", env=env)
    assert loaded.num_timesteps == 32


def test_sb3s_evaluation_hands_the_memory_on():
    """A policy that repeats its first observation forever: only with a memory, reset in time."""

    class First(gym.Env):
        observation_space = spaces.Box(-1, 1, (1,))
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.sign, self.t = self.np_random.choice([-1.0, 1.0]), 0
            return np.array([self.sign], dtype=np.float32), {}

        def step(self, action):
            self.t += 1
            reward = float(action == (self.sign > 0))
            return np.zeros(1, dtype=np.float32), reward, self.t == 5, False, {}

    model = build(First(), policy_kwargs={"lstm_hidden_size": 1, "net_arch": []})
    lstm = model.policy.lstm_actor
    with torch.no_grad():
        for param in (*lstm.parameters(), *model.policy.action_net.parameters()):
            param.zero_()
        lstm.bias_ih_l0[:] = torch.tensor([10.0, 10.0, 0.0, 10.0])  # gates open, nothing forgotten
        lstm.weight_ih_l0[2] = 5.0  # the cell takes the observation
        model.policy.action_net.weight[:] = torch.tensor([[-1.0], [1.0]])
    mean, std = evaluate_policy(model, model.get_env(), n_eval_episodes=30)
    assert (mean, std) == (5.0, 0.0)


CONTINUED = {
    "gauss_newton": {"critic": "gauss_newton"},
    "adam": {"critic": "adam"},
    "line_search": {"line_search": True, "target_kl": 0.02},
}


@pytest.mark.parametrize("case", CONTINUED)
def test_a_loaded_model_continues_exactly(case, tmp_path):
    """At every update: load what was saved before it, give it the same rollout, compare."""
    n_updates = 3
    recorder = Recorder(tmp_path)
    model = build("Pendulum-v1", n_steps=32, **CONTINUED[case])
    model.learn(n_updates * 32, callback=recorder)
    model.save(tmp_path / f"update-{n_updates}")
    for update in range(n_updates):
        loaded = RecurrentNPG.load(tmp_path / f"update-{update}")
        loaded.set_logger(configure(None, []))
        loaded.rollout_buffer = recorder.rollouts[update]
        loaded._return_scale = recorder.scales[update]
        loaded.num_timesteps += 32
        loaded._update_current_progress_remaining(loaded.num_timesteps, n_updates * 32)
        np.random.seed(7)  # noqa: NPY002
        loaded.train()
        expected = RecurrentNPG.load(tmp_path / f"update-{update + 1}")
        assert same(weights(loaded), weights(expected)), f"update {update}"


def test_a_loaded_model_remembers_what_it_saw_last(tmp_path):
    env = make_vec_env("Pendulum-v1", 2, seed=0)
    model = build(env).learn(32)
    model.save(tmp_path / "model")
    going_on = RecurrentNPG.load(tmp_path / "model", env=env, force_reset=False)
    for ours, theirs in zip(going_on._last_lstm_states, model._last_lstm_states, strict=True):
        assert all(map(torch.equal, ours, theirs))
        assert ours[0].abs().sum() > 0
    others = RecurrentNPG.load(tmp_path / "model", env=make_vec_env("Pendulum-v1", 3, seed=0))
    assert others._last_lstm_states.pi[0].shape == (1, 3, 8)
    others.learn(48)


def test_policies_can_be_saved_and_loaded_by_themselves(tmp_path):
    kwargs = SMALL | MEMORIES["shared"] | {"n_lstm_layers": 2}
    policy = build("Pendulum-v1", policy_kwargs=kwargs).learn(32).policy
    policy.save(tmp_path / "policy")
    loaded = MlpLstmPolicy.load(tmp_path / "policy")
    assert loaded.shared_lstm
    observation = np.ones(3, dtype=np.float32)
    expected, states = policy.predict(observation, deterministic=True)
    action, loaded_states = loaded.predict(observation, deterministic=True)
    np.testing.assert_array_equal(action, expected)
    np.testing.assert_array_equal(loaded_states, states)


@pytest.mark.parametrize("what", ["reward", "observation"])
def test_non_finite_values_name_environment_and_step(what):
    def make(index):
        def env():
            inner = make_envs("categorical", "mlp", 1).envs[0].env
            if index != 2:
                return inner
            fault = {"reward": np.nan} if what == "reward" else {"observation": spoil_vector}
            return Breaks(inner, 20, **fault)

        return env

    model = build(DummyVecEnv([make(index) for index in range(4)]))
    with pytest.raises(ValueError, match=rf"environment 2 returned a non-finite .*{what}"):
        model.learn(1000)
    assert all(torch.isfinite(value).all() for value in weights(model).values())


def test_rollout_paths_that_do_not_fit_are_refused():
    model = build("CartPole-v1")
    assert model.rollout_path == "torch"
    with pytest.raises(ValueError, match="'torch' does"):
        model.rollout_path = "numpy"


def test_signal_is_for_policies_without_a_memory():
    with pytest.raises(ValueError, match="no memory"):
        build("CartPole-v1").learn(16, callback=SignalCallback())


def test_a_copy_goes_on_as_the_original_does():
    model = build("CartPole-v1", n_steps=32).learn(64)
    results = []
    for each in (copy.deepcopy(model), model):
        each.set_random_seed(3)
        each.learn(64)
        results.append(weights(each))
    assert same(*results)


@pytest.mark.parametrize("name", ["fisher_solver", "critic_solver"])
def test_kfac_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"{name} must not be K-FAC"):
        RecurrentNPG("MlpLstmPolicy", "CartPole-v1", **{name: "kfac"})


def test_action_masks_are_refused_before_any_step():
    env = ActionMasker(gym.make("CartPole-v1"), lambda _: np.ones(2, dtype=bool))
    model = RecurrentNPG("MlpLstmPolicy", env, n_steps=16, device="cpu")
    with pytest.raises(ValueError, match="action_masks, which RecurrentNPG does not use"):
        model.learn(16)
    assert model.num_timesteps == 0
