"""The Gauss-Newton matrix of a network of action values, as DQN's."""

from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.dqn.policies import QNetwork
from torch import Tensor
from torch.nn import functional as F

from sb3_natural.curvature.jacobian import AutogradJacobian, Jacobian, MlpJacobian
from sb3_natural.curvature.operators import PolicyCurvature
from sb3_natural.curvature.terms import Term
from sb3_natural.networks.mlp import action_value_mlp, flat_features

__all__ = ["ActionValueCurvature"]


class ActionValueCurvature(PolicyCurvature):
    """J^T J / N for the values Q(s, a) of N states and the actions taken in them.

    It is the Gauss-Newton matrix of half the squared error of those values, and the Fisher
    information of Gaussians with means Q(s, a) and unit variance (Knight & Lerner 2018). The
    Jacobian is that of all actions' values, and M = e e^T with e the one-hot action.

    :param q_net: its parameters and train/eval mode are left as they are
    :param observations: N states
    :param actions: shape (N,), integers
    :ivar chosen: the one-hot actions, shape (N, n_actions)
    """

    def __init__(self, q_net: QNetwork, observations: PyTorchObs, actions: Tensor) -> None:
        jacobian = _jacobian(q_net, observations)
        n_actions = jacobian.outputs.shape[1]
        self.chosen = F.one_hot(actions.long(), n_actions).to(jacobian.outputs.dtype)
        super().__init__(q_net, observations, jacobian, lambda u: u * self.chosen)

    @property
    def values(self) -> Tensor:
        """Q(s, a), shape (N,), detached."""
        return (self.jacobian.outputs * self.chosen).sum(dim=1)

    def gradient(self, derivatives: Tensor) -> Tensor:
        """The gradient, (P,), of a loss by the parameters.

        :param derivatives: of the loss by each Q(s, a), shape (N,)
        """
        return self.jacobian.vjp(self.chosen * derivatives[:, None])

    def factor(self) -> Tensor:
        """See :meth:`PolicyOutputs.factor`; the one-hot actions as columns."""
        return self.chosen[:, :, None]

    def terms(self, observations: PyTorchObs) -> list[Term]:
        """See :meth:`PolicyOutputs.terms`."""
        return [Term(self.policy(observations), self.factor())]


def _jacobian(q_net: QNetwork, observations: PyTorchObs) -> Jacobian:
    """Of the values of all actions, (N, n_actions), by the trainable parameters."""
    mlp = action_value_mlp(q_net)
    if mlp is not None and MlpJacobian.fits(mlp):
        return MlpJacobian(mlp, flat_features(q_net, observations))
    trainable = [param for param in q_net.parameters() if param.requires_grad]
    return AutogradJacobian(lambda: q_net(observations), trainable)
