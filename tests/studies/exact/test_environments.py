"""Environments of the exact problems do what the problems say, and can be learnt."""

import itertools

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from sb3_natural import NPG
from studies.exact.environments import LqrEnv, MdpEnv
from studies.exact.lqr import AFTER_PETERS_AND_SCHAAL, Lqr
from studies.exact.problems import chain, garnet, two_states

N_STEPS = 20_000


def random_process():
    return garnet(np.random.default_rng(0), n_states=4, n_actions=2)


def environments():
    return {"process": MdpEnv(random_process(), 20), "regulator": LqrEnv(Lqr(), 20, ends=True)}


@pytest.mark.parametrize("name", environments())
@pytest.mark.filterwarnings("ignore:.*(symmetric|normalize|infinity|-inf)")
def test_both_checkers_accept_them(name):
    check_env(environments()[name], skip_render_check=True)
    sb3_check_env(environments()[name])


@pytest.mark.parametrize("name", environments())
def test_an_episode_is_that_of_its_seed_and_truncated(name):
    def episode(seed):
        env, done, seen = environments()[name], False, []
        seen.append(env.reset(seed=seed)[0])
        env.action_space.seed(seed)
        while not done:
            observation, reward, ended, truncated, _ = env.step(env.action_space.sample())
            seen.append([*observation, reward])
            done = ended or truncated
        return np.concatenate(seen), truncated

    again = episode(3)[0]
    np.testing.assert_array_equal(episode(3)[0], again)
    assert not np.array_equal(episode(4)[0], again)
    if name == "process":
        assert episode(3)[1]
        assert len(again) == 4 + 20 * 5


def test_transitions_rewards_starts_and_ends_are_the_processs():
    mdp = random_process()
    env = MdpEnv(mdp, 20)
    counts, starts = np.zeros_like(mdp.transitions), np.zeros(4)
    state = env.reset(seed=0)[0].argmax()
    for action in np.random.default_rng(1).integers(2, size=N_STEPS):
        observation, reward, ended, truncated, _ = env.step(action)
        assert reward == mdp.rewards[state, action]
        assert observation.sum() == 1
        assert not ended
        counts[state, action, observation.argmax()] += 1
        if truncated:
            observation = env.reset()[0]
            starts[observation.argmax()] += 1
        state = observation.argmax()
    assert starts.sum() == N_STEPS // 20
    np.testing.assert_allclose(starts / starts.sum(), mdp.start, atol=0.05)
    found = counts / counts.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(found, mdp.transitions, atol=0.05)
    assert not found[mdp.transitions == 0].any()


def test_with_ends_the_undiscounted_return_and_the_visits_are_the_discounted_ones():
    mdp = random_process()
    pi = np.random.default_rng(2).dirichlet(np.ones(2), size=4)
    exact, rng = mdp.evaluate(pi), np.random.default_rng(3)
    env = MdpEnv(mdp, 1_000, ends=True)
    visits, returns = np.zeros(4), [0.0]
    state = env.reset(seed=0)[0].argmax()
    for _ in range(2 * N_STEPS):
        visits[state] += 1
        observation, reward, ended, truncated, _ = env.step(rng.choice(2, p=pi[state]))
        assert not truncated
        returns[-1] += float(reward)
        if ended:
            returns.append(0.0)
            observation = env.reset()[0]
        state = observation.argmax()
    np.testing.assert_allclose(visits / visits.sum(), exact.occupancy, atol=0.02)
    error = np.std(returns) / np.sqrt(len(returns))
    assert np.mean(returns[:-1]) == pytest.approx(exact.performance, abs=4 * error)


def test_the_regulators_samples_give_its_return_gradient_and_fisher_information():
    """By the likelihood ratio, over episodes that end as the discount says."""
    lqr, theta, rng = AFTER_PETERS_AND_SCHAAL, np.array([-0.3, -1.0]), np.random.default_rng(0)
    env, sigma = LqrEnv(lqr, 10_000, ends=True), np.exp(-1.0)
    x = env.reset(seed=0)[0][0]
    scores, rewards, episodes = [], [], [0]
    for step in range(3 * N_STEPS):
        noise = rng.normal()
        observation, reward, ended, _, _ = env.step(np.array([theta[0] * x + sigma * noise]))
        scores.append([noise * x / sigma, noise**2 - 1])
        rewards.append(float(reward))
        if ended:
            observation = env.reset()[0]
            episodes.append(step + 1)
        x = observation[0]
    parts = [slice(*ends) for ends in itertools.pairwise(episodes)]
    scores, rewards = np.array(scores), np.array(rewards)
    to_go = [rewards[part][::-1].cumsum()[::-1] for part in parts]
    returns = np.array([each[0] for each in to_go])
    error = returns.std() / np.sqrt(len(returns))
    assert returns.mean() == pytest.approx(lqr.performance(theta), abs=4 * error)
    baseline = np.mean(np.concatenate(to_go))
    gradients = np.array(
        [(each - baseline) @ scores[part] for each, part in zip(to_go, parts, strict=True)]
    )
    errors = gradients.std(axis=0) / np.sqrt(len(gradients))
    assert (abs(gradients.mean(axis=0) - lqr.gradient(theta)) < 4 * errors).all()
    fisher = np.mean(scores[:, :, None] * scores[:, None, :], axis=0)
    np.testing.assert_allclose(fisher, lqr.fisher(theta), atol=0.1)


def linear(algorithm, env, **settings):
    return algorithm(
        "MlpPolicy", env, policy_kwargs={"net_arch": []}, seed=0, device="cpu", **settings
    )


@pytest.mark.parametrize("algorithm", [NPG, PPO])
def test_a_linear_policy_learns_a_process(algorithm):
    mdp = two_states(gamma=0.9)
    options = {"n_steps": 500} if algorithm is NPG else {"n_steps": 500, "learning_rate": 0.01}
    if algorithm is PPO:
        options["batch_size"] = 100
    model = linear(algorithm, MdpEnv(mdp, 50), gamma=0.9, **options)
    model.learn(8_000)
    states = np.eye(2, dtype=np.float32)
    pi = np.eye(2)[model.predict(states, deterministic=True)[0]]
    assert mdp.evaluate(pi).performance == pytest.approx(mdp.best().performance)


def test_npg_improves_a_regulator():
    lqr = Lqr(noise=0.3)
    model = linear(NPG, LqrEnv(lqr, 50), gamma=lqr.gamma, n_steps=500, normalize_observations=False)
    model.learn(10_000)
    gain = model.policy.action_net.weight.item()
    assert abs(gain - lqr.best_gain()) < 0.5 * abs(lqr.best_gain())


def test_a_chain_is_walked():
    env = MdpEnv(chain(3), 10)
    assert env.reset(seed=0)[0].tolist() == [1, 0, 0]
    assert [env.step(action)[1] for action in (0, 1, 1, 1)] == [0.05, 0, 0, 1]
