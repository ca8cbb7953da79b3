"""The Jacobian of a network's outputs with respect to its parameters, as two products.

J v says how the outputs move when the parameters move by v; J^T u turns a gradient by the outputs
into one by the parameters. Curvature, natural gradients and ordinary gradients are made of these.

There are three implementations: :class:`AutogradJacobian` for any network; :class:`MlpJacobian` for
plain multilayer perceptrons, which needs no graph and takes half the time; and
:class:`ScalarMlpJacobian` for those with one output, which takes two thirds of that.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from sb3_natural.networks.activations import known
from sb3_natural.networks.mlp import Mlp
from sb3_natural.networks.parameters import flatten, split
from sb3_natural.networks.passes import fast_functions, hidden_layers, hidden_outputs
from sb3_natural.networks.products import add_outer, add_product, affine, product
from sb3_natural.shapes import check_shape

__all__ = ["AutogradJacobian", "Jacobian", "MlpJacobian", "ScalarMlpJacobian"]


class Jacobian(ABC):
    """The Jacobian J of K outputs in each of N samples, known by its products.

    It is that at the parameters' values when this was built.

    :ivar params: the P parameters to differentiate by
    :ivar outputs: the outputs there, shape (N, K), detached
    """

    params: list[nn.Parameter]
    outputs: Tensor

    @cached_property
    def n_params(self) -> int:
        """P, the number of parameters."""
        return sum(param.numel() for param in self.params)

    def jvp(self, vector: Tensor) -> Tensor:
        """The product ``J v``: how the outputs move when the parameters move by v.

        :param vector: v, shape (P,)
        :return: shape (N, K)
        :raises ValueError: v is not a vector of P elements
        """
        check_shape((self.n_params,), vector=vector)
        return self._jvp(vector.detach().to(self.outputs.dtype))

    @abstractmethod
    def _jvp(self, vector: Tensor) -> Tensor:
        """J v for a vector of the right length and precision."""

    def vjp(self, cotangent: Tensor) -> Tensor:
        """The product ``J^T u``, summed over samples.

        :param cotangent: u, shape (N, K)
        :return: shape (P,)
        :raises ValueError: u has another shape than the outputs
        """
        check_shape(self.outputs.shape, cotangent=cotangent)
        return self._vjp(cotangent)

    @abstractmethod
    def _vjp(self, cotangent: Tensor) -> Tensor:
        """J^T u for a cotangent of the right shape."""

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
        # network that has a backward pass, and at the cost of one (Townsend 2017).
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

    def _vjp(self, cotangent: Tensor) -> Tensor:
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

    Blocks of samples pass through two buffers, so memory beyond the activations does not grow with
    the batch.

    :param mlp: a network that :meth:`fits`
    :param features: shape (N, n_features)
    :param log_std: the logarithm of a Gaussian's standard deviation, a parameter as long as the
        network's outputs; if given, it is appended to the outputs, and put in front of the
        parameters, where SB3 has it
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
        # One layer's block goes into one buffer, the next layer's into the other.
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
        """The outputs.

        :param keep: whether to keep the hidden activations, or reuse their memory for each block
        """
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
            for index, buffer in enumerate(block.buffers):
                out = affine(block.inputs[index], weights[index], biases[index], buffer)
                if moved is not None:
                    out = add_product(out, moved, self._weights[index])
                moved = self._slopes[index](out, block.inputs[index + 1])
            out = means[:, block.rows]
            torch.addmm(biases[-1][:, None], weights[-1], block.inputs[-1].t(), out=out)
            if moved is not None:
                out.addmm_(self._weights[-1], moved.t())
        return pushed.t()

    def _vjp(self, cotangent: Tensor) -> Tensor:
        self._check_versions()
        collected = cotangent.new_zeros(self.n_params)
        log_std, weights, biases = self._split(collected)
        if log_std is not None:
            cotangent, log_std_part = cotangent.chunk(2, dim=1)
            torch.sum(log_std_part, dim=0, out=log_std)
        for block in self._blocks:
            deltas = self._backward(block, cotangent[block.rows])
            for index, delta in zip(range(len(weights) - 1, -1, -1), deltas, strict=True):
                transposed = partial(block.transposed, index)
                add_outer(weights[index], delta, block.inputs[index], transposed)
                biases[index].addmv_(delta.t(), block.ones)
        return collected

    def _backward(self, block: "_Block", cotangent: Tensor) -> Iterator[Tensor]:
        """d_l of each layer, the last one's first; each is lost with the next but one.

        :param cotangent: u of the block's samples, (n, K), which is the last layer's
        """
        delta = cotangent
        yield delta
        for index in range(len(block.buffers) - 1, -1, -1):
            out = product(delta, self._weights[index + 1], block.buffers[index])
            delta = self._slopes[index](out, block.inputs[index + 1])
            yield delta

    @property
    def layers(self) -> tuple[nn.Linear, ...]:
        """The network's layers, the last of which gives the outputs (without log_std)."""
        return self._mlp.linears

    def layer_inputs(self) -> Iterator[tuple[int, Tensor]]:
        """The index of a layer, and its inputs h, (n, n_in), some of the samples at a time."""
        for block in self._blocks:
            yield from enumerate(block.inputs)

    def layer_gradients(self, cotangent: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The index of a layer, and d for its outputs, (n, n_out), some of the samples at a time.

        Each is to be used before the next is asked for, which may overwrite it.

        :param cotangent: u of the network's outputs, (N, n_out of the last layer)
        """
        self._check_versions()
        last = len(self.layers) - 1
        for block in self._blocks:
            deltas = self._backward(block, cotangent[block.rows])
            yield from zip(range(last, -1, -1), deltas, strict=True)

    def last_slopes(self) -> Iterator[Tensor]:
        """D of the last hidden layer, (n, width), some of the samples at a time."""
        for block in self._blocks:
            yield self._slopes[-1](block.buffers[-1].fill_(1.0), block.inputs[-1])

    def _split(self, vector: Tensor) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
        """The parts of a flat vector: log_std, weights, biases."""
        parts = list(vector.split_with_sizes(self._sizes))
        log_std = None if self._log_std is None else parts.pop(0)
        weights = [part.view_as(own) for part, own in zip(parts[::2], self._weights, strict=True)]
        return log_std, weights, parts[1::2]

    def _new_outputs(self) -> tuple[Tensor, Tensor]:
        """Memory for outputs, transposed, and the part of it that the last layer fills.

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
                "the parameters have changed since this Jacobian was built, but its activations "
                "have not: build a new one"
            )


class ScalarMlpJacobian(MlpJacobian):
    """The Jacobian of a multilayer perceptron with one output.

    With e_l the derivative of the output by a_l, a vector for each sample (d_l for u = 1),

        J v:    sum_l e_l . (dW_l h_{l-1} + db_l)
        J^T u:  d_l = u e_l, the rest as before

    The e_l are computed once, for one backward pass and as much memory as the activations have.
    Without the products with W_l, a product with J or J^T has half the arithmetic.

    :param mlp: a network with one output that :meth:`~MlpJacobian.fits`
    :param features: shape (N, n_features)
    """

    def __init__(self, mlp: Mlp, features: Tensor) -> None:
        check_shape((1,), **{"the last layer's bias": mlp.linears[-1].bias})
        super().__init__(mlp, features)

    @cached_property
    def _derivatives(self) -> list[Tensor]:
        """e_l of each hidden layer, (N, width)."""
        widths = [len(weight) for weight in self._weights[:-1]]
        derivatives = [self._features.new_empty(len(self._features), n) for n in widths]
        for block in self._blocks:
            deltas = super()._backward(block, block.ones[:, None])
            next(deltas)  # the last layer's are 1
            for derivative, delta in zip(derivatives[::-1], deltas, strict=True):
                derivative[block.rows] = delta
        return derivatives

    def _jvp(self, vector: Tensor) -> Tensor:
        self._check_versions()
        derivatives = self._derivatives  # the first time, it uses the buffers
        pushed, _ = self._new_outputs()
        _, weights, biases = self._split(vector)
        for block in self._blocks:
            out = pushed[0, block.rows]
            torch.addmv(biases[-1], block.inputs[-1], weights[-1][0], out=out)
            for index, buffer in enumerate(block.buffers):
                moved = affine(block.inputs[index], weights[index], biases[index], buffer)
                out += moved.mul_(derivatives[index][block.rows]).sum(dim=1)
        return pushed.t()

    def _backward(self, block: "_Block", cotangent: Tensor) -> Iterator[Tensor]:
        yield cotangent
        for index in range(len(block.buffers) - 1, -1, -1):
            derivative = self._derivatives[index][block.rows]
            yield torch.mul(derivative, cotangent, out=block.buffers[index])


@dataclass
class _Block:
    """Some of the samples, and memory to work in."""

    rows: slice
    inputs: list[Tensor]  # of each layer: the features, then activations
    buffers: list[Tensor]  # one for the output of each hidden layer
    ones: Tensor
    _transposed: dict[int, Tensor] = field(default_factory=dict)

    def transposed(self, index: int) -> Tensor:
        """A copy of the transpose of one of the inputs, made at the first call."""
        if index not in self._transposed:
            self._transposed[index] = self.inputs[index].t().contiguous()
        return self._transposed[index]


# Elements of a buffer: a block should fit into a core's cache, and be long enough for matrix
# products to run at full speed.
_BLOCK_ELEMENTS = 2**18
_MIN_ROWS = 256
