"""Tables of NPG's one set of numbers beside PPO and TRPO, from the results in docs/results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from benchmarks.normalisation import load_scales
from benchmarks.numbers import Form
from benchmarks.statistics import Estimate, mean_interval
from benchmarks.tables import Estimates, Number, Table, Text
from docs.tables import CLASSIC, NAMES, mean, number, returns, values
from reports.data.aggregates import improvement, iqm, iqm_difference, mean_difference

# Task: the final return that was to be reached with five fresh seeds, and the highest result of
# several seeds of an on-policy method that was found, as reports/data/published.csv has it.
TARGETS = {
    "HalfCheetah-v5": (7_000, "PPO 5,784"),
    "Hopper-v5": (3_500, "TRPO 3,372"),
    "Walker2d-v5": (5_000, "TRPO 4,502"),
    "Ant-v5": (4_000, "TRPO 3,554 (v3)"),
    "Humanoid-v5": (2_000, "A2C 1,726 (v3)"),
    "Swimmer-v5": (355, "TRPO 359"),
    "Reacher-v5": (-3.2, "PPO -4.1"),
    "InvertedPendulum-v5": (1_000, "1,000"),
    "InvertedDoublePendulum-v5": (9_340, "9,258"),
    "LunarLander-v3": (240, ""),
    "LunarLanderContinuous-v3": (270, ""),
}
# Whose settings, and the folder of docs/results with the runs.
SETTINGS = {"defaults": "its defaults", "runs": "the Zoo's", "searched": "searched"}
BASELINES = [(folder, algo) for folder in SETTINGS for algo in ("trpo", "ppo")]
# What the searched sets were searched on.
SEARCHED_ON = ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5"]


def on_mujoco() -> Table:
    """NPG with its defaults: each seed, beside what was to be reached."""
    env_ids = [env_id for env_id in TARGETS if values("npg", "npg", env_id)]
    best, final = (
        [values("npg", "npg", env_id, score) for env_id in env_ids] for score in ("best", "final")
    )
    return Table(
        [
            Text("task", env_ids),
            _means("final return", final),
            Text("each seed", [returns(each) for each in final]),
            Number("best evaluation", [mean(each) for each in best]),
            Number("to reach", [number(TARGETS[env_id][0]) for env_id in env_ids]),
            Text("published, several seeds", [TARGETS[env_id][1] for env_id in env_ids]),
        ]
    )


def beside_the_others() -> Table:
    """The final returns of NPG's one set and of every baseline."""
    env_ids = [env_id for env_id in TARGETS if values("npg", "npg", env_id)]
    columns: list[Text | Estimates] = [Text("task", env_ids)]
    columns.append(_means("NPG, its defaults", [values("npg", "npg", e) for e in env_ids]))
    for folder, algo in BASELINES:
        each = [values(folder, algo, env_id) for env_id in env_ids]
        columns.append(_means(f"{NAMES[algo]}, {SETTINGS[folder]}", each))
    return Table(columns)


def first_screen() -> Table:
    """NPG beside PPO and TRPO with their defaults, and the best set that was tuned for either."""
    env_ids = [env_id for env_id in TARGETS if values("defaults", "ppo", env_id)]
    columns: list[Text | Estimates] = [Text("task", env_ids)]
    for folder, algo in (("npg", "npg"), ("defaults", "ppo"), ("defaults", "trpo")):
        each = [values(folder, algo, env_id) for env_id in env_ids]
        columns.append(_means(f"{NAMES[algo]}, defaults", each))
    tuned = [
        max((float(np.mean(values(*of, env_id))), of) for of in BASELINES if of[0] != "defaults")
        for env_id in env_ids
    ]
    best = [values(*of, env_id) for env_id, (_, of) in zip(env_ids, tuned, strict=True)]
    columns.append(_means("best tuned", best))
    whose = [f"{NAMES[algo]}, {SETTINGS[folder]}" for _, (folder, algo) in tuned]
    return Table([*columns, Text("which is", whose)])


def differences() -> Table:
    """How far NPG's interquartile mean lies above that of each baseline."""
    scores = {
        f"{NAMES[algo]}, {SETTINGS[folder]}": _normalised(folder, algo, TARGETS)
        for folder, algo in BASELINES
    }
    for algo in ("trpo", "ppo"):
        scores[f"{NAMES[algo]}, searched, same tasks"] = _normalised("searched", algo, SEARCHED_ON)
    write = Form(2).text
    pairs = list(scores.values())
    return Table(
        [
            Text("baseline", list(scores)),
            Number("tasks", [ours.shape[1] for ours, _ in pairs]),
            Number("seeds", [f"{len(ours)} and {len(theirs)}" for ours, theirs in pairs]),
            Estimates("NPG", [iqm(ours) for ours, _ in pairs], write=write),
            Estimates("baseline", [iqm(theirs) for _, theirs in pairs], write=write),
            Estimates("difference", [iqm_difference(*pair) for pair in pairs], write=write),
            Estimates("NPG is better", [improvement(*pair) for pair in pairs], write=write),
        ]
    )


def beside_special_sets() -> Table:
    """The final returns of NPG's one set and of the set that was searched for each task before."""
    env_ids = [e for e in (*TARGETS, *CLASSIC) if values("npg", "npg", e)]
    env_ids = [e for e in dict.fromkeys(env_ids) if values("runs", "npg", e)]
    ours, special = ([values(name, "npg", e) for e in env_ids] for name in ("npg", "runs"))
    gains = [
        mean_difference(np.array(theirs)[:, None], np.array(one)[:, None])
        for theirs, one in zip(special, ours, strict=True)
    ]
    return Table(
        [
            Text("task", env_ids),
            _means("its defaults", ours),
            _means("a set for the task", special),
            _estimates("difference", gains),
            Text("the set is better", ["yes" if each.is_positive else "no" for each in gains]),
        ]
    )


def _normalised(folder: str, algo: str, tasks: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Normalised final returns of NPG and a baseline on those tasks that both have run on.

    :return: two arrays of shape (n_seeds, n_tasks)
    """
    scales = load_scales()
    env_ids = [e for e in tasks if values("npg", "npg", e) and values(folder, algo, e)]
    both = []
    for name, of_algo in (("npg", "npg"), (folder, algo)):
        finals = [values(name, of_algo, env_id) for env_id in env_ids]
        n_seeds = min(map(len, finals))
        rows = [
            scales[env_id].normalise(np.array(each[:n_seeds]))
            for env_id, each in zip(env_ids, finals, strict=True)
        ]
        both.append(np.array(rows).T)
    return both[0], both[1]


def _means(heading: str, each: Sequence[Sequence[float]]) -> Estimates:
    """A column of means over seeds with 95% intervals; empty cells where there are no runs."""
    found = []
    for of_task in each:
        if of_task:
            value, low, high = (float(end[0]) for end in mean_interval(np.array(of_task)[:, None]))
            found.append(Estimate(value, low, high, len(of_task)))
        else:
            found.append(Estimate(np.nan))
    return _estimates(heading, found)


def _estimates(heading: str, found: Sequence[Estimate]) -> Estimates:
    """A column whose numbers are whole where the task's returns are in the hundreds."""
    largest = [max(abs(end) for end in (*one.numbers, 0) if np.isfinite(end)) for one in found]
    write = [Form(0 if each >= 100 else 1).text for each in largest]
    return Estimates(heading, found, write=write)


TABLES: dict[str, Callable[[], Table]] = {
    "first screen": first_screen,
    "NPG's one set on MuJoCo": on_mujoco,
    "NPG's one set beside PPO and TRPO": beside_the_others,
    "NPG's one set, differences": differences,
    "NPG's one set beside special sets": beside_special_sets,
}
