"""PPO's loss and gradient against autograd, in float64."""

import pytest
import torch
from torch import nn

from sb3_natural.networks.parameters import flatten
from sb3_natural.updates.clipped_surrogate import ClippedSurrogate, Minibatch
from sb3_natural.updates.plain_networks import plain_networks
from tests.curvature.test_jacobian import plain
from tests.helpers import make_observations, make_policy

PLAIN_ACTIONS = ["categorical", "gaussian", "multicategorical", "bernoulli"]
N = 13


def sb3_losses(policy, batch, clip_range, clip_range_vf, normalize_advantage):
    """The three losses, as SB3's ``PPO.train`` writes them, attached to the graph."""
    observations, actions, old_values, old_log_prob, advantages, returns = batch
    values, log_prob, entropy = policy.evaluate_actions(observations, actions)
    if normalize_advantage:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    ratio = torch.exp(log_prob - old_log_prob)
    clipped = torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
    policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
    values = values.flatten()
    if clip_range_vf is not None:
        values = old_values + torch.clamp(values - old_values, -clip_range_vf, clip_range_vf)
    return policy_loss, nn.functional.mse_loss(returns, values), -entropy.mean()


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize(
    ("clip_range_vf", "ent_coef", "normalize_advantage"), [(None, 0.0, True), (0.3, 0.1, False)]
)
@pytest.mark.parametrize("actions", PLAIN_ACTIONS)
def test_losses_and_gradient_are_autograds(
    actions, clip_range_vf, ent_coef, normalize_advantage, activation
):
    reference = make_policy(actions, activation_fn=activation)
    policy = plain(reference)
    networks = plain_networks(policy)
    assert networks is not None
    observations = make_observations(policy, N).double()
    with torch.no_grad():
        taken = reference.get_distribution(observations).sample()
        values, log_prob, _ = reference.evaluate_actions(observations, taken)
    old = [
        values.flatten() + 0.3 * torch.randn(N, dtype=torch.float64),
        log_prob + 0.3 * torch.randn(N, dtype=torch.float64),
        torch.randn(N, dtype=torch.float64),
        torch.randn(N, dtype=torch.float64),
    ]
    theta = flatten(param.detach() for param in networks.params)
    surrogate = ClippedSurrogate(
        policy, networks, theta, 0.2, clip_range_vf, ent_coef, 0.7, normalize_advantage
    )
    with torch.no_grad():
        batch = Minibatch(observations, taken, *(vector.numpy() for vector in old))
        losses, gradient = surrogate.losses(batch), surrogate.gradient()

    expected = sb3_losses(
        reference, (observations, taken, *old), 0.2, clip_range_vf, normalize_advantage
    )
    assert losses[:3] == pytest.approx([loss.item() for loss in expected], rel=1e-9)
    assert 0 < losses.clip_fraction < 1
    total = expected[0] + ent_coef * expected[2] + 0.7 * expected[1]
    assert surrogate.total(losses) == pytest.approx(total.item(), rel=1e-9)
    names = {param: name for name, param in policy.named_parameters()}
    in_order = [reference.get_parameter(names[param]) for param in networks.params]
    by_autograd = flatten(torch.autograd.grad(total, in_order))
    assert gradient.norm() > 0
    # Single precision appears where SB3 has it, too: in the weights of the means.
    torch.testing.assert_close(gradient, by_autograd, rtol=1e-6, atol=1e-8)
