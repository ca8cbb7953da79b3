"""Updates of a policy, exact: no samples, no critic, no damping."""

import math

import numpy as np
from scipy.special import log_softmax

from studies.exact.gradients import natural_gradient, policy_gradient
from studies.exact.mdp import Evaluation, Mdp
from studies.exact.policies import Policy
from studies.exact.surrogate import kl, mean_kl, surrogate

__all__ = [
    "conservative_step",
    "evaluated",
    "gradient_step",
    "multiplicative_step",
    "natural_step",
    "soft_multiplicative_step",
    "soft_values",
    "trust_region_step",
]

_MAX_HALVINGS = 60


def evaluated(mdp: Mdp, policy: Policy, theta: np.ndarray) -> Evaluation:
    """Values, visits and return of the policy with given parameters.

    :param mdp: the process
    :param policy: the policies
    :param theta: the parameters, (P,)
    """
    return mdp.evaluate(policy.probabilities(theta))


def gradient_step(mdp: Mdp, policy: Policy, theta: np.ndarray, length: float) -> np.ndarray:
    """The parameters after a step along the policy gradient: ``theta + length g``, (P,).

    :param mdp: the process
    :param policy: the policies
    :param theta: the parameters before the step, (P,)
    :param length: the multiple of the gradient
    """
    now = evaluated(mdp, policy, theta)
    return theta + length * policy_gradient(now, policy.scores(theta))


def natural_step(mdp: Mdp, policy: Policy, theta: np.ndarray, length: float) -> np.ndarray:
    """The parameters after a step along the natural gradient: ``theta + length F^+ g``, (P,).

    Source: Kakade 2001.

    :param mdp: the process
    :param policy: the policies
    :param theta: the parameters before the step, (P,)
    :param length: the multiple of the natural gradient
    """
    now = evaluated(mdp, policy, theta)
    return theta + length * natural_gradient(now, policy.scores(theta))


def trust_region_step(
    mdp: Mdp,
    policy: Policy,
    theta: np.ndarray,
    delta: float,
    maximal: bool = False,
    search: bool = True,
) -> np.ndarray:
    """The parameters after NPG's KL-normalised step, or TRPO's, (P,).

    With x the natural gradient this is ``theta + sqrt(2 delta / x^T g) x``, or TRPO's step, which
    is found by halving that one.

    :param mdp: the process
    :param policy: the policies
    :param theta: the parameters before the step, (P,)
    :param delta: the KL divergence that the quadratic model of the mean over states predicts for
        the step, in nats
    :param maximal: whether the search bounds the largest KL divergence over states instead of the
        mean
    :param search: whether to halve the step until the KL divergence is at most delta and the
        surrogate has risen, as TRPO does (Schulman et al. 2015, appendix C)
    :return: theta itself where the gradient vanishes or the search finds nothing
    """
    now = evaluated(mdp, policy, theta)
    scores = policy.scores(theta)
    direction = natural_gradient(now, scores)
    slope = float(direction @ policy_gradient(now, scores))  # x^T F x, too
    if slope <= 0:
        return theta
    length = math.sqrt(2 * delta / slope)
    if not search:
        return theta + length * direction
    for _ in range(_MAX_HALVINGS):
        candidate = theta + length * direction
        pi = policy.probabilities(candidate)
        moved = float(kl(now.pi, pi).max()) if maximal else mean_kl(now, pi)
        if moved <= delta and surrogate(now, pi) > now.performance:
            return candidate
        length /= 2
    return theta


def multiplicative_step(mdp: Mdp, log_pi: np.ndarray, length: float) -> np.ndarray:
    """The natural gradient's step for a tabular softmax policy, in closed form.

    The new probabilities are proportional to ``pi exp(length A / (1 - gamma))`` (Agarwal et al.
    2021, lemma 15).

    :param mdp: the process
    :param log_pi: logarithms of the probabilities before the step, (S, A)
    :param length: the multiple of the natural gradient
    :return: logarithms of the probabilities after it, (S, A)
    """
    advantages = mdp.evaluate(np.exp(log_pi)).advantages
    return log_softmax(log_pi + length * advantages / (1 - mdp.gamma), axis=1)


def soft_values(mdp: Mdp, log_pi: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Values with an entropy bonus: in V, ``r - temperature log pi`` takes the place of r.

    :param mdp: the process
    :param log_pi: logarithms of the probabilities, (S, A)
    :param temperature: weight of the bonus, in rewards per nat of entropy
    :return: V, (S,), and ``Q(s, a) = r(s, a) + gamma sum_s' P(s'|s, a) V(s')``, (S, A)
    """
    bonus = Mdp(mdp.transitions, mdp.rewards - temperature * log_pi, mdp.start, mdp.gamma)
    values = bonus.evaluate(np.exp(log_pi)).values
    return values, mdp.rewards + mdp.gamma * mdp.transitions @ values


def soft_multiplicative_step(
    mdp: Mdp, log_pi: np.ndarray, length: float, temperature: float
) -> np.ndarray:
    """The natural gradient's step for the return with an entropy bonus, in closed form.

    With Q including the bonus, it is::

        log pi' = (1 - length temperature / (1 - gamma)) log pi + length Q / (1 - gamma) + constant,

    the constant being one for each state (Cen et al. 2021, equation 17).

    :param mdp: the process
    :param log_pi: logarithms of the probabilities before the step, (S, A)
    :param length: at most ``(1 - gamma) / temperature``, with which the step is soft policy
        iteration
    :param temperature: weight of the bonus, in rewards per nat of entropy
    :return: logarithms of the probabilities after it, (S, A)
    """
    _, action_values = soft_values(mdp, log_pi, temperature)
    share = length / (1 - mdp.gamma)
    return log_softmax((1 - share * temperature) * log_pi + share * action_values, axis=1)


def conservative_step(now: Evaluation) -> tuple[np.ndarray, float]:
    """Conservative policy iteration: a mixture with the greedy policy (Kakade & Langford 2002).

    Let A_mean be the greedy policy's mean advantage over the visits of pi, and eps the largest
    absolute one of a state. The mixture ``(1 - alpha) pi + alpha greedy`` gains at least::

        alpha / (1 - gamma) (A_mean - 2 alpha gamma eps / (1 - gamma)),

    which is largest at ``alpha = (1 - gamma) A_mean / (4 gamma eps)``, or at 1 if that is less.

    :param now: the policy pi in its process
    :return: the mixture, (S, A), and what it gains at least; pi and 0 if pi is greedy
    """
    gamma = now.mdp.gamma
    greedy = np.eye(now.mdp.n_actions)[now.action_values.argmax(axis=1)]
    of_states = (greedy * now.advantages).sum(axis=1)
    mean, largest = float(now.occupancy @ of_states), float(abs(of_states).max())
    if mean <= 0:
        return now.pi, 0.0
    alpha = min(1.0, (1 - gamma) * mean / (4 * gamma * largest)) if gamma > 0 else 1.0
    gain = alpha / (1 - gamma) * (mean - 2 * alpha * gamma * largest / (1 - gamma))
    return (1 - alpha) * now.pi + alpha * greedy, gain
