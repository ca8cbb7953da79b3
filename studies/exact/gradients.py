"""Policy gradient, Fisher information and natural gradient, summed over all states and actions.

With d the occupancy, which adds up to 1, and the scores of P parameters:

    g = 1 / (1 - gamma) sum_s d(s) sum_a pi(a|s) A(s, a) score(s, a)
    F = sum_s d(s) sum_a pi(a|s) score(s, a) score(s, a)^T
    x = F^+ g

Sources: Sutton et al. 2000 (g), Kakade 2001 (F, x).
"""

import numpy as np

from studies.exact.mdp import Evaluation

__all__ = ["compatible_weights", "fisher", "natural_gradient", "policy_gradient"]

# Singular values below this share of the largest are zero: tabular softmax has one for each state,
# since adding a constant to a state's logits changes nothing.
_ZERO = 1e-12


def policy_gradient(evaluation: Evaluation, scores: np.ndarray) -> np.ndarray:
    """The policy gradient: that of eta with respect to the parameters, (P,).

    With d the discounted visits it is the sum over states and actions::

        g = 1 / (1 - gamma) sum_s d(s) sum_a pi(a|s) A(s, a) score(s, a).

    :param evaluation: the policy in its process
    :param scores: scores of the policy that was evaluated, (S, A, P)
    """
    weights = _pair_weights(evaluation) * evaluation.advantages
    return np.einsum("sa,sap->p", weights, scores) / (1 - evaluation.mdp.gamma)


def fisher(evaluation: Evaluation, scores: np.ndarray) -> np.ndarray:
    """The Fisher information of the policy over the states that it visits, (P, P).

    With d the discounted visits it is::

        F = sum_s d(s) sum_a pi(a|s) score(s, a) score(s, a)^T.

    :param evaluation: the policy in its process
    :param scores: scores of the policy that was evaluated, (S, A, P)
    """
    return np.einsum("sa,sap,saq->pq", _pair_weights(evaluation), scores, scores)


def natural_gradient(evaluation: Evaluation, scores: np.ndarray) -> np.ndarray:
    """The natural gradient: of all x with ``F x = g`` the shortest, (P,).

    :param evaluation: the policy in its process
    :param scores: scores of the policy that was evaluated, (S, A, P)
    """
    matrix = fisher(evaluation, scores)
    # Of a policy that is all but certain F may be so small that eigenvalues would not be found.
    scale = abs(matrix).max() or 1.0
    inverse = np.linalg.pinv(matrix / scale, rcond=_ZERO, hermitian=True)
    return inverse @ (policy_gradient(evaluation, scores) / scale)


def compatible_weights(evaluation: Evaluation, scores: np.ndarray) -> np.ndarray:
    """The weights of the compatible approximation of the advantages.

    This is the w of least norm that minimises::

        sum_s d(s) sum_a pi(a|s) (w^T score(s, a) - A(s, a))^2.

    By theorem 1 of Kakade 2001 it is ``(1 - gamma) x``, x the natural gradient. It is found here by
    least squares, without F.

    :param evaluation: the policy in its process
    :param scores: scores of the policy that was evaluated, (S, A, P)
    :return: w, shape (P,)
    """
    root = np.sqrt(_pair_weights(evaluation)).reshape(-1, 1)
    rows = root * scores.reshape(len(root), -1)
    targets = root[:, 0] * evaluation.advantages.reshape(-1)
    solution, *_ = np.linalg.lstsq(rows, targets, rcond=_ZERO**0.5)
    return solution


def _pair_weights(evaluation: Evaluation) -> np.ndarray:
    """d(s) pi(a|s), (S, A)."""
    return evaluation.occupancy[:, None] * evaluation.pi
