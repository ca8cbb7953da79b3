"""Masked categoricals, against enumeration of the actions that are valid."""

import itertools
import math

import pytest
import torch
from stable_baselines3.common.distributions import MultiCategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_natural.curvature.families import CategoricalFamily, family_of
from sb3_natural.curvature.jacobian import MlpJacobian
from sb3_natural.curvature.masking import (
    MASKED,
    MaskedCategoricalFamily,
    masked_distribution,
    masked_family,
)
from sb3_natural.curvature.operators import Damped, FisherOperator
from sb3_natural.curvature.solvers import SOLVERS
from sb3_natural.curvature.surrogate import Surrogate
from sb3_natural.networks.parameters import flatten
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, make_observations, make_policy

N = 12
SIZES = {"categorical": [3], "multicategorical": [2, 3]}
KINDS = pytest.mark.parametrize("actions", SIZES)


def masks_for(sizes, n=N, seed=0):
    """Random masks that leave a choice in each block, with rows of one and of all actions."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(n, sum(sizes), generator=generator) < 0.5
    for block in masks.split(sizes, dim=1):
        chosen = torch.randint(block.shape[1], (n,), generator=generator)
        block[torch.arange(n), chosen] = True
    masks[0] = True
    masks[1] = False
    start = 0
    for size in sizes:
        masks[1, start] = True
        start += size
    return masks


def enumerated(logits, mask, sizes):
    """All valid actions of one state with their probabilities, as functions of the logits."""
    blocks, ways = [], []
    for block, valid in zip(logits.split(sizes), mask.split(sizes), strict=True):
        weights = torch.exp(block) * valid
        blocks.append(weights / weights.sum())
        ways.append([index for index in range(len(block)) if valid[index]])
    for action in itertools.product(*ways):
        p = math.prod(part[index] for part, index in zip(blocks, action, strict=True))
        yield action, p


def masked_case(actions, **kwargs):
    policy = make_policy(actions, **kwargs)
    observations = make_observations(policy, N)
    masks = masks_for(SIZES[actions])
    return policy, observations, masks


def logits_of(policy, observations):
    distribution = policy.get_distribution(observations)
    return family_of(distribution).statistics(distribution)


def valid_actions(policy, observations, masks, seed=1):
    """One valid action for each state, in the form that log_prob takes."""
    torch.manual_seed(seed)
    with torch.no_grad():
        return masked_distribution(policy.get_distribution(observations), masks).sample()


@KINDS
def test_fisher_is_the_mean_of_score_outer_products_over_valid_actions(actions):
    policy, observations, masks = masked_case(actions)
    fisher = FisherOperator(policy, observations, masks=masks)
    logits = logits_of(policy, observations)
    expected = torch.zeros(fisher.shape, dtype=torch.float64)
    for row, mask in zip(logits, masks, strict=True):
        for _, p in enumerated(row, mask, SIZES[actions]):
            score = torch.autograd.grad(
                p.log(), fisher.params, retain_graph=True, allow_unused=True
            )
            s = flatten(
                torch.zeros_like(param) if part is None else part
                for part, param in zip(score, fisher.params, strict=True)
            )
            expected += p.detach() * torch.outer(s, s) / N
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(fisher.dense(), expected, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(fisher.diagonal(), expected.diagonal(), rtol=1e-8, atol=1e-12)
    v = torch.randn(fisher.shape[0], dtype=torch.float64)
    form = (v @ expected @ v).item()
    assert fisher.quadratic_form(v) == pytest.approx(form, rel=1e-8)
    assert fisher.quadratic_forms(v).mean().item() == pytest.approx(form, rel=1e-8)
    unmasked = FisherOperator(policy, observations)
    assert (unmasked.dense() - expected).abs().max() > 1e-3


@KINDS
def test_products_of_plain_networks_are_those_of_autograd(actions):
    torch.manual_seed(0)
    spaces_of = OBSERVATION_SPACES["mlp"], ACTION_SPACES[actions]
    policy = ActorCriticPolicy(*spaces_of, lambda _: 1e-3)
    with torch.no_grad():
        policy.action_net.weight.normal_()
    observations = make_observations(policy, N)
    masks = masks_for(SIZES[actions])
    fast = FisherOperator(policy, observations, masks=masks)
    slow = FisherOperator(policy, observations, fast=False, masks=masks)
    assert isinstance(fast.jacobian, MlpJacobian)
    v = torch.randn(fast.shape[0])
    torch.testing.assert_close(fast @ v, slow @ v, rtol=1e-4, atol=1e-6)


@KINDS
def test_probability_score_entropy_and_divergence_are_those_of_the_valid_actions(actions):
    policy, observations, masks = masked_case(actions)
    sizes = SIZES[actions]
    family = MaskedCategoricalFamily(sizes, masks)
    distribution = policy.get_distribution(observations)
    with torch.no_grad():
        phi = family.statistics(distribution)
        torch.manual_seed(2)
        other = phi + torch.randn_like(phi)
    taken = valid_actions(policy, observations, masks)
    for index, mask in enumerate(masks):
        row = phi[index].clone().requires_grad_(True)
        now = dict(enumerated(row, mask, sizes))
        then = dict(enumerated(other[index], mask, sizes))
        assert sum(now.values()).item() == pytest.approx(1)
        chosen = tuple(taken[index].reshape(-1).tolist())
        entropy = -sum(p * p.log() for p in now.values())
        kl = sum(p.detach() * (p.detach() / then[a]).log() for a, p in now.items())
        kl_here = sum(then[a] * (then[a] / p).log() for a, p in now.items())
        found = {
            "log_prob": family.log_prob(distribution, phi, taken)[index],
            "entropy": family.entropy(phi)[index],
            "kl": family.kl(phi, other)[index],
        }
        expected = {"log_prob": now[chosen].log(), "entropy": entropy, "kl": kl}
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value.detach(), rtol=1e-9, atol=1e-12, msg=name)
        gradients = {
            "score": (family.score(distribution, phi, taken), now[chosen].log()),
            "entropy_gradient": (family.entropy_gradient(phi), entropy),
            "kl_gradient": (family.kl_gradient(other, phi), kl_here),
        }
        for name, (ours, value) in gradients.items():
            by_autograd = torch.zeros_like(row)
            if value.requires_grad:
                (by_autograd,) = torch.autograd.grad(value, row, retain_graph=True)
            torch.testing.assert_close(ours[index], by_autograd, rtol=1e-8, atol=1e-10, msg=name)


@KINDS
def test_gradient_of_the_surrogate_and_scores_are_autograds(actions):
    policy, observations, masks = masked_case(actions)
    taken = valid_actions(policy, observations, masks)
    advantages = torch.randn(N, dtype=torch.float64)
    distribution = masked_distribution(policy.get_distribution(observations), masks)
    log_prob = distribution.log_prob(taken)
    old = log_prob.detach() + 0.2 * torch.randn(N, dtype=torch.float64)
    fisher = FisherOperator(policy, observations, taken, masks=masks)
    surrogate = Surrogate(fisher.distribution, taken, old, advantages, fisher.family)
    objective, by_phi = surrogate.with_gradient(fisher.statistics)
    expected = ((log_prob - old).exp() * advantages).mean()
    gradient = torch.autograd.grad(expected, fisher.params, retain_graph=True)
    assert objective == pytest.approx(expected.item(), rel=1e-10)
    torch.testing.assert_close(
        fisher.jacobian.vjp(by_phi), flatten(gradient), rtol=1e-8, atol=1e-12
    )
    scores = fisher.scores()
    for index in (0, 1, 5):
        row = flatten(torch.autograd.grad(log_prob[index], fisher.params, retain_graph=True))
        torch.testing.assert_close(scores[index], row, rtol=1e-8, atol=1e-12)
    assert not scores[1].any(), "the only action that is valid has nothing to learn"


@KINDS
@pytest.mark.parametrize("n_samples", [None, 7])
def test_every_solver_solves_with_the_masked_fisher_information(actions, n_samples):
    policy, observations, masks = masked_case(actions)
    taken = valid_actions(policy, observations, masks)
    torch.manual_seed(4)
    fisher = FisherOperator(policy, observations, taken, n_samples, masks=masks)
    assert len(fisher.family._invalid) == (n_samples or N)
    b = torch.randn(fisher.shape[0], dtype=torch.float64)
    damped = Damped(fisher, 0.1)
    exact = torch.linalg.solve(damped.dense(), b)
    dense = SOLVERS["dense"]().solve(damped, b).direction
    torch.testing.assert_close(dense, exact, rtol=1e-8, atol=1e-10)
    scores = fisher.scores()
    outer = scores.T @ scores / len(scores) + 0.1 * torch.eye(len(b), dtype=torch.float64)
    empirical = SOLVERS["empirical"]().solve(damped, b).direction
    torch.testing.assert_close(empirical, torch.linalg.solve(outer, b), rtol=1e-8, atol=1e-10)


@KINDS
def test_sampled_actions_are_valid_and_as_frequent_as_they_are_likely(actions):
    policy, observations, masks = masked_case(actions)
    sizes, family = SIZES[actions], MaskedCategoricalFamily(SIZES[actions], masks)
    with torch.no_grad():
        distribution = policy.get_distribution(observations)
        phi = family.statistics(distribution).clone()
        by_sb3 = masked_distribution(policy.get_distribution(observations), masks)
        drawn = torch.stack([by_sb3.sample() for _ in range(4000)])
        modes = by_sb3.mode().reshape(N, -1)
        by_family = family.sample(policy.get_distribution(observations), phi, 4000)
    for samples in (drawn, by_family):
        for index, mask in enumerate(masks):
            rows = [tuple(row.tolist()) for row in samples[:, index].reshape(4000, -1)]
            expected = dict(enumerated(phi[index], mask, sizes))
            assert set(rows) <= set(expected)
            for action, p in expected.items():
                assert rows.count(action) / 4000 == pytest.approx(p.item(), abs=0.05)
    for index, mask in enumerate(masks):
        probabilities = dict(enumerated(phi[index], mask, sizes))
        best = max(probabilities, key=lambda action, table=probabilities: table[action])
        assert tuple(modes[index].tolist()) == best


def test_invalid_actions_have_exactly_no_chance_in_single_precision_too():
    masks = torch.tensor([[True, False, True]])
    for dtype in (torch.float32, torch.float64):
        # However certain the network is of the invalid action.
        phi = torch.tensor([[-80.0, 1e4, -90.0]], dtype=dtype)
        family = MaskedCategoricalFamily([3], masks)
        p = family._probabilities(phi)
        assert p[0, 1] == 0
        assert p.sum() == pytest.approx(1)
        u = torch.tensor([[1.0, 1e6, -1.0]], dtype=dtype)
        m = family.fisher_at(phi)(u)
        assert m[0, 1] == 0
        assert torch.isfinite(m).all()
        assert family.kl(phi, phi.flip(1))[0] > 0
        assert math.exp(MASKED + 1e6) == 0


def test_without_invalid_actions_everything_is_as_without_masks():
    policy = make_policy("multicategorical")
    observations = make_observations(policy, N)
    masks = torch.ones(N, 5, dtype=torch.bool)
    plain, masked = (
        FisherOperator(policy, observations),
        FisherOperator(policy, observations, masks=masks),
    )
    v = torch.randn(plain.shape[0], dtype=torch.float64)
    assert torch.equal(plain @ v, masked @ v)
    assert isinstance(policy.action_dist, MultiCategoricalDistribution)


def test_masks_of_another_size_and_for_other_policies_are_refused():
    policy = make_policy("gaussian")
    observations = make_observations(policy, N)
    masks = torch.ones(N, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="masks are for categorical policies, not Gaussian"):
        FisherOperator(policy, observations, masks=masks)
    with pytest.raises(ValueError, match="masks"):
        masked_family(CategoricalFamily([3]), masks)
    policy = make_policy("categorical")
    with pytest.raises(ValueError, match="masks"):
        masked_distribution(policy.get_distribution(observations), masks[:3, :3])
