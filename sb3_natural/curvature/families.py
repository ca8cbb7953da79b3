"""What the Fisher information needs to know about an action distribution.

Every distribution that SB3 builds is described by the *statistics* phi(s) that the network outputs
for a state s, and by the distribution's own Fisher information M(phi). The three families below
cover them all: Gaussians (with or without gSDE, squashed or not), blocks of categoricals, and
Bernoullis. A distribution of your own gets a family of its own, most easily an
:class:`~sb3_natural.curvature.autograd_family.AutogradFamily`, and ``family_of.register``.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
    SquashedDiagGaussianDistribution,
    StateDependentNoiseDistribution,
    TanhBijector,
)
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Independent, Normal, kl_divergence

__all__ = [
    "ACTION_SPACES",
    "ActionFamily",
    "BernoulliFamily",
    "CategoricalFamily",
    "GaussianFamily",
    "family_of",
]

ACTION_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
"""The action spaces for which SB3's policies use one of the families."""


class ActionFamily(ABC):
    """Statistics, Fisher information and KL divergence of one kind of action distribution.

    The statistics phi are what the network says of a state: logits, or means and logarithms of
    standard deviations. There are K of them in each of N states; M(phi) is the distribution's
    Fisher information with respect to them, a K x K matrix.
    """

    def statistics(self, distribution: Distribution) -> Tensor:
        """The statistics phi, shape (N, K).

        :param distribution: an SB3 distribution of this family, in N states
        :return: attached to the graph of the network that produced them
        """
        return _joined(self.parts(distribution))

    @abstractmethod
    def parts(self, distribution: Distribution) -> list[Tensor]:
        """The statistics in parts between which M has no entries.

        :param distribution: an SB3 distribution of this family, in N states
        :return: tensors of shape (N, k), which side by side are phi; attached, as phi is
        """

    @abstractmethod
    def fisher_at(self, phi: Tensor) -> Callable[[Tensor], Tensor]:
        """The function that maps u to ``M(phi) u`` in every state.

        It is a function because one phi meets many u: what depends on phi alone is computed once.

        :param phi: shape (N, K)
        :return: takes u and returns a result, both of shape (N, K)
        """

    @abstractmethod
    def factor(self, phi: Tensor) -> Tensor:
        """A matrix L with ``M(phi) = L L^T`` for every state.

        :param phi: shape (N, K)
        :return: shape (N, K, K)
        """

    @abstractmethod
    def kl(self, phi_p: Tensor, phi_q: Tensor) -> Tensor:
        """The KL divergence ``KL(p || q)`` in every state, in nats, shape (N,).

        :param phi_p: statistics of p, shape (N, K)
        :param phi_q: statistics of q, shape (N, K)
        """

    def log_prob(self, distribution: Distribution, phi: Tensor, actions: Tensor) -> Tensor:
        """The logarithm of pi(a) in every state, shape (N,); NaN where phi is not finite.

        :param distribution: an SB3 distribution of this family; what it currently holds is not used
        :param phi: shape (N, K)
        :param actions: N actions, as the distribution's own ``log_prob`` takes them
        """
        return self.at(distribution, phi).log_prob(actions)

    def at(self, distribution: Distribution, phi: Tensor) -> Distribution:
        """An SB3 distribution like the given one, but with other statistics.

        :param distribution: one of this family; left as it is
        :param phi: the statistics, shape (N, K)
        """
        at_phi = copy.copy(distribution)
        at_phi.distribution = self._held(distribution, phi)
        return at_phi

    @abstractmethod
    def score(self, distribution: Distribution, phi: Tensor, actions: Tensor) -> Tensor:
        """The gradient of log pi(a) with respect to phi in every state, shape (N, K).

        :param distribution: as for :meth:`log_prob`
        :param phi: as for :meth:`log_prob`
        :param actions: as for :meth:`log_prob`
        """

    @abstractmethod
    def sample(self, distribution: Distribution, phi: Tensor, n_samples: int) -> Tensor:
        """Actions drawn at random.

        :param distribution: as for :meth:`log_prob`
        :param phi: shape (N, K)
        :param n_samples: how many to draw in each state
        :return: shape (n_samples, N, ...), each of the n_samples in the form that ``log_prob``
            takes
        """

    @abstractmethod
    def kl_gradient(self, phi_p: Tensor, phi_q: Tensor) -> Tensor:
        """The gradient of ``KL(p || q)`` with respect to q's statistics, shape (N, K).

        :param phi_p: statistics of p, shape (N, K)
        :param phi_q: statistics of q, shape (N, K)
        """

    @abstractmethod
    def entropy(self, phi: Tensor) -> Tensor:
        """The entropy in every state, in nats, shape (N,); of a squashed Gaussian, before tanh.

        :param phi: shape (N, K)
        """

    @abstractmethod
    def entropy_gradient(self, phi: Tensor) -> Tensor:
        """The gradient of :meth:`entropy` with respect to phi, shape (N, K).

        :param phi: shape (N, K)
        """

    @abstractmethod
    def _held(self, distribution: Distribution, phi: Tensor) -> Any:
        """The torch distribution(s) that SB3's ``distribution`` holds for statistics phi."""

    @abstractmethod
    def randomness(self, phi: Tensor) -> dict[str, float]:
        """How random the actions are, under the name that the log has for it.

        :param phi: shape (N, K)
        :return: for Gaussians ``std``, the mean standard deviation; for others ``entropy``, the
            mean over states in nats
        """


class GaussianFamily(ActionFamily):
    """Diagonal Gaussian: ``phi = (mean, log_std)`` and ``M = diag(1 / sigma^2, 2)``.

    gSDE is the same family: autograd differentiates log sigma(s) through the exploration matrix
    like any other output. By default SB3 cuts the graph there, before the features that sigma(s) is
    computed from. So for gSDE the quadratic model misses the part of the KL divergence that comes
    through the features, and ``train/kl`` and ``train/kl_predicted`` differ by more than elsewhere.

    Squashing by tanh changes neither M nor the KL divergence, because tanh is a bijection that does
    not depend on the parameters.
    """

    def parts(self, distribution: Distribution) -> list[Tensor]:
        normal = cast(Normal, distribution.distribution)
        return [normal.mean, normal.stddev.log()]

    def fisher_at(self, phi: Tensor) -> Callable[[Tensor], Tensor]:
        diagonal = torch.empty_like(phi)  # with phi's memory layout, whatever that is
        mean_part, log_std_part = diagonal.chunk(2, dim=1)
        torch.exp(-2 * phi.chunk(2, dim=1)[1], out=mean_part)
        log_std_part.fill_(2)
        return diagonal.mul

    def factor(self, phi: Tensor) -> Tensor:
        log_std = phi.chunk(2, dim=1)[1]
        return torch.diag_embed(
            torch.cat([torch.exp(-log_std), torch.full_like(log_std, 2**0.5)], dim=1)
        )

    def kl(self, phi_p: Tensor, phi_q: Tensor) -> Tensor:
        (mean_p, log_std_p), (mean_q, log_std_q) = phi_p.chunk(2, dim=1), phi_q.chunk(2, dim=1)
        wider = log_std_q - log_std_p
        variances = torch.exp(-2 * wider) + ((mean_p - mean_q) * torch.exp(-log_std_q)).square()
        return (wider + 0.5 * (variances - 1)).sum(dim=1)

    def log_prob(self, distribution: Distribution, phi: Tensor, actions: Tensor) -> Tensor:
        if type(distribution) is not DiagGaussianDistribution:
            return super().log_prob(distribution, phi, actions)
        mean, log_std = phi.chunk(2, dim=1)
        # The mean comes first: the result takes its memory layout, which is phi's.
        z = (mean - actions) * torch.exp(-log_std)
        return -(0.5 * z.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(dim=1)

    def score(self, distribution: Distribution, phi: Tensor, actions: Tensor) -> Tensor:
        mean, log_std = phi.chunk(2, dim=1)
        precision = torch.exp(-log_std)
        z = (mean - _unsquashed(distribution, actions)) * precision
        score = torch.empty_like(phi)
        mean_part, log_std_part = score.chunk(2, dim=1)
        torch.mul(-z, precision, out=mean_part)
        torch.sub(z.square(), 1, out=log_std_part)
        return score

    def sample(self, distribution: Distribution, phi: Tensor, n_samples: int) -> Tensor:
        mean, log_std = phi.chunk(2, dim=1)
        noise = torch.randn(n_samples, *mean.shape, dtype=phi.dtype, device=phi.device)
        return _squashed(distribution, mean + log_std.exp() * noise)

    def kl_gradient(self, phi_p: Tensor, phi_q: Tensor) -> Tensor:
        (mean_p, log_std_p), (mean_q, log_std_q) = phi_p.chunk(2, dim=1), phi_q.chunk(2, dim=1)
        precision = torch.exp(-2 * log_std_q)
        moved = mean_q - mean_p
        second_moment = (torch.exp(2 * log_std_p) + moved.square()) * precision
        return torch.cat([moved * precision, 1 - second_moment], dim=1)

    def entropy(self, phi: Tensor) -> Tensor:
        return (phi.chunk(2, dim=1)[1] + 0.5 * math.log(2 * math.pi * math.e)).sum(dim=1)

    def entropy_gradient(self, phi: Tensor) -> Tensor:
        mean, log_std = phi.chunk(2, dim=1)
        return torch.cat([torch.zeros_like(mean), torch.ones_like(log_std)], dim=1)

    def _held(self, distribution: Distribution, phi: Tensor) -> Any:
        mean, log_std = phi.chunk(2, dim=1)
        return Normal(mean, log_std.exp(), validate_args=False)

    def randomness(self, phi: Tensor) -> dict[str, float]:
        return {"std": phi.chunk(2, dim=1)[1].exp().mean().item()}


class CategoricalFamily(ActionFamily):
    """Independent categoricals side by side: phi are their logits.

    With p the probabilities of a block, its part of M is ``diag(p) - p p^T``. Adding a constant to
    a block's logits changes nothing here.

    A single block is SB3's ``CategoricalDistribution``, several its
    ``MultiCategoricalDistribution``.

    :param sizes: number of categories of each block; K is their sum
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = [int(size) for size in sizes]

    def parts(self, distribution: Distribution) -> list[Tensor]:
        held = distribution.distribution
        blocks = cast(list[Categorical], held if isinstance(held, list) else [held])
        # torch normalises the logits, which shifts each block: a direction that M does not see.
        return [block.logits for block in blocks]

    def fisher_at(self, phi: Tensor) -> Callable[[Tensor], Tensor]:
        probabilities = [logits.softmax(dim=1) for logits in self._logits(phi)]

        def product(u: Tensor) -> Tensor:
            return torch.cat(
                [
                    p * (block - (p * block).sum(dim=1, keepdim=True))
                    for p, block in zip(probabilities, self._blocks(u), strict=True)
                ],
                dim=1,
            )

        return product

    def factor(self, phi: Tensor) -> Tensor:
        factor = phi.new_zeros(len(phi), phi.shape[1], phi.shape[1])
        start = 0
        for logits in self._logits(phi):
            p, stop = logits.softmax(dim=1), start + logits.shape[1]
            # Column k is sqrt(p_k) (e_k - p): the score of category k, times sqrt(p_k).
            block = torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None, :]
            factor[:, start:stop, start:stop] = block
            start = stop
        return factor

    def kl(self, phi_p: Tensor, phi_q: Tensor) -> Tensor:
        per_block = [
            kl_divergence(_categorical(p), _categorical(q))
            for p, q in zip(self._logits(phi_p), self._logits(phi_q), strict=True)
        ]
        return torch.stack(per_block, dim=1).sum(dim=1)

    def score(self, distribution: Distribution, phi: Tensor, actions: Tensor) -> Tensor:
        chosen = actions.long().reshape(len(phi), -1)
        scores = -self._probabilities(phi)
        if len(self.sizes) > 1:
            chosen = chosen + torch.tensor([0, *self.sizes[:-1]], device=phi.device).cumsum(dim=0)
        return scores.scatter_add_(1, chosen, scores.new_ones(chosen.shape))

    def log_prob(self, distribution: Distribution, phi: Tensor, actions: Tensor) -> Tensor:
        chosen = actions.long().reshape(len(phi), -1)
        per_block = [
            logits.log_softmax(dim=1).gather(1, chosen[:, index : index + 1])
            for index, logits in enumerate(self._logits(phi))
        ]
        return per_block[0][:, 0] if len(per_block) == 1 else torch.cat(per_block, dim=1).sum(dim=1)

    def sample(self, distribution: Distribution, phi: Tensor, n_samples: int) -> Tensor:
        drawn = torch.stack(
            [
                torch.multinomial(logits.softmax(dim=1), n_samples, replacement=True).t()
                for logits in self._logits(phi)
            ],
            dim=2,
        )
        return drawn if isinstance(distribution, MultiCategoricalDistribution) else drawn[:, :, 0]

    def kl_gradient(self, phi_p: Tensor, phi_q: Tensor) -> Tensor:
        return self._probabilities(phi_q) - self._probabilities(phi_p)

    def entropy(self, phi: Tensor) -> Tensor:
        log_p = _joined(self._log_probabilities(phi))
        return -(log_p.exp() * log_p).sum(dim=1)

    def entropy_gradient(self, phi: Tensor) -> Tensor:
        scores = []
        for log_p in self._log_probabilities(phi):
            p = log_p.exp()
            scores.append(-p * (log_p - (p * log_p).sum(dim=1, keepdim=True)))
        return _joined(scores)

    def _log_probabilities(self, phi: Tensor) -> list[Tensor]:
        # Finite, so that an impossible action (a logit of -inf) adds 0 to the entropy.
        smallest = torch.finfo(phi.dtype).min
        return [logits.log_softmax(dim=1).clamp(min=smallest) for logits in self._logits(phi)]

    def _probabilities(self, phi: Tensor) -> Tensor:
        return _joined([logits.softmax(dim=1) for logits in self._logits(phi)])

    def _held(self, distribution: Distribution, phi: Tensor) -> Any:
        blocks = [Categorical(logits=logits, validate_args=False) for logits in self._logits(phi)]
        return blocks if isinstance(distribution, MultiCategoricalDistribution) else blocks[0]

    def randomness(self, phi: Tensor) -> dict[str, float]:
        return {"entropy": self.entropy(phi).mean().item()}

    def _logits(self, phi: Tensor) -> tuple[Tensor, ...]:
        return self._blocks(phi)

    def _blocks(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows.split(self.sizes, dim=1)


class BernoulliFamily(ActionFamily):
    """Independent coin flips: phi are their logits, and ``M = diag(p (1 - p))``."""

    def parts(self, distribution: Distribution) -> list[Tensor]:
        return [cast(Bernoulli, distribution.distribution).logits]

    def fisher_at(self, phi: Tensor) -> Callable[[Tensor], Tensor]:
        p = phi.sigmoid()
        return (p * (1 - p)).mul

    def factor(self, phi: Tensor) -> Tensor:
        p = phi.sigmoid()
        return torch.diag_embed((p * (1 - p)).sqrt())

    def kl(self, phi_p: Tensor, phi_q: Tensor) -> Tensor:
        return kl_divergence(_bernoullis(phi_p), _bernoullis(phi_q))

    def score(self, distribution: Distribution, phi: Tensor, actions: Tensor) -> Tensor:
        return actions - phi.sigmoid()

    def log_prob(self, distribution: Distribution, phi: Tensor, actions: Tensor) -> Tensor:
        return super().log_prob(distribution, phi, actions.to(phi.dtype))

    def sample(self, distribution: Distribution, phi: Tensor, n_samples: int) -> Tensor:
        return torch.bernoulli(phi.sigmoid().expand(n_samples, *phi.shape))

    def kl_gradient(self, phi_p: Tensor, phi_q: Tensor) -> Tensor:
        return phi_q.sigmoid() - phi_p.sigmoid()

    def entropy(self, phi: Tensor) -> Tensor:
        return _bernoullis(phi).entropy()

    def entropy_gradient(self, phi: Tensor) -> Tensor:
        p = phi.sigmoid()
        return -phi * p * (1 - p)

    def _held(self, distribution: Distribution, phi: Tensor) -> Any:
        return Bernoulli(logits=phi, validate_args=False)

    def randomness(self, phi: Tensor) -> dict[str, float]:
        return {"entropy": self.entropy(phi).mean().item()}


@singledispatch
def family_of(distribution: object) -> ActionFamily:
    """The family that an SB3 distribution belongs to.

    ``family_of.register`` tells it of another class of distributions; classes derived from that one
    belong to the same family. Give it a function that takes the distribution and returns an object
    of the family, not the family's class and not an object::

        family_of.register(MyDistribution, lambda distribution: MyFamily())

    :param distribution: the distribution; what it currently holds does not matter
    :raises TypeError: the distribution is not one of SB3's, nor of a class that was registered, nor
        derived from one; the message lists what is supported
    """
    raise TypeError(
        f"The policy's get_distribution() returns a {type(distribution).__name__}, whose Fisher "
        "information is not known. Supported are SB3's DiagGaussianDistribution, "
        "SquashedDiagGaussianDistribution, StateDependentNoiseDistribution (gSDE), "
        "CategoricalDistribution, MultiCategoricalDistribution, BernoulliDistribution, classes "
        "derived from them, and classes whose family is registered with family_of.register."
    )


@family_of.register(DiagGaussianDistribution)
@family_of.register(StateDependentNoiseDistribution)
def _gaussian_family(distribution: Distribution) -> ActionFamily:
    return GaussianFamily()


@family_of.register
def _categorical_family(distribution: CategoricalDistribution) -> ActionFamily:
    return CategoricalFamily([distribution.action_dim])


@family_of.register
def _multi_categorical_family(distribution: MultiCategoricalDistribution) -> ActionFamily:
    return CategoricalFamily(distribution.action_dims)


@family_of.register
def _bernoulli_family(distribution: BernoulliDistribution) -> ActionFamily:
    return BernoulliFamily()


def _joined(blocks: list[Tensor]) -> Tensor:
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)


def _squashes(distribution: Distribution) -> bool:
    return isinstance(distribution, SquashedDiagGaussianDistribution) or (
        isinstance(distribution, StateDependentNoiseDistribution)
        and distribution.bijector is not None
    )


def _squashed(distribution: Distribution, samples: Tensor) -> Tensor:
    return TanhBijector.forward(samples) if _squashes(distribution) else samples


def _unsquashed(distribution: Distribution, actions: Tensor) -> Tensor:
    """The Gaussian's own sample: before tanh, where there is one."""
    return TanhBijector.inverse(actions) if _squashes(distribution) else actions


# Without torch's validation: if a step has made the statistics invalid, the divergence is NaN,
# which the caller can see. With it, there would be an exception in the middle of the step.


def _categorical(logits: Tensor) -> Categorical:
    return Categorical(logits=logits, validate_args=False)


def _bernoullis(logits: Tensor) -> Independent:
    return Independent(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)
