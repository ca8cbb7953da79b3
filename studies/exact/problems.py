"""Small decision processes with a point to make."""

import numpy as np

from studies.exact.mdp import Mdp

__all__ = ["bandit", "chain", "garnet", "grid_world", "two_states"]


def two_states(gamma: float = 0.95) -> Mdp:
    """Two states, in each of which one action stays and the other changes (Kakade 2001, figure 2).

    Staying pays 1 in the first state and 2 in the second, changing pays nothing. The process starts
    in the first state in four cases of five. Action 0 stays.

    :param gamma: discount factor, from 0 to below 1
    """
    stay, change = np.eye(2), np.eye(2)[::-1]
    rewards = np.array([[1.0, 0.0], [2.0, 0.0]])
    return Mdp(np.stack([stay, change], axis=1), rewards, np.array([0.8, 0.2]), gamma)


def chain(n_states: int = 6, gamma: float = 0.95, small: float = 0.05) -> Mdp:
    """A row of states with a small reward at its start and one of 1 at its end.

    Action 0 goes back; in the first state it stays there, and pays ``small``. Action 1 goes on; in
    the last state it stays there, and pays 1. The process starts in the first state.

    :param n_states: length of the row
    :param gamma: discount factor, from 0 to below 1
    :param small: the reward for going back in the first state
    """
    transitions = np.zeros((n_states, 2, n_states))
    states = np.arange(n_states)
    transitions[states, 0, np.maximum(states - 1, 0)] = 1
    transitions[states, 1, np.minimum(states + 1, n_states - 1)] = 1
    rewards = np.zeros((n_states, 2))
    rewards[0, 0], rewards[-1, 1] = small, 1.0
    return Mdp(transitions, rewards, np.eye(n_states)[0], gamma)


def grid_world(side: int = 5, gamma: float = 0.95, slip: float = 0.1) -> Mdp:
    """A square of rooms, to be crossed from one corner to the opposite one.

    Actions 0 to 3 go up, down, left and right. Each step costs 0.04 until the goal is reached,
    which pays 1 and is never left.

    :param side: rooms along a side
    :param gamma: discount factor, from 0 to below 1
    :param slip: probability that a step goes in one of the four directions at random
    """
    n_states, goal = side * side, side * side - 1
    moves = np.zeros((n_states, 4, n_states))
    for row in range(side):
        for column in range(side):
            for action, (down, right) in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1)]):
                to = min(max(row + down, 0), side - 1) * side + min(
                    max(column + right, 0), side - 1
                )
                moves[row * side + column, action, to] = 1
    transitions = (1 - slip) * moves + slip * moves.mean(axis=1, keepdims=True)
    transitions[goal] = np.eye(n_states)[goal]
    rewards = transitions[:, :, goal] - 0.04
    rewards[goal] = 0.0
    return Mdp(transitions, rewards, np.eye(n_states)[0], gamma)


def garnet(
    rng: np.random.Generator,
    n_states: int = 10,
    n_actions: int = 4,
    n_branches: int = 3,
    gamma: float = 0.9,
) -> Mdp:
    """A random process (Archibald et al. 1995; Bhatnagar et al. 2009).

    Each pair of state and action leads to ``n_branches`` states, with probabilities drawn
    uniformly, and pays a reward drawn from N(0, 1). All states are equally likely to be the first.

    :param rng: draws the process
    :param n_states: number of states
    :param n_actions: number of actions
    :param n_branches: next states of a pair, at most ``n_states``
    :param gamma: discount factor, from 0 to below 1
    """
    transitions = np.zeros((n_states, n_actions, n_states))
    for pair in np.ndindex(n_states, n_actions):
        to = rng.choice(n_states, n_branches, replace=False)
        transitions[pair][to] = rng.dirichlet(np.ones(n_branches))
    rewards = rng.normal(size=(n_states, n_actions))
    return Mdp(transitions, rewards, np.full(n_states, 1 / n_states), gamma)


def bandit(rewards: np.ndarray) -> Mdp:
    """One state, one action for each reward, and nothing after it (``gamma = 0``).

    :param rewards: rewards of the arms, (A,)
    """
    arms = np.asarray(rewards, dtype=float)
    return Mdp(np.ones((1, len(arms), 1)), arms[None], np.ones(1), 0.0)
