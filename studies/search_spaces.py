"""What is tuned, for each algorithm, and over which range."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.zoo import schedule_start


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter with a range.

    ``default`` is what the algorithm's constructor takes where the hyperparameters say nothing.
    """

    name: str
    symbol: str
    meaning: str
    low: float
    high: float
    log: bool
    default: float


_DELTA = Parameter(
    "target_kl",
    "delta",
    "KL divergence of an update [nats]",
    low=1e-3,
    high=0.5,
    log=True,
    default=0.02,
)

SPACES: dict[str, Parameter] = {
    "npg": _DELTA,
    "trpo": replace(_DELTA, default=0.01),
    "ppo": Parameter(
        "clip_range",
        "epsilon",
        "clip range of the probability ratio",
        low=0.02,
        high=0.6,
        log=False,
        default=0.2,
    ),
}


def space_for(algo: str, hyperparams: Mapping[str, Any]) -> Parameter:
    """The algorithm's parameter, with the hyperparameters' value as default and within the range.

    :raises SpecError: the hyperparameters' value is neither a number nor a schedule
    """
    parameter = SPACES[algo]
    written = hyperparams.get(parameter.name)
    if written is None:
        return parameter
    default = (
        schedule_start(written, parameter.name) if isinstance(written, str) else float(written)
    )
    return replace(
        parameter,
        default=default,
        low=min(parameter.low, default),
        high=max(parameter.high, default),
    )


def is_scheduled(parameter: Parameter, hyperparams: Mapping[str, Any]) -> bool:
    """Whether the hyperparameters give the parameter as a schedule, such as ``lin_0.05``."""
    return isinstance(hyperparams.get(parameter.name), str)


def with_value(
    hyperparams: Mapping[str, Any], parameter: Parameter, value: float
) -> dict[str, Any]:
    """The hyperparameters with another value; a schedule stays one, with another initial value."""
    written = f"lin_{value!r}" if is_scheduled(parameter, hyperparams) else value
    return {**hyperparams, parameter.name: written}
