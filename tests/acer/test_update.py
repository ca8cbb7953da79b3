"""One ACER update, against the same written out with loops and plain autograd."""

import itertools
import math
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv
from torch.distributions import Bernoulli, Categorical, Independent, Normal, kl_divergence

from sb3_natural import ACER
from sb3_natural.acer.buffers import SegmentBuffer
from sb3_natural.acer.policies import MlpPolicy
from tests.helpers import OBSERVATION_SPACES, FlattenExtractor64, SpacesEnv

ACTIONS = {
    "categorical": spaces.Discrete(3),
    "gaussian": spaces.Box(np.float32([-1, 0]), np.float32([1, 4])),
    "multicategorical": spaces.MultiDiscrete([2, 3]),
    "bernoulli": spaces.MultiBinary(3),
}
DUELLING = [name for name in ACTIONS if name != "categorical"]
GAMMA = 0.9


class Transition(NamedTuple):
    observation: Any
    action: Any
    reward: float
    mu: Any
    """statistics of the policy that acted"""
    next_observation: Any
    """what the action led to, also at the end of an episode"""
    terminal: bool
    limit: bool


class EpisodesEnd(SpacesEnv):
    """Like CartPole under a time limit: episodes terminate or are cut off. Remembers it all."""

    def __init__(self, *args):
        super().__init__(*args)
        self.transitions = []

    def reset(self, **kwargs):
        self._last, info = super().reset(**kwargs)
        return self._last, info

    def step(self, action):
        action = np.asarray(action, dtype=self.action_space.dtype)
        observation, reward, *_ = super().step(action)
        kind = self.np_random.random()
        terminal, limit = kind < 0.1, 0.1 <= kind < 0.25
        self.transitions.append(
            Transition(self._last, action, np.float32(reward), None, observation, terminal, limit)
        )
        self._last = observation
        return observation, reward, terminal, limit, {}


class Policy64(MlpPolicy):
    """In float64 from the start."""

    def _build(self, lr_schedule):
        super()._build(lr_schedule)
        self.double()


def make_model(actions="categorical", n_envs=1, env=None, average_differs=False, **kwargs):
    """A small model in float64 whose optimiser does not move it, so that nothing is lost."""
    space = ACTIONS[actions]
    envs = [lambda: EpisodesEnd(OBSERVATION_SPACES["mlp"], space) for _ in range(n_envs)]
    arguments: dict[str, Any] = dict(
        learning_rate=0.0,
        gamma=GAMMA,
        alpha=1.0,
        max_grad_norm=math.inf,
        normalize_returns=False,
        seed=0,
        device="cpu",
    )
    model = ACER(
        Policy64,
        env or DummyVecEnv(envs),
        policy_kwargs=dict(
            net_arch=[5, 5],
            features_extractor_class=FlattenExtractor64,
            optimizer_class=torch.optim.SGD,
        ),
        **{**arguments, **kwargs},
    )
    policy = model.policy
    torch.manual_seed(1)
    with torch.no_grad():
        for module in [policy.action_net, policy.value_net, *([policy.average][:average_differs])]:
            for param in module.parameters():
                param.normal_()
        if actions == "gaussian":
            policy.log_std.normal_(mean=-0.5, std=0.3)
    if not average_differs:
        policy.update_average(0.0)
    if actions in ("multicategorical", "bernoulli"):  # one-hot inputs come in float32
        policy.value_net.action_layer.register_forward_pre_hook(
            lambda _, inputs: (inputs[0].double(),)
        )
    policy.set_training_mode(False)
    model.replay_buffer = exact(model.replay_buffer)
    model.set_logger(configure(None, []))
    return model


def exact(buffer):
    """A buffer that does not round what the policy put out."""
    buffer._statistics = buffer._statistics.astype(np.float64)
    return buffer


def collected(model, n_steps):
    """The model after rollouts of ``model.n_steps`` each, without an update."""
    _, callback = model._setup_learn(n_steps)
    for _ in range(n_steps // model.n_steps):
        model.collect_rollouts(model.env, callback, model.replay_buffer, model.n_steps)
    return model


def played(model):
    """What happened in the environments so far, one list of transitions for each."""
    return [env.unwrapped.transitions for env in model.env.envs]


def random_columns(model, n_steps, n_envs, seed=0, p_terminal=0.1, p_limit=0.15):
    """Transitions under policies that are not the model's."""
    rng = np.random.default_rng(seed)
    space, k = model.action_space, model.replay_buffer.n_statistics
    space.seed(seed)
    is_box = isinstance(space, spaces.Box)
    columns = []
    for _ in range(n_envs):
        observation, column = rng.uniform(-1, 1, 4).astype(np.float32), []
        for _ in range(n_steps):
            mu = rng.normal(size=k)
            # Gaussian actions are often out of bounds.
            action = rng.normal(size=2).astype(np.float32) * 1.5 if is_box else space.sample()
            reached = rng.uniform(-1, 1, 4).astype(np.float32)
            kind = rng.random()
            terminal, limit = kind < p_terminal, p_terminal <= kind < p_terminal + p_limit
            reward = np.float32(rng.normal())
            column.append(Transition(observation, action, reward, mu, reached, terminal, limit))
            observation = rng.uniform(-1, 1, 4).astype(np.float32) if terminal or limit else reached
        columns.append(column)
    return columns


def stored(model, columns):
    """The segments that a buffer gives back for some transitions."""
    n_steps, n_envs = len(columns[0]), len(columns)
    buffer = exact(
        SegmentBuffer(
            n_steps * n_envs,
            model.observation_space,
            model.action_space,
            model.replay_buffer.n_statistics,
            n_envs,
        )
    )
    buffer.resume(np.stack([column[0].observation for column in columns]))
    for t in range(n_steps):
        now = [column[t] for column in columns]
        shown = [shown_after(column, t) for column in columns]
        buffer.add(
            np.stack([step.action for step in now]),
            np.array([step.reward for step in now]),
            np.stack([step.mu for step in now]),
            np.stack(shown),
            np.array([step.terminal or step.limit for step in now]),
            {i: step.next_observation for i, step in enumerate(now) if step.limit},
        )
    return buffer.latest(n_steps)


def shown_after(column, t):
    """What an environment returns: of the next episode, where one has ended."""
    if t + 1 < len(column):
        return column[t + 1].observation
    ended = column[t].terminal or column[t].limit
    return column[0].observation if ended else column[t].next_observation


def record_samples(model, monkeypatch):
    """A list of what the duelling network's actions are from now on."""
    drawn, draw = [], model.policy.family.sample

    def sample(*args):
        drawn.append(draw(*args))
        return drawn[-1]

    monkeypatch.setattr(model.policy.family, "sample", sample)
    return drawn


def fix_samples(model, monkeypatch, drawn):
    monkeypatch.setattr(model.policy.family, "sample", lambda *_: drawn)


def random_actions(model, n_rows, seed=0):
    """Actions for n_sdn_samples + 1 draws in each of some rows."""
    space = model.action_space
    space.seed(seed)
    shape = (model.n_sdn_samples + 1, n_rows)
    sampled = np.stack([space.sample() for _ in range(math.prod(shape))])
    as_float = not isinstance(space, spaces.MultiDiscrete)
    return torch.tensor(
        sampled.reshape(*shape, -1), dtype=torch.float64 if as_float else torch.int64
    )


def trained(policy):
    return {
        name: param for name, param in policy.named_parameters() if not name.startswith("average")
    }


def gradients(model):
    """That of the last update, after clipping."""
    return {
        name: torch.zeros_like(param) if param.grad is None else param.grad.clone()
        for name, param in trained(model.policy).items()
    }


def gradients_of(model, loss):
    params = trained(model.policy)
    grads = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    return {
        name: torch.zeros_like(param) if grad is None else grad
        for (name, param), grad in zip(params.items(), grads, strict=True)
    }


def assert_same(ours, theirs, tolerance=1e-10):
    assert ours.keys() == theirs.keys()
    assert max(grad.abs().max() for grad in theirs.values()) > 1e-3
    for name in theirs:
        torch.testing.assert_close(
            ours[name], theirs[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: n + m
        )


# The networks and distributions, one state at a time.


def network(layers, x):
    for layer in layers:
        linear = isinstance(layer, torch.nn.Linear)
        x = layer.weight @ x + layer.bias if linear else torch.relu(x)
    return x


def statistics(policy, observation, average=False):
    x = torch.tensor(observation, dtype=torch.float64)
    if average:
        hidden, last, log_std = policy.average[1], policy.average[2], "average_log_std"
    else:
        hidden, last, log_std = policy.mlp_extractor.policy_net, policy.action_net, "log_std"
    output = network([*hidden, last], x)
    if isinstance(policy.action_space, spaces.Box):
        return torch.cat([output, getattr(policy, log_std)])
    return output


def distributions(space, phi):
    """Independent parts of the action's distribution."""
    if isinstance(space, spaces.Box):
        mean, log_std = phi.chunk(2)
        return [Independent(Normal(mean, log_std.exp()), 1)]
    if isinstance(space, spaces.MultiBinary):
        return [Independent(Bernoulli(logits=phi), 1)]
    sizes = [int(space.n)] if isinstance(space, spaces.Discrete) else space.nvec.tolist()
    return [Categorical(logits=logits) for logits in phi.split(sizes)]


def log_prob(space, phi, action):
    parts = distributions(space, phi)
    action = torch.as_tensor(action)
    actions = [action] if len(parts) == 1 else action
    return sum(part.log_prob(a.to(phi.dtype)) for part, a in zip(parts, actions, strict=True))


def entropy(space, phi):
    return sum(part.entropy() for part in distributions(space, phi))


def kl(space, phi_p, phi_q):
    pairs = zip(distributions(space, phi_p), distributions(space, phi_q), strict=True)
    return sum(kl_divergence(p, q) for p, q in pairs)


def latent_of(policy, observation):
    x = torch.tensor(observation, dtype=torch.float64)
    return network(policy.mlp_extractor.value_net, x)


def q_of_all(policy, observation):
    head = policy.value_net
    return head.weight @ latent_of(policy, observation) + head.bias


def duelling_value(policy, observation):
    layer = policy.value_net.value_layer
    return (layer.weight @ latent_of(policy, observation) + layer.bias)[0]


def duelling_advantage(policy, observation, action):
    """A(s, a), before its mean is taken off."""
    head, space = policy.value_net, policy.action_space
    action = torch.as_tensor(action)
    if isinstance(space, spaces.Box):
        low, high = torch.tensor(space.low).double(), torch.tensor(space.high).double()
        clipped = torch.minimum(torch.maximum(action.double(), low), high)
        inputs = (clipped - (low + high) / 2) / ((high - low) / 2)
    elif isinstance(space, spaces.MultiDiscrete):
        inputs = torch.cat(
            [torch.eye(int(n))[int(a)] for n, a in zip(space.nvec, action, strict=True)]
        )
    else:
        inputs = action
    latent = latent_of(policy, observation)
    hidden = torch.relu(
        head.state_layer.weight @ latent
        + head.state_layer.bias
        + head.action_layer.weight @ inputs.double()
    )
    return (head.advantage_layer.weight @ hidden + head.advantage_layer.bias)[0]


def duelling_q(policy, observation, action, others):
    """Q(s, a) = V(s) + A(s, a) - mean_i A(s, u_i)."""
    mean = sum(duelling_advantage(policy, observation, u) for u in others) / len(others)
    advantage = duelling_advantage(policy, observation, action)
    return duelling_value(policy, observation) + advantage - mean


def value(policy, observation):
    if policy.is_discrete:
        pi = statistics(policy, observation).detach().softmax(dim=0)
        return (pi * q_of_all(policy, observation)).sum()
    return duelling_value(policy, observation)


def rows_of(columns):
    """(row in the batch, transition), one list for each column."""
    return [
        [(t * len(columns) + i, step) for t, step in enumerate(column)]
        for i, column in enumerate(columns)
    ]


def backwards(policy, column, q, traces):
    """Retrace, step by step from the last; q and traces are lists of floats."""
    targets, following = [0.0] * len(column), None
    for t in reversed(range(len(column))):
        _, step = column[t]
        after = 0.0 if step.terminal else value(policy, step.next_observation).item()
        if following is not None and not (step.terminal or step.limit):
            after += traces[t + 1] * (following - q[t + 1])
        targets[t] = following = float(step.reward) + GAMMA * after
    return targets


def returns(policy, column):
    """n-step returns: discounted rewards up to the end of the episode or segment."""
    targets = []
    for start in range(len(column)):
        total, discount = 0.0, 1.0
        for _, step in column[start:]:
            total += discount * float(step.reward)
            discount *= GAMMA
            if step.terminal or step.limit:
                break
        if not step.terminal:
            total += discount * value(policy, step.next_observation).item()
        targets.append(total)
    return targets


def q_values(policy, column, drawn):
    """Q(s_t, a_t) with its graph."""
    if policy.is_discrete:
        return [q_of_all(policy, step.observation)[int(step.action)] for _, step in column]
    return [
        duelling_q(policy, step.observation, step.action, drawn[:-1, row]) for row, step in column
    ]


def actor_critic_loss(model, columns, drawn, targets_of):
    """That of an n-step actor-critic on its own data."""
    policy, space = model.policy, model.action_space
    total, n = 0.0, sum(map(len, columns))
    for column in rows_of(columns):
        q = q_values(policy, column, drawn)
        targets = targets_of(policy, column, [x.item() for x in q])
        for (_, step), q_taken, target in zip(column, q, targets, strict=True):
            phi, v = (
                statistics(policy, step.observation),
                value(policy, step.observation),
            )
            total = total - log_prob(space, phi, step.action) * (target - v.item())
            total = total - model.ent_coef * entropy(space, phi)
            critic = 0.5 * (target - q_taken) ** 2
            if not policy.is_discrete:
                critic = critic + 0.5 * (v.item() + target - q_taken.item() - v) ** 2
            total = total + model.q_coef * critic
    return total / n


ON_POLICY = dict(
    replay_ratio=0.0, trust_region=False, correction_term=math.inf, ent_coef=0.05, n_steps=25
)


def on_policy_columns(model):
    taken = model.replay_buffer.latest(model.n_steps).actions
    columns = [
        [step._replace(action=taken[t, i]) for t, step in enumerate(column)]
        for i, column in enumerate(played(model))
    ]
    steps = list(itertools.chain(*columns))
    assert any(step.terminal for step in steps)
    assert any(step.limit for step in steps)
    return columns


def forget_the_action(policy):
    """Make Q(s, a) the same for all a."""
    with torch.no_grad():
        if policy.is_discrete:
            policy.value_net.weight[:] = policy.value_net.weight[0].clone()
            policy.value_net.bias[:] = policy.value_net.bias[0].clone()
        else:
            policy.value_net.action_layer.weight.zero_()


@pytest.mark.parametrize("ent_coef", [0.0, 0.3])
@pytest.mark.parametrize("actions", ACTIONS)
def test_on_policy_without_a_control_variate_it_is_n_step_actor_critic(
    actions, ent_coef, monkeypatch
):
    model = make_model(actions, n_envs=2, **{**ON_POLICY, "ent_coef": ent_coef})
    forget_the_action(model.policy)
    drawn = record_samples(model, monkeypatch)
    collected(model, model.n_steps).train()
    loss = actor_critic_loss(
        model,
        on_policy_columns(model),
        drawn[0] if drawn else None,
        lambda policy, column, _: returns(policy, column),
    )
    assert_same(gradients(model), gradients_of(model, loss))


@pytest.mark.parametrize("actions", ACTIONS)
def test_on_policy_targets_are_returns_with_q_as_control_variate(actions, monkeypatch):
    model = make_model(actions, n_envs=2, **ON_POLICY)
    drawn = record_samples(model, monkeypatch)
    collected(model, model.n_steps).train()
    columns, drawn = on_policy_columns(model), drawn[0] if drawn else None

    def with_control_variate(policy, column, q):
        return backwards(policy, column, q, [1.0] * len(column))

    loss = actor_critic_loss(model, columns, drawn, with_control_variate)
    ours = gradients(model)
    assert_same(ours, gradients_of(model, loss))
    plain = gradients_of(
        model, actor_critic_loss(model, columns, drawn, lambda p, column, _: returns(p, column))
    )
    assert any(not torch.allclose(ours[name], plain[name]) for name in ours)


def test_trust_region_and_truncation_do_nothing_to_the_first_update():
    bounded = collected(make_model(n_envs=2, n_steps=25, replay_ratio=0.0, delta=1e-3), 25)
    free = collected(make_model(n_envs=2, **{**ON_POLICY, "ent_coef": 0.01}), 25)
    bounded.train()
    free.train()
    assert_same(gradients(bounded), gradients(free))


class Reference(NamedTuple):
    loss: torch.Tensor
    targets: list[float]
    goals: list[float]
    g: list[torch.Tensor]
    z: list[torch.Tensor]
    n_truncated: int
    n_projected: int


def off_policy_reference(model, columns, drawn):
    """A whole update by the equations, one sample at a time."""
    policy, space, c = model.policy, model.action_space, model.correction_term
    n = sum(map(len, columns))
    loss, n_truncated, n_projected = 0.0, 0, 0
    by_row = [dict() for _ in range(4)]
    for column in rows_of(columns):
        q = q_values(policy, column, drawn)
        rhos = [
            (
                log_prob(space, statistics(policy, step.observation), step.action)
                - log_prob(space, torch.tensor(step.mu), step.action)
            )
            .exp()
            .item()
            for _, step in column
        ]
        n_dims = 1 if policy.is_discrete else int(np.size(column[0][1].action))
        q_floats = [x.item() for x in q]
        traces = [min(1, r ** (1 / n_dims)) if model.retrace else 1.0 for r in rhos]
        targets = backwards(policy, column, q_floats, traces)
        goals = targets
        if not policy.is_discrete:
            goals = backwards(policy, column, q_floats, [1.0] * len(column))
        for i, (row, step) in enumerate(column):
            observation, rho = step.observation, rhos[i]
            phi, v = statistics(policy, observation), value(policy, observation)
            leaf, mu = phi.detach().requires_grad_(), torch.tensor(step.mu)

            # The truncated gradient, what makes up for the truncation, and the entropy bonus.
            objective = min(c, rho) * (goals[i] - v.item()) * log_prob(space, leaf, step.action)
            if policy.is_discrete:
                q_all = q_of_all(policy, observation).detach()
                for a in range(int(space.n)):
                    pi = log_prob(space, leaf, a).exp().item()
                    rho_a = pi / log_prob(space, mu, a).exp().item()
                    weight = max(0.0, 1 - c / rho_a) * pi * (q_all[a].item() - v.item())
                    objective = objective + weight * log_prob(space, leaf, a)
            else:
                other, others = drawn[-1, row], drawn[:-1, row]
                rho_other = (log_prob(space, leaf, other) - log_prob(space, mu, other)).exp().item()
                q_other = duelling_q(policy, observation, other, others).item()
                weight = max(0.0, 1 - c / rho_other) * (q_other - v.item())
                objective = objective + weight * log_prob(space, leaf, other)
            objective = objective + model.ent_coef * entropy(space, leaf)
            (g,) = torch.autograd.grad(objective, leaf)

            average = statistics(policy, observation, average=True).detach()
            (k,) = torch.autograd.grad(kl(space, average, leaf), leaf)
            z = g - max(0.0, ((k @ g).item() - model.delta) / (k @ k).item()) * k
            if not model.trust_region:
                z = g

            critic = 0.5 * (targets[i] - q[i]) ** 2
            if not policy.is_discrete:
                known = q_floats[i] if model.duelling else v.item()
                wanted = v.item() + min(1.0, rho) * (targets[i] - known)
                critic = critic + 0.5 * (wanted - v) ** 2
            loss = loss - (z * phi).sum() + model.q_coef * critic
            n_truncated += rho > c
            n_projected += not torch.equal(z, g)
            for held, item in zip(by_row, (targets[i], goals[i], g, z), strict=True):
                held[row] = item
    in_order = ([held[row] for row in range(n)] for held in by_row)
    return Reference(loss / n, *in_order, n_truncated, n_projected)


@pytest.mark.parametrize("trust_region", [True, False])
@pytest.mark.parametrize("correction_term", [1.3, math.inf])
@pytest.mark.parametrize("actions", ACTIONS)
def test_off_policy_update_is_that_of_the_equations(
    actions, correction_term, trust_region, monkeypatch
):
    model = make_model(
        actions,
        average_differs=True,
        correction_term=correction_term,
        trust_region=trust_region,
        delta=0.1,
        ent_coef=0.05,
        q_coef=0.7,
    )
    columns = random_columns(model, n_steps=12, n_envs=3)
    drawn = record_samples(model, monkeypatch)
    update = model._update(stored(model, columns))
    reference = off_policy_reference(model, columns, drawn[0] if drawn else None)
    assert_same(gradients(model), gradients_of(model, reference.loss))
    exactly = dict(rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        update.targets, torch.tensor(reference.targets, dtype=torch.float64), **exactly
    )
    torch.testing.assert_close(update.gradient, torch.stack(reference.g), **exactly)
    torch.testing.assert_close(update.bounded, torch.stack(reference.z), **exactly)
    assert (reference.n_truncated > 0) == math.isfinite(correction_term)
    assert reference.n_truncated < 36
    assert (0 < reference.n_projected < 36) == trust_region
    if actions != "categorical":
        assert not np.allclose(reference.targets, reference.goals)


@pytest.mark.parametrize("actions", ACTIONS)
def test_without_retrace_targets_are_uncorrected_returns(actions, monkeypatch):
    model = make_model(actions, average_differs=True, retrace=False, delta=0.1)
    columns = random_columns(model, n_steps=12, n_envs=3)
    drawn = record_samples(model, monkeypatch)
    model._update(stored(model, columns))
    reference = off_policy_reference(model, columns, drawn[0] if drawn else None)
    assert reference.targets == reference.goals
    assert_same(gradients(model), gradients_of(model, reference.loss))


@pytest.mark.parametrize("actions", DUELLING)
def test_without_duelling_the_network_puts_out_q_itself(actions, monkeypatch):
    model = make_model(actions, average_differs=True, duelling=False, delta=0.1)
    columns = random_columns(model, n_steps=12, n_envs=3)
    drawn = record_samples(model, monkeypatch)
    model._update(stored(model, columns))
    with monkeypatch.context() as plain:
        plain.setitem(globals(), "duelling_q", lambda p, s, a, _: duelling_advantage(p, s, a))
        reference = off_policy_reference(model, columns, drawn[0])
    assert_same(gradients(model), gradients_of(model, reference.loss))


@pytest.mark.parametrize("actions", ACTIONS)
def test_bounded_gradient_goes_through_the_statistics_only(actions):
    model = make_model(actions, average_differs=True, q_coef=0.0, delta=0.05)
    segments = stored(model, random_columns(model, 12, 3))
    policy, n = model.policy, 36
    update = model._update(segments)
    phi, _ = policy.statistics_and_latent(torch.as_tensor(segments.observations[:n]))
    torch.testing.assert_close(update.phi, phi, rtol=1e-12, atol=1e-12)
    assert not update.bounded.requires_grad
    expected = gradients_of(model, -(update.bounded * phi).sum() / n)
    assert_same(gradients(model), expected)
    assert all((expected[name] == 0).all() for name in expected if name.startswith("value_net"))


@pytest.mark.parametrize("actions", ACTIONS)
def test_gradients_stop_at_the_average_policy(actions, monkeypatch):
    model = make_model(actions, average_differs=True, delta=0.05)
    policy = model.policy
    segments = stored(model, random_columns(model, 12, 3))
    if actions != "categorical":
        fix_samples(model, monkeypatch, random_actions(model, 36))
    average = [p for name, p in policy.named_parameters() if name.startswith("average")]
    assert len(average) == 6 + (actions == "gaussian")
    assert not any(p.requires_grad for p in average)
    optimised = {p for group in policy.optimizer.param_groups for p in group["params"]}
    assert optimised == set(trained(policy).values())
    for param in average:  # even if it could, no gradient would flow there
        param.requires_grad_(True)
    first = model._update(segments)
    assert all(p.grad is None for p in average)
    with torch.no_grad():
        for param in average:
            param += 0.5
    second = model._update(segments)
    assert torch.equal(first.gradient, second.gradient)
    assert not torch.allclose(first.bounded, second.bounded)


@pytest.mark.parametrize("limit", [False, True])
@pytest.mark.parametrize("actions", ACTIONS)
def test_nothing_after_the_end_of_an_episode_reaches_what_was_before(actions, limit, monkeypatch):
    model = make_model(actions, average_differs=True, delta=0.05)
    (column,) = random_columns(model, 10, 1, p_terminal=0, p_limit=0)
    (other,) = random_columns(model, 10, 1, seed=1, p_terminal=0, p_limit=0)
    column[4] = column[4]._replace(terminal=not limit, limit=limit)
    drawn = random_actions(model, 10)
    updates = []
    for after in (column, [step._replace(reward=1e3 * step.reward) for step in other]):
        if actions != "categorical":
            fix_samples(model, monkeypatch, drawn)
            drawn = torch.cat([drawn[:, :5], drawn[:, 5:].flip(1)], dim=1)
        updates.append(model._update(stored(model, [column[:5] + after[5:]])))
    first, second = updates
    for name in ("targets", "advantages", "gradient", "bounded"):
        ours, theirs = getattr(first, name), getattr(second, name)
        assert torch.equal(ours[:5], theirs[:5]), name
        assert not torch.equal(ours[5:], theirs[5:]), name
    # Of the end itself, what counts is what the step truly led to.
    expected = column[4].reward + GAMMA * limit * value(model.policy, column[4].next_observation)
    torch.testing.assert_close(first.targets[4], expected.detach())
    # Without an end the future matters.
    column[4] = column[4]._replace(terminal=False, limit=False)
    assert not torch.equal(model._update(stored(model, [column])).targets[:5], first.targets[:5])


def test_samples_before_the_end_have_the_same_gradient_whatever_comes_after():
    """Of the parameters: what they add to it is the difference to a batch without them."""
    model = make_model(average_differs=True, delta=0.05)
    (column,) = random_columns(model, 10, 1, p_terminal=0, p_limit=0)
    (other,) = random_columns(model, 10, 1, seed=1, p_terminal=0, p_limit=0)
    column[4] = column[4]._replace(terminal=True)

    def sums(steps):
        model._update(stored(model, [steps]))
        return {name: len(steps) * grad for name, grad in gradients(model).items()}

    before = sums(column[:5])
    for after in (column[5:], other[5:]):
        both, alone = sums(column[:5] + after), sums(after)
        assert_same({name: both[name] - alone[name] for name in both}, before, tolerance=1e-9)


@pytest.mark.parametrize("actions", ACTIONS)
def test_number_and_order_of_environments_do_not_matter(actions, monkeypatch):
    n_steps, n_envs = 6, 16
    model = make_model(actions, average_differs=True, delta=0.05, correction_term=1.3)
    columns = random_columns(model, n_steps, n_envs)
    # Cut off at the end, so that the columns can also follow one another in one environment.
    columns = [
        [*column[:-1], column[-1]._replace(terminal=False, limit=True)] for column in columns
    ]
    drawn = random_actions(model, n_steps * n_envs).unflatten(1, (n_envs, n_steps))

    def update(columns, drawn):
        if actions != "categorical":
            fix_samples(model, monkeypatch, drawn.transpose(1, 2).flatten(1, 2))
        segments = stored(model, columns)
        assert segments.rewards.shape == (len(columns[0]), len(columns))
        done = model._update(segments)
        loss = (done.targets - done.estimates.q).square().mean()
        return loss.item(), gradients(model)

    loss, expected = update(columns, drawn)
    order = np.random.default_rng(0).permutation(n_envs)
    permuted = update([columns[i] for i in order], drawn[:, order])
    one_after_another = update([list(itertools.chain(*columns))], drawn.flatten(1, 2)[:, None])
    one_at_a_time = [update([columns[i]], drawn[:, i : i + 1]) for i in range(n_envs)]
    losses, grads = zip(*one_at_a_time, strict=True)
    mean = {name: sum(grad[name] for grad in grads) / n_envs for name in expected}
    for other_loss, other in (permuted, one_after_another, (np.mean(losses), mean)):
        assert other_loss == pytest.approx(loss, rel=1e-12)
        assert_same(other, expected, tolerance=1e-12)


def total_norm(grads):
    return math.sqrt(sum(float(grad.square().sum()) for grad in grads.values()))


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_gradient_is_clipped_at_max_grad_norm(factor):
    model = make_model(average_differs=True)
    segments = stored(model, random_columns(model, 12, 3))
    norm = model._update(segments).norm
    free = gradients(model)
    assert total_norm(free) == pytest.approx(norm, rel=1e-12)
    model.max_grad_norm = factor * norm
    assert model._update(segments).norm == pytest.approx(norm, rel=1e-12)
    clipped = gradients(model)
    assert total_norm(clipped) == pytest.approx(min(factor, 1.0) * norm, rel=1e-5)
    assert_same(clipped, {name: min(factor, 1.0) * free[name] for name in free}, tolerance=1e-5)


def averaged(policy):
    """(average, current) of each parameter of the actor."""
    names = {"average.1": "mlp_extractor.policy_net", "average.2": "action_net"}
    params = dict(policy.named_parameters())
    for name, param in params.items():
        if name.startswith("average"):
            current = name.replace("average_log_std", "log_std")
            for prefix, replacement in names.items():
                current = current.replace(prefix, replacement)
            yield param.detach().clone(), params[current].detach().clone()


@pytest.mark.parametrize("actions", ACTIONS)
def test_average_policy_follows_by_one_minus_alpha(actions):
    model = make_model(actions, average_differs=True, alpha=0.9)
    model.policy.optimizer.param_groups[0]["lr"] = 0.1
    segments = stored(model, random_columns(model, 12, 3))
    before = list(averaged(model.policy))
    model._update(segments)
    after = list(averaged(model.policy))
    for (average, current), (new_average, new_current) in zip(before, after, strict=True):
        assert not torch.equal(current, new_current)
        torch.testing.assert_close(new_average, 0.9 * average + 0.1 * new_current)


def test_update_that_is_not_finite_moves_neither_policy():
    model = make_model(average_differs=True)
    model.policy.optimizer.param_groups[0]["lr"] = 0.1
    segments = stored(model, random_columns(model, 12, 3))
    segments.rewards[3, 1] = np.nan
    before = {name: param.clone() for name, param in model.policy.named_parameters()}
    with pytest.warns(UserWarning, match="gradient is not finite"):
        model._update(segments)
    assert all(torch.equal(p, before[name]) for name, p in model.policy.named_parameters())


def count_updates(model, n_calls, monkeypatch):
    """The shapes of the segments of each call to train."""
    calls: list[list[tuple[int, ...]]] = []
    monkeypatch.setattr(model, "_update", lambda s: calls[-1].append(s.rewards.shape))
    monkeypatch.setattr(model, "_record", lambda updates: None)
    for _ in range(n_calls):
        calls.append([])
        model.train()
    return calls


@pytest.mark.parametrize("replay_ratio", [0.0, 0.4, 4.0])
def test_number_of_replay_updates_is_poisson_distributed(replay_ratio, monkeypatch):
    model = make_model(n_steps=8, replay_ratio=replay_ratio, replay_start=0)
    calls = count_updates(collected(model, 8), 2000, monkeypatch)
    replays = np.array([len(call) - 1 for call in calls])
    assert (replays >= 0).all()
    assert replays.mean() == pytest.approx(replay_ratio, abs=4 * math.sqrt(replay_ratio / 2000))
    assert replays.var() == pytest.approx(replay_ratio, rel=0.2)


@pytest.mark.parametrize("replay_batch_size", [None, 1, 7])
def test_replay_batch_size_is_the_number_of_replayed_segments(replay_batch_size, monkeypatch):
    model = make_model(n_envs=3, n_steps=8, replay_start=0, replay_batch_size=replay_batch_size)
    calls = count_updates(collected(model, 24), 20, monkeypatch)
    assert {call[0] for call in calls} == {(8, 3)}
    assert {shape for call in calls for shape in call[1:]} == {(8, replay_batch_size or 3)}


def test_nothing_is_replayed_before_replay_start(monkeypatch):
    model = make_model(n_envs=2, n_steps=8, replay_ratio=50.0, replay_start=48)
    for n_rollouts, replays in ((1, False), (2, False), (3, True)):
        collected(model, 8)
        assert len(model.replay_buffer) == 16 * n_rollouts
        ((_, *replayed),) = count_updates(model, 1, monkeypatch)
        assert bool(replayed) == replays


class Scaled(gym.RewardWrapper):
    """Rewards times a factor, and the actions that earned them."""

    def __init__(self, env, factor):
        super().__init__(env)
        self.factor = factor
        self.actions = []

    def step(self, action):
        self.actions.append(int(action))
        return super().step(action)

    def reward(self, reward):
        return self.factor * reward


def cartpole_run(factor, **kwargs):
    env = Scaled(gym.make("CartPole-v1"), factor)
    model = ACER("MlpPolicy", env, n_steps=20, replay_start=100, seed=0, device="cpu", **kwargs)
    model.learn(600)
    weights = torch.cat([p.detach().flatten() for p in model.policy.parameters()])
    return env.actions, weights


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_runs_do_not_depend_on_the_scale_of_rewards(factor):
    actions, weights = cartpole_run(1.0)
    scaled_actions, scaled_weights = cartpole_run(factor)
    assert scaled_actions == actions
    torch.testing.assert_close(scaled_weights, weights, rtol=1e-4, atol=1e-5)


def test_runs_depend_on_the_scale_of_rewards_without_normalisation():
    assert (
        cartpole_run(1.0, normalize_returns=False)[0]
        != (cartpole_run(1e3, normalize_returns=False)[0])
    )


def test_update_uses_rewards_in_units_of_the_returns_deviation():
    """The first update on scaled rewards is the first update on rewards of the scale's."""
    model = make_model(n_steps=20, normalize_returns=True, replay_ratio=0.0, gamma=GAMMA)
    collected(model, 20)
    model.train()
    std = model._return_scale.std
    assert std != 1.0
    plain = make_model(n_steps=20, replay_ratio=0.0)
    collected(plain, 20)
    plain.replay_buffer._rewards /= np.float32(std)
    plain.train()
    assert_same(gradients(model), gradients(plain))
