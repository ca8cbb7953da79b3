"""What bounds an update beside delta: the rate of exploration noise, and how little is to gain."""

import copy

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import configure

from sb3_natural import NPG
from sb3_natural.curvature.operators import FisherOperator
from sb3_natural.networks.parameters import flatten

FREE = dict(max_log_std_change=None, plateau_threshold=0.0)


def collected(**arguments):
    """A model with a full rollout buffer, the same for the same seed."""
    arguments = dict(n_steps=256, target_kl=0.01, seed=0, device="cpu") | arguments
    model = NPG("MlpPolicy", "Pendulum-v1", **arguments)
    _, callback = model._setup_learn(1000)
    model.set_logger(configure(None, []))
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    return model


def step_of(model):
    """The change of the parameters, log_std and others, in one update."""
    observations = torch.as_tensor(model.rollout_buffer.observations[:, 0])
    params = FisherOperator(model.policy, observations).params
    before = flatten(p.detach() for p in params).clone()
    model.train()
    change = flatten(p.detach() for p in params) - before
    n_log_std = model.policy.log_std.numel()
    assert params[0] is model.policy.log_std
    return change[:n_log_std], change[n_log_std:]


def test_the_noise_has_a_trust_region_of_its_own_and_the_mean_moves_as_without():
    free_noise, free_mean = step_of(collected(**FREE))
    size = free_noise.square().mean().sqrt().item()
    noise, mean = step_of(collected(**FREE | {"max_log_std_change": size / 3}))
    torch.testing.assert_close(noise, free_noise / 3, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(mean, free_mean, rtol=1e-4, atol=1e-7)
    noise, mean = step_of(collected(**FREE | {"max_log_std_change": size * 1.01}))
    torch.testing.assert_close(noise, free_noise)
    torch.testing.assert_close(mean, free_mean)


def test_both_bounds_hold_over_a_training_and_the_measured_divergence_too():
    model = collected(target_kl=0.02, max_log_std_change=0.004)
    _, callback = model._setup_learn(100_000)
    seen = []
    for _ in range(5):
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
        noise, _ = step_of(model)
        assert noise.square().mean().sqrt() <= 0.004 * (1 + 1e-4)
        seen.append(model.logger.name_to_value["train/kl"])
    assert 0.005 < max(seen) <= 1.5 * 0.02


def test_a_fixed_step_keeps_the_bound_on_noise():
    noise, _ = step_of(collected(target_kl=None, step_size=1.0, max_log_std_change=0.002))
    assert noise.abs().max().item() == pytest.approx(0.002, rel=1e-3)


def test_gsde_and_discrete_policies_have_no_such_bound():
    for arguments in ({"use_sde": True}, {}):
        env_id = "Pendulum-v1" if arguments else "CartPole-v1"
        results = []
        for bound in (None, 1e-6):
            model = NPG(
                "MlpPolicy", env_id, n_steps=64, max_log_std_change=bound, seed=0, **arguments
            ).learn(128)
            results.append(flatten(p.detach() for p in model.policy.parameters()).clone())
        assert torch.equal(*results)


@pytest.mark.parametrize(("threshold", "share"), [(0.0, 1.0), (0.5, 0.04), (0.05, 1.0)])
def test_delta_falls_with_the_variance_of_advantages_below_the_threshold(threshold, share):
    """A rollout whose advantages are a tenth of the first one's: (0.1 / 0.5)^2 of delta.

    The usual variance is the mean of both, 0.505 of the first.
    """
    model = collected(plateau_threshold=threshold, max_log_std_change=None)
    buffer = copy.deepcopy(model.rollout_buffer)
    model.train()
    model.rollout_buffer = buffer
    buffer.advantages *= 0.1
    model.train()
    if share < 1:
        share /= 0.505
    log = model.logger.name_to_value
    assert log["train/target_kl"] == pytest.approx(share * 0.01, rel=1e-5)
    assert log["train/kl_predicted"] == pytest.approx(share * 0.01, rel=1e-3)


def test_a_step_on_a_plateau_does_not_depend_on_the_scale_of_rewards():
    results = []
    for scale in (1.0, 1000.0):
        model = collected(normalize_returns=False)
        buffer = model.rollout_buffer
        buffer.advantages *= scale
        model.train()
        again = copy.deepcopy(buffer)
        again.advantages[:] = 0.05 * buffer.advantages
        model.rollout_buffer = again
        model.train()
        results.append(model.logger.name_to_value["train/target_kl"])
    assert results[0] < 0.01
    assert results[1] == pytest.approx(results[0], rel=1e-5)


def test_what_is_usual_is_saved_with_the_model_and_training_goes_on_exactly(tmp_path):
    whole = NPG("MlpPolicy", "CartPole-v1", n_steps=64, seed=0).learn(256)
    whole.save(tmp_path / "model")
    loaded = NPG.load(tmp_path / "model", env=whole.get_env())
    assert (loaded._usual_variance, loaded._n_variances) == (whole._usual_variance, 4)
    advantages = 0.01 * torch.tensor([0.5, -0.25, 0.0])
    assert loaded._left_to_gain(advantages) == whole._left_to_gain(advantages) < 1


@pytest.mark.parametrize(("env_id", "n"), [("Pendulum-v1", 3), ("Ant-v5", 8)])
def test_initial_noise_has_about_the_same_length_in_every_action_space(env_id, n):
    policy = NPG("MlpPolicy", env_id).policy
    np.testing.assert_allclose(policy.log_std.detach().exp(), n**-0.5, rtol=1e-6)
    given = NPG("MlpPolicy", env_id, policy_kwargs=dict(log_std_init=-1.0)).policy
    np.testing.assert_allclose(given.log_std.detach(), -1.0)
    assert NPG("MlpPolicy", env_id, use_sde=True).policy.log_std_init == 0.0


def test_bounds_out_of_range_are_refused():
    for name, value in [("plateau_threshold", -0.1), ("max_log_std_change", 0.0)]:
        with pytest.raises(ValueError, match=rf"{name}.*{value}"):
            NPG("MlpPolicy", "Pendulum-v1", **{name: value})
