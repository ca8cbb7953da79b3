"""NAC learns: a pole with a linear policy, a regulator, a movement (minutes each)."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from scipy.linalg import solve_discrete_are
from stable_baselines3.common.env_util import make_vec_env

from benchmarks.algorithms import hyperparams_file
from benchmarks.results import load_evaluations
from benchmarks.run import run
from benchmarks.specs import plan
from benchmarks.suite import load_suite
from sb3_natural import NAC

REINFORCE = "benchmarks.motor_primitives:EpisodicReinforce"


def final_returns(suite_name, algos, n_seeds, out, n_timesteps=None):
    """The evaluation at the end, by algorithm, for each seed; all with NAC's settings."""
    suite = load_suite(suite_name)
    suite = replace(suite, evaluation=replace(suite.evaluation, points=1, episodes=10))
    files = dict.fromkeys(algos, hyperparams_file("nac"))
    env_ids = [suite.envs[0].env_id]
    for spec in plan(suite, algos, env_ids, range(n_seeds), n_timesteps, files=files):
        run(spec, out, command="pytest")
    table = load_evaluations(out)
    last = table[table["timesteps"] > 0]  # there is one before the first step, too
    print(last[["algo", "seed", "return_mean"]].to_string())
    return {algo: rows["return_mean"].to_numpy() for algo, rows in last.groupby("algo")}


@pytest.mark.slow
def test_a_linear_policy_balances_the_pole_with_every_seed(tmp_path):
    """100,000 steps."""
    final = final_returns("classic", ["nac"], 5, tmp_path, 100_000)["nac"]
    assert len(final) == 5
    assert (final >= 475).all(), final


@pytest.mark.slow
def test_the_movement_reaches_its_target_where_reinforce_does_not(tmp_path):
    """With the same episodes and the same KL divergence of each step."""
    final = final_returns("motor", ["nac", REINFORCE], 3, tmp_path)
    assert final["nac"].min() > -0.1
    assert final[REINFORCE].max() < -0.3


A, B, Q, R, GAMMA = 0.9, 0.5, 1.0, 0.3, 0.95


class Regulator(gym.Env):
    """x' = A x + B u, reward -(Q x^2 + R u^2); the clock ends an episode after 20 steps."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,))
    action_space = spaces.Box(-50, 50, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age, self.x = 0, self.np_random.normal()
        return np.array([self.x], dtype=np.float32), {}

    def step(self, action):
        u = float(action[0])
        reward = -(Q * self.x**2 + R * u**2)
        self.x, self.age = A * self.x + B * u, self.age + 1
        return np.array([self.x], dtype=np.float32), reward, False, self.age == 20, {}


@pytest.mark.parametrize("variant", ["lstd", "episodic"])
def test_a_linear_policy_finds_the_optimal_gain_of_a_regulator(variant):
    """That of the Riccati equation, with an unmoved mean; V needs random features."""
    root = np.sqrt(GAMMA)
    p = solve_discrete_are(root * A * np.eye(1), root * B * np.eye(1), Q * np.eye(1), R * np.eye(1))
    optimum = -(GAMMA * B * A * p / (R + GAMMA * B**2 * p)).item()
    env = make_vec_env(Regulator, 4, seed=0)
    model = NAC(
        "MlpPolicy", env, variant, n_steps=250, gamma=GAMMA, trace=1.0, step_size=0.1, seed=0,
        policy_kwargs=dict(net_arch=dict(pi=[], vf=[64])), device="cpu",
    )  # fmt: skip
    model.policy.log_std.requires_grad_(False)
    model.learn(40_000)
    assert model.policy.action_net.weight.item() == pytest.approx(optimum, abs=0.1)
    assert model.policy.action_net.bias.item() == pytest.approx(0.0, abs=0.1)
