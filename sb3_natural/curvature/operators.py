"""Curvature matrices as linear operators: products, not entries.

With J(s) the Jacobian of a network's outputs in a state s, and M(s) a small matrix over these
outputs, both curvature matrices of this library are

    mean_s J(s)^T M(s) J(s).

For the policy the outputs are the statistics phi of the action distribution, and M its Fisher
information; then this is the Fisher information of the policy (:class:`FisherOperator`). It equals
the Hessian of the mean KL divergence at zero displacement (Kakade 2001; Martens 2020, section 5)
but needs only first derivatives of the network: a product is one Jacobian-vector product, one
multiplication by M, one vector-Jacobian product. For the critic M = I
(:class:`GaussNewtonOperator`).

Neither contains any damping. ``Damped(operator, damping)`` adds it, and is an operator again.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from sb3_natural.curvature.families import ActionFamily, family_of
from sb3_natural.curvature.jacobian import (
    AutogradJacobian,
    Jacobian,
    MlpJacobian,
    ScalarMlpJacobian,
)
from sb3_natural.curvature.masking import MaskedCategoricalFamily, masked_family
from sb3_natural.curvature.per_sample import per_sample_vjp, sum_of_squares
from sb3_natural.curvature.terms import (
    PolicyOutputs,
    Term,
    log_std_diagonal,
    statistics_terms,
    values_term,
)
from sb3_natural.networks.mlp import actor_mlp, critic_mlp, flat_features
from sb3_natural.observations import at, batch_length, first_sample

__all__ = [
    "CurvatureOperator",
    "Damped",
    "FisherOperator",
    "GaussNewtonOperator",
    "Operator",
    "PolicyCurvature",
    "action_distribution",
    "statistics_jacobian",
    "undamped",
    "value_jacobian",
]


class Operator(ABC):
    """A symmetric positive semidefinite P x P matrix A, known by what it does."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(P, P), P the number of parameters."""

    @abstractmethod
    def __matmul__(self, vector: Tensor) -> Tensor:
        """The product A v, written ``operator @ vector``.

        :param vector: v, shape (P,); left as it is
        :return: a new tensor of shape (P,)
        :raises ValueError: v is not a vector of P elements
        """

    @abstractmethod
    def quadratic_form(self, vector: Tensor) -> float:
        """The number ``v^T A v``.

        :param vector: v, shape (P,)
        :raises ValueError: v is not a vector of P elements
        """

    @abstractmethod
    def diagonal(self) -> Tensor:
        """The diagonal, exact, shape (P,)."""

    @abstractmethod
    def dense(self) -> Tensor:
        """The matrix itself, a new tensor of shape (P, P)."""


class Damped(Operator):
    """A matrix with a multiple of the identity added to it: ``operator + damping I``.

    :param operator: A, damped or not
    :param damping: finite and not negative
    :raises ValueError: ``operator`` is no :class:`Operator`, or the damping is negative or not
        finite
    """

    def __init__(self, operator: Operator, damping: float) -> None:
        if not isinstance(operator, Operator):
            raise ValueError(f"operator must be an Operator, got {operator!r}")
        try:
            is_valid = 0.0 <= damping < math.inf
        except TypeError:  # not a number
            is_valid = False
        if not is_valid:
            raise ValueError(f"damping must be finite and not negative, got {damping!r}")
        self.operator = operator
        self.damping = damping

    @property
    def shape(self) -> tuple[int, int]:
        return self.operator.shape

    def __matmul__(self, vector: Tensor) -> Tensor:
        product = self.operator @ vector
        return product.add_(vector, alpha=self.damping) if self.damping else product

    def quadratic_form(self, vector: Tensor) -> float:
        return self.operator.quadratic_form(vector) + self._part(vector)

    def diagonal(self) -> Tensor:
        return self.operator.diagonal() + self.damping

    def dense(self) -> Tensor:
        matrix = self.operator.dense().clone()
        matrix.diagonal().add_(self.damping)
        return matrix

    def undamped_form(self, vector: Tensor, damped_form: float | None) -> float:
        """The quadratic form of the operator without the damping: ``v^T A v``.

        :param vector: v, shape (P,)
        :param damped_form: ``v^T (A + damping I) v`` where it is known (conjugate gradient knows
            it), which usually saves the product; None: not known
        """
        if damped_form is not None:
            undamped = damped_form - self._part(vector)
            # Both are known to about 1e-6, and so is their difference, unless little is left.
            if undamped > 0.1 * damped_form:
                return undamped
        return self.operator.quadratic_form(vector)

    def _part(self, vector: Tensor) -> float:
        """damping |v|^2."""
        return self.damping * vector.double().square().sum().item()


class CurvatureOperator(Operator):
    """A curvature matrix ``mean_s J(s)^T M(s) J(s)`` of a network's outputs.

    :param jacobian: J, of N samples with K outputs, for P parameters
    :param metric: maps u of shape (N, K) to M u of the same shape, in place or not
    """

    def __init__(self, jacobian: Jacobian, metric: Callable[[Tensor], Tensor]) -> None:
        self.jacobian = jacobian
        self._metric = metric

    @property
    def params(self) -> list[nn.Parameter]:
        """The P parameters, in the order of the flat vectors."""
        return self.jacobian.params

    @property
    def n_samples(self) -> int:
        """N, the number of samples that the mean is over."""
        return len(self.jacobian.outputs)

    @property
    def shape(self) -> tuple[int, int]:
        return self.jacobian.n_params, self.jacobian.n_params

    def __matmul__(self, vector: Tensor) -> Tensor:
        pushed = self._metric(self.jacobian.jvp(vector))
        return self.jacobian.vjp(pushed.div_(self.n_samples))

    def quadratic_form(self, vector: Tensor) -> float:
        """The number ``v^T A v``, a sum of squares that costs half a product.

        For the Fisher information, half of it is the quadratic model's KL divergence, in nats, for
        a step v.

        :param vector: v, shape (P,)
        :raises ValueError: v is not a vector of P elements
        """
        pushed = self.jacobian.jvp(vector)
        return ((pushed * self._metric(pushed.clone())).double().sum() / self.n_samples).item()

    def quadratic_forms(self, vector: Tensor) -> Tensor:
        """The quadratic form of each sample, ``v^T J(s)^T M(s) J(s) v``; their mean is ``v^T A v``.

        :param vector: v, shape (P,)
        :return: shape (N,)
        :raises ValueError: v is not a vector of P elements
        """
        pushed = self.jacobian.jvp(vector)
        return (pushed * self._metric(pushed.clone())).sum(dim=1)

    def diagonal(self) -> Tensor:
        """The diagonal, exact, shape (P,). For small P: it takes P products."""
        return self.dense().diagonal()

    def dense(self) -> Tensor:
        """The matrix itself, shape (P, P). For small P: it takes P products."""
        identity = torch.eye(
            self.shape[0],
            dtype=self.jacobian.outputs.dtype,
            device=self.jacobian.outputs.device,
        )
        # Rows equal columns: the matrix is symmetric.
        return torch.stack([self @ basis_vector for basis_vector in identity])


def undamped(operator: Operator) -> tuple[Operator, float]:
    """The operator without its damping, and the damping.

    :param operator: damped or not; of one that was damped several times, the dampings are added up
    :return: the operator inside, and the damping, 0 if there is none
    """
    damping = 0.0
    while isinstance(operator, Damped):
        damping += operator.damping
        operator = operator.operator
    return operator, damping


class PolicyCurvature(CurvatureOperator, PolicyOutputs):
    """A curvature matrix whose outputs an SB3 policy computes from observations.

    :param policy: its parameters and train/eval mode are left as they are
    :param observations: N states
    :param jacobian: of the outputs in these states
    :param metric: as for :class:`CurvatureOperator`
    """

    def __init__(
        self,
        policy: BasePolicy,
        observations: PyTorchObs,
        jacobian: Jacobian,
        metric: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(jacobian, metric)
        self.policy = policy
        self.observations = observations

    def diagonal(self) -> Tensor:
        """The diagonal, exact, shape (P,), for one backward pass per column of L (``M = L L^T``).

        It is the mean square of the rows of ``L^T J``.
        """
        rows = self.factor().transpose(1, 2)
        squares = sum_of_squares(self.policy, self.outputs, self.observations, rows, self.params)
        return squares / self.n_samples


class FisherOperator(PolicyCurvature):
    """The Fisher information of an SB3 policy over a batch of states, as a matrix for products.

    ``fisher @ v`` multiplies it by a vector over the P parameters. They are those that the action
    distribution depends on, found through autograd.

    It works for every policy with SB3's ``get_distribution(observations)`` whose action
    distribution is one of SB3's: MLP, CNN or Dict observations, shared or separate features
    extractors, gSDE.

    >>> import torch
    >>> from stable_baselines3 import PPO
    >>> from sb3_natural import FisherOperator
    >>> from sb3_natural.curvature.operators import Damped
    >>> policy = PPO("MlpPolicy", "CartPole-v1", device="cpu").policy
    >>> fisher = FisherOperator(policy, torch.randn(32, 4))
    >>> (Damped(fisher, 0.1) @ torch.ones(fisher.shape[0])).shape
    torch.Size([4610])

    :param policy: its parameters and train/eval mode are left as they are
    :param observations: N states, as the rollout buffer gives them
    :param actions: N actions taken in these states; only :meth:`scores` needs them
    :param n_samples: use this many states, drawn at random from the batch with torch's generator,
        instead of all N
    :param fast: use hand-written products where the policy is a plain multilayer perceptron, which
        take half the time of autograd's
    :param masks: which actions are valid in each of the N states, (N, K); None: all
    :raises TypeError: the action distribution is not supported
    :raises ValueError: ``n_samples`` is less than 1, there are no observations, or there are masks
        for a distribution that is not categorical
    :ivar distribution: one of SB3's, of the policy's kind; its current state does not matter
    :ivar family: its action family
    """

    policy: ActorCriticPolicy

    def __init__(
        self,
        policy: ActorCriticPolicy,
        observations: PyTorchObs,
        actions: Tensor | None = None,
        n_samples: int | None = None,
        fast: bool = True,
        masks: Tensor | None = None,
    ) -> None:
        chosen = _drawn(observations, n_samples)
        if chosen is not None:
            observations = at(observations, chosen)
            actions = None if actions is None else actions[chosen]
            masks = None if masks is None else masks[chosen]
        self.actions = actions
        self.distribution = action_distribution(policy, observations)
        self.family, jacobian = statistics_jacobian(policy, observations, fast)
        if masks is not None:
            self.family = masked_family(self.family, masks)
        super().__init__(policy, observations, jacobian, self.family.fisher_at(jacobian.outputs))

    @property
    def statistics(self) -> Tensor:
        """phi, the statistics of the action distribution, shape (N, K), detached."""
        return self.jacobian.outputs

    def scores(self) -> Tensor:
        """The scores ``grad_theta log pi(a_i | s_i)``, one row for each sample, shape (N, P).

        :raises ValueError: the operator was built without actions
        """
        if self.actions is None:
            raise ValueError(
                "scores need the actions: FisherOperator(policy, observations, actions)"
            )
        if isinstance(self.family, MaskedCategoricalFamily):
            # Which states they are matters here, and a function of single samples would not know.
            by_phi = self.family.score(self.distribution, self.statistics, self.actions)[:, None]
            rows = per_sample_vjp(self.outputs, (self.observations,), by_phi, self.params)
            return torch.cat(list(rows)).squeeze(1)
        rows = per_sample_vjp(
            lambda observation, action: self.policy.get_distribution(observation).log_prob(action)[
                :, None
            ],
            (self.observations, self.actions),
            self.statistics.new_ones(self.n_samples, 1, 1),
            self.params,
        )
        return torch.cat(list(rows)).squeeze(1)

    def factor(self) -> Tensor:
        """L with ``M = L L^T`` in the N states, shape (N, K, K), detached."""
        return self.family.factor(self.statistics)

    def terms(self, observations: PyTorchObs) -> list[Term]:
        return statistics_terms(self.family, self.policy.get_distribution(observations))

    def outputs(self, observations: PyTorchObs) -> Tensor:
        """The statistics phi in these states, (n, K), attached.

        :param observations: n states, which need not be those of the operator: the masks are part
            of M alone
        """
        return self.family.statistics(self.policy.get_distribution(observations))

    def known_diagonal(self) -> dict[nn.Parameter, float]:
        return log_std_diagonal(self.policy, self.observations)


class GaussNewtonOperator(PolicyCurvature):
    """The Gauss-Newton matrix ``J^T J / N`` of half the mean squared error of the values V.

    J is the Jacobian of V in N states. The matrix is the Fisher information of a Gaussian with mean
    V and unit variance.

    :param policy: its parameters and train/eval mode are left as they are
    :param params: the P parameters to differentiate by; those that V does not depend on are left
        out
    :param observations: N states
    :param n_samples: use this many states, drawn at random from the batch with torch's generator,
        instead of all N
    :raises ValueError: ``n_samples`` is less than 1, there are no observations, or V depends on
        none of the parameters
    """

    policy: ActorCriticPolicy

    def __init__(
        self,
        policy: ActorCriticPolicy,
        params: Sequence[nn.Parameter],
        observations: PyTorchObs,
        n_samples: int | None = None,
    ) -> None:
        chosen = _drawn(observations, n_samples)
        if chosen is not None:
            observations = at(observations, chosen)
        jacobian = value_jacobian(policy, params, observations)
        super().__init__(policy, observations, jacobian, lambda u: u)

    def factor(self) -> Tensor:
        """L with ``M = L L^T`` in the N states: ones, shape (N, 1, 1)."""
        return self.jacobian.outputs.new_ones(self.n_samples, 1, 1)

    def terms(self, observations: PyTorchObs) -> list[Term]:
        return [values_term(self.policy.predict_values(observations))]


def _drawn(observations: PyTorchObs, n_samples: int | None) -> Tensor | None:
    """Which samples to use, without replacement; None for all."""
    n_given = batch_length(observations)
    if n_given == 0:
        raise ValueError("observations must have at least one sample, got none")
    if n_samples is None or n_samples >= n_given:
        return None
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
    return torch.randperm(n_given)[:n_samples]


@torch.no_grad()
def action_distribution(policy: ActorCriticPolicy, observations: PyTorchObs) -> Distribution:
    """A distribution of the kind that the policy returns, in whichever state.

    :param policy: its parameters and train/eval mode are left as they are
    :param observations: of these the first is used, at most
    :return: one of SB3's; what it currently holds does not matter
    """
    if actor_mlp(policy) is not None:
        return policy.action_dist
    return policy.get_distribution(first_sample(observations))


def statistics_jacobian(
    policy: ActorCriticPolicy, observations: PyTorchObs, fast: bool = True
) -> tuple[ActionFamily, Jacobian]:
    """The statistics phi of a policy's action distribution, with their Jacobian.

    The parameters are those that the action distribution depends on, whatever their names.

    :param policy: its parameters and train/eval mode are left as they are
    :param observations: N states
    :param fast: use hand-written products where the policy is a plain multilayer perceptron
    :return: the family of the distribution, and the Jacobian, whose ``outputs`` are phi, (N, K)
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


def value_jacobian(
    policy: ActorCriticPolicy, params: Sequence[nn.Parameter], observations: PyTorchObs
) -> Jacobian:
    """The values V of N states, with their Jacobian.

    :param policy: its parameters and train/eval mode are left as they are
    :param params: the parameters to differentiate by; those that V does not depend on are left out
    :param observations: N states
    :return: the Jacobian, whose ``outputs`` are V, (N, 1)
    :raises ValueError: V depends on none of the parameters
    """
    mlp = critic_mlp(policy)
    if mlp is not None and MlpJacobian.fits(mlp):
        jacobian = ScalarMlpJacobian(mlp, flat_features(policy, observations))
        if set(jacobian.params) == set(params):
            return jacobian
    return AutogradJacobian(lambda: policy.predict_values(observations), params)
