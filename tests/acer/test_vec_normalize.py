"""What lies in the replay buffer is raw; what is trained on is normalised as of now."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
)

from sb3_natural import ACER
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, SpacesEnv
from tests.npg.test_sb3_contract import POLICIES, StopAfter, make_envs

ACTIONS = [name for name in ACTION_SPACES if name != "gsde"]
SPACES = {
    "mlp": (OBSERVATION_SPACES["mlp"], "MlpPolicy", None),
    "dict": (OBSERVATION_SPACES["dict"], "MultiInputPolicy", ["vector"]),
    # Integers, which normalisation makes floats of.
    "integers": (spaces.Box(0, 1000, (4,), np.int32), "MlpPolicy", None),
}
N_ENVS, N_STEPS = 2, 24


class Raw(VecEnvWrapper):
    """Keeps what the environments give."""

    def __init__(self, venv):
        super().__init__(venv)
        self.observations, self.rewards, self.last = [], [], {}

    def reset(self):
        observations = self.venv.reset()
        self.observations.append(copy.deepcopy(observations))
        return observations

    def step_wait(self):
        observations, rewards, dones, infos = self.venv.step_wait()
        for index in np.flatnonzero(dones):
            if infos[index]["TimeLimit.truncated"]:
                last = copy.deepcopy(infos[index]["terminal_observation"])
                self.last[(len(self.rewards), int(index))] = last
        self.observations.append(copy.deepcopy(observations))
        self.rewards.append(rewards.copy())
        return observations, rewards, dones, infos


def make_raw(observations, actions="categorical"):
    """Episodes of 4 steps that terminate, and of 6 that a time limit cuts off."""

    def make(length):
        space, action_space = copy.deepcopy((SPACES[observations][0], ACTION_SPACES[actions]))
        return lambda: gym.wrappers.TimeLimit(SpacesEnv(space, action_space, length), 6)

    raw = Raw(DummyVecEnv([make(4), make(100)]))
    raw.seed(0)
    return raw


def make_model(observations="mlp", actions="categorical", **kwargs):
    raw = make_raw(observations, actions)
    _, policy, keys = SPACES[observations]
    env = VecNormalize(raw, norm_obs_keys=keys, clip_obs=1e6)
    arguments = dict(n_steps=N_STEPS, replay_start=0, seed=0) | kwargs
    model = ACER(policy, env, **arguments)
    return raw, env, model


def row(observations, index):
    if isinstance(observations, dict):
        return {key: array[index] for key, array in observations.items()}
    return observations[index]


def assert_close(first, second, tolerance):
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_close(first[key], second[key], tolerance)
    else:
        np.testing.assert_allclose(first, second, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("observations", SPACES)
def test_the_buffer_holds_what_the_environments_gave(observations):
    raw, _, model = make_model(observations)
    n_total = 2 * N_STEPS
    model.learn(n_total * N_ENVS)
    segments = model.replay_buffer.latest(n_total)
    np.testing.assert_array_equal(segments.rewards, np.stack(raw.rewards))
    for t in range(n_total + 1):
        for env in range(N_ENVS):
            held = row(segments.observations, t * N_ENVS + env)
            assert_close(held, row(raw.observations[t], env), 0.0)
    n_seen = (n_total + 1) * N_ENVS
    cut = {(int(t), int(env)) for t, env in np.argwhere(segments.next_rows >= n_seen)}
    assert cut == set(raw.last) == {(t, 1) for t in range(5, n_total, 6)}
    for (t, env), last in raw.last.items():
        held = row(segments.observations, segments.next_rows[t, env])
        assert_close(held, last, 1e-4)
    assert segments.terminals[3::4, 0].all()


@pytest.mark.parametrize("observations", ["mlp", "dict"])
@pytest.mark.parametrize("normalize_returns", [True, False])
def test_batches_are_normalised_with_the_statistics_of_now(observations, normalize_returns):
    raw, env, model = make_model(observations, normalize_returns=normalize_returns)
    model.learn(N_STEPS * N_ENVS)
    rms = env.obs_rms["vector"] if observations == "dict" else env.obs_rms
    scale = model._return_scale.std if normalize_returns else 1.0
    for mean, var, reward_var in [(0.5, 4.0, 9.0), (-3.0, 0.25, 1e-3)]:
        rms.mean, rms.var = np.full_like(rms.mean, mean), np.full_like(rms.var, var)
        env.ret_rms.var = reward_var
        batch = model._to_batch(model.replay_buffer.latest(N_STEPS))
        ours, theirs = batch.observations, raw.observations
        if observations == "dict":
            for key in ("image", "mode"):
                np.testing.assert_array_equal(
                    ours[key][: N_STEPS * N_ENVS],
                    np.concatenate([seen[key] for seen in theirs[:N_STEPS]]),
                )
            ours, theirs = ours["vector"], [seen["vector"] for seen in theirs]
        last = [seen["vector"] if observations == "dict" else seen for seen in raw.last.values()]
        expected = np.concatenate([*theirs, last])
        np.testing.assert_allclose(
            ours, (expected - mean) / np.sqrt(var + env.epsilon), rtol=1e-4, atol=1e-4
        )
        rewards = np.clip(np.stack(raw.rewards) / np.sqrt(reward_var + env.epsilon), -10, 10)
        np.testing.assert_allclose(batch.rewards, rewards / scale, rtol=1e-5)
        assert batch.rewards.dtype == np.float32


@pytest.mark.parametrize(("norm_obs", "norm_reward"), [(True, False), (False, True)])
def test_half_a_normalisation(norm_obs, norm_reward):
    raw = make_raw("mlp")
    env = VecNormalize(raw, norm_obs=norm_obs, norm_reward=norm_reward, clip_obs=1e6)
    model = ACER("MlpPolicy", env, n_steps=N_STEPS, normalize_returns=False, seed=0)
    model.learn(N_STEPS * N_ENVS)
    segments = model.replay_buffer.latest(N_STEPS)
    np.testing.assert_array_equal(segments.rewards, np.stack(raw.rewards))
    batch = model._to_batch(segments)
    n = (N_STEPS + 1) * N_ENVS
    seen = np.concatenate(raw.observations)
    assert np.allclose(batch.observations[:n], seen) == (not norm_obs)
    assert np.allclose(batch.rewards, segments.rewards) == (not norm_reward)


class Acting(BaseCallback):
    """Keeps the observations that actions were picked for, and looks when a rollout is full."""

    def __init__(self, look):
        super().__init__()
        self.look = look
        self.seen = []
        self.n_looks = 0

    def _on_rollout_start(self):
        self.seen = []

    def _on_step(self):
        self.seen.append(copy.deepcopy(self.model._last_obs))
        return True

    def _on_rollout_end(self):
        with torch.no_grad():
            self.look(self.model, self.seen)
        self.n_looks += 1


def normalised(actions, phi):
    """Without the shift of logits that a policy does not know of."""
    if actions == "categorical":
        return phi.log_softmax(dim=1)
    if actions == "multicategorical":
        return torch.cat([block.log_softmax(dim=1) for block in phi.split([2, 3], dim=1)], dim=1)
    return phi


@pytest.mark.parametrize("observations", ["mlp", "dict"])
@pytest.mark.parametrize("actions", ACTIONS)
def test_statistics_are_those_of_the_policy_that_acted(actions, observations):
    def look(model, seen):
        segments = model.replay_buffer.latest(N_STEPS)
        held = torch.as_tensor(segments.statistics).flatten(0, 1)
        if isinstance(seen[0], dict):
            stacked = {key: np.concatenate([each[key] for each in seen]) for key in seen[0]}
        else:
            stacked = np.concatenate(seen)
        policy = model.policy
        distribution = policy.get_distribution(policy.obs_to_tensor(stacked)[0])
        expected = policy.family.statistics(distribution)
        torch.testing.assert_close(
            normalised(actions, held), normalised(actions, expected), atol=1e-5, rtol=1e-4
        )
        # Normalised as of now, observations are not what the policy saw.
        now = model._to_batch(segments).observations
        now, then = (now["vector"], stacked["vector"]) if observations == "dict" else (now, stacked)
        assert not np.allclose(now[: len(then)], then, atol=1e-3)

    _, _, model = make_model(observations, actions, n_steps=N_STEPS)
    callback = Acting(look)
    model.learn(3 * N_STEPS * N_ENVS, callback=callback)
    assert callback.n_looks == 3


@pytest.mark.parametrize("observations", OBSERVATION_SPACES)
@pytest.mark.parametrize("actions", ACTIONS)
def test_rho_is_one_on_the_latest_rollout_without_normalisation(actions, observations):
    def look(model, _):
        batch = model._to_batch(model.replay_buffer.latest(8))
        estimates = model._estimates(batch, *model.policy.statistics_and_latent(batch.observations))
        assert (estimates.log_rho.exp() - 1).abs().max() < 1e-5

    env = make_envs(actions, observations, 3)
    model = ACER(POLICIES[observations], env, n_steps=8, replay_start=0, seed=0)
    callback = Acting(look)
    model.learn(72, callback=callback)
    assert callback.n_looks == 3


def test_statistics_fit_observations_after_a_callback_stopped():
    """Its last step is in no buffer: the observation from before it is the one acted on."""
    _, env, model = make_model(n_steps=8, replay_ratio=0, learning_rate=0.0)
    with torch.no_grad():
        model.policy.action_net.weight.normal_()
    model.learn(100, callback=StopAfter(5))
    env.training = False
    model.learn(16, reset_num_timesteps=False)
    segments = model.replay_buffer.latest(8)
    batch = model._to_batch(segments)
    with torch.no_grad():
        phi, _ = model.policy.statistics_and_latent(batch.observations[:16])
    torch.testing.assert_close(
        phi.log_softmax(dim=1), batch.mu.log_softmax(dim=1), atol=1e-4, rtol=1e-4
    )


def test_images_that_sb3_transposes():
    """SB3 puts a VecTransposeImage around the VecNormalize."""
    space = spaces.Box(0, 255, (36, 36, 3), np.uint8)
    env = VecNormalize(
        DummyVecEnv([lambda: gym.wrappers.TimeLimit(SpacesEnv(space, spaces.Discrete(3)), 5)]),
        norm_obs=False,
    )
    model = ACER("CnnPolicy", env, n_steps=8, replay_start=0, seed=0)
    model.learn(16)
    assert model.replay_buffer.latest(8).observations.shape[1:] == (3, 36, 36)


def test_frames_that_are_stacked_after_normalisation():
    env = VecFrameStack(VecNormalize(make_envs("categorical", "mlp", 2)), 3)
    model = ACER("MlpPolicy", env, n_steps=8, replay_start=0, seed=0)
    model.learn(32)
    assert model.replay_buffer.latest(8).observations.shape[1:] == (12,)


def test_frames_that_are_stacked_before_normalisation():
    env = VecNormalize(VecFrameStack(make_envs("categorical", "mlp", 2), 3))
    model = ACER("MlpPolicy", env, n_steps=8, replay_start=0, seed=0)
    model.learn(32)
    assert model._skipped_updates == 0


def test_a_loaded_model_goes_on_with_loaded_statistics(tmp_path):
    _, env, model = make_model()
    model.learn(2 * N_STEPS * N_ENVS)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    env.save(tmp_path / "statistics")
    before = model._to_batch(model.replay_buffer.latest(N_STEPS))
    again = VecNormalize.load(tmp_path / "statistics", make_raw("mlp"))
    loaded = ACER.load(tmp_path / "model", env=again)
    loaded.load_replay_buffer(tmp_path / "buffer")
    after = loaded._to_batch(loaded.replay_buffer.latest(N_STEPS))
    assert torch.equal(before.observations, after.observations)
    np.testing.assert_array_equal(before.rewards, after.rewards)
    loaded.learn(N_STEPS * N_ENVS, reset_num_timesteps=False)
    assert loaded._skipped_updates == 0
    # The environments were reset: what ran when the buffer was saved does not go on.
    assert not loaded.replay_buffer.latest(N_STEPS + 1).continues[0].any()


def test_evaluations_and_checkpoints_take_the_statistics_along(tmp_path):
    env = VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0))
    eval_env = VecNormalize(make_vec_env("Pendulum-v1", 1, seed=1), training=False)
    evaluation = EvalCallback(
        eval_env, eval_freq=64, n_eval_episodes=1, log_path=str(tmp_path), verbose=0
    )
    checkpoints = CheckpointCallback(64, str(tmp_path), save_vecnormalize=True)
    model = ACER("MlpPolicy", env, n_steps=16, replay_start=0, seed=0)
    model.learn(128, callback=[evaluation, checkpoints])
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [128]
    np.testing.assert_array_equal(eval_env.obs_rms.mean, env.obs_rms.mean)
    assert len(list(tmp_path.glob("*vecnormalize*.pkl"))) == 1
    ACER.load(tmp_path / "rl_model_128_steps.zip", env=env).learn(32, reset_num_timesteps=False)
