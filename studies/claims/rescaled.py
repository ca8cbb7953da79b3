"""One network whose layers are stored in other units, W = c W', and its updates.

The policy is the same whatever the c of a layer; its parameters W', and their plain gradient, are
not (Kakade 2001). Everything is in float64, over all actions of the states.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sb3_natural.curvature.families import CategoricalFamily
from sb3_natural.curvature.jacobian import AutogradJacobian
from sb3_natural.curvature.operators import CurvatureOperator, Damped
from sb3_natural.curvature.solvers import Dense
from sb3_natural.networks.parameters import assign_flat, flatten

__all__ = ["Problem", "apart", "network", "stepped"]

_USUAL = (1.0, 1.0)  # units of the two layers
_OTHERS = [(a, b) for a in (0.1, 1.0, 10.0) for b in (0.1, 1.0, 10.0) if (a, b) != _USUAL]
_N_STATES, _N_INPUTS, _N_HIDDEN, _N_ACTIONS = 256, 2, 3, 3
_FAMILY = CategoricalFamily([_N_ACTIONS])


class Problem(NamedTuple):
    """States and advantages, and the seed of a network."""

    states: Tensor
    """(N, n_inputs)"""
    advantages: Tensor
    """A(s, a), (N, n_actions)"""
    seed: int

    @staticmethod
    def drawn(seed: int) -> "Problem":
        """Normal states; the advantages are the two inputs and their product."""
        generator = torch.Generator().manual_seed(seed)
        states = torch.randn(_N_STATES, _N_INPUTS, generator=generator, dtype=torch.float64)
        x, y = states.T
        return Problem(states, torch.stack([x, y, x * y], dim=1), seed)


class _InUnits(nn.Module):
    def __init__(self, unit: float) -> None:
        super().__init__()
        self._unit = unit

    def forward(self, stored: Tensor) -> Tensor:
        return self._unit * stored

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / self._unit


def network(seed: int, units: tuple[float, float]) -> nn.Module:
    """A network with normal weights, its two layers stored in these units."""
    generator = torch.Generator().manual_seed(seed)
    first, second = nn.Linear(_N_INPUTS, _N_HIDDEN), nn.Linear(_N_HIDDEN, _N_ACTIONS)
    policy = nn.Sequential(first, nn.Tanh(), second).double()
    for parameter in policy.parameters():
        nn.init.normal_(parameter, generator=generator)
    for layer, unit in zip((first, second), units, strict=True):
        for name in ("weight", "bias"):
            parametrize.register_parametrization(layer, name, _InUnits(unit))
    return policy


def stepped(
    problem: Problem, units: tuple[float, float], gradient: str, damping: float, kl: float
) -> Tensor:
    """The logits after one update, (N, n_actions).

    :param gradient: "plain" or "natural"
    :param damping: multiple of the identity that is added to F, for the natural one
    :param kl: of the quadratic model, in nats
    """
    policy = network(problem.seed, units)
    jacobian = AutogradJacobian(lambda: policy(problem.states), list(policy.parameters()))
    pi = jacobian.outputs.softmax(dim=1)
    mean = (pi * problem.advantages).sum(dim=1, keepdim=True)
    direction = jacobian.vjp(pi * (problem.advantages - mean) / len(pi))
    fisher = CurvatureOperator(jacobian, _FAMILY.fisher_at(jacobian.outputs))
    if gradient == "natural":
        direction = Dense().solve(Damped(fisher, damping), direction).direction
    length = (2 * kl / fisher.quadratic_form(direction)) ** 0.5
    theta = flatten(parameter.detach() for parameter in jacobian.params)
    assign_flat(jacobian.params, theta + length * direction)
    return jacobian.evaluate()


def apart(problem: Problem, gradient: str, damping: float, kl: float) -> float:
    """How far apart the units of layers take the updated policies.

    :return: the largest mean KL divergence of any from the one in units of 1, over that of a step
    """
    usual = stepped(problem, _USUAL, gradient, damping, kl)
    return max(
        _FAMILY.kl(usual, stepped(problem, units, gradient, damping, kl)).mean().item() / kl
        for units in _OTHERS
    )
