"""Budgets and evaluation protocols: where they differ, scores of one environment do not compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


def names(runs: pd.DataFrame) -> pd.Series[str]:
    """What tells a run's budget and evaluation protocol from the others on its environment.

    :param runs: with ``env_id, n_timesteps, evaluation``
    :return: a text for each run, such as ``200,000 steps``; empty where all runs on an environment
        have the same
    """
    facts = pd.Series(
        [_facts(*run) for run in zip(runs["n_timesteps"], runs["evaluation"], strict=True)],
        index=runs.index,
        dtype=object,
    )
    return facts.groupby(runs["env_id"], group_keys=False).apply(_names_of)


def _names_of(facts: pd.Series) -> pd.Series[str]:
    """:func:`names` of the runs of one environment."""
    differing = [i for i, texts in enumerate(zip(*facts, strict=True)) if len(set(texts)) > 1]
    return facts.map(lambda texts: ", ".join(texts[i] for i in differing))


def with_protocol(label: str, protocol: str) -> str:
    """``npg (200,000 steps)``, or ``npg (critic=adam, 200,000 steps)``; the label if there is none.

    :param protocol: as :func:`names` gives it
    """
    if not protocol:
        return label
    return f"{label[:-1]}, {protocol})" if label.endswith(")") else f"{label} ({protocol})"


def _facts(n_timesteps: int, evaluation: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{n_timesteps:,} steps",
        f"{evaluation['points']:,} evaluations",
        f"{evaluation['episodes']:,} episodes per evaluation",
        f"evaluation seed {evaluation['seed']}",
    )
