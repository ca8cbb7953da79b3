"""K-FAC against dense matrices, curvlinops' K-FAC and what Martens & Grosse prove, in float64."""

import math

import pytest
import torch
from curvlinops.kfac import KFACLinearOperator
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from torch import nn

from sb3_natural.curvature.jacobian import MlpJacobian
from sb3_natural.curvature.kfac import KFAC, own_kfac
from sb3_natural.curvature.layers import layer_factors
from sb3_natural.curvature.operators import (
    CurvatureOperator,
    Damped,
    FisherOperator,
    GaussNewtonOperator,
)
from sb3_natural.curvature.solvers import Identity, NoStepError
from sb3_natural.networks.parameters import assign_flat, flatten, parameters_behind, split
from tests.helpers import (
    ACTION_SPACES,
    DEVICES,
    OBSERVATION_SPACES,
    make_observations,
    make_policy,
)


def random_vector(operator, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(operator.shape[0], generator=generator, dtype=torch.float64)


def gauss_newton(policy, batch):
    return GaussNewtonOperator(
        policy, parameters_behind(policy.predict_values(batch), policy), batch
    )


def kronecker_product(operator, vector):
    """(A (x) G) v, block by block, without damping."""
    parts = dict(zip(operator.params, split(vector, operator.params), strict=True))
    products = {}
    for layer in layer_factors(operator):
        columns = [parts[param].reshape(len(layer.g), -1) for param in layer.params]
        product = layer.g @ torch.cat(columns, dim=1) @ layer.a
        widths = [column.shape[1] for column in columns]
        products |= zip(layer.params, product.split(widths, dim=1), strict=True)
    return flatten(products[param] for param in operator.params)


class Outputs(nn.Module):
    """A policy as curvlinops wants it: a module from observations to outputs."""

    def __init__(self, policy, actions):
        super().__init__()
        self.policy = policy
        self.actions = actions

    def forward(self, observations):
        if self.actions == "values":
            return self.policy.predict_values(observations)
        distribution = self.policy.get_distribution(observations).distribution
        return distribution.mean if self.actions == "gaussian" else distribution.logits


LOSSES = {
    "categorical": (nn.CrossEntropyLoss(), 1.0),
    "bernoulli": (nn.BCEWithLogitsLoss(reduction="sum"), 1.0),
    "values": (nn.MSELoss(reduction="sum"), 2.0),
}


@pytest.mark.parametrize("observations", ["mlp", "cnn"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("actions", LOSSES)
def test_factors_are_those_of_curvlinops(actions, observations, shared):
    """Its "type-2" K-FAC of the loss whose Hessian is the distribution's Fisher information."""
    policy = make_policy("gaussian" if actions == "values" else actions, observations, shared)
    batch = make_observations(policy, 6)
    operator = gauss_newton(policy, batch) if actions == "values" else FisherOperator(policy, batch)
    loss, scale = LOSSES[actions]
    targets = (
        torch.zeros(6, dtype=torch.long)
        if actions == "categorical"
        else torch.zeros(6, 1 if actions == "values" else 3, dtype=torch.float64)
    )
    theirs = KFACLinearOperator(
        Outputs(policy, actions),
        loss,
        operator.params,
        [(batch, targets)],
        check_deterministic=False,
        fisher_type="type-2",
        separate_weight_and_bias=False,
    )
    if loss.reduction == "sum":
        scale *= 6
    v = random_vector(operator)
    expected = theirs @ v / scale
    assert torch.allclose(kronecker_product(operator, v), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("actions", ACTION_SPACES)
@pytest.mark.parametrize("observations", ["mlp", "discrete"])
def test_activations_that_are_kept_give_what_hooks_give(actions, observations):
    policy = make_policy(actions, observations)
    batch = make_observations(policy, 300)
    slow = FisherOperator(policy, batch)
    plain = make_policy(actions, observations)
    # The forward pass of an extractor in float64 is not SB3's own.
    plain.features_extractor = FlattenExtractor(plain.observation_space)
    plain.pi_features_extractor = policy.pi_features_extractor
    fast = FisherOperator(plain, batch)
    assert isinstance(fast.jacobian, MlpJacobian) == (actions != "gsde")
    for ours, theirs in zip(layer_factors(fast), layer_factors(slow), strict=True):
        assert all(map(torch.equal, ours.params, theirs.params))
        torch.testing.assert_close(ours.a, theirs.a, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(ours.g, theirs.g, rtol=1e-10, atol=1e-12)
    b = random_vector(fast)
    directions = [KFAC().solve(Damped(fisher, 0.1), b).direction for fisher in (fast, slow)]
    torch.testing.assert_close(*directions, rtol=1e-9, atol=1e-11)


def test_one_gaussian_layer_is_exact():
    """Its M is the same in all states; log_std has a block of its own."""
    policy = make_policy("gaussian", net_arch=())
    fisher = FisherOperator(policy, make_observations(policy, 40))
    b = random_vector(fisher)
    expected = torch.linalg.solve(fisher.dense(), b)
    torch.testing.assert_close(KFAC().solve(fisher, b).direction, expected, rtol=1e-9, atol=1e-11)


def test_the_values_of_one_layer_are_exact():
    policy = make_policy("gaussian", net_arch=())
    operator = gauss_newton(policy, make_observations(policy, 40))
    b = random_vector(operator)
    expected = torch.linalg.solve(operator.dense(), b)
    torch.testing.assert_close(KFAC().solve(operator, b).direction, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_with_a_batch_of_one_every_block_is_exact(actions):
    """One state, one output of the layers at a time: the mean of products is their product."""
    policy = make_policy(actions, net_arch=(3,))
    fisher = FisherOperator(policy, make_observations(policy, 1))
    dense, sizes = fisher.dense(), [param.numel() for param in fisher.params]
    starts = dict(zip(fisher.params, torch.tensor([0, *sizes]).cumsum(0).tolist(), strict=False))
    last = layer_factors(fisher)[-1]
    index = torch.cat([torch.arange(starts[p], starts[p] + p.numel()) for p in last.params])
    # In the last layer d are the columns of L, whatever the state; others sum over the columns.
    weights, bias = last.a[:-1, :-1], last.a[-1, :-1]
    n_out = len(last.g)
    expected = torch.cat(
        [
            torch.cat([torch.kron(last.g, weights), torch.kron(last.g, bias[:, None])], dim=1),
            torch.cat([torch.kron(last.g, bias[None, :]), last.g], dim=1),
        ]
    )
    assert expected.shape == (len(index), len(index)) == (n_out * 4, n_out * 4)
    torch.testing.assert_close(dense[index][:, index], expected, rtol=1e-9, atol=1e-12)
    direction = KFAC().solve(Damped(fisher, 0.1), random_vector(fisher)).direction
    assert torch.isfinite(direction).all()


def test_damping_is_split_by_the_traces():
    """Against the Kronecker product of the damped factors, formed and solved."""
    policy = make_policy("categorical", net_arch=(3,))
    fisher = FisherOperator(policy, make_observations(policy, 8))
    b = random_vector(fisher)
    direction = KFAC().solve(Damped(fisher, 0.3), b).direction
    parts = dict(zip(fisher.params, split(b, fisher.params), strict=True))
    solved = dict(zip(fisher.params, split(direction, fisher.params), strict=True))
    for layer in layer_factors(fisher):
        n_a, n_g = len(layer.a), len(layer.g)
        pi = math.sqrt(layer.a.trace() / n_a / (layer.g.trace() / n_g))
        a = layer.a + pi * math.sqrt(0.3) * torch.eye(n_a, dtype=torch.float64)
        g = layer.g + math.sqrt(0.3) / pi * torch.eye(n_g, dtype=torch.float64)
        columns = [parts[param].reshape(n_g, -1) for param in layer.params]
        expected = torch.linalg.solve(torch.kron(g, a), torch.cat(columns, dim=1).flatten())
        actual = torch.cat([solved[param].reshape(n_g, -1) for param in layer.params], dim=1)
        torch.testing.assert_close(actual.flatten(), expected, rtol=1e-9, atol=1e-12)


def test_its_own_damping_comes_before_the_operators():
    policy = make_policy("gaussian")
    fisher = FisherOperator(policy, make_observations(policy, 8))
    b = random_vector(fisher)
    own = KFAC(damping=0.3).solve(Damped(fisher, 7.0), b).direction
    assert torch.equal(own, KFAC().solve(Damped(fisher, 0.3), b).direction)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("observations", OBSERVATION_SPACES)
@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_direction_is_within_90_degrees_of_the_gradient(actions, observations, device):
    policy = make_policy(actions, observations, share_features_extractor=False).to(device)
    batch = make_observations(policy, 4)
    batch = (
        {key: part.to(device) for key, part in batch.items()}
        if isinstance(batch, dict)
        else batch.to(device)
    )
    for operator in (FisherOperator(policy, batch), gauss_newton(policy, batch)):
        solver = KFAC(others="error" if actions != "gsde" else "diagonal")
        for seed in range(3):
            b = random_vector(operator, seed).to(device)
            direction = solver.solve(Damped(operator, 0.01), b).direction
            assert direction.dtype == b.dtype
            assert direction @ b > 0


class Warped(nn.Module):
    """tanh seen through affine maps: omega tanh(phi s + tau) + gamma."""

    omega = phi = torch.eye(5, dtype=torch.float64)
    tau = gamma = torch.zeros(5, dtype=torch.float64)

    def forward(self, s):
        return torch.tanh(s @ self.phi.T + self.tau) @ self.omega.T + self.gamma


def random_map(size, seed):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64).round()
    return matrix + 3 * torch.eye(size, dtype=torch.float64), matrix[0] / 2


def reparameterised(policy):
    """The same function with other inputs, activations and pre-activations; and the inputs."""
    (into, in_shift), (omega, gamma), (phi, tau) = (
        random_map(size, seed) for size, seed in ((4, 1), (5, 2), (5, 3))
    )

    class Other(Warped):
        pass

    Other.omega, Other.gamma, Other.phi, Other.tau = omega, gamma, phi, tau
    other = make_policy("gaussian", net_arch=(5,), activation_fn=Other)
    other.load_state_dict(policy.state_dict())
    first, last = other.mlp_extractor.policy_net[0], other.action_net
    with torch.no_grad():
        # s = W x + b has to come out as phi s' + tau, with x' = into x + in_shift.
        weight = torch.linalg.solve(phi, first.weight) @ torch.linalg.inv(into)
        bias = torch.linalg.solve(phi, first.bias - tau) - weight @ in_shift
        first.weight.copy_(weight)
        first.bias.copy_(bias)
        weight = last.weight @ torch.linalg.inv(omega)
        last.bias.sub_(weight @ gamma)
        last.weight.copy_(weight)
    return other, lambda x: (x.double() @ into.T + in_shift).float()


def test_the_step_is_invariant_to_affine_changes_of_activations():
    """Martens & Grosse 2015, theorem 1. The plain gradient's step is not."""
    policy = make_policy("gaussian", net_arch=(5,), activation_fn=Warped)
    other, mapped = reparameterised(policy)
    # SB3 rounds observations to float32: these, and what they are mapped to, survive it.
    batch, elsewhere = ((64 * make_observations(policy, n, n)).round() / 64 for n in (60, 20))
    actions = torch.randn(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def after_a_step(solver):
        results = []
        for net, inputs in ((policy, lambda x: x), (other, mapped)):
            fisher = FisherOperator(net, inputs(batch))
            log_prob = net.get_distribution(inputs(batch)).log_prob(actions).mean()
            gradient = flatten(torch.autograd.grad(log_prob, fisher.params))
            before = flatten(param.detach() for param in fisher.params)
            step = 0.01 * solver().solve(fisher, gradient).direction
            assign_flat(fisher.params, before + step)
            with torch.no_grad():
                results.append(net.get_distribution(inputs(elsewhere)).distribution.mean)
            assign_flat(fisher.params, before)
        return results

    with torch.no_grad():
        start = policy.get_distribution(elsewhere).distribution.mean
        same = other.get_distribution(mapped(elsewhere)).distribution.mean
    torch.testing.assert_close(start, same, rtol=1e-9, atol=1e-10)
    one, two = after_a_step(KFAC)
    moved = (one - start).abs().max()
    assert (one - two).abs().max() < 1e-5 * moved
    one, two = after_a_step(Identity)
    assert (one - two).abs().max() > 0.1 * (one - start).abs().max()


def test_averages_lean_on_no_starting_value():
    policy = make_policy("gaussian")
    batches = [make_observations(policy, 8, seed) for seed in range(3)]
    solver, b = KFAC(decay=0.9), None
    for batch in batches:
        fisher = FisherOperator(policy, batch)
        b = random_vector(fisher)
        solver.solve(Damped(fisher, 0.1), b)
    factors = [layer_factors(FisherOperator(policy, batch)) for batch in batches]
    total = 1 + 0.9 + 0.81
    for index, name in enumerate(["1-2", "3-4", "5-6"]):
        for which in "ag":
            old, middle, new = (getattr(each[index], which) for each in factors)
            expected = (0.81 * old + 0.9 * middle + new) / total
            torch.testing.assert_close(solver.state_dict()["averages"][f"{name}.{which}"], expected)


def test_inverses_serve_until_the_next_are_due():
    policy = make_policy("gaussian")
    fishers = [FisherOperator(policy, make_observations(policy, 8, seed)) for seed in range(4)]
    b = random_vector(fishers[0])
    rare, often = KFAC(inverse_every=3), KFAC()
    found = [
        [solver.solve(Damped(fisher, 0.1), b).direction for fisher in fishers]
        for solver in (rare, often)
    ]
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][0], found[0][1])
    assert torch.equal(found[0][0], found[0][2])
    assert not torch.equal(found[1][0], found[1][1])
    assert torch.equal(found[0][3], found[1][3])


def test_a_state_that_is_loaded_goes_on_exactly():
    policy = make_policy("gsde")
    batches = [make_observations(policy, 8, seed) for seed in range(4)]
    fishers = [Damped(FisherOperator(policy, batch), 0.1) for batch in batches]
    b = random_vector(fishers[0])
    whole, first, second = (KFAC(inverse_every=2) for _ in range(3))
    expected = [whole.solve(fisher, b).direction for fisher in fishers]
    for fisher in fishers[:3]:
        first.solve(fisher, b)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.solve(fishers[3], b).direction, expected[3])
    with pytest.raises(ValueError, match=r"not a state of K-FAC: it has \['weight'\]"):
        second.load_state_dict({"weight": b})


def test_other_shapes_start_anew():
    """Such as those of a policy whose layers have been frozen in part."""
    policy = make_policy("categorical")
    batch = make_observations(policy, 8)
    solver = KFAC()
    solver.solve(
        Damped(FisherOperator(policy, batch), 0.1),
        torch.ones(FisherOperator(policy, batch).shape[0]).double(),
    )
    policy.action_net.weight.requires_grad_(False)
    policy.mlp_extractor.policy_net[0].bias.requires_grad_(False)
    fisher = FisherOperator(policy, batch)
    b = random_vector(fisher)
    direction = solver.solve(Damped(fisher, 0.1), b).direction
    assert torch.equal(direction, KFAC().solve(Damped(fisher, 0.1), b).direction)
    layers = layer_factors(fisher)
    assert [(layer.weight is None, layer.bias is None) for layer in layers] == [
        (False, True),
        (False, False),
        (True, False),
    ]
    assert torch.equal(layers[-1].a, torch.ones(1, 1, dtype=torch.float64))


class Twice(BaseFeaturesExtractor):
    """A layer that is used twice, one with shared weights, and one that is no Linear layer."""

    def __init__(self, space):
        super().__init__(space, 4)
        self.twice, self.tied, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.LayerNorm(4)
        self.copy = nn.Linear(4, 4)
        self.copy.weight = self.tied.weight

    def forward(self, x):
        x = torch.tanh(self.twice(torch.tanh(self.twice(x.double()))))
        return self.norm(self.copy(torch.tanh(self.tied(x))))


class PolicyWithTwice(ActorCriticPolicy):
    pass


def make_twice():
    torch.manual_seed(0)
    policy = PolicyWithTwice(
        OBSERVATION_SPACES["mlp"],
        ACTION_SPACES["categorical"],
        lambda _: 1e-3,
        net_arch=[4],
        features_extractor_class=Twice,
    ).double()
    with torch.no_grad():
        policy.action_net.weight.normal_()
    return policy


def test_parameters_without_factors_get_the_exact_diagonal_or_are_refused():
    policy = make_twice()
    fisher = FisherOperator(policy, make_observations(policy, 8))
    b = random_vector(fisher)
    direction = KFAC().solve(Damped(fisher, 0.1), b).direction
    diagonal = fisher.dense().diagonal() + 0.1
    extractor = set(policy.features_extractor.parameters())
    own = flatten(torch.full_like(p, float(p in extractor)) for p in fisher.params).bool()
    assert own.sum() == sum(param.numel() for param in extractor) > 0
    torch.testing.assert_close(direction[own], (b / diagonal)[own], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(direction[~own], (b / diagonal)[~own], rtol=1e-2)
    with pytest.raises(ValueError, match=r"twice\.weight.*tied\.weight.*norm\.weight.*others="):
        KFAC(others="error").solve(Damped(fisher, 0.1), b)


def test_singular_and_non_finite_factors_are_refused_and_leave_no_trace():
    policy = make_policy("categorical")
    batch = make_observations(policy, 8)
    fisher = FisherOperator(policy, batch)
    b = random_vector(fisher)
    solver = KFAC(inverse_every=5)
    with pytest.raises(NoStepError, match="not positive definite; use more damping"):
        solver.solve(fisher, b)
    solver.solve(Damped(fisher, 0.1), b)  # although the next inverses are not due
    solver = KFAC()
    first = solver.solve(Damped(fisher, 0.1), b).direction
    layers = layer_factors(fisher)
    spoilt = layers[0]._replace(a=layers[0].a * math.nan)
    with pytest.raises(NoStepError, match="not finite"):
        solver.update(fisher, [spoilt, *layers[1:]], 0.1)
    torch.testing.assert_close(solver.solve(Damped(fisher, 0.1), b).direction, first)


def test_the_models_own_solver_goes_on_with_other_settings():
    held = own_kfac("kfac", None)
    assert own_kfac("kfac", held) is held
    assert own_kfac(KFAC(), held) is held
    chosen = KFAC(decay=0.5)
    assert own_kfac(chosen, held) is held
    assert held.settings == chosen.settings
    new = own_kfac(chosen, None)
    assert new is not chosen
    assert new.settings == chosen.settings
    assert own_kfac("cg", held) is None
    assert own_kfac(Identity(), held) is None


def test_bad_arguments_are_named():
    for arguments, message in [
        (dict(decay=1.0), "decay must be at least 0 and below 1, got 1.0"),
        (dict(decay=math.nan), "decay must be .*got nan"),
        (dict(damping=-1.0), "damping must be finite and not negative, or None, got -1.0"),
        (dict(damping=math.inf), "damping must be .*got inf"),
        (dict(inverse_every=0), "inverse_every must be an integer of at least 1, got 0"),
        (dict(inverse_every=1.5), "inverse_every must be .*got 1.5"),
        (dict(others="ignore"), "others must be 'diagonal' or 'error', got 'ignore'"),
    ]:
        with pytest.raises(ValueError, match=message):
            KFAC(**arguments)
    policy = make_policy("categorical")
    fisher = FisherOperator(policy, make_observations(policy, 4))
    other = CurvatureOperator(fisher.jacobian, lambda u: u)
    with pytest.raises(ValueError, match=r"needs the layers of a policy.*got a CurvatureOperator"):
        KFAC().solve(Damped(other, 0.1), random_vector(fisher))
