"""What a report is about, in its first sentences."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports.data import missing, runs
from reports.data.missing import Missing
from reports.rendering import figures
from reports.sections.wording import listing


def introduction(data: runs.RunData, lacking: Missing, failed: Sequence[str]) -> list[str]:
    """Which algorithms, environments, seeds and steps, how they were evaluated, what is missing.

    :param lacking: as :func:`reports.data.missing.missing_of` gives it
    :param failed: as :func:`reports.data.missing.all_failed` gives it
    """
    table = data.runs
    seeds = table.groupby(["env_id", "label"])["seed"].nunique()
    sentences = [
        f"{_algorithms_text(table)} on {_environments_text(table)}: {runs.runs_text(len(table))}, "
        f"{figures.seeds_text(seeds)} per algorithm and environment."
    ]
    sentences.append(_evaluation_sentence(table))
    sentences += [f"**{text}**; see {missing.SECTION}." for text in failed]
    if incomplete := _incomplete(data, lacking):
        sentences.append(f"**Incomplete:** {listing(incomplete)}; see {missing.SECTION}.")
    return sentences


def _incomplete(data: runs.RunData, lacking: Missing) -> list[str]:
    texts = []
    if data.broken:
        texts.append(f"{runs.runs_text(len(data.broken))} left out as unreadable")
    if len(data.failures):
        texts.append(f"{runs.runs_text(len(data.failures))} failed")
    if lacking.is_uneven:
        texts.append("not every algorithm has the same seeds and environments")
    elif lacking.is_unmet:
        texts.append("not every run that was asked for is there")
    return texts


def _algorithms_text(table: pd.DataFrame) -> str:
    labels = table.groupby(["algo", "env_id", "protocol"], sort=True)["label"].nunique()
    counts = labels.groupby("algo", sort=True).max()
    return listing(
        [f"{algo} ({n} configurations)" if n > 1 else str(algo) for algo, n in counts.items()]
    )


def _environments_text(table: pd.DataFrame) -> str:
    """Every environment with its steps; where they are many, how many and between which steps."""
    budgets = table.groupby("env_id", sort=True)["n_timesteps"].unique()
    if len(budgets) <= 4:
        return listing(
            [
                f"{env_id} ({listing([f'{steps:,}' for steps in sorted(of_env)])} steps)"
                for env_id, of_env in budgets.items()
            ]
        )
    fewest, most = table["n_timesteps"].min(), table["n_timesteps"].max()
    steps = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    return f"{len(budgets)} environments ({steps} steps)"


def _evaluation_sentence(table: pd.DataFrame) -> str:
    where: dict[tuple[int, int], list[str]] = {}
    for env_id, group in table.groupby("env_id", sort=True):
        for points, episodes in sorted({(p["points"], p["episodes"]) for p in group["evaluation"]}):
            where.setdefault((points, episodes), []).append(str(env_id))
    texts = [
        f"{points} times during training, {episodes} episodes each"
        + (f" ({', '.join(env_ids)})" if len(where) > 1 else "")
        for (points, episodes), env_ids in where.items()
    ]
    return (
        f"Every policy was evaluated before training and {' or '.join(texts)}, with deterministic "
        "actions."
    )
