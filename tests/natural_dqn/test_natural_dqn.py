"""DQN with natural gradients: its update, and what a user of SB3's DQN expects."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecNormalize
from torch.nn import functional as F

from sb3_natural import NaturalDQN
from sb3_natural.curvature.kfac import KFAC
from sb3_natural.curvature.solvers import Empirical, NoStepError, Solver
from sb3_natural.networks.parameters import flatten
from tests.helpers import DEVICES, OBSERVATION_SPACES, SpacesEnv

POLICIES = {
    "mlp": "MlpPolicy",
    "discrete": "MlpPolicy",
    "cnn": "CnnPolicy",
    "dict": "MultiInputPolicy",
}
SMALL = dict(
    buffer_size=500,
    learning_starts=20,
    batch_size=16,
    train_freq=4,
    target_update_interval=20,
    device="cpu",
    seed=0,
)


def make_model(env="CartPole-v1", policy="MlpPolicy", **options):
    return NaturalDQN(policy, env, **SMALL | options)


def weights(model):
    return flatten(param.detach() for param in model.policy.parameters())


class NoStep(Solver):
    def solve(self, operator, b):
        raise NoStepError("for the test (1)")


@pytest.mark.parametrize("n_steps", [1, 3])
def test_a_step_is_the_natural_gradient(n_steps):
    options = dict(critic_solver="dense", critic_damping=0.3, learning_rate=0.1, n_steps=n_steps)
    model = make_model(policy_kwargs=dict(net_arch=[6]), **options)
    model.learn(60)
    set_random_seed(5)
    batch = model.replay_buffer.sample(32)
    discounts = 0.99 if batch.discounts is None else batch.discounts
    with torch.no_grad():
        following = model.q_net_target(batch.next_observations).max(dim=1).values[:, None]
        targets = batch.rewards + (1 - batch.dones) * discounts * following
    params = list(model.q_net.parameters())
    values = model.q_net(batch.observations).gather(1, batch.actions)
    loss = F.smooth_l1_loss(values, targets)
    gradient = flatten(torch.autograd.grad(loss, params, retain_graph=True))
    rows = torch.stack(
        [flatten(torch.autograd.grad(v, params, retain_graph=True)) for v in values.flatten()]
    )
    matrix = rows.T @ rows / len(rows) + 0.3 * torch.eye(len(gradient))
    expected = flatten(p.detach() for p in params) - 0.1 * torch.linalg.solve(matrix, gradient)

    set_random_seed(5)
    model.train(1, batch_size=32)
    torch.testing.assert_close(flatten(p.detach() for p in params), expected)
    assert model.logger.name_to_value["train/loss"] == pytest.approx(loss.item())


def test_with_the_plain_gradient_it_is_sb3s_dqn_with_sgd():
    ours = make_model(critic_solver="identity", learning_rate=0.01, max_q_change=None).learn(300)
    sgd = dict(optimizer_class=torch.optim.SGD)
    theirs = DQN("MlpPolicy", "CartPole-v1", 0.01, max_grad_norm=1e9, policy_kwargs=sgd, **SMALL)
    torch.testing.assert_close(weights(ours), weights(theirs.learn(300)))


def test_a_step_changes_the_values_by_no_more_than_is_allowed():
    lengths = {}
    for bound in (None, 1e-3):
        model = make_model(learning_rate=0.05, critic_solver="cg", max_q_change=bound)
        model.learn(40)
        model.train(1, 64)
        lengths[bound] = model.logger.name_to_value["train/step_length"]
        if bound is not None:
            assert model.logger.name_to_value["train/q_change"] == pytest.approx(bound)
    assert lengths[1e-3] < lengths[None] == 0.05


def test_an_update_without_a_sound_step_is_skipped():
    model = make_model(critic_solver=NoStep())
    before = weights(model)
    with pytest.warns(UserWarning, match=r"update skipped: for the test \(1\)"):
        model.learn(40)
    assert torch.equal(weights(model), before)
    assert model.logger.name_to_value["train/skipped_updates"] == model._n_updates > 0


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("observations", OBSERVATION_SPACES)
def test_learns_saves_and_predicts_in_every_space(observations, n_envs, tmp_path):
    space = OBSERVATION_SPACES[observations]
    env = make_vec_env(lambda: SpacesEnv(copy.deepcopy(space), spaces.Discrete(3)), n_envs, seed=0)
    model = make_model(env, POLICIES[observations])
    before = weights(model)
    model.learn(66)
    assert not torch.equal(weights(model), before)
    assert torch.isfinite(weights(model)).all()
    assert model._skipped_updates == 0
    model.save(tmp_path / "model")
    loaded = NaturalDQN.load(tmp_path / "model", env=env)
    assert torch.equal(weights(loaded), weights(model))
    observation = space.sample()
    assert (
        loaded.predict(observation, deterministic=True)[0]
        == model.predict(observation, deterministic=True)[0]
    )


def test_the_same_seed_gives_the_same_run():
    first, second, other = (make_model(seed=seed).learn(200) for seed in (1, 1, 2))
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.parametrize("solver", ["kfac", KFAC(decay=0.9, inverse_every=3)])
def test_a_loaded_model_continues_as_if_nothing_had_happened(solver, tmp_path):
    model = make_model(critic_solver=solver).learn(200)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = NaturalDQN.load(tmp_path / "model", device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")
    loaded.set_logger(model.logger)
    for each in (model, loaded):
        set_random_seed(3)
        each.train(30, 16)
    assert torch.equal(weights(model), weights(loaded))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("solver", ["kfac", "cg"])
def test_an_update_is_the_same_on_every_device(solver, device, tmp_path):
    model = make_model(critic_solver=solver).learn(200)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    steps = []
    for place in ("cpu", device):
        loaded = NaturalDQN.load(tmp_path / "model", device=place)
        loaded.load_replay_buffer(tmp_path / "buffer")
        loaded.replay_buffer.device = loaded.device
        loaded.set_logger(model.logger)
        set_random_seed(3)
        loaded.train(1, 64)
        assert weights(loaded).device.type == place
        steps.append(weights(loaded).cpu() - weights(model))
    assert steps[0].norm() > 0
    assert (steps[1] - steps[0]).norm() < 1e-2 * steps[0].norm()


@pytest.mark.parametrize("train_freq", [4, (2, "episode")])
def test_a_model_is_loaded_without_executing_its_file(train_freq, tmp_path):
    model = make_model(critic_damping=0.5, train_freq=train_freq).learn(60)
    model.save(tmp_path / "model")
    loaded = NaturalDQN.load(tmp_path / "model", weights_only=True)
    assert torch.equal(weights(loaded), weights(model))
    assert loaded.train_freq == model.train_freq
    assert loaded.critic_damping == 0.5
    assert loaded.num_timesteps == model.num_timesteps
    averages = [each._critic_kfac.state_dict()["averages"] for each in (model, loaded)]
    assert averages[0].keys() == averages[1].keys()
    assert all(torch.equal(averages[0][name], averages[1][name]) for name in averages[0])


def test_callbacks_and_vec_normalize(tmp_path):
    env = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0))
    eval_env = VecNormalize(make_vec_env("CartPole-v1", 1, seed=1), training=False)
    evaluation = EvalCallback(eval_env, eval_freq=50, n_eval_episodes=1, log_path=str(tmp_path))
    checkpoints = CheckpointCallback(50, str(tmp_path), save_vecnormalize=True)
    make_model(env).learn(200, callback=[evaluation, checkpoints])
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [100, 200]
    assert len(list(tmp_path.glob("rl_model_*_steps.zip"))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(critic_damping=-1.0), "critic_damping must be .* got -1.0"),
        (dict(critic_solver="empirical"), "critic_solver must be .* got 'empirical'"),
        (dict(max_q_change=0.0), "max_q_change must be .* got 0.0"),
        (dict(learning_rate=float("nan")), "learning_rate must be .* got nan"),
        (dict(batch_size=0), "batch_size must be .* got 0"),
        (dict(gamma=1.5), "gamma must be .* got 1.5"),
        (dict(train_freq=0), "train_freq must be .*at least 1.* got 0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_model(**options)


@pytest.mark.slow
def test_it_learns_cartpole():
    zoo = dict(
        batch_size=64,
        buffer_size=100_000,
        learning_starts=1000,
        target_update_interval=10,
        train_freq=256,
        gradient_steps=128,
        exploration_fraction=0.16,
        exploration_final_eps=0.04,
        policy_kwargs=dict(net_arch=[256, 256]),
    )
    best = []
    for seed in range(3):
        evaluation = EvalCallback(
            make_vec_env("CartPole-v1", 1, seed=9), eval_freq=5000, n_eval_episodes=10, verbose=0
        )
        NaturalDQN("MlpPolicy", "CartPole-v1", seed=seed, device="cpu", **zoo).learn(
            50_000, callback=evaluation
        )
        best.append(evaluation.best_mean_reward)
    assert np.mean(best) > 450


def test_actions_of_any_integer_type():
    env = gym.make("CartPole-v1")
    env.action_space = spaces.Discrete(2)
    env.action_space.dtype = np.dtype(np.int32)  # an argument only since Gymnasium 1.3
    model = make_model(env)
    before = weights(model)
    assert not torch.equal(weights(model.learn(40)), before)


def test_a_solver_that_needs_scores_is_refused():
    with pytest.raises(ValueError, match=r"critic_solver must be one of .*, got Empirical"):
        make_model(critic_solver=Empirical())
