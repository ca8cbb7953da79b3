"""What a report is about."""

from __future__ import annotations

import pandas as pd

from benchmarks.tables import Strong
from reports.data.context import Context
from reports.data.metrics import EVALUATIONS, Metric
from reports.data.readers.logged import EVALUATION, SUCCESS_RATE, TRAINING, TRAINING_WINDOW
from reports.data.runs import SUITE, RunData, runs_text
from reports.rendering import figures
from reports.rendering.blocks import Block, Bullets, Paragraph, Section
from reports.rendering.text import MOST_LISTED, counted, listing, named

_FORMATS = {
    SUITE: "this suite's run folders",
    "sb3": "logs of Stable-Baselines3",
    "zoo": "logs of the RL Zoo",
    "cleanrl": "event files of CleanRL",
    "table": "tables",
}


def build(context: Context) -> Section | None:
    """Which algorithms, environments, seeds and steps, and how the policies were evaluated."""
    data = context.runs
    if data is None:
        return None
    blocks: list[Block] = [Paragraph(f"{_subject(data.runs)} {_measured(data)}")]
    for line in [*data.broken, *data.without_metric]:
        context.warn(f"left out: {line}")
    for line in data.notes:
        context.warn(line)
    if data.notes:
        blocks.append(Bullets([*data.notes]))
    if data.mixed:
        blocks += _mixed(context, data)
    return Section("", blocks)


def _subject(table: pd.DataFrame) -> str:
    seeds = table.groupby(["env_id", "label"])["seed"].nunique()
    return (
        f"{_algorithms(table)} on {_environments(table)}: {counted(len(table), 'run')}, "
        f"{figures.seeds_text(seeds)} per algorithm and environment."
    )


def _algorithms(table: pd.DataFrame) -> str:
    labels = table.groupby(["algo", "env_id", "protocol"], sort=True)["label"].nunique()
    counts = labels.groupby("algo", sort=True).max()
    return listing(
        [f"{algo} ({n} configurations)" if n > 1 else str(algo) for algo, n in counts.items()]
    )


def _environments(table: pd.DataFrame) -> str:
    """Every environment with its steps; or how many there are, and between which steps."""
    budgets = table.groupby("env_id", sort=True)["n_timesteps"].unique()
    if len(budgets) <= MOST_LISTED:
        return listing(
            [
                f"{env_id} ({listing([f'{steps:,}' for steps in sorted(of_env)])} steps)"
                for env_id, of_env in budgets.items()
            ]
        )
    fewest, most = table["n_timesteps"].min(), table["n_timesteps"].max()
    steps = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    return f"{len(budgets)} environments ({steps} steps)"


def _measured(data: RunData) -> str:
    """What the numbers are, and how they were measured."""
    metric = data.metric
    said = [] if metric == EVALUATIONS and data.are_all_of_suite else [_metric(metric)]
    if not data.are_all_of_suite:
        said.append(_formats(data.runs))
    if metric.name == EVALUATION and len(data.of_suite):
        said.append(_evaluation(data.of_suite, data.are_all_of_suite))
    if metric.lower_is_better:
        said.append("Lower is better.")
    return " ".join(said)


def _metric(metric: Metric) -> str:
    """Which metric all numbers of the report are of."""
    if metric.name == TRAINING:
        return (
            f"All returns here are training returns: the mean of the last {TRAINING_WINDOW} "
            "episodes of the policy that was exploring, not evaluations of a trained one."
        )
    if metric.name == EVALUATION:
        return "All returns here are evaluation returns."
    if metric.name == SUCCESS_RATE:
        return "All values here are success rates of evaluations, not returns."
    return f"All values here are what the runs logged as {metric.noun}, not returns."


def _formats(table: pd.DataFrame) -> str:
    """From which logs the runs are."""
    counts = table["format"].value_counts().sort_index()
    texts = [f"{_FORMATS.get(str(name), str(name))} ({runs_text(n)})" for name, n in counts.items()]
    return f"The runs were read from {listing(texts)}."


def _evaluation(table: pd.DataFrame, is_all: bool) -> str:
    where: dict[tuple[int, int], list[str]] = {}
    for env_id, group in table.groupby("env_id", sort=True):
        for points, episodes in sorted({(p["points"], p["episodes"]) for p in group["evaluation"]}):
            where.setdefault((points, episodes), []).append(str(env_id))
    texts = [
        f"{points} times during training, {episodes} episodes each"
        + (f" ({named(env_ids, 'environment')})" if len(where) > 1 else "")
        for (points, episodes), env_ids in where.items()
    ]
    who = "Every policy" if is_all else "Every policy of this suite's runs"
    return (
        f"{who} was evaluated before training and {' or '.join(texts)}, with deterministic actions."
    )


def _mixed(context: Context, data: RunData) -> list[Block]:
    """A warning about runs of different budgets or evaluation protocols."""
    lines = []
    for env_id in data.mixed:
        group = data.runs[data.runs["env_id"] == env_id]
        who = [
            f"{protocol} ({listing(sorted(of_protocol['algo'].unique()))})"
            for protocol, of_protocol in group.groupby("protocol", sort=True)
        ]
        lines.append(f"{env_id}: the runs have different budgets or evaluations: {listing(who)}.")
    lines.append(
        "The labels of the algorithms say which is which. Scores of different budgets or "
        "evaluations do not compare: bold and verdicts are within each group, and aggregates leave "
        "these environments out. Where a hyperparameter follows a schedule over the budget, even "
        "equal steps do not compare."
    )
    for line in lines:
        context.warn(line)
    title = Strong("Warning: runs that do not compare with each other are mixed here.")
    return [Paragraph(title), Bullets(lines)]
