"""K-FAC: a curvature matrix as one Kronecker product for each layer, averaged over updates.

Each layer's block is approximated by A (x) G (:mod:`sb3_natural.curvature.layers`), whose inverse
is that of two small matrices: for a gradient V, (n_out, n_in + 1), the direction is G^-1 V A^-1.
The damping lambda is split between the factors,

    A + pi sqrt(lambda) I,    G + sqrt(lambda) / pi I,    pi^2 = (tr A / dim A) / (tr G / dim G),

which adds lambda I to the product, and something between the two that keeps it one. Parameters of
other layers get the exact diagonal, plus lambda, and the log_std of a Gaussian its own block, 2 I.

Papers: Martens & Grosse 2015 (fully connected layers, damping, running averages), Grosse & Martens
2016 (convolutions).
"""

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from sb3_natural.curvature.layers import LayerFactors, layer_factors
from sb3_natural.curvature.operators import Operator, PolicyCurvature, undamped
from sb3_natural.curvature.solution import NoStepError, Solution, Solver
from sb3_natural.curvature.terms import PolicyOutputs
from sb3_natural.networks.parameters import flatten, split
from sb3_natural.shapes import check_shape

__all__ = ["KFAC", "own_kfac"]

# The name of the diagonal of all parameters without Kronecker factors.
_REST = "rest"
_SETTINGS = ("decay", "damping", "inverse_every", "others")


class KFAC(Solver):
    """The matrix approximated by a Kronecker product for each layer, which is easy to invert.

    It keeps running averages of the factors, so it belongs to one network: NPG works with a copy of
    the solver that it is given, which is saved with the model.

    :param decay: decay of the running averages, from 0 (this batch alone) to below 1. An average
        over n updates is divided by ``1 - decay^n``, so that it leans on no starting value
    :param damping: lambda, split between the factors; None: that of the operator, which is
        ``cg_damping`` (policy) or ``critic_damping`` (critic) in NPG
    :param inverse_every: how many updates apart the factors are inverted; in between, the last
        inverses serve
    :param others: what to do with parameters of layers that have no such factors (all but plain
        Linear and Conv2d layers; layers that are used twice or share their weights): "diagonal"
        takes the exact diagonal, through gradients of single samples, which is slow; "error"
        refuses, and names them
    :raises ValueError: an argument is out of range; the message names it
    """

    def __init__(
        self,
        decay: float = 0.95,
        damping: float | None = None,
        inverse_every: int = 1,
        others: Literal["diagonal", "error"] = "diagonal",
    ) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
        if damping is not None and not 0.0 <= damping < math.inf:
            raise ValueError(f"damping must be finite and not negative, or None, got {damping}")
        if not isinstance(inverse_every, int) or inverse_every < 1:
            raise ValueError(f"inverse_every must be an integer of at least 1, got {inverse_every}")
        if others not in ("diagonal", "error"):
            raise ValueError(f"others must be 'diagonal' or 'error', got {others!r}")
        self.decay = decay
        self.damping = damping
        self.inverse_every = inverse_every
        self.others = others
        self._averages: dict[str, Tensor] = {}
        self._inverses: dict[str, Tensor] = {}
        self._layout = _Layout([], [], [])
        self._n_updates = 0

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in _SETTINGS}

    def solve(self, operator: Operator, b: Tensor) -> Solution:
        """Update the averages with the operator's batch, and solve ``A x = b`` with them.

        :param operator: A, a :class:`~sb3_natural.curvature.operators.FisherOperator` or a
            :class:`~sb3_natural.curvature.operators.GaussNewtonOperator`, damped or not
        :param b: the right-hand side, shape (P,)
        :return: the solution, whose ``direction`` is x, shape (P,)
        :raises NoStepError: a factor is not finite, or not positive definite
        :raises ValueError: the operator is not of a policy, or has parameters of a layer without
            factors where ``others="error"``
        """
        check_shape(operator.shape[:1], b=b)
        curvature, damping = undamped(operator)
        if not isinstance(curvature, PolicyCurvature):
            raise ValueError(
                "K-FAC needs the layers of a policy: operator must be a FisherOperator or a "
                f"GaussNewtonOperator, damped or not, got a {type(curvature).__name__}"
            )
        self.update(curvature, layer_factors(curvature), damping)
        return Solution(self.precondition(b))

    def update(
        self, network: PolicyOutputs, layers: Sequence[LayerFactors], damping: float
    ) -> None:
        """Take one batch into the averages, and invert what is to be inverted.

        :param network: the outputs whose curvature it is, in the batch's states
        :param layers: the factors of its layers on the batch
        :param damping: lambda, where this solver has none of its own
        :raises NoStepError: a factor is not finite, or not positive definite
        :raises ValueError: there are parameters of other layers, and ``others="error"``
        """
        self._layout = layout = _Layout.of(network.params, layers)
        new: dict[str, Tensor] = {}
        for block, layer in zip(layout.blocks, layers, strict=True):
            new |= {f"{block.name}.a": layer.a, f"{block.name}.g": layer.g}
        if layout.rest:
            new[_REST] = self._diagonal(network, [network.params[i] for i in layout.rest])
        self._average(new)
        is_due = (self._n_updates - 1) % self.inverse_every == 0
        if is_due or self._inverses.keys() != self._averages.keys():
            self._invert(damping if self.damping is None else self.damping)

    def precondition(self, b: Tensor) -> Tensor:
        """The product of the inverse with a vector, shape (P,).

        The inverse is that of the last update that computed one.

        :param b: the vector, shape (P,), in the order of the last update's parameters
        """
        x = b.clone()
        parts = x.split(self._layout.sizes)
        for block in self._layout.blocks:
            g, a = (self._inverses[f"{block.name}.{factor}"] for factor in "ga")
            columns = [parts[index].view(len(g), -1) for index in block.indices]
            solved = g @ torch.cat(columns, dim=1) @ a
            start = 0
            for column in columns:
                column.copy_(solved[:, start : start + column.shape[1]])
                start += column.shape[1]
        start = 0
        for index in self._layout.rest:
            size = self._layout.sizes[index]
            parts[index].mul_(self._inverses[_REST][start : start + size])
            start += size
        return x

    def state_dict(self) -> dict[str, Any]:
        """The averages and inverses, as tensors by name, and the number of updates."""
        return {
            "n_updates": self._n_updates,
            "averages": dict(self._averages),
            "inverses": dict(self._inverses),
        }

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> None:
        """Take over what :meth:`state_dict` gave.

        :param state: the averages, inverses and number of updates
        :param strict: has no effect; SB3 gives it
        :raises ValueError: the state is not K-FAC's
        """
        if set(state) != {"n_updates", "averages", "inverses"}:
            raise ValueError(f"not a state of K-FAC: it has {sorted(state)}")
        self._n_updates = int(state["n_updates"])
        self._averages = {name: matrix.clone() for name, matrix in state["averages"].items()}
        self._inverses = {name: matrix.clone() for name, matrix in state["inverses"].items()}

    def _diagonal(self, network: PolicyOutputs, rest: Sequence[nn.Parameter]) -> Tensor:
        """The exact diagonal of parameters that no layer with factors has, flat."""
        known = network.known_diagonal()
        unknown = [param for param in rest if param not in known]
        if unknown and self.others == "error":
            wanted = set(unknown)
            names = [name for name, p in network.policy.named_parameters() if p in wanted]
            raise ValueError(
                f"{', '.join(names)}: no parameters of Linear or Conv2d layers that are used once, "
                'which is all that K-FAC has factors for; others="diagonal" takes the exact '
                "diagonal instead"
            )
        parts = {param: torch.full_like(param, value) for param, value in known.items()}
        if unknown:
            parts |= zip(unknown, split(network.diagonal_of(unknown), unknown), strict=True)
        return flatten(parts[param].detach() for param in rest)

    def _average(self, new: dict[str, Tensor]) -> None:
        # Means of squares are on the diagonals, and no other element is larger than all of those.
        diagonals = (each.diagonal() if each.ndim == 2 else each for each in new.values())
        if not all(torch.isfinite(diagonal).all() for diagonal in diagonals):
            raise NoStepError("a Kronecker factor is not finite")
        shapes = {name: matrix.shape for name, matrix in new.items()}
        if shapes != {name: matrix.shape for name, matrix in self._averages.items()}:
            # The first, or parameters were frozen or thawed.
            self._averages = {name: matrix.clone() for name, matrix in new.items()}
            self._inverses, self._n_updates = {}, 0
        self._n_updates += 1
        weight = (1 - self.decay) / (1 - self.decay**self._n_updates)
        for name, average in self._averages.items():
            average.lerp_(new[name], weight)

    def _invert(self, damping: float) -> None:
        inverses: dict[str, Tensor] = {}
        for block in self._layout.blocks:
            names = f"{block.name}.a", f"{block.name}.g"
            damped = _damped(self._averages[names[0]], self._averages[names[1]], damping)
            inverses |= zip(names, map(_inverse, damped), strict=True)
        if self._layout.rest:
            diagonal = self._averages[_REST] + damping
            if not (diagonal > 0).all():
                raise NoStepError("K-FAC's diagonal has zeros; use more damping")
            inverses[_REST] = 1 / diagonal
        self._inverses = inverses


def own_kfac(chosen: str | Solver, held: KFAC | None) -> KFAC | None:
    """The K-FAC solver that a model keeps, since it remembers what it has seen.

    :param chosen: the solver, or the name of one, that the model is to use
    :param held: the one that it has kept so far
    :return: the one kept, with the settings of the one chosen; a new one if there was none; None if
        K-FAC is not chosen
    """
    if chosen == "kfac":
        chosen = KFAC()
    if not isinstance(chosen, KFAC):
        return None
    if type(held) is not type(chosen):
        return copy.deepcopy(chosen)  # of a derived class, too; the user's own stays as it is
    vars(held).update(chosen.settings)
    return held


class _Block(NamedTuple):
    """Where the block of one layer is."""

    name: str
    indices: list[int]
    """of its parameters among all: weight, bias, or both"""


class _Layout(NamedTuple):
    """Which parameters the blocks belong to."""

    sizes: list[int]
    """of all parameters"""
    blocks: list[_Block]
    rest: list[int]
    """the indices of those in no block"""

    @staticmethod
    def of(params: Sequence[nn.Parameter], layers: Sequence[LayerFactors]) -> "_Layout":
        position: dict[Tensor, int] = {param: index for index, param in enumerate(params)}
        indices = [[position[param] for param in layer.params] for layer in layers]
        covered = {index for block in indices for index in block}
        return _Layout(
            [param.numel() for param in params],
            [_Block("-".join(map(str, block)), block) for block in indices],
            [index for index in range(len(params)) if index not in covered],
        )


def _damped(a: Tensor, g: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """A + pi sqrt(lambda) I and G + sqrt(lambda) / pi I (Martens & Grosse 2015, section 6.3)."""
    of_a, of_g = (a.trace() / len(a)).item(), (g.trace() / len(g)).item()
    # Where one of them vanishes, nothing says how to split.
    pi = math.sqrt(of_a / of_g) if of_a > 0 and of_g > 0 else 1.0
    root = math.sqrt(damping)
    return _plus(a, pi * root), _plus(g, root / pi)


def _plus(matrix: Tensor, multiple: float) -> Tensor:
    result = matrix.clone()
    result.diagonal().add_(multiple)
    return result


def _inverse(matrix: Tensor) -> Tensor:
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        raise NoStepError("a Kronecker factor is not positive definite; use more damping")
    return torch.cholesky_inverse(factor)
