"""Policies that are two multilayer perceptrons and nothing else: what can do without autograd."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn
from torch.nn.modules import module as global_hooks

from sb3_natural.networks.mlp import Mlp, actor_mlp, critic_mlp
from sb3_natural.networks.passes import Backprop

__all__ = ["Networks", "has_gradient_hooks", "plain_networks"]


@dataclass(frozen=True)
class Networks:
    """Actor and critic of a policy that consists of two plain multilayer perceptrons."""

    actor: Mlp
    critic: Mlp
    log_std: nn.Parameter | None

    @cached_property
    def params(self) -> list[nn.Parameter]:
        """All parameters, in the order of the gradient: log_std, actor, critic."""
        own = [] if self.log_std is None else [self.log_std]
        return own + self.actor.params + self.critic.params


def plain_networks(policy: nn.Module) -> Networks | None:
    """The policy's networks, or None if it is not just two MLPs that fit :class:`Backprop`."""
    actor, critic = actor_mlp(policy), critic_mlp(policy)
    if actor is None or critic is None or not (Backprop.fits(actor) and Backprop.fits(critic)):
        return None
    assert isinstance(policy, ActorCriticPolicy)
    if type(policy).evaluate_actions is not ActorCriticPolicy.evaluate_actions:
        return None
    if "evaluate_actions" in vars(policy):
        return None
    gaussian = isinstance(policy.action_dist, DiagGaussianDistribution)
    networks = Networks(actor, critic, policy.log_std if gaussian else None)
    params = networks.params
    if len(set(params)) != len(params):  # the two share layers
        return None
    if has_gradient_hooks(policy.parameters()) or _has_backward_hooks(policy):
        return None
    return networks


def has_gradient_hooks(params: Iterable[nn.Parameter]) -> bool:
    """Whether there are hooks on gradients of parameters, which only autograd calls."""
    return any(param._backward_hooks or param._post_accumulate_grad_hooks for param in params)


def _has_backward_hooks(policy: nn.Module) -> bool:
    """Whether there are hooks on modules' gradients, which only autograd calls."""
    return bool(
        any(module._backward_hooks or module._backward_pre_hooks for module in policy.modules())
        or global_hooks._global_backward_hooks
        or global_hooks._global_backward_pre_hooks
    )
