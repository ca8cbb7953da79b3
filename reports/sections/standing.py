"""How one label stands against the others on each environment, in a sentence or two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from benchmarks.numbers import forms_of
from reports.data.verdicts import Comparisons
from reports.sections.wording import listing


@dataclass(frozen=True)
class Standing:
    """How a label stands on one environment, by the final return.

    Of the labels with an interval: ``behind``, those that are ahead of it, ``alike``, those that
    cannot be told apart from it, and ``ahead_of``; ``single``: those with one seed, and ``near``:
    those of them whose run is not below its interval. ``obstacle``: why nothing is compared, or "".
    """

    env_id: str
    behind: Sequence[str] = ()
    alike: Sequence[str] = ()
    ahead_of: Sequence[str] = ()
    single: Sequence[str] = ()
    near: Sequence[str] = ()
    obstacle: str = ""

    @property
    def several(self) -> set[str]:
        """The labels that it is compared with."""
        return {*self.behind, *self.alike, *self.ahead_of}


def standings(table: pd.DataFrame, comparisons: Comparisons, label: str) -> list[Standing]:
    """The label on every environment of the table.

    :param table: as :func:`reports.data.scores.score_table` gives it
    """
    return [
        _standing(str(env_id), rows, comparisons, label)
        for env_id, rows in table.groupby("env_id", sort=True)
    ]


def _standing(env_id: str, rows: pd.DataFrame, comparisons: Comparisons, label: str) -> Standing:
    if obstacle := _obstacle(rows, label):
        return Standing(env_id, obstacle=obstacle)
    others = [str(other) for other in rows["label"] if other != label]
    seeds = dict(zip(rows["label"], rows["seeds"], strict=True))
    means = {other: comparisons.means["final", env_id, other] for other in (label, *others)}
    single = [other for other in others if seeds[other] == 1]
    several = [other for other in others if seeds[other] > 1]
    behind = [x for x in several if comparisons.is_ahead("final", env_id, x, label)]
    ahead_of = [x for x in several if comparisons.is_ahead("final", env_id, label, x)]
    return Standing(
        env_id,
        behind=behind,
        alike=[x for x in several if x not in (*behind, *ahead_of)],
        ahead_of=ahead_of,
        single=single,
        near=[x for x in single if means[x].value >= means[label].low],
    )


def _obstacle(rows: pd.DataFrame, label: str) -> str:
    """Why the label is compared with nothing; empty where it is."""
    own = rows[rows["label"] == label]
    others = rows[rows["label"] != label]
    if own.empty:
        mixed = (rows["protocol"] != "").any()
        return "the budgets or evaluations differ" if mixed else f"there is no run of {label}"
    if others.empty:
        return f"there are runs of {label} alone"
    if own["seeds"].iloc[0] == 1:
        return f"{label} has 1 seed"
    if (others["seeds"] == 1).all():
        return "every other one has 1 seed"
    return ""


def sentences(found: Sequence[Standing], comparisons: Comparisons, label: str) -> list[str]:
    """Where the label is ahead, where it loses, and where neither; every environment is named.

    :param found: as :func:`standings` gives it
    """
    compared = [each for each in found if not each.obstacle]
    lost = [each for each in compared if each.behind]
    alike = [each for each in compared if each.alike and not each.behind]
    ahead = [each for each in compared if not each.alike and not each.behind]
    said = []
    if ahead:
        said.append(f"is ahead {_by_labels('of', {s.env_id: s.ahead_of for s in ahead})}")
    if lost:
        said.append(f"loses to {_losses(lost, comparisons, label)}")
    if alike:
        apart = _by_labels("from", {s.env_id: s.alike for s in alike})
        said.append(f"cannot be told apart {apart}")
    lines = [f"By environment: {label} {'; it '.join(said)}."] if said else []
    return lines + _singles(compared, label) + _obstacles(found)


def _by_labels(preposition: str, labels: Mapping[str, Sequence[str]]) -> str:
    """``from trpo on Ant-v5 and Hopper-v5, and from ppo and trpo on Swimmer-v5``.

    :param labels: of each environment
    """
    where: dict[str, list[str]] = {}
    for env_id, of_env in labels.items():
        where.setdefault(listing(of_env), []).append(env_id)
    return ", and ".join(
        f"{preposition} {who} on {listing(env_ids)}" for who, env_ids in where.items()
    )


def _losses(lost: Sequence[Standing], comparisons: Comparisons, label: str) -> str:
    """Each environment with the means."""
    texts = []
    for each in lost:
        means = {x: comparisons.means["final", each.env_id, x].value for x in each.behind}
        ours = comparisons.means["final", each.env_id, label].value
        values = ours, max(means.values())
        forms = forms_of([[value] for value in values], [(0, 1)])
        numbers = [form.text(value) for form, value in zip(forms, values, strict=True)]
        texts.append(f"{listing(each.behind)} on {each.env_id} ({' against '.join(numbers)})")
    return listing(texts)


def _singles(compared: Sequence[Standing], label: str) -> list[str]:
    """Who takes no part in that, and where one of them may be as good all the same."""
    lines = []
    for single in sorted({x for each in compared for x in each.single}):
        where = [each.env_id for each in compared if single in each.single]
        elsewhere = [each for each in compared if single in each.several]
        near = [each.env_id for each in compared if single in each.near]
        who = f"On {listing(where)} {single}" if elsewhere else single
        text = f"{who} has 1 seed, hence no part in that"
        if near and elsewhere and near == where:
            text += f", though its run is not below the interval of {label} there"
        elif near:
            text += f", though on {listing(near)} its run is not below the interval of {label}"
        lines.append(f"{text}.")
    return lines


def _obstacles(found: Sequence[Standing]) -> list[str]:
    where: dict[str, list[str]] = {}
    for each in found:
        if each.obstacle:
            where.setdefault(each.obstacle, []).append(each.env_id)
    return [
        f"Nothing is compared on {listing(env_ids)}, where {obstacle}."
        for obstacle, env_ids in where.items()
    ]
