"""One update of ACKTR against independent computations."""

import math

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import configure
from torch.nn import functional as F

from sb3_natural import ACKTR
from sb3_natural.curvature.actor_critic import ActorCriticOutputs
from sb3_natural.curvature.layers import layer_factors
from sb3_natural.curvature.operators import FisherOperator, GaussNewtonOperator
from sb3_natural.networks.parameters import flatten, parameters_behind
from tests.helpers import ACTION_SPACES, make_observations, make_policy
from tests.npg.test_sb3_contract import POLICIES, make_envs, same, weights


def collected(actions="gaussian", observations="mlp", **kwargs):
    """A model with a rollout that it has not used yet."""
    env = make_envs(actions, observations, 2)
    arguments = dict(n_steps=16, seed=0, device="cpu", use_sde=actions == "gsde")
    model = ACKTR(POLICIES[observations], env, **{**arguments, **kwargs})
    model.set_logger(configure(None, []))
    _, callback = model._setup_learn(10_000)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    model.policy.set_training_mode(False)
    return model


def network_of(model):
    batch = next(model.rollout_buffer.get(None))
    return ActorCriticOutputs(model.policy, batch.observations, model.vf_fisher_coef), batch


def logged(model):
    return model.logger.name_to_value


def theta(model):
    return flatten(param.detach().clone() for param in model.policy.parameters())


@pytest.mark.parametrize("actions", ACTION_SPACES)
@pytest.mark.parametrize("normalize", [False, True])
def test_the_gradient_is_that_of_a2cs_loss(actions, normalize):
    """Written with SB3's own evaluate_actions, and differentiated by autograd."""
    model = collected(actions, ent_coef=0.1, vf_coef=0.7, normalize_advantage=normalize)
    network, batch = network_of(model)
    losses, gradient = model._loss_gradient(network, batch)
    taken = batch.actions.long().flatten() if actions == "categorical" else batch.actions
    values, log_prob, entropy = model.policy.evaluate_actions(batch.observations, taken)
    advantages = batch.advantages
    if normalize:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    policy_loss = -(advantages * log_prob).mean()
    value_loss = F.mse_loss(values.flatten(), batch.returns)
    loss = policy_loss - 0.1 * entropy.mean() + 0.7 * value_loss
    expected = flatten(torch.autograd.grad(loss, network.params))
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    assert losses == pytest.approx(
        (policy_loss.item(), value_loss.item(), -entropy.mean().item()), rel=1e-4, abs=1e-6
    )


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("observations", ["mlp", "cnn", "dict"])
def test_factors_are_the_policys_plus_the_weighted_critics(observations, shared):
    """In layers that both use, G is their sum; no weight of the loss is in it."""
    policy = make_policy("gaussian", observations, shared)
    batch = make_observations(policy, 6)
    joint = ActorCriticOutputs(policy, batch, 0.3)
    of_actor = {layer.weight: layer for layer in layer_factors(FisherOperator(policy, batch))}
    behind = parameters_behind(policy.predict_values(batch), policy)
    critic = GaussNewtonOperator(policy, behind, batch)
    of_critic = {layer.weight: layer for layer in layer_factors(critic)}
    both = of_actor.keys() & of_critic.keys()
    assert bool(both) == (shared and observations != "mlp")
    layers = joint.layer_factors()
    assert {layer.weight for layer in layers} == of_actor.keys() | of_critic.keys()
    for layer in layers:
        parts = [1.0 * of_actor[layer.weight].g] if layer.weight in of_actor else []
        parts += [0.3 * of_critic[layer.weight].g] if layer.weight in of_critic else []
        torch.testing.assert_close(layer.g, sum(parts), rtol=1e-9, atol=1e-14)
        one = of_actor.get(layer.weight) or of_critic[layer.weight]
        torch.testing.assert_close(layer.a, one.a, rtol=1e-12, atol=1e-14)


def kronecker_solution(model, gradient):
    """F^-1 g block by block, by forming each damped Kronecker product, for MLPs in float64."""
    network, _ = network_of(model)
    sizes = [param.numel() for param in network.params]
    grads = dict(zip(network.params, gradient.double().split(sizes), strict=True))
    root, found = math.sqrt(model.kfac_damping), {}
    for layer in network.layer_factors():
        a, g = layer.a.double(), layer.g.double()
        pi = math.sqrt(a.trace() / len(a) / (g.trace() / len(g)))
        a = a + pi * root * torch.eye(len(a))
        g = g + root / pi * torch.eye(len(g))
        columns = torch.cat([grads[param].view(len(g), -1) for param in layer.params], dim=1)
        solved = torch.linalg.solve(torch.kron(g, a), columns.flatten()).view_as(columns)
        found |= zip(
            layer.params,
            solved.split([grads[p].numel() // len(g) for p in layer.params], 1),
            strict=True,
        )
    for param in network.params:
        if param is getattr(model.policy, "log_std", None):
            found[param] = grads[param] / (2 + model.kfac_damping)
    return flatten(found[param] for param in network.params), network.params


@pytest.mark.parametrize("actions", ["gaussian", "categorical"])
@pytest.mark.parametrize(("lr", "clip"), [(1.0, 1e-5), (0.01, 10.0)])
def test_the_step_is_the_shorter_of_learning_rate_and_trust_region(actions, lr, clip):
    model = collected(
        actions,
        learning_rate=lr,
        kfac_clip=clip,
        max_grad_norm=0.05,
        policy_kwargs=dict(net_arch=[4]),
    )
    network, batch = network_of(model)
    _, gradient = model._loss_gradient(network, batch)
    norm = gradient.norm().item()
    assert norm > 0.05  # it is clipped
    gradient = gradient * (0.05 / norm)
    direction, params = kronecker_solution(model, gradient)
    quadratic_form = (direction @ gradient.double()).item()
    radius = math.sqrt(2 * clip / quadratic_form)
    assert (radius < lr) == (clip == 1e-5)
    before = flatten(param.detach().clone() for param in params)
    model.train()
    moved = flatten(param.detach() for param in params) - before
    torch.testing.assert_close(
        moved.double(),
        -min(lr, radius) * direction,
        rtol=1e-3,
        atol=1e-3 * moved.abs().max().item(),
    )
    found = logged(model)
    assert found["train/step_length"] == pytest.approx(min(lr, radius), rel=1e-3)
    assert found["train/step_share"] == pytest.approx(min(1, radius / lr), rel=1e-3)
    expected = clip if radius < lr else 0.5 * lr**2 * quadratic_form
    assert found["train/kl_predicted"] == pytest.approx(expected, rel=1e-3)
    assert found["train/grad_norm"] == pytest.approx(norm, rel=1e-4)


def test_the_measured_divergence_is_that_of_the_policy():
    model = collected(kfac_clip=1e-2, learning_rate=1.0)
    network, batch = network_of(model)
    old = network.phi.clone()
    model.train()
    with torch.no_grad():
        new = network.family.statistics(model.policy.get_distribution(batch.observations))
    (m, s), (m0, s0) = new.chunk(2, dim=1), old.chunk(2, dim=1)
    kl = s - s0 + (torch.exp(2 * s0) + (m - m0) ** 2) / (2 * torch.exp(2 * s)) - 0.5
    assert logged(model)["train/kl"] == pytest.approx(kl.sum(dim=1).mean().item(), rel=1e-3)
    assert 0 < logged(model)["train/kl"] < 2e-2


def test_the_weights_of_the_loss_leave_the_factors_alone():
    states = []
    for vf_coef, ent_coef in ((0.1, 0.0), (10.0, 0.5)):
        model = collected(vf_coef=vf_coef, ent_coef=ent_coef)
        model.train()
        states.append(model._kfac.state_dict()["averages"])
    assert same(*states)


@pytest.mark.parametrize("scale", [2.0**-10, 2.0**10])
def test_rewards_of_any_scale_give_the_same_update(scale):
    results = []
    for factor in (1.0, scale):
        model = collected("categorical")
        model.rollout_buffer.reset()
        original = model.env.step_wait

        def scaled(original=original, factor=factor):
            observations, rewards, dones, infos = original()
            return observations, rewards * np.float32(factor), dones, infos

        model.env.step_wait = scaled
        model.env.seed(3)
        model._last_obs = model.env.reset()
        model._return_scale.__init__()
        model.set_random_seed(3)
        _, callback = model._setup_learn(10_000)
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
        model.train()
        results.append(theta(model))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("what", ["advantages", "learning_rate"])
def test_updates_without_a_sound_step_are_skipped(what):
    model = collected()
    before = weights(model)
    if what == "advantages":
        model.rollout_buffer.advantages[3] = np.nan
        reason = "gradient is not finite"
    else:
        model.kfac_clip, model.learning_rate, model.max_grad_norm = 1e38, 1e38, 1e30
        reason = "would make the policy non-finite"
    with pytest.warns(UserWarning, match=f"update skipped: .*{reason}"):
        model.train()
    assert same(before, weights(model))
    assert logged(model)["train/skipped_updates"] == 1
    assert logged(model)["train/step_length"] == 0


def test_kfac_update_says_how_often_factors_are_inverted():
    model = collected(kfac_update=2)
    inverses = []
    for _ in range(3):
        model.train()
        inverses.append(model._kfac.state_dict()["inverses"])
    assert same(inverses[0], inverses[1])
    assert not same(inverses[1], inverses[2])
