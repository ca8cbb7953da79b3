"""All claims, in the order of the page."""

from studies.claims import (
    acer_parts,
    angles,
    approximations,
    bernoulli,
    compatible,
    conservative,
    convergence,
    costs,
    distance,
    empirical_fisher,
    fisher,
    layers,
    lower_bound,
    mean_or_max,
    mean_or_max_trained,
    monotone,
    monotone_cartpole,
    natural_dqn,
    parameterisation,
    penalty,
    plain_gradient,
    plateau,
    ppo_clip,
    rates,
    sampled,
    saturated,
    stable_steps,
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
        saturated,
        rates,
        angles,
        compatible,
        sampled,
        plain_gradient,
        approximations,
        empirical_fisher,
        lower_bound,
        mean_or_max,
        mean_or_max_trained,
        conservative,
        monotone,
        monotone_cartpole,
        penalty,
        stable_steps,
        ppo_clip,
        layers,
        convergence,
        costs,
        acer_parts,
        natural_dqn,
    )
}
