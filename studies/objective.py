"""What a study optimises: the score of a setting, over seeds and environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.normalisation import Scale
from benchmarks.records import Evaluation, RunSpec
from benchmarks.statistics import area_under_curve, final_return
from studies.parameters import Parameter, Value, with_values

# Far from the first seeds of sweeps: values chosen for doing well on some seeds must be compared on
# others.
FIRST_SEED = 1000
FIRST_FRESH_SEED = 2000
MAX_SEEDS = FIRST_FRESH_SEED - FIRST_SEED

OBJECTIVES = {
    "final": "final return (mean of the last 10% of evaluations)",
    "area": "mean return over the training (area under the learning curve)",
    "final-and-seconds": "final return, and seconds of training",
}


@dataclass(frozen=True)
class Problem:
    """What a study optimises; a study can be continued only with the same problem.

    :param algo: name of one of our algorithms, or path of a class
    :param env_ids: the environments' ids in Gymnasium
    :param n_timesteps: steps of training of each run
    :param seeds: the seeds of each trial
    :param space: the hyperparameters that are tuned, each with its range
    :param hyperparams: by environment, the hyperparameters that a trial's values are put into
    :param evaluation: how runs are evaluated
    :param objective: "final" (final return), "area" (mean return over the training) or
        "final-and-seconds" (final return, and seconds of training)
    :param scales: by environment, what normalises its returns; None: they stay as they are
    """

    algo: str
    env_ids: tuple[str, ...]
    n_timesteps: int
    seeds: tuple[int, ...]
    space: tuple[Parameter, ...]
    hyperparams: dict[str, dict[str, Any]]
    evaluation: Evaluation
    objective: str
    scales: dict[str, Scale | None]

    def to_dict(self) -> dict[str, Any]:
        """The problem as the study stores it, in JSON."""
        fields = asdict(self)
        fields |= {"env_ids": list(self.env_ids), "seeds": list(self.seeds)}
        return fields | {"space": {each.name: each.to_dict() for each in self.space}}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Problem:
        """The inverse of :meth:`to_dict`.

        :param fields: what that gives
        """
        scales = fields["scales"].items()
        return cls(
            **{
                **fields,
                "env_ids": tuple(fields["env_ids"]),
                "seeds": tuple(fields["seeds"]),
                "space": tuple(Parameter.from_dict(each) for each in fields["space"].values()),
                "evaluation": Evaluation(**fields["evaluation"]),
                "scales": {env_id: scale and Scale(**scale) for env_id, scale in scales},
            }
        )

    @property
    def has_two_objectives(self) -> bool:
        """Whether returns are set against training time."""
        return self.objective == "final-and-seconds"

    @property
    def is_normalised(self) -> bool:
        """Whether scores are scaled: 0 for a random policy and 1 for the reference."""
        return None not in self.scales.values()

    def specs(
        self, suite: str, values: Mapping[Parameter, Value], seeds: Sequence[int] = ()
    ) -> list[RunSpec]:
        """The runs of a trial, in the order in which they are made.

        A seed is run on every environment before the next seed, so that a pruner sees every
        environment early.

        :param suite: name of the study, which stands for a suite's
        :param values: values of the tuned hyperparameters; empty: those of each environment as they
            are
        :param seeds: seeds instead of the study's; empty: those
        """
        return [
            RunSpec(
                suite,
                self.algo,
                env_id,
                seed,
                self.n_timesteps,
                with_values(self.hyperparams[env_id], values),
                self.evaluation,
            )
            for seed in seeds or self.seeds
            for env_id in self.env_ids
        ]

    def normalised(self, env_id: str, returns: Sequence[float]) -> np.ndarray:
        """Returns on the environment's scale, or as they are if it has none.

        :param env_id: id of the environment
        :param returns: the returns
        """
        scale = self.scales[env_id]
        values = np.asarray(returns, dtype=float)
        return values if scale is None else scale.normalise(values)

    def score(self, env_id: str, returns: Sequence[float]) -> float:
        """The score of a run, which need not have finished.

        :param env_id: id of its environment
        :param returns: mean returns of its evaluations so far, in the order of their steps
        """
        values = self.normalised(env_id, returns)
        if self.objective == "area":
            return area_under_curve(np.arange(len(values)), values)  # evenly spaced
        return final_return(values)

    def defaults(self) -> list[dict[Parameter, Value]]:
        """The values that the hyperparameters give; several where the environments' differ."""
        # Here, since reading a study does not need its algorithm's class.
        from studies.search_spaces import default_value

        found: list[dict[Parameter, Value]] = []
        for env_id in self.env_ids:
            hyperparams = self.hyperparams[env_id]
            values = {each: default_value(self.algo, each, hyperparams) for each in self.space}
            if values not in found:
                found.append(values)
        return found


def fresh_seeds(problem: Problem) -> list[int]:
    """As many seeds as the study's, none of which it has seen."""
    return list(range(FIRST_FRESH_SEED, FIRST_FRESH_SEED + len(problem.seeds)))
