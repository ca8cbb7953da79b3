"""What one policy says about another: the surrogate, divergences, and bounds of the return.

With A, d and eta those of pi:

    L(pi') = eta + 1 / (1 - gamma) sum_s d(s) sum_a pi'(a|s) A(s, a)
    D_mean = sum_s d(s) KL(pi(.|s), pi'(.|s)),    D_max = max_s KL(pi(.|s), pi'(.|s))
    eta(pi') >= L(pi') - C D_max,                 C = 4 gamma max|A| / (1 - gamma)^2

Source: Schulman et al. 2015, theorem 1.
"""

import numpy as np
from scipy.special import rel_entr

from studies.exact.mdp import Evaluation

__all__ = ["kl", "lower_bound", "mean_kl", "performance_difference", "proofs_penalty", "surrogate"]


def surrogate(old: Evaluation, pi: np.ndarray) -> float:
    """L(pi), a first-order approximation of eta(pi); pi is (S, A)."""
    gain = old.occupancy @ (pi * old.advantages).sum(axis=1)
    return old.performance + float(gain) / (1 - old.mdp.gamma)


def performance_difference(old: Evaluation, new: Evaluation) -> float:
    """eta' - eta as the new policy's mean of the old one's advantages, with the new one's visits.

    Exact; Kakade & Langford 2002, lemma 6.1.
    """
    gain = new.occupancy @ (new.pi * old.advantages).sum(axis=1)
    return float(gain) / (1 - old.mdp.gamma)


def kl(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """KL(old, new) in every state, in nats, (S,); the policies are (S, A)."""
    return rel_entr(old, new).sum(axis=1)


def mean_kl(old: Evaluation, pi: np.ndarray) -> float:
    """D_mean, over the states that the old policy visits."""
    return float(old.occupancy @ kl(old.pi, pi))


def proofs_penalty(old: Evaluation) -> float:
    """C, of which the proof says that no larger one is needed."""
    gamma = old.mdp.gamma
    return 4 * gamma * float(abs(old.advantages).max()) / (1 - gamma) ** 2


def lower_bound(old: Evaluation, pi: np.ndarray) -> float:
    """L(pi) - C D_max, which eta(pi) is never below."""
    return surrogate(old, pi) - proofs_penalty(old) * float(kl(old.pi, pi).max())
