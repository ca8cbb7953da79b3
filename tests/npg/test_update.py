"""One NPG update: its direction, its length, and when it declines."""

import copy
import math
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import TRPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.logger import configure
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn
from torch.nn.utils import parametrize

from sb3_natural import NPG
from sb3_natural.curvature.operators import Damped, FisherOperator
from sb3_natural.curvature.solvers import (
    SOLVERS,
    ConjugateGradient,
    Empirical,
    Solution,
    Solver,
    conjugate_gradient,
)
from sb3_natural.curvature.trust_region import kl_normalised_length
from sb3_natural.curvature.value_fit import split_parameters
from sb3_natural.networks.parameters import assign_flat, flatten
from tests.helpers import (
    DEVICES,
    FlattenExtractor64,
    SpacesEnv,
    make_observations,
    make_policy,
)


def collected(model, n_steps=None):
    """A model with a logger and a full rollout buffer, ready for ``train``."""
    _, callback = model._setup_learn(n_steps or model.n_steps)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, n_steps or model.n_steps)
    return model


def actor(model):
    """The policy's parameters as a vector."""
    batch = next(model.rollout_buffer.get())
    return flatten(p.detach() for p in FisherOperator(model.policy, batch.observations).params)


def policy_weights(model):
    return flatten(p.detach() for p in model.policy.parameters())


def logged(model):
    return dict(model.logger.name_to_value)


class LinearMap(nn.Module):
    """w = w' B: another way to parameterise the same weights."""

    def __init__(self, basis):
        super().__init__()
        self.register_buffer("basis", basis)

    def forward(self, weight):
        return weight @ self.basis

    def right_inverse(self, weight):
        return weight @ torch.linalg.inv(self.basis)


def natural_step(policy, batch, taken, advantages, solver, delta=1e-3):
    """Move the policy by one KL-normalised step; return the statistics it then has."""
    fisher = FisherOperator(policy, batch, taken)
    gradient = fisher.scores().T @ advantages / len(advantages)
    x = SOLVERS[solver]().solve(Damped(fisher, 1e-12), gradient).direction
    theta = flatten(p.detach() for p in fisher.params)
    length = kl_normalised_length(fisher.quadratic_form(x), delta)
    assign_flat(fisher.params, theta + length * x)
    with torch.no_grad():
        return fisher.family.statistics(policy.get_distribution(batch))


@pytest.mark.parametrize("actions", ["gaussian", "categorical", "bernoulli"])
def test_npg_step_is_invariant_to_reparameterisation(actions):
    torch.manual_seed(0)
    advantages = torch.randn(300, dtype=torch.float64)
    results = {}
    for solver in ("dense", "identity"):
        outcomes = []
        for reparameterise in (False, True):
            policy = make_policy(actions)
            batch = make_observations(policy, 300)
            torch.manual_seed(1)
            with torch.no_grad():
                taken = policy.get_distribution(batch).sample()
            if reparameterise:
                for layer in [*policy.mlp_extractor.policy_net, policy.action_net]:
                    if isinstance(layer, nn.Linear):
                        size = layer.in_features
                        basis = torch.randn(size, size, dtype=torch.float64) + 3 * torch.eye(size)
                        parametrize.register_parametrization(layer, "weight", LinearMap(basis))
            outcomes.append(natural_step(policy, batch, taken, advantages, solver))
        results[solver] = (outcomes[0] - outcomes[1]).abs().max() / outcomes[0].abs().max()
    assert results["dense"] < 1e-5  # in proportion to the damping
    assert results["identity"] > 1e-3, "the vanilla gradient should depend on the parameters"


def test_the_default_step_is_invariant_to_reparameterisation_as_damping_vanishes():
    # Plateaus, the bound on the noise and the shortened step see the distribution alone. Damping
    # does not: it adds the identity, in whichever parameters there are. The policy is small, so
    # that no eigenvalue of its Fisher information is near the damping.
    outcomes = {}
    for damping in (1e-12, 1.0):
        moved = []
        for reparameterise in (False, True):
            options = dict(n_steps=512, fisher_solver="dense", cg_damping=damping, device="cpu")
            double = dict(
                features_extractor_class=FlattenExtractor64, net_arch=dict(pi=[2], vf=[16])
            )
            model = NPG("MlpPolicy", "Pendulum-v1", seed=0, policy_kwargs=double, **options)
            model.policy.double()
            if reparameterise:
                random = torch.Generator().manual_seed(1)  # actions come from the global one
                for layer in [*model.policy.mlp_extractor.policy_net, model.policy.action_net]:
                    if isinstance(layer, nn.Linear):
                        size = layer.in_features
                        basis = torch.randn(size, size, generator=random).double()
                        basis += 3 * torch.eye(size)
                        parametrize.register_parametrization(layer, "weight", LinearMap(basis))
            collected(model)
            observations = next(model.rollout_buffer.get()).observations
            model.train()
            with torch.no_grad():
                distribution = model.policy.get_distribution(observations).distribution
            moved.append(torch.cat([distribution.mean, distribution.stddev]))
            assert logged(model)["train/kl"] > 0.01
        outcomes[damping] = (moved[0] - moved[1]).abs().max()
    assert outcomes[1e-12] < 1e-4
    assert outcomes[1.0] > 1e-3


@pytest.mark.parametrize("line_search", [False, True])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_direction_equals_that_of_trpo_on_the_same_batch(env_id, line_search):
    shared = dict(n_steps=512, target_kl=0.01, cg_max_steps=15, cg_damping=0.1, device="cpu")
    trpo = collected(TRPO("MlpPolicy", env_id, seed=0, **shared))
    # A rollout's step as TRPO takes it: its initial noise, and one trust region for all parameters.
    ours = dict(policy_kwargs=dict(log_std_init=0.0), max_log_std_change=None, cg_tol=0.0)
    npg = collected(NPG("MlpPolicy", env_id, seed=0, line_search=line_search, **ours, **shared))
    npg.rollout_buffer = copy.deepcopy(trpo.rollout_buffer)
    before = actor(npg)
    assert torch.equal(before, actor(trpo))
    trpo.train()
    npg.train()
    assert logged(trpo)["train/is_line_search_success"] == 1
    ours, theirs = actor(npg) - before, actor(trpo) - before
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.999


def test_kl_normalised_step_predicts_target_kl_and_measures_nearly_that():
    one_region = dict(target_kl=0.01, max_log_std_change=None)
    model = collected(NPG("MlpPolicy", "Pendulum-v1", n_steps=512, seed=0, **one_region))
    model.train()
    log = logged(model)
    assert log["train/kl_predicted"] == pytest.approx(0.01)
    assert log["train/kl"] == pytest.approx(0.01, rel=0.2)


def test_fixed_step_adds_step_size_times_the_natural_gradient():
    shared = dict(n_steps=256, max_log_std_change=None, seed=0)
    long = collected(NPG("MlpPolicy", "Pendulum-v1", step_size=0.02, **shared))
    short = collected(NPG("MlpPolicy", "Pendulum-v1", step_size=0.01, **shared))
    before = actor(long)
    long.train()
    short.train()
    torch.testing.assert_close(
        actor(long) - before, 2 * (actor(short) - before), rtol=1e-3, atol=5e-6
    )
    assert logged(long)["train/step_length"] == 0.02


def test_line_search_keeps_the_measured_kl_within_target():
    for seed in range(3):
        model = NPG(
            "MlpPolicy", "Pendulum-v1", n_steps=256, target_kl=0.2, line_search=True, seed=seed
        )
        collected(model).train()
        log = logged(model)
        assert log["train/skipped_updates"] == 0
        assert 0 < log["train/kl"] <= 0.2
        assert log["train/policy_objective"] > 0


def test_schedules_reach_the_step():
    schedule = {1.0: 0.02, 0.5: 0.01, 0.0: 0.0}.__getitem__
    for argument, key in [("target_kl", "train/kl_predicted"), ("step_size", "train/step_length")]:
        given = {argument: schedule, "max_log_std_change": None}
        model = collected(NPG("MlpPolicy", "Pendulum-v1", n_steps=64, seed=0, **given))
        for progress in (1.0, 0.5, 0.0):
            model._current_progress_remaining = progress
            model.train()
            assert logged(model)[key] == pytest.approx(schedule(progress))
            delta = schedule(progress) if argument == "target_kl" else None
            assert logged(model).get("train/target_kl") == delta


@pytest.mark.parametrize("given", ["a", None])
def test_schedule_that_gives_no_number_is_refused(given):
    model = collected(NPG("MlpPolicy", "Pendulum-v1", n_steps=64, target_kl=lambda p: given))
    with pytest.raises(ValueError, match="schedule of target_kl gave no number"):
        model.train()


@pytest.mark.parametrize("given", ["x", float("nan"), -float("inf"), None])
def test_initial_noise_must_be_a_number(given):
    with pytest.raises(ValueError, match="log_std_init must be a finite number, got"):
        NPG("MlpPolicy", "Pendulum-v1", policy_kwargs={"log_std_init": given})


def test_schedule_out_of_range_is_refused():
    model = collected(NPG("MlpPolicy", "Pendulum-v1", n_steps=64, target_kl=lambda p: -p))
    with pytest.raises(ValueError, match=r"schedule of target_kl gave -1"):
        model.train()


@pytest.mark.parametrize("critic", ["adam", "gauss_newton"])
def test_critic_does_not_move_a_shared_features_extractor(critic):
    env = SpacesEnv(spaces.Box(0, 255, (1, 36, 36), np.uint8), spaces.Discrete(2))
    model = collected(NPG("CnnPolicy", env, n_steps=32, critic=critic, seed=0))
    model.rollout_buffer.advantages[:] = 1.0  # the policy's own update is skipped
    before = [p.detach().clone() for p in model.policy.features_extractor.parameters()]
    values = model.policy.value_net.weight.detach().clone()
    with pytest.warns(UserWarning, match="all advantages are equal"):
        model.train()
    after = model.policy.features_extractor.parameters()
    assert all(torch.equal(p, old) for p, old in zip(after, before, strict=True))
    assert not torch.equal(model.policy.value_net.weight, values)


def test_subsampled_fisher_uses_the_whole_gradient():
    model = collected(
        NPG("MlpPolicy", "Pendulum-v1", n_steps=512, sub_sampling_factor=4, cg_tol=0.0, seed=0)
    )
    full = collected(NPG("MlpPolicy", "Pendulum-v1", n_steps=512, cg_tol=0.0, seed=0))
    before = actor(model)
    model.train()
    full.train()
    cosine = torch.cosine_similarity(actor(model) - before, actor(full) - before, dim=0)
    assert 0.8 < cosine < 0.99999


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_improves_the_surrogate(solver):
    model = NPG(
        "MlpPolicy",
        "Pendulum-v1",
        n_steps=128,
        fisher_solver=solver,
        target_kl=0.01,
        policy_kwargs=dict(net_arch=[8]),
        seed=0,
    )
    collected(model).train()
    assert logged(model)["train/policy_objective"] > 0
    assert ("train/cg_iterations" in logged(model)) == (solver == "cg")


@pytest.mark.parametrize(
    "solver", ["cg", "diagonal", "dense", "identity", "kfac", ConjugateGradient(3)]
)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_every_solver_of_the_critic_lowers_its_error(solver, env_id):
    model = NPG(
        "MlpPolicy",
        env_id,
        n_steps=128,
        critic_solver=solver,
        policy_kwargs=dict(net_arch=[8]),
        seed=0,
    )
    before = collected(model).rollout_buffer
    error = float(np.mean((before.values - before.returns) ** 2))
    model.train()
    assert logged(model)["train/value_loss"] < error
    assert logged(model)["train/skipped_updates"] == 0


def test_the_critics_solver_is_conjugate_gradient_with_cg_max_steps():
    results = []
    for arguments in (
        dict(cg_max_steps=4),
        dict(cg_max_steps=4, critic_solver=ConjugateGradient(4)),
    ):
        model = collected(NPG("MlpPolicy", "Pendulum-v1", n_steps=128, seed=0, **arguments))
        model.train()
        results.append(policy_weights(model))
    assert torch.equal(*results)


@pytest.mark.parametrize("device", DEVICES)
def test_update_runs_on_every_device(device):
    model = NPG("MlpPolicy", "Pendulum-v1", n_steps=64, device=device, seed=0).learn(128)
    assert torch.isfinite(policy_weights(model)).all()


class Spoilt(Solver):
    """A system that is not positive definite."""

    def solve(self, fisher, gradient):
        return conjugate_gradient(-torch.eye(len(gradient)), gradient)


class NotANumber(Solver):
    def solve(self, fisher, gradient):
        return Solution(gradient * math.nan)


class FarTooLong(Solver):
    def solve(self, fisher, gradient):
        return Solution(gradient * 1e30)


DEGENERATE = {
    "all advantages are equal": lambda m: m.rollout_buffer.advantages.fill(0.1),
    "advantage is not finite": lambda m: m.rollout_buffer.advantages.fill(np.nan),
    "policy gradient is not finite": lambda m: m.rollout_buffer.log_probs.fill(-np.inf),
    "policy gradient vanishes": lambda m: m.rollout_buffer.log_probs.fill(1e4),
    "non-positive curvature": lambda m: setattr(m, "fisher_solver", Spoilt()),
    "natural gradient is not finite": lambda m: setattr(m, "fisher_solver", NotANumber()),
}


@pytest.mark.parametrize("reason", DEGENERATE)
def test_degenerate_batches_skip_the_policy_step_and_say_why_once(reason):
    model = collected(NPG("MlpPolicy", "Pendulum-v1", n_steps=64, seed=0))
    DEGENERATE[reason](model)
    before = actor(model)
    with pytest.warns(UserWarning, match=reason):
        model.train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # only the first one warns
        model.train()
    assert torch.equal(actor(model), before)
    log = logged(model)
    assert log["train/skipped_updates"] == 2
    assert log["train/kl"] == log["train/step_length"] == 0
    assert math.isfinite(log["train/value_loss"])


def test_one_sample_is_skipped():
    model = NPG("MlpPolicy", "Pendulum-v1", n_steps=1, seed=0)
    with pytest.warns(UserWarning, match="one sample"):
        model.learn(3)
    assert logged(model)["train/skipped_updates"] == 3
    assert torch.isfinite(policy_weights(model)).all()


def test_a_step_that_overflows_is_taken_back():
    model = NPG(
        "MlpPolicy", "Pendulum-v1", n_steps=64, step_size=1e8, fisher_solver=FarTooLong(), seed=0
    )
    collected(model)
    before = actor(model)
    with pytest.warns(UserWarning, match="non-finite"):
        model.train()
    assert torch.equal(actor(model), before)


def test_failed_line_search_restores_the_policy():
    model = NPG(
        "MlpPolicy",
        "Pendulum-v1",
        n_steps=64,
        target_kl=10.0,
        line_search=True,
        line_search_max_iter=1,
        seed=0,
    )
    collected(model)
    before = actor(model)
    with pytest.warns(UserWarning, match="line search found no improvement"):
        model.train()
    assert torch.equal(actor(model), before)


class OddlyNamed(nn.Module):
    """An extractor in the manner of SB3's docs, with names that mislead a search by name."""

    def __init__(self, features):
        super().__init__()
        self.latent_dim_pi = self.latent_dim_vf = 8
        self.value_for_the_actor = nn.Sequential(nn.Linear(features, 8), nn.Tanh())
        self.policy_of_the_critic = nn.Sequential(nn.Linear(features, 8), nn.Tanh())

    def forward(self, features):
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features):
        return self.value_for_the_actor(features)

    def forward_critic(self, features):
        return self.policy_of_the_critic(features)


class OddlyNamedPolicy(ActorCriticPolicy):
    def _build_mlp_extractor(self):
        self.mlp_extractor = OddlyNamed(self.features_dim)


def test_policies_need_no_naming_convention():
    model = collected(NPG(OddlyNamedPolicy, "Pendulum-v1", n_steps=64, seed=0))
    extractor = model.policy.mlp_extractor
    observations = torch.as_tensor(model.rollout_buffer.observations[0])
    _, critic = split_parameters(model.policy, observations)
    assert set(critic) == {
        *extractor.policy_of_the_critic.parameters(),
        *model.policy.value_net.parameters(),
    }
    before = [p.detach().clone() for p in extractor.parameters()]
    model.train()
    for param, old in zip(extractor.parameters(), before, strict=True):
        assert not torch.equal(param, old)


class BetaDistribution(Distribution):
    """Not one of SB3's."""

    def proba_distribution_net(self):
        raise AssertionError("not used")

    def proba_distribution(self, params):
        self.distribution = torch.distributions.Beta(params.exp(), params.exp())
        return self

    log_prob = entropy = sample = mode = actions_from_params = log_prob_from_params = None


BetaDistribution.__abstractmethods__ = frozenset()


class BetaPolicy(ActorCriticPolicy):
    def get_distribution(self, obs):
        return BetaDistribution().proba_distribution(super().get_distribution(obs).mode())


class NoCriticOfItsOwn(ActorCriticPolicy):
    def predict_values(self, obs):
        return super().get_distribution(obs).distribution.mean[:, :1]


def test_unsupported_policies_are_refused_at_the_start():
    """Of learning, before any step: what a policy returns shows on a real observation only."""
    beta, sharing = (NPG(policy, "Pendulum-v1") for policy in (BetaPolicy, NoCriticOfItsOwn))
    with pytest.raises(TypeError, match=r"BetaDistribution.*Supported are .*Categorical"):
        beta.learn(64)
    with pytest.raises(ValueError, match="none of its own to fit"):
        sharing.learn(64)
    assert beta.num_timesteps == sharing.num_timesteps == 0


class DropoutExtractor(FlattenExtractor):
    """Features with noise in training mode."""

    def forward(self, observations):
        return nn.functional.dropout(super().forward(observations), 0.5, self.training)


def test_update_measures_the_policy_that_acted():
    """Dropout is off: before any step the ratio of probabilities is one and the KL is zero."""
    model = NPG(
        "MlpPolicy",
        "Pendulum-v1",
        n_steps=64,
        step_size=1e-12,
        policy_kwargs=dict(features_extractor_class=DropoutExtractor),
        seed=0,
    )
    collected(model).train()
    assert logged(model)["train/kl"] == pytest.approx(0.0, abs=1e-6)
    assert logged(model)["train/policy_objective"] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(target_kl=0.1, step_size=0.1), "target_kl=0.1 and step_size=0.1 exclude each other"),
        (dict(step_size=0.1, line_search=True), "line_search=True .* give target_kl"),
        (dict(target_kl=-1.0), "target_kl must be positive .*, got -1"),
        (dict(step_size=0.0), "step_size must be positive .*, got 0"),
        (dict(fisher_solver="kfc"), "fisher_solver must be one of cg, .*got 'kfc'"),
        (dict(critic="sgd"), "critic must be 'adam' or 'gauss_newton', or a ValueFit, got 'sgd'"),
        (dict(cg_damping=-0.1), "cg_damping must be finite and not negative, got -0.1"),
        (dict(cg_max_steps=0), "cg_max_steps must be at least 1, got 0"),
        (dict(n_steps=0), "n_steps must be at least 1, got 0"),
        (dict(batch_size=0), "batch_size must be at least 1, got 0"),
        (dict(sub_sampling_factor=0), "sub_sampling_factor must be at least 1, got 0"),
        (dict(n_critic_updates=0), "n_critic_updates must be at least 1, or None, got 0"),
        (dict(critic_curvature_samples=0), "critic_curvature_samples must be at least 1.*got 0"),
        (dict(line_search_shrinking_factor=1.0), "line_search_shrinking_factor .*got 1.0"),
        (dict(line_search_max_iter=0), "line_search_max_iter must be at least 1, got 0"),
        (dict(fisher_solver="empirical", cg_damping=0), "needs cg_damping > 0, got 0"),
        (
            dict(critic_solver="empirical"),
            "critic_solver must be one of cg, diagonal, dense, identity, kfac, or a Solver, "
            "got 'empirical'",
        ),
        (dict(critic_solver=Empirical()), "critic_solver must be one of cg.*got Empirical"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        NPG("MlpPolicy", "Pendulum-v1", **arguments)


def test_default_is_kl_normalised_and_a_silent_logger_suffices():
    model = NPG("MlpPolicy", "Pendulum-v1", n_steps=64)
    assert [model.target_kl(progress) for progress in (1.0, 0.5, 0.0)] == [0.04, 0.02, 0.0]
    assert model.step_size is None
    collected(model).set_logger(configure(None, []))
    model.train()
    assert model._n_updates == 1


@pytest.mark.parametrize("damping", [1e-4, 1e-3, 1e4])
def test_quadratic_form_of_the_solver_is_that_of_the_operator(damping):
    """x^T F x from conjugate gradient's numbers, or from a product where damping drowns it."""
    model = collected(NPG("MlpPolicy", "Pendulum-v1", n_steps=256, cg_damping=damping, seed=0))
    batch = next(model.rollout_buffer.get())
    damped = Damped(FisherOperator(model.policy, batch.observations), damping)
    exact = FisherOperator(model.policy, batch.observations, fast=False)
    gradient = exact @ torch.randn(exact.shape[0])
    solution = model._make_solver().solve(damped, gradient)
    expected = exact.quadratic_form(solution.direction)
    form = damped.undamped_form(solution.direction, solution.curvature)
    assert form == pytest.approx(expected, rel=1e-4)
    assert damped.undamped_form(solution.direction, None) == pytest.approx(expected, rel=1e-4)
    drowned = damping == 1e4
    share = expected / solution.curvature
    assert (share < 0.1) == drowned


class TwoStates(gym.Env):
    """Kakade 2001: staying pays 1 in state 0 and 2 in state 1, moving on nothing."""

    observation_space = spaces.Box(0, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def _look(self):
        return np.eye(2, dtype=np.float32)[self.state]

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.t = int(self.np_random.random() > 0.8), 0
        return self._look(), {}

    def step(self, action):
        self.t += 1
        reward = (1.0, 2.0)[self.state] if action == 0 else 0.0
        self.state = self.state if action == 0 else 1 - self.state
        return self._look(), reward, False, self.t >= 20, {}


class Log(BaseCallback):
    """The logged values after every update but the last."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def _on_step(self):
        return True

    def _on_rollout_start(self):
        self.rows.append(dict(self.logger.name_to_value))


def test_no_update_goes_far_beyond_target_kl_and_none_ends_at_the_worse_state():
    """Where the policy is nearly certain, the quadratic model misses its divergence by far."""
    shortened, optimal = 0, []
    for seed in (0, 1, 2):
        log = Log()
        model = NPG(
            "MlpPolicy",
            TwoStates(),
            n_steps=400,
            target_kl=0.02,
            plateau_threshold=0,
            seed=seed,
            device="cpu",
        )
        model.learn(16_000, log, log_interval=1000)
        rows = [row for row in log.rows if "train/kl" in row]
        assert len(rows) == 39
        assert max(row["train/kl"] for row in rows) <= 1.5 * 0.02 + 1e-6
        for row in rows:
            assert row["train/kl_predicted"] <= 0.02 * (1 + 1e-5)
            full = row["train/kl_predicted"] == pytest.approx(0.02, rel=1e-5)
            assert full == (row["train/step_shortenings"] == 0) or row["train/kl"] == 0
            shortened += row["train/step_shortenings"]
        with torch.no_grad():
            p = model.policy.get_distribution(torch.eye(2)).distribution.probs
        optimal.append(p[0, 1] > 0.5 and p[1, 0] > 0.5)
    assert shortened > 0
    assert sum(optimal) >= 2
