"""Fitting the value function V to the returns of a rollout, without moving the policy.

A fit moves the parameters that V depends on and the policy does not: what the two share (a features
extractor, say) belongs to the policy, whose step the trust region has measured.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from sb3_natural.curvature.families import family_of
from sb3_natural.curvature.jacobian import Jacobian
from sb3_natural.curvature.operators import Damped, GaussNewtonOperator, value_jacobian
from sb3_natural.curvature.solution import solved
from sb3_natural.curvature.solvers import ConjugateGradient, NoStepError, Solver
from sb3_natural.networks.mlp import actor_mlp, critic_mlp
from sb3_natural.networks.parameters import assign_flat, flatten, parameters_behind
from sb3_natural.observations import first_sample

__all__ = [
    "AdamFit",
    "GaussNewtonFit",
    "ValueFit",
    "descend",
    "split_parameters",
]

_TRIES = 10


class ValueFit(ABC):
    """Fits V to the returns in a rollout buffer.

    Derive from this class for a critic of your own: NPG takes an instance as ``critic``.
    """

    @abstractmethod
    def fit(
        self, policy: ActorCriticPolicy, params: Sequence[nn.Parameter], buffer: RolloutBuffer
    ) -> float:
        """Move the critic's parameters.

        :param policy: the policy, whose ``predict_values`` is V
        :param params: the critic's own parameters; no other is touched
        :param buffer: a full rollout buffer with its returns computed
        :return: the mean squared error of V, in units of squared returns
        :raises NoStepError: no finite step could be computed; the parameters are as before
        """


class AdamFit(ValueFit):
    """Minibatch regression with the policy's optimiser (Adam by default), as TRPO does it.

    :param n_epochs: passes over the rollout, at least 1
    :param batch_size: minibatch size, at least 1
    :raises ValueError: an argument is not an integer of at least 1
    """

    def __init__(self, n_epochs: int, batch_size: int) -> None:
        _check_counts(n_epochs=n_epochs, batch_size=batch_size)
        self.n_epochs = n_epochs
        self.batch_size = batch_size

    def fit(
        self, policy: ActorCriticPolicy, params: Sequence[nn.Parameter], buffer: RolloutBuffer
    ) -> float:
        """Move the critic's parameters; the error is a mean over minibatches, each before its step.

        :return: the mean squared error of V, in units of squared returns
        :raises NoStepError: parameters or the optimiser's state would not be finite; both are as
            before
        """
        losses = []
        before = flatten(param.detach() for param in params)
        optimizer_before = copy.deepcopy(policy.optimizer.state_dict())
        # Parameters without a gradient are left alone by the optimiser: only ours move.
        policy.optimizer.zero_grad(set_to_none=True)
        for _ in range(self.n_epochs):
            for batch in buffer.get(self.batch_size):
                loss = F.mse_loss(
                    policy.predict_values(batch.observations).flatten(), batch.returns
                )
                grads = torch.autograd.grad(loss, list(params))
                for param, grad in zip(params, grads, strict=True):
                    param.grad = grad
                policy.optimizer.step()
                losses.append(loss.detach())
        if not _is_finite(params, policy.optimizer):
            assign_flat(params, before)
            policy.optimizer.load_state_dict(optimizer_before)
            raise NoStepError(
                "the critic's parameters, or its optimiser's state, would not be finite "
                f"(its mean squared error was {torch.stack(losses).mean().item():.3g})"
            )
        return torch.stack(losses).mean().item()


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if not isinstance(count, Integral) or count < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {count!r}")


def _is_finite(params: Sequence[nn.Parameter], optimizer: Optimizer) -> bool:
    """Whether parameters and optimiser state are finite.

    An infinite second moment in Adam stops a parameter for good without making it infinite.
    """
    states = [value for param in params for value in optimizer.state[param].values()]
    remembered = [value for value in states if torch.is_tensor(value)]
    # One by one: Adam counts its steps on the CPU, wherever the parameters are.
    return all(bool(torch.isfinite(each).all()) for each in [*params, *remembered])


def split_parameters(
    policy: ActorCriticPolicy, observations: PyTorchObs
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable parameters that move the policy, and those that move only its values.

    Found through autograd, so no parameter needs a particular name.

    :param policy: left as it is
    :param observations: of these the first is used, at most
    :return: the parameters of the policy, and those of the critic alone; a list is empty where all
        are frozen
    """
    actor, critic = actor_mlp(policy), critic_mlp(policy)
    if actor is not None and critic is not None:
        gaussian = isinstance(policy.action_dist, DiagGaussianDistribution)
        of_actor = [policy.log_std, *actor.params] if gaussian else actor.params
        return _trainable(of_actor), _trainable(critic.params)
    first = first_sample(observations)
    distribution = policy.get_distribution(first)
    of_policy = _behind(family_of(distribution).statistics(distribution), policy)
    known = set(of_policy)
    of_values = _behind(policy.predict_values(first), policy)
    return of_policy, [param for param in of_values if param not in known]


def _trainable(params: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    return [param for param in params if param.requires_grad]


def _behind(output: Tensor, policy: nn.Module) -> list[nn.Parameter]:
    try:
        return parameters_behind(output, policy)
    except ValueError:  # all are frozen
        return []


class GaussNewtonFit(ValueFit):
    """Natural-gradient steps on the squared error: the critic's counterpart of NPG.

    With J the Jacobian of V in the rollout's N states, each step solves::

        (J^T J / N + damping I) x = J^T (returns - V) / N

    and adds x to the parameters, or as much of it as lowers the error. ``J^T J / N`` is the Fisher
    information of a Gaussian with mean V and unit variance.

    :param n_steps: Gauss-Newton steps per rollout, at least 1
    :param solver: solves for x
    :param damping: Levenberg-Marquardt damping, in units of squared values per squared parameter
    :param n_curvature_samples: estimate ``J^T J / N`` from this many samples, drawn anew for each
        step from the rollout; the gradient always uses all of them. None: all of them here too
    :raises ValueError: an argument is out of range or of the wrong type; the message names it
    """

    def __init__(
        self,
        n_steps: int,
        solver: Solver,
        damping: float,
        n_curvature_samples: int | None = None,
    ) -> None:
        _check_counts(n_steps=n_steps)
        if n_curvature_samples is not None:
            _check_counts(n_curvature_samples=n_curvature_samples)
        if not isinstance(solver, Solver):
            raise ValueError(f"solver must be a Solver, got {solver!r}")
        if not 0.0 <= damping < math.inf:
            raise ValueError(f"damping must be finite and not negative, got {damping}")
        self.n_steps = n_steps
        self.solver = solver
        self.damping = damping
        self.n_curvature_samples = n_curvature_samples

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if "cg_max_steps" in state:  # of version 0.1, whose only solver was conjugate gradient
            state["solver"] = ConjugateGradient(state.pop("cg_max_steps"))
        vars(self).update(state)

    def fit(
        self, policy: ActorCriticPolicy, params: Sequence[nn.Parameter], buffer: RolloutBuffer
    ) -> float:
        """Move the critic's parameters; the error is that after the last step, on all samples.

        :return: the mean squared error of V, in units of squared returns
        :raises NoStepError: a step is not finite; the parameters are as before
        """
        batch = next(buffer.get(batch_size=None))
        observations, returns = batch.observations, batch.returns[:, None]
        before = flatten(param.detach() for param in params)
        loss = math.nan
        try:
            for _ in range(self.n_steps):
                curvature = GaussNewtonOperator(
                    policy, params, observations, self.n_curvature_samples
                )
                jacobian = curvature.jacobian  # of the samples that the curvature uses
                if curvature.n_samples < len(returns):
                    jacobian = value_jacobian(policy, params, observations)
                gradient = jacobian.vjp((returns - jacobian.outputs) / len(returns))
                damped = Damped(curvature, self.damping)
                direction = solved(self.solver, damped, gradient).direction
                loss = descend(jacobian, direction, gradient, returns)
        except NoStepError:
            assign_flat(params, before)
            raise
        return loss


def descend(jacobian: Jacobian, direction: Tensor, gradient: Tensor, returns: Tensor) -> float:
    """Take a step, or as much of it as lowers the squared error.

    If the error is not lower after the whole step, the step is shortened to the lowest point of the
    parabola through the error and its slope here and the error there, and at least by half.
    Curvature from a few samples misses the directions in which these do not differ, and the network
    is not linear: without this, single steps could multiply the error by a thousand.

    :param jacobian: of V, built at the parameters as they are
    :param direction: shape (P,)
    :param gradient: half of the error's descent direction, ``J^T (returns - V) / N``, shape (P,)
    :param returns: shape (N, 1)
    :return: the mean squared error after the step; the parameters have not moved if no shortened
        step lowers it
    :raises NoStepError: the direction or the error is not finite; nothing has moved
    """
    here = F.mse_loss(jacobian.outputs, returns).item()
    if not math.isfinite(here) or not torch.isfinite(direction).all():
        raise NoStepError("the critic's Gauss-Newton step is not finite; use more critic_damping")
    theta = flatten(param.detach() for param in jacobian.params)
    fall = 2.0 * float(gradient @ direction)  # of the error, per unit of length, at first
    length = 1.0
    for _ in range(_TRIES):
        assign_flat(jacobian.params, theta + length * direction)
        there = F.mse_loss(jacobian.evaluate(), returns).item()
        if there <= here:
            return there
        lowest = fall * length**2 / (2.0 * (there - here + fall * length))
        # NaN and infinity end here, too.
        length = lowest if 0.0 < lowest < length / 2 else length / 2
    assign_flat(jacobian.params, theta)
    return here
