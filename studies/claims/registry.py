"""All claims, in the order of the page."""

from studies.claims import (
    angles,
    bernoulli,
    compatible,
    conservative,
    distance,
    fisher,
    lower_bound,
    mean_or_max,
    monotone,
    parameterisation,
    penalty,
    plateau,
    rates,
)
from studies.claims.claim import Claim

__all__ = ["CLAIMS"]

CLAIMS: dict[str, Claim] = {
    module.CLAIM.name: module.CLAIM
    for module in (
        parameterisation,
        distance,
        fisher,
        bernoulli,
        plateau,
        rates,
        angles,
        compatible,
        lower_bound,
        mean_or_max,
        conservative,
        monotone,
        penalty,
    )
}
