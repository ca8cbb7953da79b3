"""What one batch says of each layer: the Kronecker factors of its block of a curvature matrix.

For a layer with inputs a (a 1 appended for the bias) and derivatives d of the outputs by its
pre-activations, the block of mean J^T M J is the mean of (a a^T) (x) (d d^T), d running over the
columns of J^T L, M = L L^T. It is approximated by A (x) G with

    A = mean a a^T,    G = mean sum d d^T

(Martens & Grosse 2015), as if a and d were independent. No action is sampled: with L the factor of
the action distribution, the expectation over actions is exact. Convolutions are layers that many
patches of an image pass: A is a mean over patches, G a sum (Grosse & Martens 2016).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sb3_natural.curvature.jacobian import MlpJacobian
from sb3_natural.curvature.operators import PolicyCurvature
from sb3_natural.curvature.tape import LayerCall, LayerTape
from sb3_natural.curvature.terms import Term
from sb3_natural.networks.products import add_gram

__all__ = ["LayerFactors", "factors_from_calls", "layer_factors"]

# Elements of the unfolded patches at a time.
_PATCH_ELEMENTS = 2**22


class LayerFactors(NamedTuple):
    """One layer's factors on one batch."""

    weight: Tensor | None
    """None if it is frozen"""
    bias: Tensor | None
    """None if it is frozen, or the layer has none"""
    a: Tensor
    """(n_in + 1, n_in + 1), less the rows and columns of what is None"""
    g: Tensor
    """(n_out, n_out)"""

    @property
    def params(self) -> list[Tensor]:
        """The parameters whose block this is."""
        return [param for param in (self.weight, self.bias) if param is not None]


def layer_factors(curvature: PolicyCurvature) -> list[LayerFactors]:
    """The factors of all layers of a policy that have them; the batch is the operator's.

    Layers whose parameters are in none of the results are of another kind, or are used more than
    once.
    """
    jacobian = curvature.jacobian
    if isinstance(jacobian, MlpJacobian):
        return _of_mlp(jacobian, curvature.factor())
    with LayerTape(curvature.policy) as tape:
        terms = curvature.terms(curvature.observations)
    return factors_from_calls(curvature.policy, tape.calls, terms, curvature.params)


def _of_mlp(jacobian: MlpJacobian, factor: Tensor) -> list[LayerFactors]:
    """From the activations that the Jacobian has kept.

    :param factor: L, (N, K, m), of whose K outputs the first are the network's
    """
    layers, n_samples = jacobian.layers, len(factor)
    moments = [_Moments(factor, layer.in_features, True, True) for layer in layers]
    for index, inputs in jacobian.layer_inputs():
        moments[index].add(inputs)
    n_outputs = layers[-1].out_features
    factor = factor[:, :n_outputs, :n_outputs]
    known = _top_gradient_factors(jacobian, factor)
    g = [factor.new_zeros(layer.out_features, layer.out_features) for layer in layers]
    for column in factor.unbind(dim=2):
        for index, gradients in jacobian.layer_gradients(column):
            if index not in known:
                add_gram(g[index], gradients)
    return [
        LayerFactors(
            layer.weight, layer.bias, moment.mean(), known.get(index, g[index]) / n_samples
        )
        for index, (layer, moment) in enumerate(zip(layers, moments, strict=True))
    ]


def _top_gradient_factors(jacobian: MlpJacobian, factor: Tensor) -> dict[int, Tensor]:
    """The sum of d d^T of the last two layers, by index, where M is the same in all samples.

    It is N M for the last, and for the one below (W^T M W) * (sum of s s^T), entry by entry, with s
    the activations' slopes: one product for all columns of L.
    """
    if len(jacobian.layers) == 1 or not (factor == factor[:1]).all():
        return {}
    m, weight = factor[0] @ factor[0].T, jacobian.layers[-1].weight.detach()
    slopes = weight.new_zeros(weight.shape[1], weight.shape[1])
    for rows in jacobian.last_slopes():
        add_gram(slopes, rows)
    last = len(jacobian.layers) - 1
    return {last: len(factor) * m, last - 1: (weight.T @ m @ weight) * slopes}


def factors_from_calls(
    policy: nn.Module,
    calls: Sequence[LayerCall],
    terms: Sequence[Term],
    params: Sequence[nn.Parameter],
) -> list[LayerFactors]:
    """The factors of the layers that a forward pass has used.

    :param policy: holds the layers
    :param calls: the layers' calls in the pass that gave the terms
    :param terms: attached to the graph, which is kept
    :param params: the parameters wanted
    """
    wanted: set[Tensor] = set(params)
    calls = [
        call
        for call in _unshared(policy, calls)
        if call.output.requires_grad and not wanted.isdisjoint(call.layer.parameters())
    ]
    n_samples = len(terms[0].outputs)
    return [_factors(call, g / n_samples, wanted) for call, g in _gradient_factors(calls, terms)]


def _unshared(policy: nn.Module, calls: Iterable[LayerCall]) -> Iterator[LayerCall]:
    """The calls that are Kronecker products: convolutions in one group, own parameters."""
    owners = Counter(
        param for module in policy.modules() for param in module.parameters(recurse=False)
    )
    for call in calls:
        layer = call.layer
        if isinstance(layer, nn.Conv2d) and (
            layer.groups > 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str)
        ):
            continue
        if all(owners[param] == 1 for param in layer.parameters()):
            yield call


def _gradient_factors(
    calls: Sequence[LayerCall], terms: Iterable[Term]
) -> list[tuple[LayerCall, Tensor]]:
    """A call of each layer, with the sum of d d^T over terms and samples, (n_out, n_out).

    Several terms may use a layer, each in a pass of its own; but one that a term uses more than
    once, or with other inputs than another term, is left out: its block is no Kronecker product.
    """
    g: dict[nn.Module, Tensor] = {}
    first: dict[nn.Module, LayerCall] = {}
    refused: set[nn.Module] = set()
    for term in terms:
        uses: dict[nn.Module, LayerCall] = {}
        for call, rows in _output_gradients(calls, term):
            layer = call.layer
            before = uses.setdefault(layer, call), first.setdefault(layer, call)
            if before[0] is not call or not _same_inputs(before[1], call):
                refused.add(layer)
            if layer not in g:
                g[layer] = rows.new_zeros(rows.shape[1], rows.shape[1])
            add_gram(g[layer], rows)
    return [(first[layer], total) for layer, total in g.items() if layer not in refused]


def _output_gradients(calls: Sequence[LayerCall], term: Term) -> Iterator[tuple[LayerCall, Tensor]]:
    """The calls that the term depends on, with d as rows, once for each column of L."""
    outputs = [call.output for call in calls]
    if not outputs or not term.outputs.requires_grad:
        return
    for column in term.factor.unbind(dim=2):
        grads = torch.autograd.grad(
            term.outputs, outputs, column, retain_graph=True, allow_unused=True
        )
        for call, grad in zip(calls, grads, strict=True):
            if grad is not None:
                yield call, _rows(call.layer, grad)


def _same_inputs(one: LayerCall, other: LayerCall) -> bool:
    return one is other or torch.equal(one.inputs, other.inputs)


def _factors(call: LayerCall, g: Tensor, wanted: set[Tensor]) -> LayerFactors:
    layer = call.layer
    weight = layer.weight if layer.weight in wanted else None
    bias = layer.bias if layer.bias is not None and layer.bias in wanted else None
    moments = _Moments(g, layer.weight[0].numel(), weight is not None, bias is not None)
    for rows in _patches(layer, call.inputs):
        moments.add(rows)
    return LayerFactors(weight, bias, moments.mean(), g)


def _rows(layer: nn.Module, tensor: Tensor) -> Tensor:
    """Outputs of a layer, or derivatives by them, as rows, (N * positions, n_out)."""
    if isinstance(layer, nn.Conv2d):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(-1, tensor.shape[-1])


def _patches(layer: nn.Linear | nn.Conv2d, inputs: Tensor) -> Iterator[Tensor]:
    """What the layer multiplies by its weights, as rows, (n, n_in), some of them at a time."""
    if isinstance(layer, nn.Linear):
        yield inputs.reshape(-1, inputs.shape[-1])
        return

    def unfolded(images: Tensor) -> Tensor:
        patches = F.unfold(
            images,
            layer.kernel_size,
            dilation=layer.dilation,
            padding=layer.padding,  # type: ignore[arg-type]
            stride=layer.stride,
        )
        return patches.transpose(1, 2).flatten(0, 1)

    n_images = max(1, _PATCH_ELEMENTS // unfolded(inputs[:1]).numel())
    for images in inputs.split(n_images):
        yield unfolded(images)


class _Moments:
    """The mean of a a^T over rows that come in pieces.

    :param like: of the precision and on the device of the rows
    :param n_in: of the layer
    :param with_inputs: whether a has the layer's inputs
    :param with_one: whether a has a 1 at its end
    """

    def __init__(self, like: Tensor, n_in: int, with_inputs: bool, with_one: bool) -> None:
        self._n_in = n_in if with_inputs else 0
        self._with_one = with_one
        size = self._n_in + int(with_one)
        self._total = like.new_zeros(size, size)
        self._n_rows = 0

    def add(self, rows: Tensor) -> None:
        """Add rows, (n, n_in)."""
        self._n_rows += len(rows)
        if self._n_in:
            add_gram(self._total[: self._n_in, : self._n_in], rows)
        if self._n_in and self._with_one:
            sums = rows.sum(dim=0)
            self._total[-1, :-1] += sums
            self._total[:-1, -1] += sums
        if self._with_one:
            self._total[-1, -1] += len(rows)

    def mean(self) -> Tensor:
        """A."""
        return self._total / self._n_rows
