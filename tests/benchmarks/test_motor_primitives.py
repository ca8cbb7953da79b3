"""The motor primitive of docs/nac.md: its dynamics, and what is compared on it."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from scipy.integrate import solve_ivp

from benchmarks.motor_primitives import DT, N_STEPS, EpisodicReinforce, MotorPrimitive
from benchmarks.specs import plan
from benchmarks.suite import load_suite
from sb3_natural import NAC
from sb3_natural.curvature.operators import FisherOperator
from sb3_natural.nac.estimation import batch_of
from tests.nac.helpers import LINEAR, theta


def moved(forces):
    """Position and velocity at the end, the return, and what each step returned."""
    env = MotorPrimitive()
    env.reset()
    steps = [env.step(np.array([force])) for force in forces]
    return env._position, env._velocity, sum(step[1] for step in steps), steps


def test_gymnasium_accepts_it():
    check_env(gym.make("MotorPrimitive-v0").unwrapped, skip_render_check=True)


@pytest.mark.parametrize("force", [0.0, 3.0, -2.0])
def test_it_moves_as_the_differential_equation_says(force):
    """Up to the integration with steps of 0.02 s."""
    exact = solve_ivp(
        lambda _, state: [state[1], 4 * (1 - state[0]) - 4 * state[1] + force], (0, 1), [0, 0]
    ).y[:, -1]
    np.testing.assert_allclose(moved([force] * N_STEPS)[:2], exact, atol=0.03)


def test_left_alone_it_comes_too_late_and_the_end_is_no_time_limit():
    position, velocity, total, steps = moved([0.0] * N_STEPS)
    assert 0.5 < position < 0.65
    assert total == pytest.approx(-100 * (position - 1) ** 2 - velocity**2)
    assert [step[2] for step in steps] == [False] * (N_STEPS - 1) + [True]
    assert not any(step[3] for step in steps)


def test_effort_costs():
    _, _, total, steps = moved([5.0] * N_STEPS)
    assert total - steps[-1][1] == pytest.approx(-1e-3 * 25 * DT * (N_STEPS - 1))


def test_features_are_the_phase_times_shares_that_sum_to_one():
    env = MotorPrimitive()
    features = [env.reset()[0], *(env.step(np.zeros(1))[0] for _ in range(N_STEPS))]
    phases = np.exp(-3.0 * DT * np.arange(N_STEPS + 1))
    np.testing.assert_allclose(np.sum(features, axis=1), phases, rtol=1e-5)
    assert len(set(np.argmax(features, axis=1))) == 10, "each basis function has its time"


def test_reinforce_follows_the_plain_gradient():
    """Of the centred returns: with steps alone, that of the mean over episodes."""
    model = EpisodicReinforce(
        "MlpPolicy", MotorPrimitive(), "episodic", n_steps=500, gamma=1.0, n_episodes=10,
        step_size=1e-3, policy_kwargs=LINEAR, seed=0, device="cpu",
    )  # fmt: skip
    before = theta(model)
    model.learn(500)
    after = theta(model)
    twin = NAC("MlpPolicy", MotorPrimitive(), policy_kwargs=LINEAR, seed=0, device="cpu")
    batch = batch_of(model.rollout_buffer, model.device)
    twin_fisher = FisherOperator(twin.policy, batch.observations, batch.actions)
    scores = twin_fisher.scores().double().view(10, N_STEPS, -1).sum(dim=1)
    returns = torch.from_numpy(model._transitions.rewards).view(10, N_STEPS).sum(dim=1)
    expected = ((returns - returns.mean())[:, None] * scores).mean(dim=0)
    torch.testing.assert_close((after - before).double(), 1e-3 * expected, rtol=1e-2, atol=1e-5)


def test_the_suite_plans_both():
    algos = ["nac", "benchmarks.motor_primitives:EpisodicReinforce"]
    (env_id,) = [env.env_id for env in load_suite("motor").envs]
    specs = plan(load_suite("motor"), algos, [env_id], [0], overrides={"variant": "episodic"})
    assert [spec.algo for spec in specs] == algos
