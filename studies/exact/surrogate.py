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
    """The surrogate L(pi), a first-order approximation of the return eta(pi).

    With A, d and eta those of the old policy it is::

        L(pi) = eta + 1 / (1 - gamma) sum_s d(s) sum_a pi(a|s) A(s, a).

    :param old: the old policy in its process
    :param pi: the new policy's probabilities, (S, A)
    """
    gain = old.occupancy @ (pi * old.advantages).sum(axis=1)
    return old.performance + float(gain) / (1 - old.mdp.gamma)


def performance_difference(old: Evaluation, new: Evaluation) -> float:
    """The difference of two returns, by the old policy's advantages in the new one's visits.

    It is exact (Kakade & Langford 2002, lemma 6.1).

    :param old: the old policy in its process
    :param new: the new policy in the same process
    :return: the new policy's return less the old one's
    """
    gain = new.occupancy @ (new.pi * old.advantages).sum(axis=1)
    return float(gain) / (1 - old.mdp.gamma)


def kl(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The KL divergence ``KL(old || new)`` in every state, in nats, (S,).

    :param old: the old policy's probabilities, (S, A)
    :param new: the new policy's probabilities, (S, A)
    """
    return rel_entr(old, new).sum(axis=1)


def mean_kl(old: Evaluation, pi: np.ndarray) -> float:
    """The mean KL divergence over the states that the old policy visits, in nats.

    :param old: the old policy in its process
    :param pi: the new policy's probabilities, (S, A)
    """
    return float(old.occupancy @ kl(old.pi, pi))


def proofs_penalty(old: Evaluation) -> float:
    """The penalty C that the proof of monotone improvement needs.

    It is ``4 gamma max|A| / (1 - gamma)^2`` (Schulman et al. 2015, theorem 1).

    :param old: the old policy in its process
    """
    gamma = old.mdp.gamma
    return 4 * gamma * float(abs(old.advantages).max()) / (1 - gamma) ** 2


def lower_bound(old: Evaluation, pi: np.ndarray) -> float:
    """A lower bound of the new policy's return: the surrogate less C times the largest divergence.

    :param old: the old policy in its process
    :param pi: the new policy's probabilities, (S, A)
    :return: ``L(pi) - C D_max``, with :func:`surrogate`, :func:`proofs_penalty` and the largest
        :func:`kl` over states
    """
    return surrogate(old, pi) - proofs_penalty(old) * float(kl(old.pi, pi).max())
