"""What a policy computes, in terms: outputs with the part of M that is theirs alone.

The curvature matrices of this library are mean_s J^T M J, J the Jacobian of a network's outputs.
Where M has no entries between two groups of outputs, the matrix is a sum of two, one for each.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from sb3_natural.curvature.families import ActionFamily, family_of
from sb3_natural.curvature.per_sample import per_sample_vjp
from sb3_natural.networks.parameters import parameters_behind
from sb3_natural.observations import first_sample

__all__ = ["PolicyOutputs", "Term", "log_std_diagonal", "statistics_terms", "values_term"]


class Term(NamedTuple):
    """Some of a network's outputs in N states, with the part of M that is theirs alone."""

    outputs: Tensor
    """(N, k), attached to the graph."""
    factor: Tensor
    """L with M = L L^T, (N, k, m), detached."""


class PolicyOutputs(ABC):
    """Outputs of an SB3 policy in N states, with the matrix M over them.

    :ivar policy: computes them
    :ivar observations: the N states
    """

    policy: BasePolicy
    observations: PyTorchObs

    @property
    @abstractmethod
    def params(self) -> list[nn.Parameter]:
        """The P parameters to differentiate by."""

    @abstractmethod
    def terms(self, observations: PyTorchObs) -> list[Term]:
        """The outputs in these states, in terms between which M has no entries: a forward pass.

        :param observations: n states
        """

    @abstractmethod
    def factor(self) -> Tensor:
        """L with ``M = L L^T`` in the N states, for all outputs, (N, K, m), detached."""

    def known_diagonal(self) -> dict[nn.Parameter, float]:
        """Parameters whose block of the curvature matrix is known: a multiple of the identity."""
        return {}

    def outputs(self, observations: PyTorchObs) -> Tensor:
        """All outputs in these states, (n, K), attached.

        :param observations: n states
        """
        return torch.cat([term.outputs for term in self.terms(observations)], dim=1)

    def diagonal_of(self, params: Sequence[nn.Parameter]) -> Tensor:
        """The curvature matrix's diagonal for some parameters, of any layers; flat, exact.

        It takes gradients of single samples, for each column of L.

        :param params: the parameters, in the order of the result
        """
        cotangents = self.factor().transpose(1, 2)
        rows = per_sample_vjp(self.outputs, (self.observations,), cotangents, params)
        squares = [chunk.square().sum(dim=(0, 1)) for chunk in rows]
        return torch.stack(squares).sum(dim=0) / len(cotangents)


def statistics_terms(family: ActionFamily, distribution: Distribution) -> list[Term]:
    """The statistics of an action distribution, part by part, with M its Fisher information.

    :param family: of the distribution
    :param distribution: of N states, attached to the graph
    """
    parts = family.parts(distribution)
    factor = family.factor(torch.cat(parts, dim=1).detach())
    terms, start = [], 0
    for part in parts:
        own = slice(start, start + part.shape[1])
        terms.append(Term(part, factor[:, own, own]))
        start = own.stop
    return terms


def values_term(values: Tensor, weight: float = 1.0) -> Term:
    """The values of N states, (N, 1), attached, with M = weight."""
    return Term(values, values.new_full((len(values), 1, 1), weight**0.5))


def log_std_diagonal(
    policy: ActorCriticPolicy, observations: PyTorchObs
) -> dict[nn.Parameter, float]:
    """The Fisher information of a Gaussian's log_std where it is a parameter by itself: 2.

    :param observations: only the first is used
    """
    log_std = getattr(policy, "log_std", None)
    if not isinstance(log_std, nn.Parameter) or not log_std.requires_grad:
        return {}
    distribution = policy.get_distribution(first_sample(observations))
    if not isinstance(distribution, DiagGaussianDistribution):
        return {}
    mean, own = family_of(distribution).parts(distribution)
    is_alone = own.shape[1:] == log_std.shape and _behind(own, policy) == {log_std}
    return {log_std: 2.0} if is_alone and log_std not in _behind(mean, policy) else {}


def _behind(output: Tensor, policy: ActorCriticPolicy) -> set[nn.Parameter]:
    return set(parameters_behind(output, policy)) if output.requires_grad else set()
