"""Policies that normalise observations themselves, by running statistics that are part of them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

__all__ = [
    "NormalizedObservations",
    "ObservationNormalizer",
    "normalizable",
    "normalizer_of",
]

# As in VecNormalize.
EPSILON = 1e-8
LIMIT = 10.0

# Elements of the observations that are added to the statistics at a time.
_CHUNK_ELEMENTS = 2**22


def normalizable(
    space: spaces.Space, normalize_images: bool = True
) -> dict[str | None, spaces.Box]:
    """What can be normalised in an observation: Boxes that are not images.

    :param normalize_images: False if images are floats already, as SB3's policies understand it
    :return: by key; the key of an observation that is not a dict is None
    """
    parts: dict[str | None, spaces.Space] = {None: space}
    if isinstance(space, spaces.Dict):
        parts = {key: space.spaces[key] for key in sorted(space.spaces)}
    return {
        key: part
        for key, part in parts.items()
        if isinstance(part, spaces.Box)
        and not is_image_space(part, normalized_image=not normalize_images)
    }


class ObservationNormalizer(nn.Module):
    """``clip((observation - mean) / sqrt(var + 1e-8), -10, 10)``, as ``VecNormalize`` computes it.

    Mean and variance are those of each element over all observations that :meth:`update` was given;
    before, they are 0 and 1. Floats are first rounded to the precision of their space, as in
    rollout buffers, and then normalised in float64; thus it does not matter whether this happens in
    torch, in numpy, or in ``VecNormalize``.

    :param space: observation space
    :param normalize_images: as for :func:`normalizable`
    :ivar mean: of all elements that are normalised, key by key in alphabetical order; float64
    :ivar var: likewise
    :ivar count: how many observations there were, float64; as in ``VecNormalize``, 0.0001 are there
        from the beginning
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, space: spaces.Space, normalize_images: bool = True) -> None:
        super().__init__()
        boxes = normalizable(space, normalize_images)
        self._shapes = {key: box.shape for key, box in boxes.items()}
        self._precisions = {key: _precision(box) for key, box in boxes.items()}
        n_elements = sum(map(math.prod, self._shapes.values()))
        start = RunningMeanStd(shape=(n_elements,))
        for name in ("mean", "var", "count"):
            value = torch.as_tensor(getattr(start, name), dtype=torch.float64)
            self.register_buffer(name, value.clone())

    def forward(self, observations: PyTorchObs) -> PyTorchObs:
        """The observations, of which some parts may stay as they are.

        :param observations: (N, ...), or a dict of these
        """
        std = (self.var + EPSILON).sqrt()
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        parts = _by_key(observations)
        for (key, shape), mean, deviation in zip(
            self._shapes.items(), self.mean.split(sizes), std.split(sizes), strict=True
        ):
            rounded = parts[key].to(self._precisions[key] or mean.dtype)
            centred = rounded - mean.view(1, *shape)
            scaled = centred.div_(deviation.view(1, *shape)).clamp_(-LIMIT, LIMIT)
            parts[key] = scaled.float()
        return parts if isinstance(observations, dict) else parts[None]  # type: ignore[return-value]

    def numpy_forward(self) -> Callable[[np.ndarray], np.ndarray]:
        """:meth:`forward` in numpy, (N, ...) -> (N, n_elements), for arrays and on the CPU.

        It reads the statistics at each call.
        """
        mean, var = self.mean.numpy(), self.var.numpy()
        std = np.empty_like(var)
        dtype = torch.empty(0, dtype=self._precisions[None] or torch.float64).numpy().dtype

        def normalized(observations: np.ndarray) -> np.ndarray:
            np.add(var, EPSILON, out=std)
            np.sqrt(std, out=std)
            rows = observations.astype(dtype, copy=False).reshape(len(observations), -1) - mean
            rows /= std
            np.maximum(rows, -LIMIT, out=rows)
            np.minimum(rows, LIMIT, out=rows)
            return rows.astype(np.float32)

        return normalized

    @torch.no_grad()
    def update(self, observations: PyTorchObs) -> None:
        """Add observations to the statistics.

        :param observations: as for :meth:`forward`
        """
        moments = RunningMeanStd()
        moments.mean, moments.var = self.mean.cpu().numpy(), self.var.cpu().numpy()
        moments.count = float(self.count)
        parts = _by_key(observations)
        n_samples = len(next(iter(parts.values())))
        rows = [parts[key].reshape(n_samples, -1).cpu().numpy() for key in self._shapes]
        n_rows = max(1, _CHUNK_ELEMENTS // len(self.mean))
        for start in range(0, n_samples, n_rows):
            chunk = [part[start : start + n_rows] for part in rows]
            moments.update(np.concatenate(chunk, axis=1, dtype=np.float64))
        for name in ("mean", "var", "count"):
            buffer = self.get_buffer(name)
            buffer.copy_(torch.as_tensor(getattr(moments, name), dtype=buffer.dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        try:
            return super()._apply(fn, recurse)
        except TypeError:  # Apple's GPUs have no float64
            super()._apply(Tensor.float, recurse)
            return super()._apply(fn, recurse)


def _precision(space: spaces.Box) -> torch.dtype | None:
    """The precision of a space of floats; None for one of integers."""
    dtype = torch.from_numpy(np.empty(0, dtype=space.dtype)).dtype
    return dtype if dtype.is_floating_point else None


def _by_key(observations: PyTorchObs) -> dict[str | None, Tensor]:
    parts = observations if isinstance(observations, dict) else {None: observations}
    return dict(parts.items())


class _BeforeExtraction(BasePolicy):
    """Normalises where every method of SB3's actor-critic policies preprocesses observations.

    It has to come after ``ActorCriticPolicy`` in the order of base classes, since some of these
    methods call ``super().extract_features``.
    """

    normalizer: ObservationNormalizer | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_module("normalizer", None)  # until networks have been built

    def extract_features(self, obs: PyTorchObs, features_extractor: BaseFeaturesExtractor) -> Any:
        """Normalise, preprocess, extract."""
        if self.normalizer is not None:
            obs = self.normalizer(obs)
        return super().extract_features(obs, features_extractor)


class NormalizedObservations(ActorCriticPolicy, _BeforeExtraction):
    """SB3's actor-critic policy with an :class:`ObservationNormalizer` before features extractors.

    :param normalize_observations: whether observations are normalised; not to be given in
        ``policy_kwargs``, since NPG's argument of that name sets it
    :ivar normalizer: None if not, or if there is nothing to normalise in the observation space
    """

    def __init__(self, *args: Any, normalize_observations: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.normalize_observations = normalize_observations
        if normalize_observations and normalizable(self.observation_space, self.normalize_images):
            self.normalizer = ObservationNormalizer(self.observation_space, self.normalize_images)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters()
        return parameters | {"normalize_observations": self.normalize_observations}


def normalizer_of(policy: nn.Module) -> ObservationNormalizer | None:
    """What normalises a policy's observations; None if nothing does."""
    return policy.normalizer if isinstance(policy, NormalizedObservations) else None
