"""The Fisher information of a policy as a linear operator.

With J(s) the Jacobian of the action distribution's statistics phi(s) with respect to the policy's
parameters and M the distribution's own Fisher information,

    F = mean_s J(s)^T M(phi(s)) J(s),

which equals the Hessian of the mean KL divergence at zero displacement (Kakade 2001; Martens 2020,
section 5) but needs only first derivatives of the network: F v is one Jacobian-vector product, one
multiplication by M, one vector-Jacobian product. F itself is never formed unless asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sb3_natural.curvature.families import ActionFamily, family_of
from sb3_natural.curvature.jacobian import AutogradJacobian, Jacobian, MlpJacobian
from sb3_natural.networks.mlp import actor_mlp, flat_features
from sb3_natural.networks.parameters import flatten, split

__all__ = [
    "CurvatureOperator",
    "FisherOperator",
    "action_distribution",
    "batch_length",
    "first_sample",
    "statistics_jacobian",
    "subsample",
]

# Samples at a time in per-sample gradients. Work grows with it, overhead shrinks with it: between
# 16 and 64 the time for 2,048 samples of a 64-64 network hardly changes.
_CHUNK = 32


def batch_length(observations: PyTorchObs) -> int:
    """Number of samples in a batch of observations (a tensor, or a dict of tensors)."""
    if isinstance(observations, dict):
        return len(next(iter(observations.values())))
    return len(observations)


def first_sample(observations: PyTorchObs) -> PyTorchObs:
    """The first of the observations, as a batch of one."""
    return _take(observations, torch.arange(1))


def subsample(observations: PyTorchObs, n_samples: int) -> PyTorchObs:
    """Some of the observations, drawn at random with torch's generator, without replacement."""
    return _take(observations, torch.randperm(batch_length(observations))[:n_samples])


@torch.no_grad()
def action_distribution(policy: ActorCriticPolicy, observations: PyTorchObs) -> Distribution:
    """A distribution of the kind that the policy returns; what it holds is of no account."""
    if actor_mlp(policy) is not None:
        return policy.action_dist
    return policy.get_distribution(first_sample(observations))


def statistics_jacobian(
    policy: ActorCriticPolicy, observations: PyTorchObs, fast: bool = True
) -> tuple[ActionFamily, Jacobian]:
    """The statistics phi of a policy's action distribution, with their Jacobian.

    The parameters are those that the action distribution depends on, found without their names.

    :param observations: N states
    :param fast: hand-written products where the policy is a plain multilayer perceptron
    :raises TypeError: the action distribution is not supported
    """
    family = family_of(action_distribution(policy, observations))
    mlp = actor_mlp(policy) if fast else None
    if mlp is not None and MlpJacobian.fits(mlp):
        gaussian = isinstance(policy.action_dist, DiagGaussianDistribution)
        log_std = policy.log_std if gaussian else None
        if log_std is None or log_std.requires_grad:
            return family, MlpJacobian(mlp, flat_features(policy, observations), log_std)
    trainable = [param for param in policy.parameters() if param.requires_grad]
    return family, AutogradJacobian(
        lambda: family.statistics(policy.get_distribution(observations)), trainable
    )


class CurvatureOperator:
    """``mean_s J(s)^T M(s) J(s) + damping I`` for the outputs of a network, as ``operator @ v``.

    With M the Fisher information of the outputs' distribution this is the Fisher information (see
    :class:`FisherOperator`); with M = I it is the Gauss-Newton matrix of half the mean squared
    error, which the critic uses.

    :param jacobian: J, of N samples with K outputs, for P parameters
    :param metric: maps u of shape (N, K) to M u of the same shape, in u's place or not
    :param damping: non-negative multiple of the identity that is added
    :raises ValueError: negative or non-finite damping
    """

    def __init__(
        self,
        jacobian: Jacobian,
        metric: Callable[[Tensor], Tensor],
        damping: float = 0.0,
    ) -> None:
        if not (damping >= 0.0 and damping < float("inf")):
            raise ValueError(f"damping must be finite and not negative, got {damping}")
        self.jacobian = jacobian
        self.damping = damping
        self._metric = metric

    @property
    def params(self) -> list[nn.Parameter]:
        """The parameters, in the order of the flat vectors."""
        return self.jacobian.params

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.jacobian.outputs)

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return self.jacobian.n_params, self.jacobian.n_params

    def __matmul__(self, vector: Tensor) -> Tensor:
        """(F + damping I) v, shape (P,).

        :raises ValueError: v is not a vector of P elements
        """
        pushed = self._metric(self.jacobian.jvp(vector))
        product = self.jacobian.vjp(pushed.div_(self.n_samples))
        return product.add_(vector, alpha=self.damping) if self.damping else product

    def quadratic_form(self, vector: Tensor) -> float:
        """v^T F v *without* the damping, a sum of squares that costs half a product.

        Half of it is the quadratic model's KL divergence for a step v.
        """
        pushed = self.jacobian.jvp(vector)
        return ((pushed * self._metric(pushed.clone())).double().sum() / self.n_samples).item()

    def dense(self) -> Tensor:
        """The matrix itself, damping included, shape (P, P). For small P: it takes P products."""
        identity = torch.eye(
            self.shape[0],
            dtype=self.jacobian.outputs.dtype,
            device=self.jacobian.outputs.device,
        )
        # Rows equal columns: the matrix is symmetric.
        return torch.stack([self @ basis_vector for basis_vector in identity])


class FisherOperator(CurvatureOperator):
    """The Fisher information of an SB3 policy over a batch of states, as ``fisher @ v``.

    Works for every policy with SB3's ``get_distribution(observations)`` whose action distribution
    is one of SB3's: MLP, CNN or Dict observations, shared or separate feature extractors, gSDE. The
    parameters are those that the action distribution depends on, found through autograd.

    >>> import torch
    >>> from stable_baselines3 import PPO
    >>> policy = PPO("MlpPolicy", "CartPole-v1", device="cpu").policy
    >>> fisher = FisherOperator(policy, torch.randn(32, 4), damping=0.1)
    >>> (fisher @ torch.ones(fisher.shape[0])).shape
    torch.Size([4610])

    :param policy: its parameters and train/eval mode are left as they are
    :param observations: N states, as the rollout buffer gives them
    :param actions: N actions taken in these states; only :meth:`scores` needs them
    :param damping: non-negative multiple of the identity that is added
    :param n_samples: use this many states, drawn at random from the batch with torch's generator,
        instead of all N
    :param fast: use hand-written products where the policy is a plain multilayer perceptron, at
        half the time of autograd's
    :raises TypeError: the action distribution is not supported
    :raises ValueError: damping or n_samples out of range
    :ivar distribution: SB3's, of the policy's kind; what it holds is of no account
    :ivar family: what its Fisher information needs to know of it
    """

    def __init__(
        self,
        policy: ActorCriticPolicy,
        observations: PyTorchObs,
        actions: Tensor | None = None,
        damping: float = 0.0,
        n_samples: int | None = None,
        fast: bool = True,
    ) -> None:
        if n_samples is not None and n_samples < batch_length(observations):
            if n_samples < 1:
                raise ValueError(f"n_samples must be at least 1, got {n_samples}")
            chosen = torch.randperm(batch_length(observations))[:n_samples]
            observations = _take(observations, chosen)
            actions = None if actions is None else actions[chosen]
        self.policy = policy
        self.observations = observations
        self.actions = actions
        self.distribution = action_distribution(policy, observations)
        self.family, jacobian = statistics_jacobian(policy, observations, fast)
        super().__init__(jacobian, self.family.metric_at(jacobian.outputs), damping)

    @property
    def statistics(self) -> Tensor:
        """phi, shape (N, K), detached."""
        return self.jacobian.outputs

    def scores(self) -> Tensor:
        """grad_theta log pi(a_i | s_i) for every sample of the batch, shape (N, P).

        :raises ValueError: the operator was built without actions
        """
        if self.actions is None:
            raise ValueError(
                "scores need the actions: FisherOperator(policy, observations, actions)"
            )
        rows = self._per_sample_vjp(
            lambda observation, action: self._distribution(observation).log_prob(action)[:, None],
            (self.observations, self.actions),
            self.statistics.new_ones(self.n_samples, 1, 1),
            self.params,
        )
        return torch.cat(list(rows)).squeeze(1)

    def diagonal(self) -> Tensor:
        """The diagonal, damping included, exact, shape (P,).

        With M = L L^T the diagonal is the mean square of the rows of L^T J. For a Linear layer a
        sample's gradient is the outer product of its output gradient and its input, so the squares
        are a matrix product of squares and one backward pass per statistic is enough. Other
        parameters (log_std, convolutions) go through per-sample gradients.
        """
        with _LinearTape(self.policy, self.params) as tape:
            statistics = self._statistics(self.observations)
        squares: dict[Tensor, Tensor] = {param: torch.zeros_like(param) for param in self.params}
        factor = self.family.factor(self.statistics)
        layers = tape.layers()
        for column in factor.unbind(dim=2) if layers else ():
            grads = torch.autograd.grad(
                statistics, [layer.output for layer in layers], column, retain_graph=True
            )
            for layer, grad in zip(layers, grads, strict=True):
                layer.add_squares(squares, grad)
        covered = {param for layer in layers for param in layer.parameters()}
        rest = [param for param in self.params if param not in covered]
        if rest:
            per_chunk = [
                rows.square().sum(dim=(0, 1))
                for rows in self._per_sample_vjp(
                    self._statistics, (self.observations,), factor.transpose(1, 2), rest
                )
            ]
            for param, part in zip(
                rest, split(torch.stack(per_chunk).sum(dim=0), rest), strict=True
            ):
                squares[param] += part
        return flatten(squares[param] for param in self.params) / self.n_samples + self.damping

    def _distribution(self, observations: PyTorchObs) -> Distribution:
        return self.policy.get_distribution(observations)

    def _statistics(self, observations: PyTorchObs) -> Tensor:
        return self.family.statistics(self._distribution(observations))

    def _per_sample_vjp(
        self,
        function: Callable[..., Tensor],
        inputs: tuple[Any, ...],
        cotangents: Tensor,
        params: Sequence[nn.Parameter],
    ) -> Iterator[Tensor]:
        """J(s)^T u for every sample s and each of its m cotangents, without summing over samples.

        :param function: maps a batch of each input to outputs of shape (batch, K), via the policy
        :param inputs: observations (and actions) of N samples
        :param cotangents: shape (N, m, K)
        :return: chunks of shape (n, m, P), whose n add up to N
        """
        for start in range(0, self.n_samples, _CHUNK):
            rows = torch.arange(start, min(start + _CHUNK, self.n_samples))
            own = cotangents[rows]
            n, m, k = own.shape
            # One backward pass per sample and cotangent, zero for the chunk's other samples; torch
            # runs them as one batch. Mapping the forward pass over samples would save the zeros,
            # but fails for policies whose forward pass looks at values (one-hot encoding does).
            padded = own.new_zeros(n, m, n, k)
            padded[range(n), :, range(n)] = own
            outputs = function(*(_take(part, rows) for part in inputs))
            grads = torch.autograd.grad(
                outputs, list(params), padded.view(n * m, n, k), is_grads_batched=True
            )
            yield torch.cat([grad.flatten(1) for grad in grads], dim=1).view(n, m, -1)


class _LinearCall:
    """Input and output of one Linear layer in one forward pass."""

    def __init__(self, layer: nn.Linear, inputs: Tensor, output: Tensor) -> None:
        self.layer = layer
        self.inputs = inputs
        self.output = output

    def parameters(self) -> list[nn.Parameter]:
        return list(self.layer.parameters())

    def add_squares(self, squares: dict[Tensor, Tensor], grad: Tensor) -> None:
        """Add the sum over samples of the squared gradients; ``grad`` is that of the output."""
        squared = grad.square()
        squares[self.layer.weight] += squared.T @ self.inputs.detach().square()
        if self.layer.bias is not None:
            squares[self.layer.bias] += squared.sum(dim=0)


class _LinearTape:
    """Records the Linear layers that a forward pass inside its ``with`` block uses.

    A layer counts only where the outer-product rule holds: it is called once, on a batch of
    vectors, all its parameters are wanted, and no other layer shares them.
    """

    def __init__(self, module: nn.Module, params: Sequence[nn.Parameter]) -> None:
        self._wanted = set(params)
        self._modules = [layer for layer in module.modules() if type(layer) is nn.Linear]
        self._calls: list[_LinearCall] = []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "_LinearTape":
        self._handles = [layer.register_forward_hook(self._record) for layer in self._modules]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _record(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(layer, nn.Linear)
        self._calls.append(_LinearCall(layer, inputs[0], output))
        # An activation that works in place must not overwrite what was recorded.
        return output.clone()

    def layers(self) -> list[_LinearCall]:
        """The calls for which the outer-product rule holds."""
        uses: dict[nn.Parameter, int] = {}
        for call in self._calls:
            for param in call.parameters():
                uses[param] = uses.get(param, 0) + 1
        return [
            call
            for call in self._calls
            if call.inputs.ndim == 2
            and all(p in self._wanted and uses[p] == 1 for p in call.parameters())
        ]


def _map(observations: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(observations, dict):
        return {key: function(tensor) for key, tensor in observations.items()}
    return function(observations)


def _take(observations: PyTorchObs, rows: Tensor) -> PyTorchObs:
    return _map(observations, lambda tensor: tensor[rows.to(tensor.device)])
