"""Finite Markov decision processes: values, visits and returns by linear solves, in float64.

Notation: S states, A actions, gamma the discount factor, mu the distribution of the first state;
a policy pi is an array of probabilities, (S, A).

    P_pi(s, s') = sum_a pi(a|s) P(s'|s, a),      r_pi(s) = sum_a pi(a|s) r(s, a)
    V  = (I - gamma P_pi)^-1 r_pi,               Q(s, a) = r(s, a) + gamma sum_s' P(s'|s, a) V(s')
    d  = (1 - gamma) mu (I - gamma P_pi)^-1,     eta = mu V

Source: Sutton & Barto 2018, chapters 3 and 4; d: Kakade & Langford 2002, section 2.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["Evaluation", "Mdp"]


@dataclass(frozen=True)
class Mdp:
    """A finite Markov decision process whose transitions and rewards are known.

    It has S states and A actions, numbered from 0; a policy is an array of probabilities pi(a|s),
    (S, A).

    :param transitions: ``P(s'|s, a)``, the probabilities of the next state, shape (S, A, S)
    :param rewards: r(s, a), shape (S, A)
    :param start: mu, the probabilities of the first state, shape (S,)
    :param gamma: discount factor, from 0 to below 1
    :raises ValueError: a shape does not fit, probabilities do not add up to 1, or gamma is out of
        range
    """

    transitions: np.ndarray
    rewards: np.ndarray
    start: np.ndarray
    gamma: float

    def __post_init__(self) -> None:
        n_states, n_actions = self.rewards.shape
        shapes = {
            "transitions": (self.transitions, (n_states, n_actions, n_states)),
            "start": (self.start, (n_states,)),
        }
        for name, (array, shape) in shapes.items():
            if array.shape != shape:
                raise ValueError(f"{name} must have the shape {shape}, got {array.shape}")
            if (array < 0).any() or not np.allclose(array.sum(axis=-1), 1.0):
                raise ValueError(f"{name} must be probabilities that add up to 1")
        if not np.isfinite(self.rewards).all():
            raise ValueError("rewards must be finite")
        if not 0.0 <= self.gamma < 1.0:
            raise ValueError(f"gamma must be from 0 to below 1, got {self.gamma}")

    @property
    def n_states(self) -> int:
        """S, the number of states."""
        return self.rewards.shape[0]

    @property
    def n_actions(self) -> int:
        """A, the number of actions."""
        return self.rewards.shape[1]

    def evaluate(self, pi: np.ndarray) -> "Evaluation":
        """Values, visits and return of a policy.

        :param pi: probabilities of the actions in each state, (S, A)
        :raises ValueError: pi has another shape
        """
        if pi.shape != self.rewards.shape:
            raise ValueError(f"pi must have the shape {self.rewards.shape}, got {pi.shape}")
        return Evaluation(self, pi)

    def best(self) -> "Evaluation":
        """The deterministic policy with the largest values in every state, by policy iteration."""
        now = self.evaluate(np.full(self.rewards.shape, 1 / self.n_actions))
        while True:
            pi = np.eye(self.n_actions)[now.action_values.argmax(axis=1)]
            following = self.evaluate(pi)
            # The last steps may go to and fro between policies that are equally good.
            if (following.values <= now.values + 1e-12 * (1 + abs(now.values))).all():
                return following
            now = following


@dataclass(frozen=True)
class Evaluation:
    """A policy in a decision process, with all that follows from the two.

    :param mdp: the process, of S states and A actions
    :param pi: the policy's probabilities, (S, A)
    """

    mdp: Mdp
    pi: np.ndarray

    @cached_property
    def values(self) -> np.ndarray:
        """The state values V, (S,)."""
        rewards = (self.pi * self.mdp.rewards).sum(axis=1)
        return np.linalg.solve(self._resolvent, rewards)

    @cached_property
    def action_values(self) -> np.ndarray:
        """The action values Q, (S, A)."""
        return self.mdp.rewards + self.mdp.gamma * self.mdp.transitions @ self.values

    @property
    def advantages(self) -> np.ndarray:
        """The advantages ``Q - V``, (S, A)."""
        return self.action_values - self.values[:, None]

    @cached_property
    def occupancy(self) -> np.ndarray:
        """The discounted visits d of the states, (S,), which add up to 1."""
        return (1 - self.mdp.gamma) * np.linalg.solve(self._resolvent.T, self.mdp.start)

    @property
    def performance(self) -> float:
        """eta, the expected discounted return from the first state on."""
        return float(self.mdp.start @ self.values)

    @cached_property
    def _resolvent(self) -> np.ndarray:
        """I - gamma P_pi, (S, S)."""
        under_pi = np.einsum("sa,sat->st", self.pi, self.mdp.transitions)
        return np.eye(self.mdp.n_states) - self.mdp.gamma * under_pi
