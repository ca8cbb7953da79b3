"""Whether an action family of one's own is that of its distribution: once, at its first use."""

from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from stable_baselines3.common.distributions import Distribution
from torch import Tensor

from sb3_natural.curvature.families import ActionFamily

__all__ = ["checked_statistics"]

_CHECKED: WeakKeyDictionary[type, set[tuple[type, int]]] = WeakKeyDictionary()
"""Of a family's class: the distributions, and numbers of statistics, that it was checked with.

By class, and not by object, because ``family_of`` makes a new object at each call.
"""

_STEP = 1e-3
"""The length of the step in the natural norm: its KL divergence is half of this squared."""

_LONGEST = 1e-2
"""The longest step relative to 1 + |phi|, where the distribution hardly depends on phi."""

_ROUNDING = 1e-9
"""What rounding may add to a KL divergence, in nats; float64 adds less."""


def checked_statistics(family: ActionFamily, distribution: Distribution) -> Tensor:
    """What ``family.parts`` says of a distribution, side by side, if it can be right.

    No random state changes.

    :param family: its ``at`` and ``kl`` take phi of float64
    :param distribution: an SB3 distribution in N states
    :return: the statistics phi, shape (N, K)
    :raises TypeError: the parts are not tensors
    :raises ValueError: the parts have not the shape (N, k), or are cut off from the graph; or phi
        does not lead back to the distribution; or the Fisher information is not that of the KL
        divergence
    """
    phi = _joined(family, distribution)
    if torch.is_grad_enabled() and not phi.requires_grad and _is_attached(distribution):
        raise ValueError(
            f"{_name(family)}.parts must return tensors attached to the network's graph, as the "
            "distribution's are; they are detached, and so nothing would be learnt."
        )
    done = _CHECKED.setdefault(type(family), set())
    kind = (type(distribution), phi.shape[1])
    # A network that has diverged says nothing of the family; what uses phi notices NaN itself.
    if kind not in done and len(phi) > 0 and bool(phi.isfinite().all()):
        _check_log_prob(family, distribution, phi.detach())
        _check_small_step(family, distribution, phi.detach())
        done.add(kind)
    return phi


def _joined(family: ActionFamily, distribution: Distribution) -> Tensor:
    parts: Any = family.parts(distribution)
    if not isinstance(parts, list | tuple) or not parts:
        found = "an empty one" if isinstance(parts, list | tuple) else type(parts).__name__
        raise TypeError(f"{_name(family)}.parts must return a list of tensors, not {found}.")
    for part in parts:
        if not isinstance(part, Tensor):
            raise TypeError(
                f"{_name(family)}.parts must return a list of tensors; in it is a "
                f"{type(part).__name__}."
            )
    shapes = [tuple(part.shape) for part in parts]
    if any(len(shape) != 2 for shape in shapes) or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(
            f"{_name(family)}.parts must return tensors of shape (N, k), with a row for each of "
            f"the N states; their shapes are {', '.join(map(str, shapes))}."
        )
    return torch.cat(list(parts), dim=1)


def _check_log_prob(family: ActionFamily, distribution: Distribution, phi: Tensor) -> None:
    """At phi, actions are as likely as the distribution itself says."""
    rule = (
        f"{_name(family)}.torch_distribution at the statistics that {_name(family)}.parts returns "
        f"must be what the {type(distribution).__name__} holds"
    )
    with torch.no_grad(), _same_random_state(phi.device):
        try:
            actions = family.sample(distribution, phi, 1)[0]
            expected = distribution.log_prob(actions)
            found = family.log_prob(distribution, phi, actions)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ValueError(f"{rule}; a sample's log_prob fails: {error}") from error
    if expected.shape != (len(phi),):
        raise ValueError(
            f"{type(distribution).__name__}.log_prob must have shape ({len(phi)},), with a value "
            f"for each state; {_name(family)} was given {tuple(expected.shape)}."
        )
    if found.shape != expected.shape:
        raise ValueError(
            f"{rule}; its log_prob has shape {tuple(found.shape)} instead of "
            f"{tuple(expected.shape)}."
        )
    wrong = ~found.isclose(expected, rtol=1e-2, atol=1e-2, equal_nan=True)
    if wrong.any():
        raise ValueError(
            f"{rule}; but log_prob of a sampled action is {found[wrong][0].item():.6g} instead of "
            f"{expected[wrong][0].item():.6g}."
        )


def _check_small_step(family: ActionFamily, distribution: Distribution, phi: Tensor) -> None:
    """Beside phi: the statistics lead back to themselves, and M is the curvature of the KL."""
    p = _some_states(phi)
    v = _directions(*p.shape).to(p) * (1 + p.abs())
    try:
        square = (v * family.fisher_at(p)(v)).sum(dim=1)
        length = (_STEP / square.clamp(min=0).sqrt()).clamp(max=_LONGEST)
        step = length[:, None] * v
        ahead, behind = family.kl(p, p + step), family.kl(p, p - step)
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"{_name(family)}: the KL divergence of torch_distribution(phi), phi of shape "
            f"{tuple(p.shape)} and {p.dtype}, must have two derivatives: {error}"
        ) from error
    if ahead.shape != (len(p),):
        raise ValueError(
            f"{_name(family)}.torch_distribution(phi), phi of shape {tuple(p.shape)}, must be the "
            f"distribution of {len(p)} states; its KL divergence has shape "
            f"{tuple(ahead.shape)}."
        )
    moved = torch.arange(len(p), device=p.device)[:, None] % 2 == 0
    if (family.kl(p, torch.where(moved, p + step, p))[~moved[:, 0]].abs() > _ROUNDING).any():
        raise ValueError(
            f"{_name(family)}.torch_distribution(phi) must take a state's distribution from its "
            "own row of phi; it depends on others, too."
        )
    # Both ways, so that third derivatives cancel.
    found, predicted = (ahead + behind) / 2, length.square() * square / 2
    _check_way_back(family, distribution, p + step, found)
    wrong = (found - predicted).abs() > 0.05 * predicted.abs() + _ROUNDING
    if wrong.any():
        raise ValueError(
            f"The Fisher information of {_name(family)} is not the second derivative of its KL "
            f"divergence as autograd finds it: a small step has a divergence of "
            f"{found[wrong][0].item():.3g}, where it says {predicted[wrong][0].item():.3g}. It "
            "works for divergences that are smooth, and not for Laplace or Uniform. Write "
            "fisher_at and factor by hand (derive from ActionFamily)."
        )


def _check_way_back(
    family: ActionFamily, distribution: Distribution, q: Tensor, scale: Tensor
) -> None:
    """Statistics of the distribution at q are q, up to what leaves the distribution as it is."""
    back = _joined(family, family.at(distribution, q)).detach()
    if back.shape != q.shape:
        raise ValueError(
            f"{_name(family)}.torch_distribution(phi), phi of shape {tuple(q.shape)}, must have "
            f"parts of that shape; they have {tuple(back.shape)}."
        )
    wrong = family.kl(q, back.to(q)) > 0.01 * scale + _ROUNDING
    if wrong.any():
        raise ValueError(
            f"{_name(family)}.parts must return the statistics phi that its torch_distribution(phi)"
            f" was built from, in their order; for phi = {_row(q[wrong][0])} it returns "
            f"{_row(back[wrong][0])}."
        )


def _some_states(phi: Tensor) -> Tensor:
    """Statistics of a few states, in float64: each of at most 16 statistics has one, and 3 more."""
    n_rows = min(phi.shape[1], 16) + 3
    rows = phi[torch.arange(n_rows, device=phi.device) % len(phi)]
    return (rows.cpu() if phi.device.type == "mps" else rows).double()  # MPS has no float64


def _directions(n_rows: int, n_statistics: int) -> Tensor:
    """Along one statistic each, evenly chosen, and three at random; (n_rows, K)."""
    v = torch.randn(n_rows, n_statistics, generator=torch.Generator().manual_seed(0))
    along = torch.linspace(0, n_statistics - 1, n_rows - 3).long()
    v[:-3] = torch.eye(n_statistics)[along]
    return v


def _is_attached(held: Any) -> bool:
    """Whether a tensor requires a gradient in what a distribution holds."""
    if isinstance(held, Tensor):
        return held.requires_grad
    if isinstance(held, Distribution):
        return _is_attached(held.distribution)
    if isinstance(held, torch.distributions.Distribution):
        return any(map(_is_attached, vars(held).values()))
    return isinstance(held, list | tuple) and any(map(_is_attached, held))


def _same_random_state(device: torch.device) -> AbstractContextManager[None]:
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def _name(family: ActionFamily) -> str:
    return type(family).__name__


def _row(values: Tensor) -> str:
    shown = [f"{value:.6g}" for value in values[:6].tolist()]
    return f"({', '.join(shown)}{', ...' if len(values) > 6 else ''})"
