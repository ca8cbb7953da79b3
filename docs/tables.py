"""The tables in README.md and docs/*.md, made from the results in docs/results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.numbers import Form
from benchmarks.speed import tables as speed_tables
from benchmarks.speed.plan import FULL
from benchmarks.speed.results import Results, targets
from benchmarks.statistics import Estimate
from benchmarks.tables import Code, Column, Estimates, Fraction, Inline, Number, Table, Text
from reports.data import studies
from reports.data.runs import RunData, load
from reports.data.scores import run_scores

RESULTS = Path(__file__).parent / "results"

STUDIES = [f"{algo}-CartPole-v1" for algo in ("npg", "trpo", "ppo")]
STUDIES += ["npg-step_size-CartPole-v1", "ppo-learning_rate-CartPole-v1"]
STUDIES += [f"{a}-{e}" for a in ("npg", "trpo", "ppo") for e in ("Hopper-v5", "HalfCheetah-v5")]
STUDIES += ["acer-CartPole-v1", "acer-LunarLander-v3"]
CLASSIC = ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Pendulum-v1"]
CLASSIC += ["MountainCarContinuous-v0", "LunarLander-v3", "LunarLanderContinuous-v3"]
MUJOCO = ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Swimmer-v5", "Ant-v5"]
SEARCHED = ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "InvertedDoublePendulum-v5"]
FULL_LENGTH = 1_000_000  # steps of a training
LUNAR_LANDERS = ["LunarLander-v3", "LunarLanderContinuous-v3"]
SEARCHED_AT_FULL_LENGTH = [*SEARCHED[:4], "Swimmer-v5", "Humanoid-v5"]
NAMES = {"npg": "NPG", "trpo": "TRPO", "ppo": "PPO", "acer": "ACER", "a2c": "A2C"}
NAMES |= {"acktr": "ACKTR", "nac": "NAC"}

ACER_TASKS = {"CartPole-v1": 490, "Acrobot-v1": -82, "LunarLander-v3": 235, "MountainCar-v0": -115}
ACER_TASKS |= {"Pendulum-v1": -200}


@cache
def data(name: str) -> RunData:
    """The runs below a folder of docs/results."""
    return load(RESULTS / name, allow_mixed=True)


@cache
def scores(name: str) -> pd.DataFrame:
    """Final return, best evaluation and area of each run, with its hyperparameters."""
    runs = data(name).runs[["env_id", "label", "seed", "algo", "suite", "hyperparams"]]
    return run_scores(data(name).evaluations).merge(runs, on=["env_id", "label", "seed"])


def values(name: str, algo: str, env_id: str, score: str = "final") -> list[float]:
    """A score of each seed, in the seeds' order; empty where there are no runs."""
    frame = scores(name)
    rows = frame[(frame["algo"] == algo) & (frame["env_id"] == env_id)].sort_values("seed")
    return [float(value) for value in rows[score]]


def number(value: float, like: Sequence[float] = ()) -> str:
    """Whole from 100 on, with a decimal below: by the largest of ``like``, or by itself."""
    largest = max(abs(x) for x in (like if len(like) else [value]))
    return Form(0 if largest >= 100 else 1).text(value)


def returns(given: Sequence[float]) -> str:
    """``5,771, 7,244, 7,080``."""
    return ", ".join(number(value) for value in given)


def mean(given: Sequence[float]) -> str:
    """The mean, or a dash for no runs."""
    return number(float(np.mean(given))) if len(given) else "–"


def range_of(given: Sequence[float]) -> str:
    """``499 (496 to 500)``: the mean, the lowest and the highest."""
    if not len(given):
        return "–"
    middle, low, high = (number(float(f(given)), given) for f in (np.mean, np.min, np.max))
    return f"{middle} ({low} to {high})"


def earlier(name: str, env_id: str, label: str, score: str) -> Estimate:
    """A mean with its 95% interval, of runs that are not stored themselves."""
    frame = pd.read_csv(RESULTS / "earlier.csv")
    of_name = (frame["set"] == name) & (frame["env_id"] == env_id) & (frame["label"] == label)
    (row,) = frame[of_name].to_dict("records")
    value, low, high = (float(row[f"{score}_{end}"]) for end in ("mean", "low", "high"))
    return Estimate(value, low, high)


def budget(name: str, env_id: str) -> int:
    """The steps of a run there."""
    runs = data(name).runs
    return int(runs.loc[runs["env_id"] == env_id, "n_timesteps"].iloc[0])


def mujoco_of_others() -> Table:
    """TRPO and PPO, each seed."""
    columns = [Text("task", MUJOCO)]
    for algo in ("trpo", "ppo"):
        for score, name in (("best", "best evaluation"), ("final", "final return")):
            cells = [returns(values("runs", algo, env_id, score)) for env_id in MUJOCO]
            columns.append(Text(f"{NAMES[algo]}: {name}", cells))
    return Table(columns)


def search() -> Table:
    """Every set that was tried for all tasks: its mean final return on each, and how many runs."""
    frame = pd.read_csv(RESULTS / "search.csv")
    frame = frame[(frame["steps"] < FULL_LENGTH) & frame["env_id"].isin(SEARCHED)]
    sets = list(dict.fromkeys(frame["set"]))
    columns: list[Text | Number] = [Text("set", sets)]
    for env_id in SEARCHED:
        cells = []
        for name in sets:
            final = frame.loc[(frame["set"] == name) & (frame["env_id"] == env_id), "final"]
            cells.append(f"{mean(list(final))} ({len(final)})" if len(final) else None)
        columns.append(Number(env_id.partition("-")[0], cells))
    return Table(columns)


def search_at_full_length() -> Table:
    """The sets that were tried over a million steps: the final return of each run."""
    frame = pd.read_csv(RESULTS / "search.csv")
    return _each_run(frame[frame["steps"] == FULL_LENGTH], SEARCHED_AT_FULL_LENGTH)


def search_on_lunar_lander() -> Table:
    """What was tried on LunarLander: the final return of each run."""
    frame = pd.read_csv(RESULTS / "search.csv")
    return _each_run(frame[frame["env_id"].isin(LUNAR_LANDERS)], LUNAR_LANDERS)


def _each_run(frame: pd.DataFrame, env_ids: Sequence[str]) -> Table:
    sets = list(dict.fromkeys(frame["set"]))
    columns = [Text("set", sets)]
    for env_id in env_ids:
        cells = []
        for name in sets:
            runs = frame[(frame["set"] == name) & (frame["env_id"] == env_id)]
            final = list(runs.sort_values("seed")["final"])
            cells.append(returns(final) if final else None)
        columns.append(Text(env_id.partition("-")[0], cells))
    return Table(columns)


def classic() -> Table:
    """All algorithms on classic control and LunarLander, NPG with its defaults."""
    columns: list[Text | Number] = [Text("task", CLASSIC)]
    columns.append(Number("steps", [budget("runs", env_id) for env_id in CLASSIC]))
    for algo in NAMES:
        name = "npg" if algo == "npg" else "runs"
        columns.append(Number(NAMES[algo], [range_of(values(name, algo, e)) for e in CLASSIC]))
    return Table(columns)


def natural_dqn() -> Table:
    """DQN with and without natural gradients."""
    env_ids = ["CartPole-v1", "Acrobot-v1", "LunarLander-v3"]
    columns: list[Text | Number] = [Text("task", env_ids)]
    columns.append(Number("steps", [budget("dqn", env_id) for env_id in env_ids]))
    for score, heading in (("final", "final return"), ("best", "best evaluation")):
        for algo, name in (("dqn", "DQN"), ("natural_dqn", "NaturalDQN")):
            cells = [range_of(values("dqn", algo, env_id, score)) for env_id in env_ids]
            columns.append(Number(f"{name}, {heading}", cells))
    return Table(columns)


def acer_classic() -> Table:
    """ACER, A2C and PPO with five seeds."""
    env_ids = list(ACER_TASKS)
    return Table(
        [
            Text("task", env_ids),
            Number("steps", [budget("runs", env_id) for env_id in env_ids]),
            *(
                _earlier("acer-classic", algo, env_ids, NAMES[algo])
                for algo in ("acer", "a2c", "ppo")
            ),
            Number("seeds", [5 for _ in env_ids]),
            Number("ACER was to reach", list(ACER_TASKS.values())),
        ]
    )


def acer_mujoco() -> Table:
    """ACER and A2C on two MuJoCo tasks with five seeds."""
    env_ids = ["HalfCheetah-v5", "Hopper-v5"]
    columns: list[Text | Estimates] = [Text("task", env_ids)]
    for score, name in (("final", "final return"), ("best", "best evaluation")):
        for algo in ("acer", "a2c"):
            heading = f"{NAMES[algo]}, {name}"
            columns.append(_earlier("acer-mujoco", algo, env_ids, heading, score))
    return Table(columns)


def critics() -> Table:
    """Both critics on the same tasks and seeds."""
    env_ids = ["HalfCheetah-v5", "Hopper-v5"]
    settings = "batch_size=256, critic=adam, learning_rate=lin_0.001, n_critic_updates=20"
    labels = {"npg": "Gauss-Newton, 2 steps", f"npg ({settings})": "Adam, 20 epochs of 256"}
    rows = [(env_id, label) for env_id in env_ids for label in labels]
    columns: list[Text | Estimates] = [
        Text("task (steps)", [f"{env_id} ({budget('learning', env_id):,})" for env_id, _ in rows]),
        Text("critic", [labels[label] for _, label in rows]),
    ]
    for score, heading in (("final", "final return"), ("best", "best evaluation")):
        found = [earlier("critic", env_id, label, score) for env_id, label in rows]
        columns.append(Estimates(heading, found, write=Form(0).text))
    return Table(columns)


def _earlier(
    name: str, label: str, env_ids: Sequence[str], heading: str, score: str = "final"
) -> Estimates:
    """A column of means with intervals; each task has digits of its own."""
    found = [earlier(name, env_id, label, score) for env_id in env_ids]
    write = [Form(0 if abs(each.value) >= 100 else 1).text for each in found]
    return Estimates(heading, found, write=write)


def learning() -> Table:
    """The learning checks."""
    tasks = [
        ("CartPole-v1", "475 with every seed"),
        ("HalfCheetah-v5", "4,500 in the mean"),
        ("Hopper-v5", "2,800 in the mean"),
    ]
    env_ids = [env_id for env_id, _ in tasks]
    best, final = (
        [values("learning", "npg", env_id, s) for env_id in env_ids] for s in ("best", "final")
    )
    return Table(
        [
            Text("task", env_ids),
            Number("steps", [budget("learning", env_id) for env_id in env_ids]),
            Number("seeds", [len(each) for each in best]),
            Text("to reach", [text for _, text in tasks]),
            Text("reached (each seed)", [returns(each) for each in best]),
            Number("mean over seeds", [mean(each) for each in best]),
            Number("final return, mean", [mean(each) for each in final]),
            *(
                Number(
                    f"TRPO: {score}, mean",
                    [mean(values("learning", "trpo", e, score)) for e in env_ids],
                )
                for score in ("best", "final")
            ),
        ]
    )


def widths() -> Table:
    """How wide the good range of each parameter is."""
    found = [
        (study, sweep)
        for study in studies.read(STUDIES, RESULTS / "studies", None)
        for sweep in study.sweeps.values()
    ]
    is_open = [sweep.width.reaches_low or sweep.width.reaches_high for _, sweep in found]
    return Table(
        [
            Text("", [NAMES[study.problem.algo] for study, _ in found]),
            Text("parameter", [_symbol(sweep.parameter.name) for _, sweep in found]),
            Text("task", [", ".join(study.problem.env_ids) for study, _ in found]),
            Number("values x seeds", [f"{len(w.points)} x {w.width.seeds}" for _, w in found]),
            Number("best", [f"{sweep.width.best:.2g}" for _, sweep in found]),
            Number("good", [f"{w.width.low:.2g} to {w.width.high:.2g}" for _, w in found]),
            Estimates(
                "decades",
                [sweep.width.estimate for _, sweep in found],
                write=Form(2).text,
                prefixes=["at least " if each else "" for each in is_open],
            ),
        ]
    )


def _symbol(parameter: str) -> Inline:
    symbols = {"target_kl": "δ", "delta": "δ", "clip_range": "ε", "correction_term": "c"}
    if parameter not in symbols:
        return Code(parameter)
    return symbols[parameter], " (", Code(parameter), ")"


def pruning() -> Table:
    """What each pruner would have saved of the study of PPO's clip range on CartPole-v1."""
    frame = pd.read_csv(RESULTS / "studies" / "pruning.csv")
    groups = dict(iter(frame.groupby("pruner", sort=False)))
    saved = [100 * rows["steps_saved"] for rows in groups.values()]
    kept = [(int(rows["best_kept"].sum()), len(rows)) for rows in groups.values()]
    return Table(
        [
            Text("pruner", list(map(str, groups))),
            Number(
                "trials pruned",
                [
                    f"{rows['pruned'].mean():.1f} of {rows['trials'].iloc[0]}"
                    for rows in groups.values()
                ],
            ),
            Number(
                "environment steps saved",
                [f"{s.mean():.0f}% ({s.min():.0f} to {s.max():.0f}%)" for s in saved],
            ),
            Fraction("the best trial is kept", kept),
            Number("lost at most", [rows["lost"].max() for rows in groups.values()], Form(3).text),
        ]
    )


def signal() -> Table:
    """What directions gain on independent samples, by batch, damping and iterations."""
    frame = pd.read_csv(RESULTS / "signal.csv")
    plain = frame[frame["solver"] == "identity"].set_index(["task", "batch"])
    solved = frame[frame["solver"] == "cg"].set_index(["task", "batch", "damping"])
    keys = list(dict.fromkeys(solved.index))
    columns: list[Column] = [
        Text("task", [task for task, _, _ in keys]),
        Number("samples", [batch for _, batch, _ in keys]),
        Number("damping", [damping for _, _, damping in keys], write=lambda x: f"{x:g}"),
        _gains("plain gradient", [plain.loc[key[:2]] for key in keys]),
    ]
    for steps in sorted(set(solved["iterations"]) - {1}):
        rows = solved[solved["iterations"] == steps]
        columns.append(_gains(f"{steps:g} iterations", [rows.loc[key] for key in keys]))
    return Table(columns)


def _gains(header: str, rows: Sequence[pd.Series]) -> Estimates:
    gains = [Estimate(row["gain"], row["gain low"], row["gain high"]) for row in rows]
    return Estimates(header, gains, write=Form(2).text)


@cache
def speed() -> Results:
    """The measurements of ``make speed``."""
    stored = json.loads((RESULTS / "speed.json").read_text(encoding="utf-8"))
    return Results(stored["measurements"])


def speed_targets() -> Table:
    """How fast ours is beside its peers, and what was asked for."""
    return speed_tables.targets(targets(speed(), FULL))


TABLES: dict[str, Callable[[], Table]] = {
    "TRPO and PPO on MuJoCo": mujoco_of_others,
    "search": search,
    "search at full length": search_at_full_length,
    "search on LunarLander": search_on_lunar_lander,
    "classic": classic,
    "DQN": natural_dqn,
    "ACER on classic control": acer_classic,
    "ACER on MuJoCo": acer_mujoco,
    "learning checks": learning,
    "critics": critics,
    "widths": widths,
    "pruning": pruning,
    "signal": signal,
    "speed": speed_targets,
    "stepping": lambda: speed_tables.stepping(speed()),
    "speed by phase": lambda: speed_tables.phases(speed()),
    "ACER's update": lambda: speed_tables.acer_parts(speed()),
}
