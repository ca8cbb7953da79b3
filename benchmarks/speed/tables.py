"""The tables of the speed page."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.speed.plan import (
    ACER,
    NPG,
    ONE_PROCESS,
    POOL,
    PPO,
    PROCESSES,
    SIMULATOR,
    TRPO,
    WAYS,
)
from benchmarks.speed.results import (
    Results,
    Spread,
    Target,
    memory_growth,
    middle,
    phase_rows,
    start_rows,
    update_rows,
)
from benchmarks.speed.stopwatch import ACER_PARTS, PHASES
from benchmarks.statistics import Estimate
from benchmarks.tables import Estimates, Inline, Number, Strong, Table, Text

_WHOLE, _TENTHS = "{:,.0f}".format, "{:,.1f}".format
_SIGNS = {">=": "≥", "<=": "≤"}
_HOLDS: dict[bool | None, Inline] = {True: "yes", False: Strong("no"), None: "not measured"}
_PRODUCT_WAYS = {"layers": "layers", "autograd": "autograd", "trpo": "TRPO"}
# The limits, each with the matrix product whose rate it takes.
_PRODUCT_LIMITS = {"limit": "layer_mm", "limit (square)": "square_mm"}


def targets(found: Sequence[Target]) -> Table:
    """The targets: what was measured, what is asked for, and whether it holds."""
    return Table(
        [
            Text("", [target.name for target in found]),
            Estimates(
                "measured",
                [_estimate(target.measured) if target.measured else "" for target in found],
                write=_number,
                alone="",
            ),
            Text("target", [f"{_SIGNS[each.relation]} {_number(each.limit)}" for each in found]),
            Text("unit", [target.unit for target in found]),
            Text("holds", [_HOLDS[target.holds] for target in found]),
        ]
    )


def training(results: Results) -> Table:
    """Environment steps per second of whole training."""
    return _training(
        results, [block for block in results.trainings() if not results.is_normalized(block)]
    )


def normalized_training(results: Results) -> Table:
    """The same with observations and rewards normalised."""
    normalized = [block for block in results.trainings() if results.is_normalized(block)]
    return _training(results, normalized)


def _training(results: Results, blocks: Sequence[str]) -> Table:
    rows = [
        (results.settings(block, NPG)["n_envs"], block, contender)
        for block in blocks
        for contender in results.contenders(block)
    ]
    return Table(
        [
            Number("environments", [n_envs for n_envs, _, _ in rows]),
            Text("", [contender for _, _, contender in rows]),
            _rates(results, [(block, contender) for _, block, contender in rows]),
            Number(
                "share, %",
                [_share(results, block, contender) for _, block, contender in rows],
                write=_WHOLE,
                missing="",
            ),
        ]
    )


def _rates(
    results: Results, measured: Sequence[tuple[str, str]], header: str = "steps per second"
) -> Estimates:
    """Environment steps per second of some contenders, each with its block."""
    rates: list[Estimate | str] = []
    for block, contender in measured:
        rate = results.rate(block, contender)
        rates.append(_estimate(rate) if rate else results.missing_reason(block, contender))
    return Estimates(header, rates, write=_number, alone="")


def _share(results: Results, block: str, contender: str) -> float | None:
    """The share of the simulator's speed, in percent."""
    whole = POOL if "EnvPool" in contender else SIMULATOR
    share = results.ratio(block, contender, whole)
    return 100 * share.median if share and contender != whole else None


def stepping(results: Results) -> Table:
    """Vectorised environments alone, in one process and in several, by the cost of a step."""
    blocks = results.blocks("step")
    settings = [results.settings(block, ONE_PROCESS) for block in blocks]
    ratios = [results.ratio(block, PROCESSES, ONE_PROCESS) for block in blocks]
    rates = [
        _rates(results, [(block, contender) for block in blocks], header=f"steps/s, {contender}")
        for contender in (ONE_PROCESS, PROCESSES)
    ]
    return Table(
        [
            Text("a step", [each.get("env_id") or f"{each['cost']:,} µs" for each in settings]),
            Number("environments", [each["n_envs"] for each in settings]),
            *rates,
            Estimates(
                "ratio",
                [_estimate(ratio) if ratio else "" for ratio in ratios],
                write=_number,
                alone="",
            ),
        ]
    )


def phases(results: Results) -> Table:
    """Microseconds per environment step, by phase."""
    rows = phase_rows(results)
    phases = [
        Number(name, [micro[name] or None for _, _, micro in rows], write=_TENTHS, missing="")
        for name in PHASES
    ]
    return Table(
        [
            Number("environments", [n_envs for n_envs, _, _ in rows]),
            Text("", [contender for _, contender, _ in rows]),
            *phases,
            Number("total", [sum(micro.values()) for _, _, micro in rows], write=_TENTHS),
        ]
    )


def updates(results: Results) -> Table:
    """Policy updates of NPG and TRPO on the same batches."""
    rows = update_rows(results)
    milliseconds = [
        Number(
            header,
            [1e3 * row[key].median if row[key] else _left_out(row) for row in rows],
            write=_TENTHS,
        )
        for header, key in (
            ("NPG, ms", "npg"),
            ("solving", "solve"),
            ("line search", "line_search"),
            ("TRPO, ms", "trpo"),
        )
    ]
    return Table(
        [
            Text("network", [f"{row['width']}-{row['width']}" for row in rows]),
            Number("parameters", [row["parameters"] for row in rows]),
            Number("samples", [row["samples"] for row in rows]),
            *milliseconds,
            Estimates(
                "ratio",
                [_estimate(row["ratio"]) if row["ratio"] else "" for row in rows],
                write=_number,
                alone="",
            ),
            Number(
                "cosine",
                [min(row["cosine"].repeats) if row["cosine"] else None for row in rows],
                write="{:.6f}".format,
                missing="",
            ),
        ]
    )


def _left_out(row: dict[str, Any]) -> str:
    return f"left out: about {row['expected']:.0f} s"


def products(results: Results) -> Table:
    """Microseconds per Fisher-vector product, and the limits of the arithmetic."""
    measured = [
        (results.settings(block, WAYS), values)
        for block in results.blocks("compare_products")
        if (values := results.measured(block, WAYS))
    ]
    micro = [
        {way: float(np.median([1e6 * value[way] for value in values])) for way in _PRODUCT_WAYS}
        | {name: _limit(values, product) for name, product in _PRODUCT_LIMITS.items()}
        for _, values in measured
    ]
    names = {**_PRODUCT_WAYS, **dict.fromkeys(_PRODUCT_LIMITS)}
    return Table(
        [
            Text("network", ["{0}-{0}".format(s["hidden"][0]) for s, _ in measured]),
            Number("samples", [settings["n_samples"] for settings, _ in measured]),
            *(
                Number(header or key, [each[key] for each in micro], write=_WHOLE)
                for key, header in names.items()
            ),
            Number(
                "limit / layers, %",
                [100 * each["limit"] / each["layers"] for each in micro],
                write=_WHOLE,
            ),
        ]
    )


def _limit(values: Sequence[dict[str, Any]], matrix_product: str) -> float:
    """Microseconds of a Fisher product that is nothing but matrix products."""
    rates = [value[f"{matrix_product}_flops"] / value[matrix_product] for value in values]
    return 1e6 * values[0]["flops"] / float(np.median(rates))


def memory(results: Results) -> Table:
    """Memory of passes, updates and trainings, in MiB."""
    names: list[str] = []
    sizes: list[tuple[float | str | None, ...]] = []
    for contender in results.contenders("memory"):
        settings = results.settings("memory", contender)
        name = contender
        if contender in (NPG, TRPO, PPO):
            name = f"training: {contender}, {settings['n_envs']} environments"
        measured = results.measured("memory", contender)
        for values in measured:
            if "n_parameters" in values:
                name += (
                    f", {settings['n_samples']:,} samples, {values['n_parameters']:,} parameters"
                )
            sizes.append((values["before"], values["peak"], memory_growth(values)))
        if not measured:
            sizes.append((results.missing_reason("memory", contender), None, None))
        names += [name] * max(1, len(measured))
    columns = [
        Number(header, [size[i] for size in sizes], write=_WHOLE, missing="")
        for i, header in enumerate(("before", "peak", "growth"))
    ]
    return Table([Text("", names), *columns])


def acer(results: Results) -> Table:
    """Environment steps per second of ACER's training."""
    measured = [
        (block, contender)
        for block in results.blocks("train_acer")
        for contender in results.contenders(block)
    ]
    settings = [results.settings(block, contender) for block, contender in measured]
    return Table(
        [
            Number("environments", [each["n_envs"] for each in settings]),
            Number("segment", [each["n_steps"] for each in settings]),
            Text("", [contender for _, contender in measured]),
            _rates(results, measured),
        ]
    )


def acer_parts(results: Results) -> Table:
    """Where the time of ACER's training and updates goes."""
    names: list[str] = []
    rows: list[dict[str, float | None]] = []
    for block in results.blocks("train_acer_by_part"):
        values = results.measured(block, ACER)
        if not values:
            names.append(results.missing_reason(block, ACER))
            rows.append({})
            continue
        typical = middle(values)
        parts, total = typical["parts"], typical["seconds"]
        update = total - parts["collecting"]
        in_update = {**parts, "collecting": None}
        for name, shown, scale, whole in (
            ("microseconds per environment step", parts, 1e6 / typical["steps"], total),
            ("microseconds per update", in_update, 1e6 / typical["updates"], update),
            ("% of the update", in_update, 100 / update, update),
        ):
            names.append(name)
            rows.append({k: None if s is None else scale * s for k, s in shown.items()})
            rows[-1]["total"] = scale * whole
    columns = [
        Number(part, [row.get(part) for row in rows], write=_TENTHS, missing="")
        for part in (*ACER_PARTS, "total")
    ]
    return Table([Text("", names), *columns])


def start(results: Results) -> Table:
    """What a run takes beside its training, by how its process begins."""
    rows = start_rows(results)
    seconds: list[Estimate | str] = [_estimate(spread) for _, spread in rows]
    return Table(
        [
            Text("process", [name for name, _ in rows]),
            Estimates("seconds", seconds, write=_number, alone=""),
        ]
    )


def _estimate(spread: Spread) -> Estimate:
    """The median over the repeats; lowest and highest are its interval, if there are several."""
    if len(spread.repeats) == 1:
        return Estimate(spread.median)
    return Estimate(spread.median, spread.low, spread.high)


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    # A cosine of 0.9996 is not one.
    return f"{value:.2f}" if not 0.99 < value < 1 else f"{value:.6f}"
