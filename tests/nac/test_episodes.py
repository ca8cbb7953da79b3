"""Whole episodes: sums against loops, regressions against least squares and the Fisher solver."""

import numpy as np
import pytest
import torch

from sb3_natural.curvature.operators import Damped, FisherOperator
from sb3_natural.curvature.solvers import Empirical, NoStepError
from sb3_natural.nac.episodes import Episodes
from tests.helpers import make_observations, make_policy

CPU = torch.device("cpu")
GAMMA = 0.9


def random_steps(n_steps=40, n_envs=3, n_params=4, seed=0):
    rng = np.random.default_rng(seed)
    dones = rng.random((n_steps, n_envs)) < 0.2
    starts = np.concatenate([[[True, True, False]], dones[:-1]])  # the third is underway
    return rng.normal(size=(n_steps, n_envs, n_params)), rng.normal(size=dones.shape), starts, dones


def by_hand(scores, rewards, starts, dones):
    """Summed scores and return of each episode seen from its start to its end, in that order."""
    found = []
    for env in range(scores.shape[1]):
        start = None
        for t in range(len(scores)):
            start = t if starts[t, env] else start
            if dones[t, env] and start is not None:
                steps = slice(start, t + 1)
                weights = GAMMA ** np.arange(t + 1 - start)
                found.append((t, env, weights @ scores[steps, env], weights @ rewards[steps, env]))
                start = None
    return sorted(found, key=lambda each: each[:2])


def add(episodes, scores, rewards, starts, dones):
    episodes.add(torch.from_numpy(scores), torch.from_numpy(rewards), starts, dones, GAMMA)


@pytest.mark.parametrize("pieces", [[40], [1, 7, 8, 9, 40], list(range(1, 41))])
def test_sums_are_those_of_whole_episodes_however_rollouts_cut_them(pieces):
    steps = random_steps()
    episodes = Episodes(CPU)
    episodes.prepare(4, 3)
    for start, stop in zip([0, *pieces[:-1]], pieces, strict=True):
        add(episodes, *(part[start:stop] for part in steps))
    expected = by_hand(*steps)
    assert len(episodes) == len(expected) > 10
    order = np.lexsort(episodes.scores.numpy().T)
    expected_scores = np.array([each[2] for each in expected])
    expected_order = np.lexsort(expected_scores.T)
    np.testing.assert_allclose(
        episodes.scores.numpy()[order], expected_scores[expected_order], atol=1e-12
    )
    returns = np.array([each[3] for each in expected])
    np.testing.assert_allclose(episodes.returns.numpy()[order], returns[expected_order], atol=1e-12)


def test_an_episode_with_missing_steps_does_not_count():
    steps = random_steps()
    episodes = Episodes(CPU)
    episodes.prepare(4, 3)
    add(episodes, *(part[:10] for part in steps))
    episodes.lose_track()
    add(episodes, *(part[12:] for part in steps))
    before, after = by_hand(*(part[:10] for part in steps)), by_hand(*(p[12:] for p in steps))
    returns = sorted(each[3] for each in before + after)
    np.testing.assert_allclose(np.sort(episodes.returns.numpy()), returns, atol=1e-12)


def test_clearing_keeps_the_episodes_underway():
    steps = random_steps()
    episodes = Episodes(CPU)
    episodes.prepare(4, 3)
    add(episodes, *(part[:10] for part in steps))
    n_before = len(episodes)
    episodes.clear()
    assert len(episodes) == 0
    add(episodes, *(part[10:] for part in steps))
    assert len(episodes) == len(by_hand(*steps)) - n_before


def with_episodes(n_episodes, n_params, seed=0):
    rng = np.random.default_rng(seed)
    episodes = Episodes(CPU)
    episodes.prepare(n_params, 1)
    episodes.scores = torch.from_numpy(rng.normal(size=(n_episodes, n_params)) + 1.0)
    episodes.returns = torch.from_numpy(rng.normal(size=n_episodes) + 5.0)
    return episodes


@pytest.mark.parametrize(("n_episodes", "n_params"), [(30, 4), (5, 20), (8, 8)])
@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_the_regression_is_least_squares_with_a_free_constant(n_episodes, n_params, ridge):
    """Against numpy's least squares, with the ridge as further rows; both ways of solving."""
    episodes = with_episodes(n_episodes, n_params)
    rows = np.concatenate([episodes.scores.numpy(), np.ones((n_episodes, 1))], axis=1)
    penalty = np.sqrt(ridge * n_episodes) * np.eye(n_params + 1)[:-1]
    targets = np.concatenate([episodes.returns.numpy(), np.zeros(n_params)])
    expected = np.linalg.lstsq(np.concatenate([rows, penalty]), targets, rcond=None)[0]
    direction, baseline = episodes.regress(ridge)
    np.testing.assert_allclose(direction.numpy(), expected[:-1], atol=1e-9)
    assert baseline == pytest.approx(expected[-1], abs=1e-9)


@pytest.mark.parametrize("actions", ["categorical", "gaussian", "bernoulli"])
@pytest.mark.parametrize("ridge", [1e-6, 1e-2])
def test_with_episodes_of_one_step_w_is_npgs_direction_with_the_empirical_fisher(actions, ridge):
    """Advantages are returns less the regression's own baseline."""
    policy = make_policy(actions, net_arch=(3,))
    observations = make_observations(policy, 60)
    with torch.no_grad():
        taken = policy.get_distribution(observations).sample()
    fisher = FisherOperator(policy, observations, taken)
    scores, rewards = fisher.scores(), torch.randn(60, dtype=torch.float64)
    episodes = Episodes(CPU)
    episodes.prepare(scores.shape[1], 1)
    every = np.ones((60, 1), dtype=bool)
    episodes.add(scores[:, None], rewards[:, None], every, every, GAMMA)
    direction, baseline = episodes.regress(ridge)
    gradient = scores.T @ (rewards - baseline) / 60
    expected = Empirical().solve(Damped(fisher, ridge), gradient).direction
    torch.testing.assert_close(direction, expected, rtol=1e-6, atol=1e-8)


def test_without_a_ridge_too_few_episodes_are_no_step():
    with pytest.raises(NoStepError, match="ridge"):
        with_episodes(3, 20).regress(0.0)


def test_other_parameters_start_anew():
    episodes = with_episodes(5, 4)
    episodes.prepare(4, 1)
    assert len(episodes) == 5
    episodes.prepare(3, 1)
    assert len(episodes) == 0
    assert episodes.open_scores.shape == (1, 3)
