"""Actors, which pick the actions while a rollout is collected.

SB3's ``policy.forward`` also computes values and log-probabilities, through modules and
distribution objects; nearly all of its time is overhead. An actor runs the policy's own forward
pass and samples, nothing else. It draws torch's random numbers in SB3's order and shapes.

=========  =========================================================  ============================
path       how                                                        equal to SB3's actions
=========  =========================================================  ============================
``numpy``  plain networks, layer by layer in numpy                    up to rounding
``torch``  any network, without the critic; for plain ones the        bit for bit
           same kernels, called directly
``sb3``    SB3's own collection, including values                     is SB3
=========  =========================================================  ============================

Torch is slow to call, and its code also evicts the simulator's from the processor's caches: with
torch in between, a step of HalfCheetah-v5 takes 53 microseconds instead of 39.
"""

import copy
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs
from torch import Tensor, nn

from sb3_natural.curvature.families import family_of
from sb3_natural.curvature.few_samples import log_probs
from sb3_natural.curvature.masking import MASKED, masked_distribution
from sb3_natural.networks.mlp import Mlp, actor_mlp, flat_features
from sb3_natural.networks.normalization import ObservationNormalizer, normalizer_of
from sb3_natural.networks.passes import hidden_layers, hidden_outputs, numpy_fits, numpy_forward

__all__ = [
    "ROLLOUT_PATHS",
    "Actor",
    "ForwardActor",
    "MlpActor",
    "NumpyActor",
    "PlainActor",
    "TorchActor",
    "make_actor",
    "numpy_features",
    "reads_arrays",
]

ROLLOUT_PATHS = ("numpy", "torch", "sb3")


class Actor(Protocol):
    """Samples actions with the current values of the parameters.

    Values may change between two actions; a callback may anneal ``log_std``, for example. If a
    parameter or a layer has been replaced by another object, :meth:`is_current` is false.
    """

    path: str

    def sample(self, observations: VecEnvObs, masks: np.ndarray | None = None) -> np.ndarray:
        """Actions for the observations that a VecEnv returns.

        :param masks: which actions are valid, (n_envs, K), True or False, for a categorical policy;
            None: all
        :return: a new array of shape (n_envs, *action shape)
        """

    def statistics(self) -> np.ndarray:
        """phi of the distributions that the last actions came from, shape (n_envs, K).

        As in :class:`~sb3_natural.curvature.families.ActionFamily`, up to a shift of logits; those
        of invalid actions are ``MASKED``. Later steps do not change the array.
        """

    def likelihood(self) -> Tensor | np.ndarray:
        """What :meth:`log_probs` needs to know about the distributions of the last actions."""

    def log_probs(self, likelihoods: Sequence[Any], actions: np.ndarray) -> np.ndarray:
        """Log-probabilities of actions under the distributions that they came from.

        :param likelihoods: what :meth:`likelihood` returned after each step
        :param actions: as the distribution's ``log_prob`` takes them, one row per action,
            time-major
        :return: shape (n_steps * n_envs,)
        """

    def is_current(self, policy: nn.Module) -> bool:
        """Whether the parameters that this actor reads are still the policy's."""


def make_actor(
    policy: nn.Module, path: str, forward: Callable[..., Any] = ActorCriticPolicy.forward
) -> Actor | None:
    """The actor for a path, or None if the path does not fit the policy.

    :param path: "numpy" or "torch"
    :param forward: the ``forward`` that is known to pick actions as SB3's does; a policy with
        another ``forward`` may pick them differently
    """
    if not isinstance(policy, ActorCriticPolicy) or "forward" in vars(policy):
        return None
    if type(policy).forward is not forward:
        return None
    mlp = actor_mlp(policy)
    plain = mlp is not None and reads_arrays(mlp)
    if path == "torch":
        return MlpActor(policy, mlp) if plain and mlp else TorchActor(policy)
    if plain and mlp and numpy_fits(mlp):
        return NumpyActor(policy, mlp)
    return None


def reads_arrays(mlp: Mlp) -> bool:
    """Whether the network is on the CPU, in single precision."""
    return mlp.linears[0].weight.device.type == "cpu" and all(
        layer.weight.dtype == torch.float32 for layer in mlp.linears
    )


class TorchActor:
    """Acts with any policy, but leaves out the critic."""

    path = "torch"

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self._policy = policy
        self._shape = _action_shape(policy)

    def sample(self, observations: VecEnvObs, masks: np.ndarray | None = None) -> np.ndarray:
        """See :class:`Actor`."""
        with torch.no_grad():
            on_device = obs_as_tensor(observations, self._policy.device)  # type: ignore[arg-type]
            distribution = self._policy.get_distribution(on_device)
            if masks is not None:
                on_masks = torch.from_numpy(masks).to(self._policy.device)
                distribution = masked_distribution(distribution, on_masks)
            actions = distribution.get_actions()
            self._log_prob = distribution.log_prob(actions)
        # The policy reuses its own object for the next distribution.
        self._distribution = copy.copy(distribution)
        return actions.reshape(-1, *self._shape).cpu().numpy()

    def statistics(self) -> np.ndarray:
        """See :class:`Actor`."""
        with torch.no_grad():
            family = family_of(self._distribution)
            return family.statistics(self._distribution).cpu().numpy()

    def likelihood(self) -> Tensor:
        """See :class:`Actor`: the log-probabilities themselves."""
        return self._log_prob

    def log_probs(self, likelihoods: Sequence[Tensor], actions: np.ndarray) -> np.ndarray:
        """See :class:`Actor`."""
        return torch.cat(list(likelihoods)).cpu().numpy()

    def is_current(self, policy: nn.Module) -> bool:
        """See :class:`Actor`: the policy's own methods are called each time."""
        return policy is self._policy and "forward" not in vars(policy)


class ForwardActor(TorchActor):
    """Acts with a policy that has its own ``forward``, as SB3's loop does."""

    path = "sb3"

    def sample(self, observations: VecEnvObs, masks: np.ndarray | None = None) -> np.ndarray:
        """See :class:`Actor`.

        :raises ValueError: there are masks, which ``forward`` does not take
        """
        if masks is not None:
            raise ValueError(
                f"the environment has action_masks, which the forward() of "
                f"{type(self._policy).__name__} does not use"
            )
        with torch.no_grad():
            on_device = obs_as_tensor(observations, self._policy.device)  # type: ignore[arg-type]
            actions, _, self._log_prob = self._policy(on_device)
        return actions.cpu().numpy()


class PlainActor:
    """What the actors of plain networks share: the memory that they read, and their likelihoods."""

    _phi: np.ndarray

    def __init__(self, policy: ActorCriticPolicy, mlp: Mlp) -> None:
        self._policy = policy
        self._mlp = mlp
        self._shape = _action_shape(policy)
        self._log_std: Tensor | None = None
        if isinstance(policy.action_dist, DiagGaussianDistribution):
            self._log_std = policy.log_std.detach()
        self._attributes = _attributes(policy)
        self._layers = [value for *_, value in self._attributes if isinstance(value, nn.Module)]
        self._addresses = [
            (value, value.data_ptr()) for *_, value in self._attributes if isinstance(value, Tensor)
        ]

    def statistics(self) -> np.ndarray:
        """See :class:`Actor`."""
        return self._phi

    def likelihood(self) -> np.ndarray:
        """See :class:`Actor`: phi."""
        return self._phi

    def log_probs(self, likelihoods: Sequence[np.ndarray], actions: np.ndarray) -> np.ndarray:
        """See :class:`Actor`."""
        return log_probs(self._policy.action_dist, np.concatenate(likelihoods), actions)

    def is_current(self, policy: nn.Module) -> bool:
        """See :class:`Actor`."""
        return (
            policy is self._policy
            and "forward" not in vars(policy)
            and not any(layer._forward_hooks or layer._forward_pre_hooks for layer in self._layers)
            and all(owner.get(name) is value for owner, name, value in self._attributes)
            and all(tensor.data_ptr() == address for tensor, address in self._addresses)
        )


def _attributes(policy: ActorCriticPolicy) -> list[tuple[dict[str, Any], str, Any]]:
    """All objects that make up a plain policy's actor, each with its dictionary and its name there.

    If one of them is replaced, the actor is out of date.
    """
    body: Any = policy.mlp_extractor.policy_net
    attributes: list[tuple[dict[str, Any], str, Any]] = [
        (vars(policy), "action_dist", policy.action_dist),
        (policy._modules, "mlp_extractor", policy.mlp_extractor),
        (policy.mlp_extractor._modules, "policy_net", body),
        (policy._modules, "action_net", policy.action_net),
        (policy._modules, "normalizer", policy._modules.get("normalizer")),
        *((body._modules, name, module) for name, module in body.named_children()),
    ]
    for module in (*body.children(), policy.action_net, policy):
        own = module._parameters
        attributes += [(own, name, param) for name, param in own.items()]
    if (normalizer := normalizer_of(policy)) is not None:
        own_buffers = normalizer._buffers
        attributes += [(own_buffers, name, buffer) for name, buffer in own_buffers.items()]
    return attributes


class MlpActor(PlainActor):
    """Acts with a plain network by calling the kernels that SB3 ends up calling."""

    path = "torch"

    def __init__(self, policy: ActorCriticPolicy, mlp: Mlp) -> None:
        super().__init__(policy, mlp)
        weights, biases = mlp.weights, mlp.biases
        self._hidden = hidden_layers(weights, biases, [f.forward for f in mlp.functions])
        self._head = biases[-1], weights[-1].t()
        self._draw = _torch_sampler(policy)

    def sample(self, observations: VecEnvObs, masks: np.ndarray | None = None) -> np.ndarray:
        """See :class:`Actor`."""
        assert isinstance(observations, np.ndarray)
        features = flat_features(self._policy, torch.as_tensor(observations))
        h = hidden_outputs(self._hidden, features)
        bias, weight = self._head
        phi = outputs = torch.addmm(bias, h, weight)
        if masks is not None:
            phi = outputs = torch.where(torch.from_numpy(masks), outputs, MASKED)
        if self._log_std is not None:
            phi = torch.cat([outputs, self._log_std.expand_as(outputs)], dim=1)
        self._phi = phi.numpy()
        return self._draw(outputs).view(-1, *self._shape).numpy()


class NumpyActor(PlainActor):
    """Acts with a plain network in numpy, whose calls cost less than torch's."""

    path = "numpy"

    def __init__(self, policy: ActorCriticPolicy, mlp: Mlp) -> None:
        super().__init__(policy, mlp)
        self._features = numpy_features(policy)
        self._outputs = numpy_forward(mlp)
        self._log_std_row = None if self._log_std is None else self._log_std.numpy()
        self._draw = _numpy_sampler(policy)

    # A probability may underflow to zero, and the user may have told numpy to raise then.
    @np.errstate(all="ignore")
    def sample(self, observations: VecEnvObs, masks: np.ndarray | None = None) -> np.ndarray:
        """See :class:`Actor`."""
        x = self._outputs(self._features(observations))
        if masks is not None:
            x = np.where(masks, x, np.float32(MASKED))
        if self._log_std_row is None:
            self._phi = x
        else:
            n_samples, n_outputs = x.shape
            phi = self._phi = np.empty((n_samples, 2 * n_outputs), dtype=np.float32)
            phi[:, :n_outputs] = x
            phi[:, n_outputs:] = self._log_std_row
        actions = self._draw(x)
        return actions if actions.shape[1:] == self._shape else actions.reshape(-1, *self._shape)


def _torch_sampler(policy: ActorCriticPolicy) -> Callable[[Tensor], Tensor]:
    """A function from the network's outputs to actions, sampled as by the policy's distribution."""
    distribution = policy.action_dist
    if isinstance(distribution, DiagGaussianDistribution):
        log_std = policy.log_std.detach()
        return lambda mean: torch.empty_like(mean).normal_().mul_(log_std.exp()).add_(mean)
    if isinstance(distribution, CategoricalDistribution):
        return _sample_categorical
    if isinstance(distribution, MultiCategoricalDistribution):
        sizes = [int(size) for size in distribution.action_dims]
        return lambda logits: torch.stack(
            [_sample_categorical(block) for block in logits.split(sizes, dim=1)], dim=1
        )
    return lambda logits: torch.bernoulli(logits.sigmoid())


def _sample_categorical(logits: Tensor) -> Tensor:
    # Normalised twice, as in torch.distributions.Categorical, to get the same bits.
    normalised = logits - logits.logsumexp(dim=-1, keepdim=True)
    return torch.multinomial(normalised.softmax(dim=-1), 1, True).squeeze(1)


def _numpy_sampler(policy: ActorCriticPolicy) -> Callable[[np.ndarray], np.ndarray]:
    """The same for arrays; only the random numbers come from torch."""
    distribution = policy.action_dist
    if isinstance(distribution, DiagGaussianDistribution):
        log_std = policy.log_std.detach().numpy()
        normal = _Noise(Tensor.normal_)
        return lambda mean: normal.draw(mean.shape) * np.exp(log_std) + mean
    if isinstance(distribution, CategoricalDistribution):
        return _CategoricalSampler()
    if isinstance(distribution, MultiCategoricalDistribution):
        ends = np.cumsum([int(size) for size in distribution.action_dims])
        blocks = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        samplers = [_CategoricalSampler() for _ in blocks]
        return lambda logits: np.stack(
            [draw(logits[:, block]) for draw, block in zip(samplers, blocks, strict=True)], axis=1
        )
    return lambda logits: torch.bernoulli(torch.from_numpy(logits).sigmoid()).numpy()


class _Noise:
    """An array of torch's random numbers, which the next draw overwrites."""

    def __init__(self, fill: Callable[[Tensor], Tensor]) -> None:
        self._fill = fill
        self._tensor = torch.empty(0)
        self._array = self._tensor.numpy()

    def draw(self, shape: tuple[int, ...]) -> np.ndarray:
        """New numbers, in an array that lasts until the next draw."""
        if self._array.shape != shape:
            self._tensor = torch.empty(shape)
            self._array = self._tensor.numpy()
        self._fill(self._tensor)
        return self._array


class _CategoricalSampler:
    """Logits of shape (n_envs, n_categories) -> categories, shape (n_envs,)."""

    def __init__(self) -> None:
        self._exponential = _Noise(Tensor.exponential_)

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        if _multinomial_is_a_race():
            return (weights / self._exponential.draw(weights.shape)).argmax(axis=1)
        return torch.multinomial(torch.from_numpy(weights), 1, True).squeeze(1).numpy()


@cache
def _multinomial_is_a_race() -> bool:
    """Whether ``torch.multinomial`` draws one sample as argmax(p / q), with q exponential.

    It does so in today's versions of torch, where its checks take ten times as long as the draw.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        p = torch.rand(64, 5)
        state = torch.get_rng_state()
        drawn = torch.multinomial(p, 1, True).squeeze(1)
        after = torch.get_rng_state()
        torch.set_rng_state(state)
        raced = (p / torch.empty_like(p).exponential_()).argmax(dim=1)
        return torch.equal(drawn, raced) and torch.equal(after, torch.get_rng_state())


def numpy_features(policy: ActorCriticPolicy) -> Callable[[Any], np.ndarray]:
    """:func:`~sb3_natural.networks.mlp.flat_features` for arrays."""
    space, normalizer = policy.observation_space, normalizer_of(policy)
    known = normalizer is None or type(normalizer) is ObservationNormalizer
    is_box = isinstance(space, spaces.Box)
    if not (known and is_box) or (policy.normalize_images and is_image_space(space)):
        return lambda observations: flat_features(policy, torch.as_tensor(observations)).numpy()
    if normalizer is not None:
        return normalizer.numpy_forward()
    if space.shape is not None and len(space.shape) == 1:
        return lambda observations: observations.astype(np.float32)
    return lambda observations: observations.astype(np.float32).reshape(len(observations), -1)


def _action_shape(policy: ActorCriticPolicy) -> tuple[int, ...]:
    shape = policy.action_space.shape
    assert shape is not None
    return shape
