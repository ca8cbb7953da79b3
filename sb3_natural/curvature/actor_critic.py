"""Actor and critic as one network, with one curvature matrix for both."""

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from sb3_natural.curvature.families import family_of
from sb3_natural.curvature.layers import LayerFactors, factors_from_calls
from sb3_natural.curvature.operators import action_distribution
from sb3_natural.curvature.tape import LayerTape
from sb3_natural.curvature.terms import (
    PolicyOutputs,
    Term,
    log_std_diagonal,
    statistics_terms,
    values_term,
)
from sb3_natural.curvature.value_fit import split_parameters
from sb3_natural.networks.parameters import flatten
from sb3_natural.shapes import check_shape

__all__ = ["ActorCriticOutputs"]


class ActorCriticOutputs(PolicyOutputs):
    """The statistics phi of a policy's action distribution and its values V, in N states.

    The curvature matrix is the sum of the policy's Fisher information and the Gauss-Newton matrix
    of V, times a weight. This is the Fisher information of actions and values together if V is the
    mean of a Gaussian whose variance is 1 / weight (Wu et al. 2017, section 3.1).

    :param policy: its parameters and train/eval mode are left as they are
    :param observations: N states
    :param values_weight: of the critic's part
    :ivar family: of the action distribution
    :ivar phi: (N, K), detached
    :ivar values: (N,), detached
    :raises ValueError: all parameters are frozen
    """

    policy: ActorCriticPolicy

    def __init__(
        self, policy: ActorCriticPolicy, observations: PyTorchObs, values_weight: float
    ) -> None:
        self.policy = policy
        self.observations = observations
        self.family = family_of(action_distribution(policy, observations))
        self._values_weight = values_weight
        of_policy, of_values = split_parameters(policy, observations)
        self._params = of_policy + of_values
        if not self._params:
            raise ValueError(
                f"all parameters of {type(policy).__name__} are frozen (requires_grad=False): "
                "there is nothing to update"
            )
        with LayerTape(policy) as tape:
            self._terms = self.terms(observations)
        self._calls = tape.calls
        self.phi = torch.cat([term.outputs.detach() for term in self._terms[:-1]], dim=1)
        self.values = self._terms[-1].outputs.detach().flatten()

    @property
    def params(self) -> list[nn.Parameter]:
        """The parameters that phi or V depends on, except frozen ones."""
        return self._params

    def terms(self, observations: PyTorchObs) -> list[Term]:
        """See :meth:`PolicyOutputs.terms`; the last is V."""
        values = self.policy.predict_values(observations)
        terms = statistics_terms(self.family, self.policy.get_distribution(observations))
        return [*terms, values_term(values, self._values_weight)]

    def factor(self) -> Tensor:
        """See :meth:`PolicyOutputs.factor`."""
        n_samples, n_statistics = self.phi.shape
        factor = self.phi.new_zeros(n_samples, n_statistics + 1, n_statistics + 1)
        factor[:, :-1, :-1] = self.family.factor(self.phi)
        factor[:, -1, -1] = self._values_weight**0.5
        return factor

    def known_diagonal(self) -> dict[nn.Parameter, float]:
        """See :meth:`PolicyOutputs.known_diagonal`."""
        return log_std_diagonal(self.policy, self.observations)

    def layer_factors(self) -> list[LayerFactors]:
        """The Kronecker factors of the layers, from the forward pass that is done."""
        return factors_from_calls(self.policy, self._calls, self._terms, self._params)

    def gradient(self, by_phi: Tensor, by_values: Tensor) -> Tensor:
        """J^T u summed over samples, (P,), in the order of :attr:`params`.

        :param by_phi: derivatives of a loss with respect to phi, (N, K)
        :param by_values: derivatives of it with respect to V, (N,)
        :raises ValueError: a derivative has another shape
        """
        check_shape(self.phi.shape, by_phi=by_phi)
        check_shape(self.values.shape, by_values=by_values)
        widths = [term.outputs.shape[1] for term in self._terms]
        cotangents = torch.cat([by_phi, by_values[:, None]], dim=1).split(widths, dim=1)
        attached = [
            (term.outputs, cotangent)
            for term, cotangent in zip(self._terms, cotangents, strict=True)
            if term.outputs.requires_grad
        ]
        grads = torch.autograd.grad(
            [outputs for outputs, _ in attached],
            self._params,
            [cotangent for _, cotangent in attached],
            retain_graph=True,
        )
        return flatten(grads)
