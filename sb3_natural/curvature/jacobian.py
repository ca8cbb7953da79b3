"""The Jacobian of a network's outputs with respect to its parameters, as two products.

J v says how the outputs move when the parameters move by v; J^T u collects what the outputs want of
the parameters. Curvature, natural gradients and ordinary gradients are made of these two.

Two implementations: :class:`AutogradJacobian` for any network, :class:`MlpJacobian` for plain
multilayer perceptrons, which needs no graph and half the time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sb3_natural.networks.activations import known
from sb3_natural.networks.mlp import Mlp
from sb3_natural.networks.parameters import flatten, split
from sb3_natural.networks.passes import fast_functions, hidden_layers, hidden_outputs

__all__ = ["AutogradJacobian", "Jacobian", "MlpJacobian"]


class Jacobian(ABC):
    """J at the parameters' values when it was built, for a batch of N samples with K outputs.

    :ivar params: the P parameters to differentiate by
    :ivar outputs: shape (N, K), detached
    """

    params: list[nn.Parameter]
    outputs: Tensor

    @cached_property
    def n_params(self) -> int:
        """P."""
        return sum(param.numel() for param in self.params)

    def jvp(self, vector: Tensor) -> Tensor:
        """J v: how the outputs move when the parameters move by v. (P,) -> (N, K).

        :raises ValueError: v is not a vector of P elements
        """
        if vector.shape != (self.n_params,):
            raise ValueError(
                f"a vector of shape ({self.n_params},) is needed, one element for each parameter; "
                f"got shape {tuple(vector.shape)}"
            )
        return self._jvp(vector.detach().to(self.outputs.dtype))

    @abstractmethod
    def _jvp(self, vector: Tensor) -> Tensor:
        """J v for a vector of the right length and precision."""

    @abstractmethod
    def vjp(self, cotangent: Tensor) -> Tensor:
        """J^T u summed over samples. (N, K) -> (P,)."""

    @abstractmethod
    def evaluate(self) -> Tensor:
        """The outputs with the parameters as they are now, shape (N, K), detached."""


class AutogradJacobian(Jacobian):
    """The Jacobian of anything that torch can differentiate once.

    :param forward: computes the outputs, shape (N, K)
    :param params: candidates; those that the outputs do not depend on are left out
    :raises ValueError: the outputs depend on none of them
    """

    def __init__(self, forward: Callable[[], Tensor], params: Sequence[nn.Parameter]) -> None:
        self._forward = forward
        self._attached = forward()
        self.outputs = self._attached.detach()
        # J^T u is linear in u. Differentiating it once more with respect to u gives J v, for any
        # network that has a backward pass and at the price of one (Townsend 2017).
        self._cotangent = torch.zeros_like(self.outputs, requires_grad=True)
        pullback: tuple[Tensor | None, ...] = ()
        if self._attached.requires_grad:
            pullback = torch.autograd.grad(
                self._attached, params, self._cotangent, create_graph=True, allow_unused=True
            )
        behind = [
            (param, grad) for param, grad in zip(params, pullback, strict=False) if grad is not None
        ]
        if not behind:
            raise ValueError(
                f"none of the {len(params)} given parameters influences the outputs of shape "
                f"{tuple(self.outputs.shape)}: are they detached, or all parameters frozen?"
            )
        self.params = [param for param, _ in behind]
        self._pullback = [grad for _, grad in behind]

    def _jvp(self, vector: Tensor) -> Tensor:
        parts = tuple(split(vector, self.params))
        (product,) = torch.autograd.grad(self._pullback, self._cotangent, parts, retain_graph=True)
        return product

    def vjp(self, cotangent: Tensor) -> Tensor:
        """See :meth:`Jacobian.vjp`."""
        return flatten(
            torch.autograd.grad(self._attached, self.params, cotangent, retain_graph=True)
        )

    @torch.no_grad()
    def evaluate(self) -> Tensor:
        """See :meth:`Jacobian.evaluate`."""
        return self._forward()


class MlpJacobian(Jacobian):
    """The Jacobian of a multilayer perceptron, layer by layer.

    With h_0 the features, a_l = W_l h_{l-1} + b_l, h_l = f(a_l) and D_l = f'(a_l), of which h_l is
    all that is kept,

        J v:    da_l = W_l dh_{l-1} + dW_l h_{l-1} + db_l,   dh_l = D_l da_l
        J^T u:  gW_l = d_l h_{l-1}^T,  gb_l = d_l,           d_{l-1} = D_{l-1} W_l^T d_l

    Work goes in blocks of samples through two buffers, so memory beyond the activations does not
    grow with the batch.

    :param mlp: a network that :meth:`fits`
    :param features: shape (N, n_features)
    :param log_std: the logarithm of a Gaussian's standard deviation, a parameter of the same length
        as the network's outputs; if given, it joins the outputs on the right (and the parameters
        on the left, where SB3 has it)
    """

    def __init__(self, mlp: Mlp, features: Tensor, log_std: nn.Parameter | None = None) -> None:
        self._mlp = mlp
        self._log_std = log_std
        self.params = [log_std] if log_std is not None else []
        self.params += mlp.params
        self._versions = self._current_versions()
        self._weights, self._biases = mlp.weights, mlp.biases
        self._sizes = [param.numel() for param in self.params]
        self._features = features.to(mlp.linears[0].weight.dtype)
        functions = mlp.functions
        self._hidden = hidden_layers(
            self._weights, self._biases, fast_functions(functions, features.device)
        )
        self._slopes = known([activation.slope for activation in functions])
        self._blocks = self._make_blocks()
        self.outputs = self._forward(keep=True)

    def _make_blocks(self) -> list["_Block"]:
        n_samples, like = len(self._features), self._features
        hidden = [layer.out_features for layer in self._mlp.linears[:-1]]
        activations = [like.new_empty(n_samples, width) for width in hidden]
        n_rows = max(_MIN_ROWS, _BLOCK_ELEMENTS // max(hidden, default=1))
        n_rows = min(n_samples, n_rows)
        # One layer's block goes into one of them, the next layer's into the other.
        room = like.new_empty(2, n_rows * max(hidden, default=0))
        blocks = []
        for start in range(0, n_samples, n_rows):
            rows = slice(start, min(start + n_rows, n_samples))
            length = rows.stop - rows.start
            inputs = [tensor[rows] for tensor in (self._features, *activations)]
            buffers = [
                room[index % 2, : length * width].view(length, width)
                for index, width in enumerate(hidden)
            ]
            blocks.append(_Block(rows, inputs, buffers, like.new_ones(length)))
        return blocks

    @staticmethod
    def fits(mlp: Mlp) -> bool:
        """Whether each activation's output determines its slope, and no parameter is frozen."""
        return all(activation.slope is not None for activation in mlp.functions) and all(
            param.requires_grad for param in mlp.params
        )

    def evaluate(self) -> Tensor:
        """See :meth:`Jacobian.evaluate`."""
        return self._forward(keep=False)

    def _forward(self, keep: bool) -> Tensor:
        """The outputs. Those of hidden layers are kept, or overwritten by the next block's."""
        outputs, means = self._new_outputs()
        for block in self._blocks:
            buffers = block.inputs[1:] if keep else block.buffers
            h = hidden_outputs(self._hidden, block.inputs[0], buffers)
            out = means[:, block.rows]
            torch.addmm(self._biases[-1][:, None], self._weights[-1], h.t(), out=out)
        if self._log_std is not None:
            outputs[len(means) :] = self._log_std.detach()[:, None]
        return outputs.t()

    def _jvp(self, vector: Tensor) -> Tensor:
        self._check_versions()
        pushed, means = self._new_outputs()
        log_std, weights, biases = self._split(vector)
        if log_std is not None:
            pushed[len(means) :] = log_std[:, None]
        for block in self._blocks:
            moved: Tensor | None = None
            for index, out in enumerate(block.buffers):
                torch.addmm(biases[index], block.inputs[index], weights[index].t(), out=out)
                if moved is not None:
                    out.addmm_(moved, self._weights[index].t())
                moved = self._slopes[index](out, block.inputs[index + 1])
            out = means[:, block.rows]
            torch.addmm(biases[-1][:, None], weights[-1], block.inputs[-1].t(), out=out)
            if moved is not None:
                out.addmm_(self._weights[-1], moved.t())
        return pushed.t()

    def vjp(self, cotangent: Tensor) -> Tensor:
        """See :meth:`Jacobian.vjp`."""
        self._check_versions()
        collected = cotangent.new_zeros(self.n_params)
        log_std, weights, biases = self._split(collected)
        if log_std is not None:
            cotangent, log_std_part = cotangent.chunk(2, dim=1)
            torch.sum(log_std_part, dim=0, out=log_std)
        for block in self._blocks:
            delta = cotangent[block.rows]
            for index in range(len(weights) - 1, -1, -1):
                _add_outer(weights[index], delta, block.inputs[index])
                biases[index].addmv_(delta.t(), block.ones)
                if index > 0:
                    out = block.buffers[index - 1]
                    torch.mm(delta, self._weights[index], out=out)
                    delta = self._slopes[index - 1](out, block.inputs[index])
        return collected

    def _split(self, vector: Tensor) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
        """A flat vector's parts: log_std, weights, biases."""
        parts = list(vector.split_with_sizes(self._sizes))
        log_std = None if self._log_std is None else parts.pop(0)
        weights = [part.view_as(own) for part, own in zip(parts[::2], self._weights, strict=True)]
        return log_std, weights, parts[1::2]

    def _new_outputs(self) -> tuple[Tensor, Tensor]:
        """Room for outputs, transposed, and the part of it that the last layer fills.

        A product with few rows and N columns takes half the time of one with N rows and few
        columns.
        """
        n_outputs = self._mlp.linears[-1].out_features
        n_rows = n_outputs if self._log_std is None else 2 * n_outputs
        outputs = self._features.new_empty(n_rows, len(self._features))
        return outputs, outputs[:n_outputs]

    def _current_versions(self) -> list[int]:
        return [param._version for param in self.params]

    def _check_versions(self) -> None:
        if self._current_versions() != self._versions:
            raise RuntimeError(
                "the parameters have changed since this Jacobian was built; its activations are "
                "those of the old ones: build a new one"
            )


class _Block(NamedTuple):
    """Some of the samples, and room to work on them."""

    rows: slice
    inputs: list[Tensor]  # of each layer: the features, then activations
    buffers: list[Tensor]  # one for the output of each hidden layer
    ones: Tensor


# Elements of a buffer: a block should stay in a core's cache, and be long enough for the matrix
# products to run at full speed.
_BLOCK_ELEMENTS = 2**18
_MIN_ROWS = 256


def _add_outer(total: Tensor, delta: Tensor, inputs: Tensor) -> None:
    """total += delta^T inputs, shapes (n_out, n_in), (N, n_out), (N, n_in)."""
    if inputs.shape[1] < delta.shape[1]:
        # Few columns again: transposed, it takes half the time.
        total.add_(torch.mm(inputs.t(), delta).t())
    else:
        total.addmm_(delta.t(), inputs)
