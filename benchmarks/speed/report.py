"""The measurements as files: JSON, CSV, and a page with the table of targets and the details."""

import csv
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.measure import Record
from benchmarks.speed.plan import ACER, ACER_ENV_ID, NPG, POOL, PPO, SIMULATOR, TRPO
from benchmarks.speed.results import (
    Results,
    Spread,
    Target,
    memory_growth,
    steps_per_second,
    update_ratio,
)
from benchmarks.speed.stopwatch import ACER_PARTS, PHASES
from benchmarks.storage import write_whole

PAIR, WAYS = "NPG and TRPO", "Fisher products"


def write(out: Path, results: Results, found: Sequence[Target], about: dict[str, Any]) -> None:
    """Write ``speed.json``, ``speed.csv`` and ``speed.md``.

    :param about: command, machine, versions, commit, and ``quick``
    """
    document = {
        **about,
        "targets": [_target_record(target) for target in found],
        "measurements": results.records,
    }
    write_whole(out / "speed.json", json.dumps(document, indent=1) + "\n")
    write_whole(out / "speed.csv", _csv(results.records))
    write_whole(out / "speed.md", page(results, found, about))


def page(results: Results, found: Sequence[Target], about: dict[str, Any]) -> str:
    """The Markdown page."""
    parts = [
        "# Speed",
        *([_QUICK] if about["quick"] else []),
        _about(about),
        "![Where the time goes, and how it grows](speed.png)",
        "## Targets",
        targets_table(found),
        "Ratios are taken turn by turn and shown as median [lowest, highest]. One torch thread.",
        "## Whole training",
        _training_table(results),
        "Environment steps per second, median [lowest, highest]; the share is that of the "
        "simulator alone, turn by turn: `gymnasium.make` in a bare loop with random actions, one "
        "environment; NPG on EnvPool's share is that of EnvPool alone.",
        "## Where the time goes",
        _phases_table(results),
        _PHASES_NOTE,
        "## Policy updates on one batch",
        _updates_table(results),
        _UPDATES_NOTE,
        "## Fisher-vector products",
        _products_table(results),
        _PRODUCTS_NOTE,
        "## Memory",
        _memory_table(results),
        _MEMORY_NOTE,
        "## ACER",
        _acer_table(results),
        _ACER_NOTE,
        _acer_parts_table(results),
        _ACER_PARTS_NOTE,
    ]
    return "\n\n".join(parts) + "\n"


_QUICK = "**A quick run, which tries the instrument out: its numbers mean nothing.**"
_PHASES_NOTE = (
    "Microseconds per environment step, of the repeat with the median total. From runs of their "
    "own, since watching costs time as well. *Simulator*: inside the environments. *Acting*: "
    "actions, values and log-probabilities. *Bookkeeping*: everything else (wrappers, buffer, "
    "advantages, log). PPO and Tianshou's NPG do not separate policy from critic: *joint update*."
)
_UPDATES_NOTE = (
    "Median milliseconds of `train()` without the critic; gradient, 10 conjugate gradient steps, "
    "line search. *Solving* and *line search* are the parts of NPG's that these two take. Both "
    "start from the same policy and batch. For Gaussians sb3-contrib's TRPO averages the KL "
    "divergence over the action's dimensions, so NPG gets 6 times its damping and its "
    "`target_kl`: the same problem."
)
_PRODUCTS_NOTE = (
    "Microseconds per product, median. *Layers*: written out layer by layer; *autograd*: through "
    "autograd, for any network; *TRPO*: sb3-contrib's, the KL divergence differentiated twice. "
    "*Limit*: the product's matrix multiplications at the rate that torch reaches, in the same "
    "turn, in one product of the batch with a hidden layer; *(square)*: at that of two 1,024 x "
    "1,024 matrices."
)
_MEMORY_NOTE = (
    "MiB of a fresh process: before, at its peak, and in between. *One pass*: the surrogate and "
    "its gradient. NPG's update has one conjugate gradient step, since their number does not "
    "change the memory. Training: before is with the libraries imported and nothing made."
)
_ACER_NOTE = (
    f"Environment steps per second of whole training on {ACER_ENV_ID}, median [lowest, highest]; "
    "64-64 networks. Each rollout is one segment of every environment, and is followed by one "
    "update with it and, in the mean, four with as many replayed segments. PFRL's ACER has one "
    "environment in a process, and after each segment four updates with one replayed segment each."
)
_ACER_PARTS_NOTE = (
    "Of the repeat with the median total, from runs of their own, since watching costs time as "
    "well. *Collecting*: everything outside the updates. *Gathering*: segments out of the replay "
    "memory. *Forward*: both networks, actor and critic. *Projection*: the policy gradient with "
    "respect to the statistics, the average policy, and the projection itself. *Optimiser*: "
    "clipping, the step, and the average's step. *Rest*: importance weights, losses, "
    "conversions, log."
)


def targets_table(found: Sequence[Target]) -> str:
    """The targets: measured, asked for, and whether it holds; below, why some were not measured."""
    rows = [
        [
            target.name,
            _target_value(target),
            f"{'≥' if target.relation == '>=' else '≤'} {_with_unit(target.limit, target.unit)}",
            {True: "yes", False: "**no**", None: "not measured"}[target.holds],
        ]
        for target in found
    ]
    table = markdown_table(["", "measured", "target", "holds"], rows, "lrrl")
    reasons = [f"- {target.name}: {target.missing}" for target in found if target.missing]
    return "\n".join([table, *(["", "Not measured:", "", *reasons] if reasons else [])])


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A table whose columns line up in the source as well.

    :param align: a letter for each column, ``l`` or ``r``
    """
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (headers, *rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(headers))]
    sides = list(zip(widths, align, strict=True))
    padded = [
        [
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, (width, side) in zip(line, sides, strict=True)
        ]
        for line in lines
    ]
    rule = ["-" * (width - 1) + (":" if side == "r" else "-") for width, side in sides]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (padded[0], rule, *padded[1:]))


def _training_table(results: Results) -> str:
    rows = []
    for block in results.blocks("train"):
        n_envs = results.settings(block, NPG)["n_envs"]
        for contender in results.contenders(block):
            rate = results.rate(block, contender)
            whole = POOL if "EnvPool" in contender else SIMULATOR
            share = results.ratio(block, contender, whole)
            rows.append(
                [
                    str(n_envs),
                    contender,
                    _spread(rate) if rate else results.why_not(block, contender),
                    f"{100 * share.median:.0f} %" if share and contender != whole else "",
                ]
            )
    headers = ["environments", "", "steps per second", "share"]
    return markdown_table(headers, rows, "rlrr")


def phase_rows(results: Results) -> list[tuple[int, str, dict[str, float]]]:
    """Environments, contender, and microseconds per step of each phase, of the middle repeat."""
    rows = []
    for block in results.blocks("train_by_phase"):
        for contender in results.contenders(block):
            values = results.measured(block, contender)
            if values:
                middle = _middle(values)
                micro = {p: 1e6 * middle["phases"][p] / middle["steps"] for p in PHASES}
                rows.append((results.settings(block, contender)["n_envs"], contender, micro))
    return rows


def _phases_table(results: Results) -> str:
    rows = [
        [
            str(n_envs),
            name,
            *(f"{value:.1f}" if value else "" for value in median.values()),
            f"{sum(median.values()):.1f}",
        ]
        for n_envs, name, median in phase_rows(results)
    ]
    headers = ["environments", "", *PHASES, "total"]
    return markdown_table(headers, rows, "rl" + "r" * (len(PHASES) + 1))


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


def _updates_table(results: Results) -> str:
    rows = [
        [
            f"{row['width']}-{row['width']}",
            f"{row['parameters']:,}",
            f"{row['samples']:,}",
            f"{1e3 * row['npg'].median:,.1f}",
            f"{1e3 * row['solve'].median:,.1f}",
            f"{1e3 * row['line_search'].median:,.1f}",
            f"{1e3 * row['trpo'].median:,.1f}"
            if row["trpo"]
            else f"left out: about {row['expected']:.0f} s",
            f"{_spread(row['ratio'])} x" if row["ratio"] else "",
            f"{min(row['cosine'].repeats):.6f}" if row["cosine"] else "",
        ]
        for row in update_rows(results)
    ]
    ours = ["NPG, ms", "solving", "line search"]
    headers = ["network", "parameters", "samples", *ours, "TRPO, ms", "ratio", "cosine"]
    return markdown_table(headers, rows, "lrrrrrrrr")


def _products_table(results: Results) -> str:
    rows = []
    for block in results.blocks("compare_products"):
        settings, values = results.settings(block, WAYS), results.measured(block, WAYS)
        if not values:
            continue
        micro = {
            way: float(np.median([1e6 * value[way] for value in values]))
            for way in ("layers", "autograd", "trpo")
        }
        limits = [_limit(values, mm) for mm in ("layer_mm", "square_mm")]
        width = settings["hidden"][0]
        rows.append(
            [
                f"{width}-{width}",
                f"{settings['n_samples']:,}",
                *(f"{value:,.0f}" for value in micro.values()),
                *(f"{limit:,.0f}" for limit in limits),
                f"{100 * limits[0] / micro['layers']:.0f} %",
            ]
        )
    headers = ["network", "samples", "layers", "autograd", "TRPO", "limit", "limit (square)"]
    return markdown_table([*headers, "limit / layers"], rows, "lrrrrrrr")


def _limit(values: Sequence[dict[str, Any]], matrix_product: str) -> float:
    """Microseconds of a Fisher product that is nothing but matrix products."""
    rates = [value[f"{matrix_product}_flops"] / value[matrix_product] for value in values]
    return 1e6 * values[0]["flops"] / float(np.median(rates))


def _memory_table(results: Results) -> str:
    rows = []
    for contender in results.contenders("memory"):
        settings = results.settings("memory", contender)
        name = contender
        if contender in (NPG, TRPO, PPO):
            name = f"training: {contender}, {settings['n_envs']} environments"
        for values in results.measured("memory", contender):
            if "n_parameters" in values:
                name += (
                    f", {settings['n_samples']:,} samples, {values['n_parameters']:,} parameters"
                )
            numbers = (values["before"], values["peak"], memory_growth(values))
            rows.append([name, *(f"{number:,.0f}" for number in numbers)])
        if not results.measured("memory", contender):
            rows.append([name, results.why_not("memory", contender), "", ""])
    return markdown_table(["", "before", "peak", "growth"], rows, "lrrr")


def _acer_table(results: Results) -> str:
    rows = []
    for block in results.blocks("train_acer"):
        for contender in results.contenders(block):
            settings, rate = results.settings(block, contender), results.rate(block, contender)
            rows.append(
                [
                    str(settings["n_envs"]),
                    str(settings["n_steps"]),
                    contender,
                    _spread(rate) if rate else results.why_not(block, contender),
                ]
            )
    return markdown_table(["environments", "segment", "", "steps per second"], rows, "rrlr")


def _acer_parts_table(results: Results) -> str:
    rows = []
    for block in results.blocks("train_acer_by_part"):
        values = results.measured(block, ACER)
        if not values:
            rows.append([results.why_not(block, ACER), *("" for _ in ACER_PARTS), ""])
            continue
        middle = _middle(values)
        parts, total = middle["parts"], middle["seconds"]
        update = total - parts["collecting"]
        in_update = {**parts, "collecting": None}
        for name, shown, scale, whole in (
            ("microseconds per environment step", parts, 1e6 / middle["steps"], total),
            ("microseconds per update", in_update, 1e6 / middle["updates"], update),
            ("% of the update", in_update, 100 / update, update),
        ):
            cells = ["" if s is None else f"{scale * s:,.1f}" for s in shown.values()]
            rows.append([name, *cells, f"{scale * whole:,.1f}"])
    return markdown_table(["", *ACER_PARTS, "total"], rows, "l" + "r" * (len(ACER_PARTS) + 1))


def _middle(values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The repeat whose total is the median one (the lower, of two), so that parts add up."""
    return sorted(values, key=lambda v: v["seconds"])[(len(values) - 1) // 2]


def _about(about: dict[str, Any]) -> str:
    machine, versions = about["machine"], about["versions"]
    named = ", ".join(f"{name} {number}" for name, number in versions.items() if number)
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}. {named}.\n\n```\n{about['command']}\n```"
    )


def _target_value(target: Target) -> str:
    if target.measured is None:
        return ""
    shown = _with_unit(target.measured.median, target.unit)
    if len(target.measured.repeats) == 1:
        return shown
    low, high = (_number(v) for v in (target.measured.low, target.measured.high))
    return f"{shown} [{low}, {high}]"


def _with_unit(value: float, unit: str) -> str:
    return f"{_number(value)} {unit}".rstrip()


def _spread(spread: Spread) -> str:
    shown = _number(spread.median)
    if len(spread.repeats) == 1:
        return shown
    return f"{shown} [{_number(spread.low)}, {_number(spread.high)}]"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    # A cosine of 0.9996 is not one.
    return f"{value:.2f}" if not 0.99 < value < 1 else f"{value:.6f}"


def _target_record(target: Target) -> dict[str, Any]:
    measured = target.measured
    return {
        "name": target.name,
        "relation": target.relation,
        "limit": target.limit,
        "unit": target.unit,
        "median": measured.median if measured else None,
        "repeats": list(measured.repeats) if measured else [],
        "holds": target.holds,
        "missing": target.missing,
    }


def _csv(records: Sequence[Record]) -> str:
    """A line for each number of each repeat."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["block", "contender", "repeat", "quantity", "value"])
    for record in records:
        values = dict(record.get("values", {}))
        values.update({f"phase: {k}": v for k, v in values.pop("phases", {}).items()})
        values.update({f"part: {k}": v for k, v in values.pop("parts", {}).items()})
        if "steps" in values:
            values["steps_per_second"] = steps_per_second(values)
        for quantity, value in values.items():
            writer.writerow(
                [record["block"], record["contender"], record["repeat"], quantity, value]
            )
    return text.getvalue()
