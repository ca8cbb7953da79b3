"""NPG with a price on the KL divergence, and with the largest divergence in place of the mean."""

import copy
import math

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule
from torch.distributions import kl_divergence

from sb3_natural import NPG
from sb3_natural.curvature.solvers import Solution, Solver
from sb3_natural.networks.parameters import flatten

NO_BOUNDS = dict(plateau_threshold=0.0, max_log_std_change=None)


def collected(env_id="Pendulum-v1", **arguments):
    """A model with a full rollout buffer, the same for the same seed."""
    # An update ends by changing the normalisation, and with it the policy that is measured here.
    given = dict(n_steps=256, normalize_observations=False, seed=0, device="cpu") | arguments
    model = NPG("MlpPolicy", env_id, **given)
    _, callback = model._setup_learn(1000)
    model.set_logger(configure(None, []))
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    return model


def logged(model):
    return dict(model.logger.name_to_value)


def measured(model):
    """Train on the rollout; the surrogate and all divergences, by SB3's own distributions."""
    batch = next(copy.deepcopy(model.rollout_buffer).get())
    discrete = model.action_space.shape == ()
    actions = batch.actions.long().flatten() if discrete else batch.actions
    old = copy.deepcopy(model.policy)
    model.train()
    with torch.no_grad():
        new = model.policy.get_distribution(batch.observations)
        before = old.get_distribution(batch.observations)
        ratio = (new.log_prob(actions) - batch.old_log_prob).exp()
        kls = kl_divergence(before.distribution, new.distribution)
    advantages = batch.advantages
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    return (ratio * advantages).mean().item(), (kls if discrete else kls.sum(dim=1)).numpy()


@pytest.mark.parametrize("constraint", ["mean", "max"])
@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
@pytest.mark.parametrize("penalty", [0.5, 20.0])
def test_an_update_raises_the_surrogate_minus_what_its_divergence_costs(
    env_id, penalty, constraint
):
    model = collected(env_id, kl_penalty=penalty, kl_constraint=constraint)
    surrogate, kls = measured(model)
    kl = kls.max() if constraint == "max" else kls.mean()
    log = logged(model)
    assert log["train/penalised_objective"] == pytest.approx(
        surrogate - penalty * kl, rel=1e-3, abs=1e-5
    )
    assert log["train/penalised_objective"] > 1e-4
    assert log["train/policy_objective"] == pytest.approx(surrogate, rel=1e-3)
    assert log["train/kl"] == pytest.approx(kls.mean(), rel=1e-3, abs=1e-7)
    assert log.get("train/kl_max", kls.max()) == pytest.approx(kls.max(), rel=1e-3, abs=1e-6)
    assert ("train/kl_max" in log) == (constraint == "max")
    assert log["train/kl_penalty"] == penalty
    assert 1 <= log["train/inner_steps"] <= 10
    assert "train/target_kl" not in log


def test_a_higher_price_buys_less_divergence():
    kls = []
    for penalty in (0.5, 2.0, 8.0, 32.0):
        model = collected(kl_penalty=penalty, **NO_BOUNDS)
        model.train()
        kls.append(logged(model)["train/kl"])
    assert kls == sorted(kls, reverse=True)
    # With C so high that the quadratic model holds, half the price buys four times as much.
    assert kls[2] == pytest.approx(16 * kls[3], rel=0.5)


def test_the_price_may_follow_a_schedule():
    model = collected(kl_penalty=LinearSchedule(4.0, 1.0, 1.0))
    for progress, penalty in ((1.0, 4.0), (0.5, 2.5), (0.0, 1.0)):
        model._current_progress_remaining = progress
        model.train()
        assert logged(model)["train/kl_penalty"] == pytest.approx(penalty)


@pytest.mark.parametrize(
    ("gives", "message"), [(0, "gave 0, .*it must be positive"), (-1, "gave -1")]
)
def test_a_price_that_is_not_positive_is_refused(gives, message):
    model = collected(kl_penalty=2.0)
    model.kl_penalty = lambda progress: gives
    with pytest.raises(ValueError, match=f"schedule of kl_penalty {message}"):
        model.train()


def test_a_schedule_that_ends_without_a_price_is_refused_before_any_step_is_taken():
    model = collected(kl_penalty=2.0)
    before, model.kl_penalty = model.num_timesteps, LinearSchedule(4.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="schedule of kl_penalty gave 0"):
        model.learn(1)
    assert model.num_timesteps == before


def test_the_adaptive_price_starts_where_the_model_spends_the_target_and_follows_the_measured():
    model = collected(kl_penalty="adaptive", target_kl=0.01, **NO_BOUNDS)
    model.train()
    log = logged(model)
    assert log["train/kl_predicted"] == pytest.approx(0.01, rel=1e-4)
    assert log["train/target_kl"] == pytest.approx(0.01)
    seen = []
    for target in (0.01, 0.001, 0.001, 0.1, 0.1, 0.1):
        model.target_kl = target
        price = model._adaptive_penalty
        model.train()
        log = logged(model)
        assert log["train/kl_penalty"] == price
        factor = 2 if log["train/kl"] > 1.5 * target else 1
        factor = 0.5 if log["train/kl"] < target / 1.5 else factor
        assert model._adaptive_penalty == factor * price
        seen.append(factor)
    assert {0.5, 2} <= set(seen)


def test_over_a_training_the_adaptive_price_keeps_the_divergence_near_its_target():
    arguments = dict(kl_penalty="adaptive", target_kl=0.01, plateau_threshold=0.0)
    model = NPG("MlpPolicy", "CartPole-v1", n_steps=256, seed=0, **arguments)
    kls = []
    for _ in range(25):
        model.learn(256, reset_num_timesteps=False)
        kls.append(logged(model)["train/kl"])
    assert 0.005 < np.median(kls[5:]) < 0.02


def test_a_target_that_has_come_down_to_zero_asks_for_no_step():
    model = collected(kl_penalty="adaptive")
    model.train()
    before = flatten(p.detach() for p in model.policy.mlp_extractor.policy_net.parameters())
    price = model._adaptive_penalty
    model._current_progress_remaining = 0.0
    model.train()
    after = flatten(p.detach() for p in model.policy.mlp_extractor.policy_net.parameters())
    assert torch.equal(before, after)
    assert model._adaptive_penalty == price
    assert logged(model)["train/skipped_updates"] == 0


@pytest.mark.parametrize("line_search", [False, True])
@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
def test_the_largest_divergence_can_be_bounded_in_place_of_the_mean(env_id, line_search):
    shared = dict(target_kl=0.05, line_search=line_search, **NO_BOUNDS)
    model = collected(env_id, kl_constraint="max", **shared)
    _, kls = measured(model)
    log = logged(model)
    assert log["train/kl_max"] == pytest.approx(kls.max(), rel=1e-3)
    assert log["train/kl"] == pytest.approx(kls.mean(), rel=1e-3)
    assert 0.02 < kls.max() <= (0.05 if line_search else 0.075)
    mean = collected(env_id, **shared)
    _, with_mean = measured(mean)
    assert with_mean.max() > 0.06
    assert "train/kl_max" not in logged(mean)


def test_the_bound_on_noise_holds_with_a_price():
    model = collected(kl_penalty=0.2, max_log_std_change=0.003)
    before = model.policy.log_std.detach().clone()
    model.train()
    assert logged(model)["train/inner_steps"] > 1
    change = (model.policy.log_std.detach() - before).square().mean().sqrt()
    assert 0.001 < change <= 0.003 * (1 + 1e-4)


@pytest.mark.parametrize("solver", ["diagonal", "empirical", "dense", "identity"])
def test_a_price_goes_with_every_solver_and_with_fewer_states(solver):
    model = collected(
        kl_penalty=2.0,
        fisher_solver=solver,
        sub_sampling_factor=2,
        policy_kwargs={"net_arch": [8]},
    )
    surrogate, kls = measured(model)
    assert surrogate - 2.0 * kls.mean() > 1e-4


class FailsLater(Solver):
    """Breaks at the second inner step."""

    def __init__(self):
        self.calls = 0

    def solve(self, operator, b):
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("broken")
        return Solution(b)


def test_an_error_between_two_inner_steps_leaves_the_policy_as_it_was():
    model = collected(kl_penalty=0.1, fisher_solver=FailsLater())
    before = flatten(p.detach() for p in model.policy.parameters()).clone()
    with pytest.raises(RuntimeError, match="broken"):
        model.train()
    assert torch.equal(flatten(p.detach() for p in model.policy.parameters()), before)


WRONG = [
    (dict(kl_penalty=1.0, step_size=0.1), "kl_penalty=1.0 and step_size=0.1 exclude each other"),
    (dict(kl_penalty="adaptive", step_size=0.1), "adaptive and step_size=0.1 exclude each other"),
    (dict(kl_penalty=1.0, target_kl=0.1), "kl_penalty=1.0 and target_kl=0.1 exclude each other"),
    (dict(kl_penalty=1.0, line_search=True), "kl_penalty=1.0 and line_search=True exclude"),
    (dict(kl_penalty="adaptive", line_search=True), "adaptive and line_search=True exclude"),
    (dict(kl_constraint="max", step_size=0.1), "a fixed step .step_size=0.1. does neither"),
    (dict(kl_penalty=0.0), "kl_penalty must be positive and finite.*, got 0.0"),
    (dict(kl_penalty=math.nan), "kl_penalty must be positive and finite.*, got nan"),
    (dict(kl_penalty="adapt"), "kl_penalty must be .*one of adaptive.*, got 'adapt'"),
    (dict(kl_constraint="largest"), "kl_constraint must be 'mean' or 'max', got 'largest'"),
    (dict(kl_constraint=None), "kl_constraint must be 'mean' or 'max', got None"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_what_excludes_each_other_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        NPG("MlpPolicy", "Pendulum-v1", **arguments)


def test_a_loaded_model_may_change_to_a_price_and_back(tmp_path):
    NPG("MlpPolicy", "Pendulum-v1", n_steps=64, seed=0).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"kl_penalty=2\.0 and target_kl=.* exclude each other"):
        NPG.load(tmp_path / "model", kl_penalty=2.0)
    priced = NPG.load(tmp_path / "model", kl_penalty=2.0, target_kl=None)
    assert priced.kl_penalty(1.0) == 2.0
    adaptive = NPG.load(tmp_path / "model", kl_penalty="adaptive")
    assert adaptive.target_kl(1.0) == 0.04
    priced.save(tmp_path / "priced")
    back = NPG.load(tmp_path / "priced", kl_penalty=None)
    assert back.target_kl(1.0) == 0.04


def test_the_adapted_price_is_saved_without_pickles(tmp_path):
    model = NPG("MlpPolicy", "CartPole-v1", n_steps=64, kl_penalty="adaptive", seed=0).learn(256)
    model.save(tmp_path / "model")
    for weights_only in (False, True):
        loaded = NPG.load(tmp_path / "model", weights_only=weights_only)
        assert loaded._adaptive_penalty == model._adaptive_penalty
        assert loaded.kl_penalty == "adaptive"
    NPG("MlpPolicy", "CartPole-v1", kl_penalty=2.0).save(tmp_path / "priced")
    assert NPG.load(tmp_path / "priced", weights_only=True).kl_penalty(0.5) == 2.0
    assert model._adaptive_penalty > 0


def test_a_price_at_which_no_step_is_worth_taking_falls():
    options = dict(n_steps=64, kl_penalty="adaptive", target_kl=0.01, device="cpu", seed=0)
    model = NPG("MlpPolicy", "CartPole-v1", **options).learn(64)
    model._adaptive_penalty = 1e9
    with pytest.warns(UserWarning, match="policy update skipped"):
        model.learn(64, reset_num_timesteps=False)
    assert model._adaptive_penalty == 5e8
