"""Categorical policies of which some actions are invalid.

A mask says which actions are valid. The logits of the others count as minus infinity, so that their
probability is 0: they are never drawn, add nothing to entropy and divergence (p log p = 0 at
p = 0), and no gradient reaches them. M is diag(p) - p p^T on the valid ones, and 0 elsewhere.
"""

from collections.abc import Sequence

import torch
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    Distribution,
    MultiCategoricalDistribution,
)
from torch import Tensor

from sb3_natural.curvature.families import ActionFamily, CategoricalFamily, family_of
from sb3_natural.shapes import check_shape

__all__ = ["MASKED", "MaskedCategoricalFamily", "masked_distribution", "masked_family"]

MASKED = -1e30
"""The logit of an invalid action: its exponential is exactly 0, in single and double precision. It
is finite, so that the difference of two is 0 instead of NaN."""


class MaskedCategoricalFamily(CategoricalFamily):
    """Categoricals side by side, in N states with their own valid actions.

    Statistics are the network's logits, whatever it says of invalid actions.

    :param sizes: number of categories of each block; K is their sum
    :param masks: which are valid, (N, K), True or False
    :raises ValueError: the masks have another shape
    """

    def __init__(self, sizes: Sequence[int], masks: Tensor) -> None:
        super().__init__(sizes)
        check_shape((len(masks), sum(self.sizes)), masks=masks)
        self._invalid = ~masks

    def _logits(self, phi: Tensor) -> tuple[Tensor, ...]:
        return self._blocks(phi.masked_fill(self._invalid, MASKED))


def masked_family(family: ActionFamily, masks: Tensor) -> MaskedCategoricalFamily:
    """The same family, with invalid actions.

    :param masks: (N, K), True where an action is valid
    :raises ValueError: the family is not that of categoricals
    """
    if not isinstance(family, CategoricalFamily):
        raise ValueError(f"action masks are for categorical policies, not {type(family).__name__}")
    return MaskedCategoricalFamily(family.sizes, masks)


def masked_distribution(distribution: Distribution, masks: Tensor) -> Distribution:
    """SB3's distribution, its invalid actions with a probability of 0; it is changed in place.

    :param masks: (N, K), True where an action is valid
    :raises ValueError: the distribution is not categorical, or the masks have another shape
    """
    family = family_of(distribution)
    masked_family(family, masks)  # checks both
    phi = family.statistics(distribution)
    check_shape(phi.shape, masks=masks)
    assert isinstance(distribution, CategoricalDistribution | MultiCategoricalDistribution)
    return distribution.proba_distribution(torch.where(masks, phi, MASKED))
