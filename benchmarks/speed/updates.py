"""The speed of policy updates on a given batch beside TRPO's and the limit, and their memory.

The batch has the spaces of HalfCheetah-v5, random observations and advantages, and actions that the
policy itself has drawn, as in training.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from copy import copy
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import sb3_contrib
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.distributions import kl_divergence
from stable_baselines3.common.logger import configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor, nn

from benchmarks.speed.memory import peak_resident_mib, resident_mib
from benchmarks.speed.stopwatch import Stopwatch
from sb3_natural import NPG
from sb3_natural.curvature.operators import Damped, FisherOperator
from sb3_natural.curvature.solvers import KFAC, ConjugateGradient
from sb3_natural.curvature.value_fit import ValueFit
from sb3_natural.networks.parameters import assign_flat, flatten, parameters_behind
from sb3_natural.npg import npg as algorithm

N_OBSERVATIONS, N_ACTIONS = 17, 6
# TRPO's defaults.
DAMPING, TARGET_KL = 0.1, 0.01
# Batches are made of so many samples at a time, which takes less memory than using them.
_CHUNK = 2_048
# One measurement repeats a quick update for about so many seconds, at most so often.
_SECONDS, _MOST = 0.25, 20


def compare_updates(
    hidden: Sequence[int], n_samples: int, trpo_limit: float, cg_steps: int = 10
) -> dict[str, Any]:
    """NPG's and TRPO's policy update on the same batch, taking turns.

    Both do the whole of TRPO: gradient, ``cg_steps`` products, step length, line search. Neither
    fits its critic.

    :param hidden: widths of the hidden layers
    :param trpo_limit: seconds; where TRPO's update would take longer, it is left out
    :return: ``npg`` and ``trpo``, median seconds; ``cosine`` between their steps; ``trpo`` and
        ``cosine`` are None where TRPO is left out; ``trpo_expected``, seconds, from an eighth of
        the batch; ``n_parameters``; ``npg_solve`` and ``npg_line_search``, mean seconds of the two
        within NPG's
    """
    hidden = tuple(hidden)
    eighth = _pair(hidden, n_samples // 8, cg_steps)[1]
    expected = 8 * _seconds(eighth.train)
    npg, trpo, stopwatch = _pair(hidden, n_samples, cg_steps)
    contenders: dict[str, Callable[[], None]] = {"npg": npg.train}
    if expected <= trpo_limit:
        contenders["trpo"] = trpo.train
    params = {"npg": _policy_params(npg), "trpo": _policy_params(trpo)}
    # Every update starts from the same policy.
    before = flatten(param.detach() for param in params["npg"])
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    steps: dict[str, Tensor] = {}
    n_updates = max(1, min(_MOST, int(_SECONDS / expected)))
    stopwatch.reset()
    for _ in range(n_updates):
        for name, update in contenders.items():
            seconds[name].append(_seconds(update))
            steps[name] = flatten(param.detach() for param in params[name]) - before
            assign_flat(params[name], before)
    return {
        "npg": statistics.median(seconds["npg"]),
        "trpo": statistics.median(seconds["trpo"]) if "trpo" in seconds else None,
        "trpo_expected": expected,
        "cosine": _cosine(steps["npg"], steps["trpo"]) if "trpo" in seconds else None,
        "n_parameters": len(before),
        **{f"npg_{part}": total / n_updates for part, total in stopwatch.seconds.items()},
    }


def compare_products(hidden: Sequence[int], n_samples: int, repeats: int) -> dict[str, Any]:
    """One Fisher-vector product in each way, and the matrix products that bound it, taking turns.

    :return: median seconds: ``layers`` (written out layer by layer), ``autograd`` (through
        autograd, for any network), ``trpo`` (the KL divergence differentiated twice), ``layer_mm``
        (one product of the batch with a hidden layer), ``square_mm`` (of two square matrices);
        operations: ``flops``, ``layer_mm_flops``, ``square_mm_flops``
    """
    hidden = tuple(hidden)
    npg, trpo, _ = _pair(hidden, n_samples, 10)
    observations = next(npg.rollout_buffer.get(batch_size=None)).observations
    layers = Damped(FisherOperator(npg.policy, observations, fast=True), DAMPING)
    autograd = Damped(FisherOperator(npg.policy, observations, fast=False), DAMPING)
    vector = torch.ones(layers.shape[0])
    activations, weights = torch.randn(n_samples, hidden[0]), torch.randn(hidden[0], hidden[-1])
    square = torch.randn(1_024, 1_024)
    ways: dict[str, Callable[[], object]] = {
        "layers": lambda: layers @ vector,
        "autograd": lambda: autograd @ vector,
        "trpo": partial(_trpo_product(trpo), vector),
        "layer_mm": lambda: activations @ weights,
        "square_mm": lambda: square @ square,
    }
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(_seconds(way))
    return {
        **{name: statistics.median(values) for name, values in seconds.items()},
        "flops": product_flops([N_OBSERVATIONS, *hidden, N_ACTIONS], n_samples),
        "layer_mm_flops": 2 * n_samples * hidden[0] * hidden[-1],
        "square_mm_flops": 2 * 1_024**3,
    }


def compare_solvers(hidden: Sequence[int], n_samples: int, repeats: int) -> dict[str, Any]:
    """The direction by K-FAC, factors and inverses included, and ten products, taking turns.

    :return: median seconds: ``kfac`` and ``cg``
    """
    npg, _, _ = _pair(tuple(hidden), n_samples, 10)
    observations = next(npg.rollout_buffer.get(batch_size=None)).observations
    damped = Damped(FisherOperator(npg.policy, observations), DAMPING)
    b = torch.randn(damped.shape[0], generator=torch.Generator().manual_seed(0))
    kfac, cg = KFAC(), ConjugateGradient(10, tol=0.0)
    ways = {"kfac": lambda: kfac.solve(damped, b), "cg": lambda: cg.solve(damped, b)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(_seconds(way))
    return {name: statistics.median(values) for name, values in seconds.items()}


def update_for_memory(
    what: str, hidden: Sequence[int], n_samples: int, threads: int
) -> dict[str, Any]:
    """The memory of one pass or update, in a process that has done nothing else.

    :param what: ``"pass"`` (the surrogate, forward and backward), ``"npg"`` or ``"trpo"`` (a policy
        update with one conjugate gradient step: the number of steps does not matter here)
    :param threads: of torch, to save time
    :return: MiB: ``before`` (policy and batch are there) and ``peak``; ``n_parameters``
    """
    torch.set_num_threads(threads)
    shape = tuple(hidden)
    # The line search only takes time: it evaluates the policy once more for every try.
    model = _trpo(shape, 1) if what == "trpo" else _npg(shape, 1, line_search=False)
    _fill(model, n_samples)
    params = _policy_params(model)
    before = resident_mib()
    if what == "pass":
        batch = next(model.rollout_buffer.get(batch_size=None))
        log_prob = model.policy.get_distribution(batch.observations).log_prob(batch.actions)
        surrogate = (torch.exp(log_prob - batch.old_log_prob) * batch.advantages).mean()
        torch.autograd.grad(surrogate, params)
    else:
        model.train()
    return {
        "before": before,
        "peak": peak_resident_mib(),
        "n_parameters": sum(param.numel() for param in params),
    }


def product_flops(sizes: Sequence[int], n_samples: int) -> int:
    """Floating-point operations of the matrix products in one Fisher-vector product of an MLP.

    J v carries the change of the parameters (one product per layer) and the change of the
    activations (one more, except in the first layer) forward; J^T u carries the cotangent back (one
    per layer, except the first) and onto the parameters (one per layer). The layers' outputs
    themselves are known from the gradient.

    :param sizes: widths of the network's layers, observations and statistics included
    """
    first, *others = [n_in * n_out for n_in, n_out in pairwise(sizes)]
    return 2 * n_samples * (2 * first + 4 * sum(others))


class _Spaces(gym.Env):
    """The spaces of HalfCheetah-v5, for models that never step."""

    observation_space = spaces.Box(-np.inf, np.inf, (N_OBSERVATIONS,), np.float64)
    action_space = spaces.Box(-1, 1, (N_ACTIONS,), np.float32)


class _NoCritic(ValueFit):
    """Leaves the critic as it is."""

    def fit(self, policy: object, params: object, buffer: object) -> float:
        """Leave the parameters as they are."""
        return 0.0


@lru_cache(maxsize=2)
def _pair(
    hidden: tuple[int, ...], n_samples: int, cg_steps: int
) -> tuple[NPG, sb3_contrib.TRPO, Stopwatch]:
    """NPG and TRPO with the same policy and batch, and the stopwatch of NPG's parts."""
    npg, trpo = _npg(hidden, cg_steps), _trpo(hidden, cg_steps)
    stopwatch = Stopwatch()
    npg.fisher_solver = npg._make_solver()  # an object, to be watched
    stopwatch.watch(npg.fisher_solver, "solve", "solve")
    stopwatch.watch(algorithm, "backtracking_line_search", "line_search")
    trpo.policy.load_state_dict(npg.policy.state_dict())
    for model in (npg, trpo):
        _fill(model, n_samples)
    return npg, trpo, stopwatch


def _npg(hidden: tuple[int, ...], cg_steps: int, line_search: bool = True) -> NPG:
    # As in TRPO, the conjugate gradient takes all its steps. But for Gaussians TRPO also takes the
    # mean of the KL divergence over the action's dimensions, so that its problem has this many
    # times more damping, and its limit is this many times higher.
    model = NPG(
        **_arguments(hidden, cg_steps),
        cg_tol=0.0,
        cg_damping=N_ACTIONS * DAMPING,
        target_kl=N_ACTIONS * TARGET_KL,
        line_search=line_search,
        # TRPO's policy does not normalise, and gets the same parameters; its step has one bound.
        normalize_observations=False,
        max_log_std_change=None,
        plateau_threshold=0,
    )
    model.critic = _NoCritic()
    return model


def _trpo(hidden: tuple[int, ...], cg_steps: int) -> sb3_contrib.TRPO:
    return sb3_contrib.TRPO(
        **_arguments(hidden, cg_steps), cg_damping=DAMPING, target_kl=TARGET_KL, n_critic_updates=0
    )


def _arguments(hidden: tuple[int, ...], cg_steps: int) -> dict[str, Any]:
    return dict(
        policy="MlpPolicy",
        env=_Spaces(),
        seed=0,
        device="cpu",
        cg_max_steps=cg_steps,
        policy_kwargs={"net_arch": {"pi": list(hidden), "vf": []}},
    )


def _fill(model: OnPolicyAlgorithm, n_samples: int) -> None:
    """Put a batch into the model's rollout buffer."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    buffer = RolloutBuffer(n_samples, model.observation_space, model.action_space, "cpu")
    for start in range(0, n_samples, _CHUNK):
        rows = slice(start, min(start + _CHUNK, n_samples))
        observations = rng.standard_normal((rows.stop - start, N_OBSERVATIONS))
        with torch.no_grad():
            policy_input = torch.as_tensor(observations, dtype=torch.float32)
            distribution = model.policy.get_distribution(policy_input)
            actions = distribution.get_actions()
            buffer.log_probs[rows, 0] = distribution.log_prob(actions).numpy()
        buffer.observations[rows, 0] = observations
        buffer.actions[rows, 0] = actions.numpy()
        # Which actions are good depends on the state: pure noise would leave no gradient to speak
        # of, and TRPO's conjugate gradient starts from noise of its own.
        gains = (actions.numpy() * observations[:, :N_ACTIONS]).sum(axis=1)
        buffer.advantages[rows, 0] = gains + rng.standard_normal(len(gains))
    buffer.returns[:] = rng.standard_normal(buffer.returns.shape)
    buffer.full = True
    model.rollout_buffer = buffer
    model.set_logger(configure(None, []))


def _policy_params(model: OnPolicyAlgorithm) -> list[nn.Parameter]:
    observation = torch.zeros(1, N_OBSERVATIONS)
    distribution = model.policy.get_distribution(observation)
    return parameters_behind(distribution.log_prob(torch.zeros(1, N_ACTIONS)), model.policy)


def _cosine(a: Tensor, b: Tensor) -> float:
    return torch.cosine_similarity(a.double(), b.double(), dim=0).item()


def _trpo_product(model: Any) -> Callable[[Tensor], Tensor]:
    """The product as sb3-contrib's TRPO sets it up before its conjugate gradient."""
    batch = next(model.rollout_buffer.get(batch_size=None))
    with torch.no_grad():
        # A copy, since the policy keeps one distribution object for all its calls.
        old = copy(model.policy.get_distribution(batch.observations))
    distribution = model.policy.get_distribution(batch.observations)
    ratio = torch.exp(distribution.log_prob(batch.actions) - batch.old_log_prob)
    divergence = kl_divergence(distribution, old).mean()
    surrogate = (batch.advantages * ratio).mean()
    params, _, gradient, _ = model._compute_actor_grad(divergence, surrogate)
    return partial(model.hessian_vector_product, params, gradient)


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
