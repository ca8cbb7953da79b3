"""What the measurements say: rates, paired ratios, and the targets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.names import first_line
from benchmarks.speed.measure import Record
from benchmarks.speed.plan import (
    A2C,
    ACER,
    ACER_ENV_ID,
    ACER_N_ENVS,
    ACER_N_STEPS,
    ACKTR,
    ACKTR_ENV_ID,
    ACKTR_N_ENVS,
    ENV_ID,
    FAST_A2C,
    FAST_PPO,
    FAST_TRPO,
    FORKED,
    KFAC_WIDTH,
    NPG,
    ONE_PROCESS,
    PAIR,
    PFRL_ACER,
    POOL,
    POOL_NPG,
    PPO,
    PROCESS_NPG,
    PROCESSES,
    SB3_ENV_NPG,
    SBX_PPO,
    SIMULATOR,
    SINGLE_FILE_PPO,
    SOLVERS,
    SPAWNED,
    START,
    START_ENV_ID,
    TIANSHOU,
    TIANSHOU_PPO,
    TRPO,
    Sizes,
    acer_block,
    kfac_block,
    stepping_block,
    training_block,
    update_block,
)
from benchmarks.speed.stopwatch import PHASES

Values = dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """A quantity over its repeats."""

    repeats: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one; the mean of the middle two if their number is even."""
        return float(np.median(self.repeats))

    @property
    def low(self) -> float:
        """The lowest."""
        return min(self.repeats)

    @property
    def high(self) -> float:
        """The highest."""
        return max(self.repeats)


class Results:
    """The measurements of one command."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = list(records)

    def blocks(self, task: str) -> list[str]:
        """The blocks with a contender that has this task, in the plan's order."""
        return list(dict.fromkeys(r["block"] for r in self.records if r["task"] == task))

    def trainings(self) -> list[str]:
        """The blocks of whole training side by side, on one task; ACKTR's is by itself."""
        return [block for block in self.blocks("train") if NPG in self.contenders(block)]

    def contenders(self, block: str) -> list[str]:
        """The contenders of a block, in the plan's order."""
        return list(dict.fromkeys(r["contender"] for r in self.records if r["block"] == block))

    def settings(self, block: str, contender: str) -> Mapping[str, Any]:
        """The settings of a contender; of the first, if several have this name."""
        return self._records(block, contender)[0]["settings"]

    def is_normalized(self, block: str) -> bool:
        """Whether a block is of training with normalised observations and rewards."""
        return any(
            self.settings(block, each).get("normalize", False) for each in self.contenders(block)
        )

    def measured(self, block: str, contender: str) -> list[Values]:
        """The values of all repeats."""
        return [r["values"] for r in self._records(block, contender) if "values" in r]

    def spread(
        self, block: str, contender: str, quantity: Callable[[Values], float | None]
    ) -> Spread | None:
        """A quantity over the repeats, or None if it was not measured."""
        found = [quantity(values) for values in self.measured(block, contender)]
        known = [value for value in found if value is not None]
        return Spread(tuple(known)) if known else None

    def rate(self, block: str, contender: str) -> Spread | None:
        """Environment steps per second."""
        return self.spread(block, contender, steps_per_second)

    def ratio(self, block: str, ours: str, other: str) -> Spread | None:
        """The ratio of two rates, turn by turn, so that drifts of the machine cancel."""
        rates: list[dict[int, float]] = []
        for contender in (ours, other):
            records = self._records(block, contender)
            rates.append(
                {r["repeat"]: steps_per_second(r["values"]) for r in records if "values" in r}
            )
        both = sorted(rates[0].keys() & rates[1].keys())
        return Spread(tuple(rates[0][i] / rates[1][i] for i in both)) if both else None

    def missing_reason(self, block: str, *contenders: str) -> str:
        """Why there are no values, in a line."""
        records = [r for name in contenders for r in self._records(block, name)]
        for record in records:
            if "unavailable" in record:
                return record["unavailable"]
            if "error" in record:
                return "failed: " + first_line(record["error"])
        return "not part of this run" if not records else "left out"

    def failures(self) -> list[Record]:
        """Measurements that failed, unlike those that are not available here."""
        return [r for r in self.records if "error" in r]

    def _records(self, block: str, contender: str) -> list[Record]:
        return [r for r in self.records if r["block"] == block and r["contender"] == contender]


@dataclass(frozen=True)
class Target:
    """A speed or a size that is asked for, and what was measured.

    :param relation: ``">="`` or ``"<="``
    :param unit: ``"x"`` for ratios, ``"%"`` for shares, ``"steps/s"`` for environment steps per
        second, ``"s"`` for seconds, ``""`` for plain numbers
    :param missing: why there is no measurement
    """

    name: str
    relation: str
    limit: float
    unit: str
    measured: Spread | None
    missing: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the median is on the right side; None if it was not measured."""
        if self.measured is None:
            return None
        value = self.measured.median
        return value >= self.limit if self.relation == ">=" else value <= self.limit


def steps_per_second(values: Values) -> float:
    """Environment steps per second of one measurement."""
    return values["steps"] / values["seconds"]


def targets(results: Results, sizes: Sizes) -> list[Target]:
    """The targets, in the order of the table."""
    one = training_block(1)
    return [
        *_normalized_targets(results),
        _ratio(results, "NPG / sb3-contrib's TRPO, training, 1 environment", one, NPG, TRPO, 5),
        _ratio(
            results,
            "NPG / sb3-contrib's TRPO, training, 1 environment, both in SB3's make_vec_env",
            one,
            SB3_ENV_NPG,
            TRPO,
            5,
        ),
        _ratio(
            results,
            "NPG / Tianshou's NPG, training, 16 environments",
            training_block(16),
            NPG,
            TIANSHOU,
            3.3,
        ),
        _share(
            results,
            "NPG / simulator alone, training, 8 environments",
            training_block(8),
            NPG,
            SIMULATOR,
            50,
        ),
        _share(
            results,
            "NPG on EnvPool / EnvPool alone, 2 threads, 16 environments",
            training_block(sizes.pool_n_envs),
            POOL_NPG,
            POOL,
            75,
        ),
        *_process_targets(results, sizes),
        *_update_targets(results, sizes),
        _ratio(results, "PPO, faster / PPO, 1 environment", one, FAST_PPO, PPO, 3.0),
        *_ppo_peer_targets(results, sizes),
        _ratio(results, "A2C, faster / A2C, 1 environment", one, FAST_A2C, A2C, 4.0),
        _ratio(results, "TRPO with fast rollouts / TRPO, 1 environment", one, FAST_TRPO, TRPO, 4.5),
        _memory_target(results, sizes),
        *_acer_targets(results),
        *_kfac_targets(results, sizes),
        _start_target(results),
    ]


def _ratio(results: Results, name: str, block: str, ours: str, other: str, limit: float) -> Target:
    measured = results.ratio(block, ours, other)
    missing = "" if measured else results.missing_reason(block, other, ours)
    return Target(name, ">=", limit, "x", measured, missing)


def _share(results: Results, name: str, block: str, ours: str, other: str, limit: float) -> Target:
    target = _ratio(results, name, block, ours, other, limit)
    if target.measured is None:
        return target
    percent = Spread(tuple(100 * value for value in target.measured.repeats))
    return Target(name, ">=", limit, "%", percent)


def _normalized_targets(results: Results) -> list[Target]:
    """Training as it is on MuJoCo, with observations and rewards normalised."""
    block, where = training_block(1, normalized=True), "normalised, 1 environment"
    return [
        _ratio(results, f"NPG / sb3-contrib's TRPO, {where}", block, NPG, TRPO, 5.0),
        _ratio(results, f"TRPO, faster / sb3-contrib's, {where}", block, FAST_TRPO, TRPO, 4.5),
        _ratio(results, f"PPO, faster / SB3's, {where}", block, FAST_PPO, PPO, 3.0),
        _ratio(results, f"A2C, faster / SB3's, {where}", block, FAST_A2C, A2C, 4.0),
    ]


def _process_targets(results: Results, sizes: Sizes) -> list[Target]:
    n_envs = sizes.process_n_envs
    how = f"{n_envs} environments, a process for each core / one process"
    stepping, training = stepping_block(ENV_ID, n_envs), training_block(n_envs)
    return [
        _ratio(results, f"{ENV_ID}, {how}", stepping, PROCESSES, ONE_PROCESS, 1.6),
        _ratio(results, f"NPG, training, {how}", training, PROCESS_NPG, NPG, 1.6),
    ]


def _ppo_peer_targets(results: Results, sizes: Sizes) -> list[Target]:
    """PPO beside other libraries' that are chosen for their speed: at least as fast as they."""
    peers = {
        "SBX's PPO": SBX_PPO,
        "single-file PPO as CleanRL's": SINGLE_FILE_PPO,
        "Tianshou's PPO": TIANSHOU_PPO,
    }
    return [
        _ratio(
            results,
            f"PPO, faster / {who}, {_environments(n)}",
            training_block(n),
            FAST_PPO,
            peer,
            1.0,
        )
        for n in sizes.ppo_n_envs
        for who, peer in peers.items()
    ]


def _environments(number: int) -> str:
    return f"{number} environment{'s' if number > 1 else ''}"


def _update_targets(results: Results, sizes: Sizes) -> list[Target]:
    rows = []
    for width, limit in ((64, 5.0), (256, 1.8)):
        block = update_block(width, sizes.width_batch)
        speedup = results.spread(block, PAIR, update_ratio)
        cosine = results.spread(block, PAIR, lambda values: values["cosine"])
        missing = "" if speedup else results.missing_reason(block, PAIR)
        name = f"policy update, {sizes.width_batch:,} samples, {width}-{width}"
        rows.append(Target(f"NPG / sb3-contrib's TRPO, {name}", ">=", limit, "x", speedup, missing))
        rows.append(Target(f"cosine of the two steps, {name}", ">=", 0.999, "", cosine, missing))
    return rows


def update_ratio(values: Values) -> float | None:
    """TRPO's seconds over NPG's; None where TRPO was left out."""
    return values["trpo"] / values["npg"] if values["trpo"] else None


def memory_growth(values: Values) -> float:
    """MiB that a pass, an update or a training took at its peak."""
    return values["peak"] - values["before"]


def _memory_target(results: Results, sizes: Sizes) -> Target:
    update = results.spread("memory", "NPG's update", memory_growth)
    one_pass = results.spread("memory", "one pass", memory_growth)
    measured = None
    if update and one_pass:
        measured = Spread((update.median / one_pass.median,))
    return Target(
        f"memory of NPG's policy update / of one forward-backward pass, "
        f"{sizes.memory_batch:,} samples",
        "<=",
        1.5,
        "x",
        measured,
        "" if measured else results.missing_reason("memory", "NPG's update", "one pass"),
    )


def _acer_targets(results: Results) -> list[Target]:
    block = acer_block(ACER_N_ENVS, ACER_N_STEPS)
    where = f"training, {ACER_ENV_ID}"
    rate = results.rate(block, ACER)
    missing = "" if rate else results.missing_reason(block, ACER)
    name = f"ACER, {where}, {ACER_N_ENVS} environments"
    ratio = f"ACER, {ACER_N_ENVS} environments / PFRL's ACER, {where}"
    return [
        Target(name, ">=", 6_000, "steps/s", rate, missing),
        _ratio(results, ratio, block, ACER, PFRL_ACER, 60),
    ]


def _kfac_targets(results: Results, sizes: Sizes) -> list[Target]:
    block, width = kfac_block(sizes.width_batch), f"{KFAC_WIDTH}-{KFAC_WIDTH}"
    speedup = results.spread(block, SOLVERS, lambda values: values["cg"] / values["kfac"])
    rate = results.rate(ACKTR, ACKTR)
    where = f"{sizes.width_batch:,} samples, {width}"
    return [
        Target(
            f"K-FAC's direction / that of ten products, {where}",
            ">=",
            2.0,
            "x",
            speedup,
            "" if speedup else results.missing_reason(block, SOLVERS),
        ),
        Target(
            f"ACKTR, training, {ACKTR_ENV_ID}, {ACKTR_N_ENVS} environments",
            ">=",
            5_000,
            "steps/s",
            rate,
            "" if rate else results.missing_reason(ACKTR, ACKTR),
        ),
    ]


def _start_target(results: Results) -> Target:
    measured = results.spread(START, FORKED, lambda values: values["seconds"])
    missing = "" if measured else results.missing_reason(START, FORKED)
    name = f"a run beside its training, {START_ENV_ID}"
    return Target(name, "<=", 0.5, "s", measured, missing)


def start_rows(results: Results) -> list[tuple[str, Spread]]:
    """How a run's process begins, and the seconds of the run beside its training."""
    found = [
        (name, results.spread(START, name, lambda values: values["seconds"]))
        for name in (FORKED, SPAWNED)
    ]
    return [(name, seconds) for name, seconds in found if seconds is not None]


def phase_rows(results: Results) -> list[tuple[int, str, dict[str, float]]]:
    """Environments, contender, and microseconds per step of each phase, of the middle repeat."""
    rows = []
    for block in results.blocks("train_by_phase"):
        for contender in results.contenders(block):
            values = results.measured(block, contender)
            if values:
                typical = middle(values)
                micro = {p: 1e6 * typical["phases"][p] / typical["steps"] for p in PHASES}
                rows.append((results.settings(block, contender)["n_envs"], contender, micro))
    return rows


def update_rows(results: Results) -> list[dict[str, Any]]:
    """A row for each point: hidden width, samples, parameters, seconds, their ratio, cosine."""
    rows = []
    for block in results.blocks("compare_updates"):
        settings = results.settings(block, PAIR)
        npg = results.spread(block, PAIR, lambda values: values["npg"])
        if npg is None:
            continue
        rows.append(
            {
                "width": settings["hidden"][0],
                "samples": settings["n_samples"],
                "parameters": results.measured(block, PAIR)[0]["n_parameters"],
                "npg": npg,
                "solve": results.spread(block, PAIR, lambda values: values["npg_solve"]),
                "line_search": results.spread(
                    block, PAIR, lambda values: values["npg_line_search"]
                ),
                "trpo": results.spread(block, PAIR, lambda values: values["trpo"]),
                "expected": results.measured(block, PAIR)[0]["trpo_expected"],
                "ratio": results.spread(block, PAIR, update_ratio),
                "cosine": results.spread(block, PAIR, lambda values: values["cosine"]),
            }
        )
    return rows


def middle(values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The repeat with the median total, the lower of two, so that its parts add up."""
    return sorted(values, key=lambda v: v["seconds"])[(len(values) - 1) // 2]
