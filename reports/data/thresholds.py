"""The thresholds of returns: given by the user, or registered with Gymnasium."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import gymnasium as gym

from reports.data.runs import ReportError


@dataclass(frozen=True)
class Threshold:
    """A return, and whether the user gave it; if not, it is Gymnasium's."""

    value: float
    given: bool


def parse(texts: Iterable[str]) -> dict[str, float]:
    """Texts of the form ``CartPole-v1=475`` as a threshold for each environment.

    :raises ReportError: a text that is not of that form, a number that is not finite, or an
        environment that is given twice
    """
    thresholds: dict[str, float] = {}
    for text in texts:
        env_id, equals, number = text.partition("=")
        if not equals or not env_id:
            raise ReportError(
                f"--threshold: must be ENV=RETURN, such as CartPole-v1=475, got {text!r}"
            )
        value = _finite(number)
        if value is None:
            raise ReportError(f"--threshold: {env_id}: must be a finite number, got {number!r}")
        if env_id in thresholds:
            raise ReportError(
                f"--threshold: {env_id}: is given twice, {value_text(thresholds[env_id])} and "
                f"{value_text(value)}; give one"
            )
        thresholds[env_id] = value
    return thresholds


def resolve(
    env_ids: Iterable[str], given: Mapping[str, float], with_registered: bool = True
) -> dict[str, Threshold]:
    """The threshold of each environment that has one, sorted; given ones take precedence.

    :param env_ids: the environments of the report
    :param with_registered: thresholds that are not given are Gymnasium's, which are of returns
    :raises ReportError: ``given`` has an environment that is not one of them
    """
    known = sorted(set(env_ids))
    for env_id in given:
        if env_id not in known:
            raise ReportError(
                f"--threshold: {env_id}: no finished run is on it; it must be one of "
                f"{', '.join(known)}"
            )
    thresholds = {}
    for env_id in known:
        value = given.get(env_id)
        if value is None and with_registered:
            value = registered(env_id)
        if value is not None:
            thresholds[env_id] = Threshold(value, given=env_id in given)
    return thresholds


def registered(env_id: str) -> float | None:
    """Gymnasium's ``reward_threshold`` of an environment; nothing is imported to find it."""
    try:
        value = gym.spec(env_id.rpartition(":")[2]).reward_threshold
    except gym.error.Error:
        return None
    return None if value is None else float(value)


def value_text(value: float) -> str:
    """``4,800`` or ``-0.25``."""
    return f"{value:,.10g}"


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
