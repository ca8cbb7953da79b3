"""The surrogate objective of policy gradients, as a function of the policy's statistics."""

import torch
from stable_baselines3.common.distributions import Distribution
from torch import Tensor

from sb3_natural.curvature.families import ActionFamily, family_of
from sb3_natural.shapes import check_shape

__all__ = ["Surrogate"]


class Surrogate:
    """The surrogate objective of a rollout, as a function of the policy's statistics phi.

    It is ``mean(rho A)`` with the ratios ``rho = pi(a|s) / pi_old(a|s)``. Source: Schulman et al.
    2015, equation 14.

    :param distribution: an SB3 distribution of the policy's kind; its current state is not used
    :param actions: N actions, as the distribution's ``log_prob`` takes them
    :param old_log_prob: log pi_old(a|s), (N,)
    :param advantages: A, (N,)
    :param family: the distribution's family, if it knows more than the distribution (which actions
        are valid in each of the N states, say); None: the one that belongs to the distribution
    :raises ValueError: ``old_log_prob`` or ``advantages`` has another shape
    """

    def __init__(
        self,
        distribution: Distribution,
        actions: Tensor,
        old_log_prob: Tensor,
        advantages: Tensor,
        family: ActionFamily | None = None,
    ) -> None:
        check_shape((len(actions),), old_log_prob=old_log_prob, advantages=advantages)
        self._distribution = distribution
        self.family = family or family_of(distribution)
        self._actions = actions
        self._old_log_prob = old_log_prob
        self._advantages = advantages

    def __call__(self, phi: Tensor) -> float:
        """The objective ``mean(rho A)``; NaN where phi is not finite.

        :param phi: the statistics, shape (N, K)
        """
        return self._weighted(phi).mean().item()

    def with_gradient(self, phi: Tensor) -> tuple[float, Tensor]:
        """The objective ``mean(rho A)``, and its gradient with respect to phi.

        :param phi: the statistics, shape (N, K)
        :return: the objective, and the gradient, shape (N, K)
        """
        weighted = self._weighted(phi)
        score = self.family.score(self._distribution, phi, self._actions)
        return weighted.mean().item(), score * (weighted / len(phi))[:, None]

    def _weighted(self, phi: Tensor) -> Tensor:
        log_prob = self.family.log_prob(self._distribution, phi, self._actions)
        return torch.exp(log_prob - self._old_log_prob) * self._advantages
