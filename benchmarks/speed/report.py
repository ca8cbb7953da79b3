"""The measurements as files: JSON, CSV, and a page with the table of targets and the details."""

import csv
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from benchmarks.speed import tables
from benchmarks.speed.measure import Record
from benchmarks.speed.plan import ACER_ENV_ID, START_ENV_ID
from benchmarks.speed.results import Results, Target, steps_per_second
from benchmarks.storage import write_whole
from benchmarks.tables import to_markdown


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
        targets_text(found),
        "Ratios are taken turn by turn and shown as median [lowest, highest]. One torch thread.",
        "## Whole training, normalised",
        to_markdown(tables.normalized_training(results)),
        "With `Monitor`, and with `VecNormalize` around the environments: SB3's around those of "
        "SB3 and sb3-contrib, ours around ours; NPG normalises by itself.",
        "## Whole training",
        to_markdown(tables.training(results)),
        "Environment steps per second, median [lowest, highest]; the share is that of the "
        "simulator alone, turn by turn: `gymnasium.make` in a bare loop with random actions, one "
        "environment; NPG on EnvPool's share is that of EnvPool alone.",
        "## Worker processes",
        to_markdown(tables.stepping(results)),
        _STEPPING_NOTE,
        "## Where the time goes",
        to_markdown(tables.phases(results)),
        _PHASES_NOTE,
        "## Policy updates on one batch",
        to_markdown(tables.updates(results)),
        _UPDATES_NOTE,
        "## Fisher-vector products",
        to_markdown(tables.products(results)),
        _PRODUCTS_NOTE,
        "## Memory",
        to_markdown(tables.memory(results)),
        _MEMORY_NOTE,
        "## ACER",
        to_markdown(tables.acer(results)),
        _ACER_NOTE,
        to_markdown(tables.acer_parts(results)),
        _ACER_PARTS_NOTE,
        "## Start of a run",
        to_markdown(tables.start(results)),
        _START_NOTE,
    ]
    return "\n\n".join(parts) + "\n"


_QUICK = "**A quick run, which only tests the measurement: its numbers mean nothing.**"
_STEPPING_NOTE = (
    "Environment steps per second of vectorised environments alone, and their ratio, turn by turn; "
    "median [lowest, highest]. Where a step is given in microseconds, the environment computes for "
    "this long and has the spaces of HalfCheetah-v5."
)
_PHASES_NOTE = (
    "Microseconds per environment step, of the repeat with the median total, from runs of their "
    "own, since timing the parts takes time itself. *Simulator*: inside the environments. "
    "*Acting*: actions, values and log-probabilities. *Bookkeeping*: everything else (wrappers, "
    "buffer, advantages, log). PPO and Tianshou's NPG do not separate policy from critic: *joint "
    "update*."
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
    "Of the repeat with the median total, from runs of their own, since timing the parts takes "
    "time itself. *Collecting*: everything outside the updates. *Gathering*: segments out of the "
    "replay memory. *Forward*: both networks, actor and critic. *Projection*: the policy gradient "
    "with respect to the statistics, the average policy, and the projection itself. *Optimiser*: "
    "clipping, the step, and the average's step. *Rest*: importance weights, losses, conversions, "
    "log."
)

_START_NOTE = (
    f"From the start of a run's process to its end, without training and evaluation; one rollout "
    f"of NPG on {START_ENV_ID}. *Forked*: as in a sweep, from a process that has imported what "
    "runs need, once. *From nothing*: the process imports all of it itself."
)


def targets_text(found: Sequence[Target]) -> str:
    """The targets, and below them why some were not measured."""
    reasons = [f"- {target.name}: {target.missing}" for target in found if target.missing]
    missing = ["", "Not measured:", "", *reasons] if reasons else []
    return "\n".join([to_markdown(tables.targets(found)), *missing])


def _about(about: dict[str, Any]) -> str:
    machine, versions = about["machine"], about["versions"]
    named = ", ".join(f"{name} {number}" for name, number in versions.items() if number)
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}. {named}.\n\n```\n{about['command']}\n```"
    )


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
