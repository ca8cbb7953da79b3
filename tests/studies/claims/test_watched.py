"""How far updates go, measured again without the classes that log it."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from stable_baselines3.common.env_util import make_vec_env

import sb3_natural
from studies.claims import watched
from studies.claims.ppo_clip import most_kl

SETTINGS = dict(n_steps=256, seed=0, device="cpu")


def one_update(algorithm, env_id, **settings):
    """The model before and after its first update, and the rollout's observations and actions."""
    model = algorithm("MlpPolicy", make_vec_env(env_id, 2, seed=0), **SETTINGS, **settings)
    _, callback = model._setup_learn(512)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    buffer = model.rollout_buffer
    seen = [buffer.swap_and_flatten(each) for each in (buffer.observations, buffer.actions)]
    before = {name: each.clone() for name, each in model.policy.state_dict().items()}
    model.train()
    return model, before, *map(torch.as_tensor, seen)


def outputs(model, state, observations):
    """Logits, or means and standard deviations, as NumPy arrays."""
    policy = type(model.policy)(**model.policy._get_constructor_parameters())
    policy.load_state_dict(state)
    with torch.no_grad():
        found = (
            policy.action_net(policy.mlp_extractor.forward_actor(observations.float()))
            .double()
            .numpy()
        )
        std = policy.log_std.exp().double().numpy() if hasattr(policy, "log_std") else None
    return found, std


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("name", ["PPO", "TRPO"])
def test_logits_before_and_after_give_what_is_logged(name):
    model, before, observations, actions = one_update(getattr(watched, name), "CartPole-v1")
    old, new = (
        log_softmax(outputs(model, state, observations)[0])
        for state in (before, model.policy.state_dict())
    )
    kl = (np.exp(old) * (old - new)).sum(axis=1).mean()
    taken = actions.long().numpy()
    ratios = np.exp(np.take_along_axis(new - old, taken, axis=1))
    logged = model.logger.name_to_value
    assert logged["watched/kl"] == pytest.approx(kl, rel=1e-3)
    assert logged["watched/outside"] == pytest.approx((abs(ratios - 1) > 0.2).mean(), abs=2e-3)
    assert kl > 1e-4


def test_of_a_gaussian_all_action_dimensions_count():
    model, before, observations, _ = one_update(
        watched.TRPO, "Hopper-v5", target_kl=0.01, sub_sampling_factor=1
    )
    (m, s), (n, t) = (
        outputs(model, state, observations) for state in (before, model.policy.state_dict())
    )
    kl = (np.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5).sum(axis=1).mean()
    assert model.logger.name_to_value["watched/kl"] == pytest.approx(kl, rel=1e-3)
    # SB3 has their mean instead, and calls that the divergence.
    own = model.logger.name_to_value["train/kl_divergence_loss"]
    assert own == pytest.approx(kl / 3, rel=0.05)


@pytest.mark.parametrize("name", ["PPO", "TRPO"])
def test_watching_changes_nothing(name):
    ours, _, _, _ = one_update(getattr(watched, name), "Pendulum-v1")
    plain, _, _, _ = one_update(getattr(sb3_natural, name), "Pendulum-v1")
    for key, value in plain.policy.state_dict().items():
        torch.testing.assert_close(ours.policy.state_dict()[key], value, rtol=0, atol=0)


def test_the_clip_of_the_model_is_the_one_that_counts():
    wide, narrow = (
        one_update(watched.PPO, "CartPole-v1", clip_range=clip)[0].logger.name_to_value
        for clip in (10.0, 0.01)
    )
    assert wide["watched/outside"] == 0
    assert narrow["watched/outside"] > 0.1


@pytest.mark.parametrize("clip", [0.05, 0.2, 0.4])
def test_no_ratios_inside_the_clip_have_a_larger_kl_divergence(clip):
    """Over policies with four actions: the old one and all ratios are free."""

    def negative_kl(x):
        return (x[:4] * np.log(x[4:])).sum()

    constraints = [
        {"type": "eq", "fun": lambda x: x[:4].sum() - 1},
        {"type": "eq", "fun": lambda x: (x[:4] * x[4:]).sum() - 1},
    ]
    rng = np.random.default_rng(0)
    found = [
        -minimize(
            negative_kl,
            np.concatenate([rng.dirichlet(np.ones(4)), rng.uniform(1 - clip, 1 + clip, 4)]),
            bounds=[(0, 1)] * 4 + [(1 - clip, 1 + clip)] * 4,
            constraints=constraints,
            method="SLSQP",
        ).fun
        for _ in range(20)
    ]
    assert max(found) == pytest.approx(most_kl(clip), rel=1e-3)
