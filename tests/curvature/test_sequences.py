"""Curvature through the memory, against one step after the other with autograd."""

import numpy as np
import pytest
import torch

from sb3_natural.curvature.families import family_of
from sb3_natural.curvature.jacobian import AutogradJacobian
from sb3_natural.curvature.operators import FisherOperator, GaussNewtonOperator, statistics_jacobian
from sb3_natural.curvature.sequences import SequencePolicy, Sequences
from sb3_natural.curvature.value_fit import split_parameters
from sb3_natural.networks.parameters import flatten
from sb3_natural.observations import at, mapped
from sb3_natural.rollouts.sequences import SequenceBatches
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES
from tests.recurrent import MEMORIES, filled_buffer, in_float64, make_recurrent_policy, scribbled

N_STEPS, N_ENVS = 7, 3
# One environment in the middle of an episode, one whose episode begins with the rollout and another
# after a step, one with a new episode in the middle: sequences of 7, 1, 6, 3 and 4 steps.
STARTS = [(0, 1), (1, 1), (3, 2)]
N_SAMPLES = N_STEPS * N_ENVS


def sequences_of(policy):
    buffer = filled_buffer(policy, N_STEPS, N_ENVS, STARTS)
    batch = next(SequenceBatches(buffer).get())
    return buffer, batch._replace(observations=in_float64(batch.observations))


def step_by_step(policy, buffer, outputs, part):
    """Outputs of every step, (N_SAMPLES, K), by steps of one environment each.

    In the order of the flattened buffer. Episode starts are given to the policy, which resets the
    memory itself.
    """
    rows = []
    for env in range(N_ENVS):
        first = env * N_STEPS
        states = tuple(
            torch.as_tensor(getattr(buffer, f"{kind}_states_{part}")[first])[:, None].double()
            for kind in ("hidden", "cell")
        )
        for row in range(first, first + N_STEPS):
            observation = mapped(torch.as_tensor, at(buffer.observations, slice(row, row + 1)))
            start = torch.as_tensor(buffer.episode_starts[row].reshape(1))
            result, states = outputs(policy, observation, states, start)
            rows.append(result)
    return torch.cat(rows)


def statistics(policy, observation, states, start):
    distribution, states = policy.get_distribution(observation, states, start)
    return family_of(distribution).statistics(distribution), states


def matching(buffer, batch):
    """For each step of the batch, its row in the flattened buffer: returns are all different."""
    place = {value: row for row, value in enumerate(buffer.returns.reshape(-1).tolist())}
    return [place[value] for value in batch.returns.tolist()]


def rows_of_jacobian(outputs, params):
    """Dense (N, K, P)."""
    rows = [
        [
            flatten(
                torch.zeros_like(param) if grad is None else grad
                for param, grad in zip(
                    params,
                    torch.autograd.grad(out, params, retain_graph=True, allow_unused=True),
                    strict=True,
                )
            )
            for out in sample
        ]
        for sample in outputs
    ]
    return torch.stack([torch.stack(sample) for sample in rows])


def metric(family, phi):
    """M of one sample: the Hessian of KL(phi || q) by q at q = phi."""
    return torch.func.hessian(lambda q: family.kl(phi[None], q[None])[0])(phi)


CASES = [
    *[(actions, "mlp", 1, "separate") for actions in ACTION_SPACES],
    *[("categorical", each, 1, "separate") for each in OBSERVATION_SPACES if each != "mlp"],
    ("gaussian", "mlp", 2, "separate"),
    *[("gaussian", "dict", 1, memory) for memory in MEMORIES],
]


@pytest.mark.parametrize(("actions", "observations", "n_layers", "memory"), CASES)
def test_fisher_information_is_that_of_single_steps(actions, observations, n_layers, memory):
    policy = make_recurrent_policy(actions, observations, n_layers, memory)
    buffer, batch = sequences_of(policy)
    fisher = FisherOperator(SequencePolicy(policy), batch.observations, batch.actions)
    phi = step_by_step(policy, buffer, statistics, "pi")
    torch.testing.assert_close(fisher.statistics, phi[matching(buffer, batch)].detach())

    rows = rows_of_jacobian(phi, fisher.params)
    metrics = torch.stack([metric(fisher.family, each) for each in phi.detach()])
    weighted = metrics @ rows / N_SAMPLES
    vector = torch.randn(rows.shape[2], dtype=torch.float64)
    expected = torch.einsum("nkp,nk->p", weighted, rows @ vector)  # F v, F = mean J_t^T M J_t
    torch.testing.assert_close(fisher @ vector, expected, rtol=1e-8, atol=1e-10)
    assert fisher.quadratic_form(vector) == pytest.approx((vector @ expected).item())
    if actions == "gaussian" and observations == "mlp":
        dense = torch.einsum("nkp,nkq->pq", weighted, rows)
        torch.testing.assert_close(fisher.dense(), dense, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(fisher.diagonal(), dense.diagonal(), rtol=1e-8, atol=1e-10)
    of_memory = [f"lstm_actor.{name}" for name, _ in policy.lstm_actor.named_parameters()]
    names = {name for name, p in policy.named_parameters() if any(p is q for q in fisher.params)}
    assert set(of_memory) <= names, "through the memory"


def test_products_agree_with_finite_differences():
    policy = make_recurrent_policy("gaussian")
    _, batch = sequences_of(policy)
    _, jacobian = statistics_jacobian(SequencePolicy(policy), batch.observations)
    assert isinstance(jacobian, AutogradJacobian)
    theta = [param.detach().clone() for param in jacobian.params]
    vector = torch.randn(jacobian.n_params, dtype=torch.float64)

    def moved(length):
        parts = vector.split([param.numel() for param in theta])
        with torch.no_grad():
            for param, start, part in zip(jacobian.params, theta, parts, strict=True):
                param.copy_(start + length * part.view_as(start))
        return jacobian.evaluate()

    product = jacobian.jvp(vector)
    expected = (moved(1e-6) - moved(-1e-6)) / 2e-6
    torch.testing.assert_close(product, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_critic_has_its_own_memory_the_actors_or_none(memory):
    """Values by sb3-contrib's own loop, whose inputs have episode starts in the middle."""
    policy = make_recurrent_policy(memory=memory)
    buffer, batch = sequences_of(policy)
    view = SequencePolicy(policy)
    observations = torch.as_tensor(buffer.observations)
    states = tuple(
        torch.as_tensor(getattr(buffer, f"{kind}_states_vf")[::N_STEPS]).swapaxes(0, 1).double()
        for kind in ("hidden", "cell")
    )
    starts = torch.as_tensor(buffer.episode_starts.reshape(-1))
    expected = policy.predict_values(observations, states, starts)
    of_policy, of_values = split_parameters(view, batch.observations)
    order = matching(buffer, batch)
    operator = GaussNewtonOperator(view, of_values, batch.observations)
    torch.testing.assert_close(operator.jacobian.outputs, expected[order].detach())
    rows = rows_of_jacobian(expected, operator.params)[:, 0]
    torch.testing.assert_close(operator.dense(), rows.T @ rows / N_SAMPLES)
    torch.testing.assert_close(operator.diagonal(), rows.square().mean(dim=0))

    owner = {param: name for name, param in policy.named_parameters()}
    prefixes = {owner[param].partition(".")[0] for param in of_values}
    own = {"separate": {"lstm_critic"}, "shared": set(), "actor only": {"critic"}}[memory]
    assert prefixes == {"mlp_extractor", "value_net"} | own
    assert {owner[param].partition(".")[0] for param in of_policy} == {
        "lstm_actor",
        "mlp_extractor",
        "action_net",
    }


def test_scores_go_through_the_memory():
    policy = make_recurrent_policy("categorical")
    buffer, batch = sequences_of(policy)
    actions = batch.actions.long().flatten()
    fisher = FisherOperator(SequencePolicy(policy), batch.observations, actions)
    phi = step_by_step(policy, buffer, statistics, "pi")[matching(buffer, batch)]
    log_probs = phi.log_softmax(dim=1).gather(1, actions[:, None])
    expected = rows_of_jacobian(log_probs, fisher.params)[:, 0]
    torch.testing.assert_close(fisher.scores(), expected)


@pytest.mark.parametrize("observations", ["mlp", "dict"])
@pytest.mark.parametrize("index", [slice(1), slice(3, 9), torch.tensor([17, 0, 5, 20])])
def test_some_of_the_steps_have_the_outputs_that_they_have_among_all(observations, index):
    policy = make_recurrent_policy("categorical", observations)
    _, batch = sequences_of(policy)
    view, all_of_them = SequencePolicy(policy), batch.observations
    some = at(all_of_them, index)
    n_rows = sum(len(block.states_pi[0][0]) for block in some.blocks)
    assert len(some) == len(torch.arange(N_SAMPLES)[index])
    assert n_rows < sum(len(block.states_pi[0][0]) for block in all_of_them.blocks)
    for outputs in (view.predict_values, lambda s: view.get_distribution(s).distribution.logits):
        torch.testing.assert_close(outputs(some), outputs(all_of_them)[index])
    for ours, theirs in zip(
        _leaves(some.observations), _leaves(all_of_them.observations), strict=True
    ):
        assert torch.equal(ours, theirs[index])


def _leaves(observations):
    return list(observations.values()) if isinstance(observations, dict) else [observations]


@pytest.mark.parametrize("observations", OBSERVATION_SPACES)
def test_what_is_in_the_padding_does_not_matter(observations):
    policy = make_recurrent_policy("categorical", observations)
    _, batch = sequences_of(policy)
    other = scribbled(batch.observations)
    assert not all(
        torch.equal(a, b)
        for left, right in zip(batch.observations.blocks, other.blocks, strict=True)
        for a, b in zip(_leaves(left.observations), _leaves(right.observations), strict=True)
    )
    operators = [FisherOperator(SequencePolicy(policy), s) for s in (batch.observations, other)]
    vector = torch.randn(operators[0].shape[0], dtype=torch.float64)
    assert torch.equal(*(operator.statistics for operator in operators))
    assert torch.equal(*(operator @ vector for operator in operators))


def test_cudnn_is_off_while_the_network_runs_and_on_again_after_it():
    """Its LSTM cannot be differentiated in evaluation mode, nor twice."""
    policy = make_recurrent_policy()
    _, batch = sequences_of(policy)
    seen = []
    for lstm in (policy.lstm_actor, policy.lstm_critic):
        lstm.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.enabled))
    before = torch.backends.cudnn.enabled
    SequencePolicy(policy).get_distribution(batch.observations)
    SequencePolicy(policy).predict_values(batch.observations)
    assert len(seen) == 2 * len(batch.observations.blocks)
    assert not any(seen)
    assert torch.backends.cudnn.enabled == before


def test_a_batch_of_sequences_counts_its_steps():
    policy = make_recurrent_policy()
    buffer, batch = sequences_of(policy)
    assert len(batch.observations) == N_SAMPLES
    lengths = [len(block.observations) // block.n_sequences for block in batch.observations.blocks]
    assert lengths == [1, 4, 7]
    assert [block.n_sequences for block in batch.observations.blocks] == [1, 2, 2]
    assert isinstance(batch.observations, Sequences)
    expected = buffer.observations[matching(buffer, batch)]
    np.testing.assert_array_equal(batch.observations.observations, expected)
