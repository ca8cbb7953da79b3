"""An action family that needs no formulas: torch's distribution, and derivatives by autograd."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from stable_baselines3.common.distributions import Distribution
from torch import Tensor
from torch.distributions import kl_divergence

from sb3_natural.curvature.families import ActionFamily
from sb3_natural.curvature.family_check import checked_statistics

__all__ = ["AutogradFamily"]


class AutogradFamily(ActionFamily):
    """A family known by its torch distribution alone; all else follows by differentiation.

    Derive from it and write :meth:`parts` and :meth:`torch_distribution`. The Fisher information
    M(phi) is the Hessian of KL(p || q) by q's statistics at q = p, which takes K + 1 backward
    passes. Families with formulas of their own are faster.

    It is for distributions whose KL divergence is smooth in q's statistics: Normal, Gamma, Beta,
    Dirichlet, Poisson, Gumbel and others. It is not for Laplace or Uniform: at q = p the divergence
    has a kink in torch's formula, or is infinite beside it. These need a family with formulas of
    its own, derived from :class:`~sb3_natural.curvature.families.ActionFamily`.

    The first time that a class's statistics are asked for, it is checked that they lead back to the
    distribution, and that M agrees with the KL divergence of a small step.
    """

    def statistics(self, distribution: Distribution) -> Tensor:
        """See :meth:`ActionFamily.statistics`.

        :raises TypeError: :meth:`parts` does not return a list of tensors
        :raises ValueError: its tensors are not (N, k) or are detached; or they are not the
            statistics that :meth:`torch_distribution` takes; or the KL divergence is not smooth
        """
        return checked_statistics(self, distribution)

    @abstractmethod
    def torch_distribution(self, phi: Tensor) -> torch.distributions.Distribution:
        """torch's distribution of N samples' actions, as SB3's holds it, at phi, shape (N, K).

        Its ``log_prob`` and ``entropy`` have shape (N, ...), of which all but N is summed over, and
        are differentiable by phi. ``torch.distributions.kl_divergence`` knows it, with two
        derivatives. phi may be of float64, and N any number. Give it ``validate_args=False``: NaN
        in phi is then NaN in the divergence, which the step is checked for.
        """

    def fisher_at(self, phi: Tensor) -> Callable[[Tensor], Tensor]:
        """See :meth:`ActionFamily.fisher_at`."""
        fisher = self._fisher(phi)
        return lambda u: (fisher @ u[:, :, None]).squeeze(2)

    def factor(self, phi: Tensor) -> Tensor:
        """See :meth:`ActionFamily.factor`."""
        # Not by Cholesky: M is singular where a change of phi leaves the distribution as it is.
        eigenvalues, eigenvectors = torch.linalg.eigh(self._fisher(phi))
        return eigenvectors * eigenvalues.clamp(min=0).sqrt()[:, None, :]

    def kl(self, phi_p: Tensor, phi_q: Tensor) -> Tensor:
        """See :meth:`ActionFamily.kl`."""
        p, q = self.torch_distribution(phi_p), self.torch_distribution(phi_q)
        return _summed(kl_divergence(p, q))

    def score(self, distribution: Distribution, phi: Tensor, actions: Tensor) -> Tensor:
        """See :meth:`ActionFamily.score`."""
        return _gradient(lambda phi: self.log_prob(distribution, phi, actions), phi)

    def sample(self, distribution: Distribution, phi: Tensor, n_samples: int) -> Tensor:
        """See :meth:`ActionFamily.sample`."""
        return self.torch_distribution(phi).sample(torch.Size([n_samples]))

    def kl_gradient(self, phi_p: Tensor, phi_q: Tensor) -> Tensor:
        """See :meth:`ActionFamily.kl_gradient`."""
        return _gradient(lambda phi: self.kl(phi_p, phi), phi_q)

    def entropy(self, phi: Tensor) -> Tensor:
        """See :meth:`ActionFamily.entropy`."""
        return _summed(self.torch_distribution(phi).entropy())

    def entropy_gradient(self, phi: Tensor) -> Tensor:
        """See :meth:`ActionFamily.entropy_gradient`."""
        return _gradient(self.entropy, phi)

    def randomness(self, phi: Tensor) -> dict[str, float]:
        """See :meth:`ActionFamily.randomness`: the entropy."""
        return {"entropy": self.entropy(phi).mean().item()}

    def _held(self, distribution: Distribution, phi: Tensor) -> Any:
        return self.torch_distribution(phi)

    def _fisher(self, phi: Tensor) -> Tensor:
        """M of every sample, (N, K, K)."""
        p = phi.detach()
        with torch.enable_grad():
            q = p.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self.kl(p, q).sum(), q, create_graph=True)
            rows = [
                torch.autograd.grad(column.sum(), q, retain_graph=True)[0]
                for column in gradient.unbind(dim=1)
            ]
        return torch.stack(rows, dim=1)


def _summed(of_actions: Tensor) -> Tensor:
    """(N, ...) -> (N,)."""
    return of_actions.reshape(len(of_actions), -1).sum(dim=1)


def _gradient(function: Callable[[Tensor], Tensor], phi: Tensor) -> Tensor:
    """Of each sample's value by its own statistics, (N, K), detached."""
    with torch.enable_grad():
        phi = phi.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(function(phi).sum(), phi)
    return gradient
