"""Runs of other programs in a report: read, labelled, selected, made to compare, refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor

from benchmarks.statistics import area_under_curve
from reports.data import scores, verdicts
from reports.data.asked import Wanted, columns_of, sources_of
from reports.data.runs import ReportError, RunData
from reports.data.sources import load
from tests.reports.conftest import RunFolders
from tests.reports.other_programs import (
    EPISODES,
    cleanrl_run,
    write_evaluations,
    write_monitor,
    zoo_run,
)


def loaded(
    *paths: Path, names: Sequence[str] = (), formats: Sequence[str] = (), **wanted: Any
) -> RunData:
    return load(sources_of(paths, formats, names), Wanted(**wanted))


def labels(data: RunData) -> list[str]:
    return list(data.runs["label"].unique())


def test_scores_of_evaluations_are_those_of_the_arrays(tmp_path: Path) -> None:
    folder = zoo_run(tmp_path, seed=3, n_evaluations=40)
    means = np.load(folder / "evaluations.npz")["results"].mean(axis=1)
    steps = np.linspace(0, 100_000, 41)[1:].astype(int)
    (row,) = scores.run_scores(loaded(tmp_path).evaluations).to_dict("records")
    assert (row["env_id"], row["label"], row["seed"]) == ("CartPole-v1", "ppo", 3)
    assert row["final"] == pytest.approx(means[-4:].mean())
    assert row["best"] == pytest.approx(means.max())
    assert row["area"] == pytest.approx(area_under_curve(steps, means))
    # Only Monitor knows the time.
    assert loaded(tmp_path).runs["wall_seconds"].tolist() == [50.0]


def test_scores_of_training_are_read_off_the_last_episodes_at_a_hundred_steps(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "ppo" / "CartPole-v1_1"
    folder.mkdir(parents=True)
    returns = write_monitor(folder, "CartPole-v1", 100_000, np.random.default_rng(0))
    data = loaded(tmp_path, pattern="{algo}/{_}_{seed}")
    ends = np.arange(1, EPISODES + 1) * (100_000 // EPISODES)
    means = [returns[max(0, i - 100) : i].mean() for i in range(1, EPISODES + 1)]
    steps = range(1_000, 100_001, 1_000)
    expected = [means[np.searchsorted(ends, step, "right") - 1] for step in steps]
    assert data.metric.name == "training"
    assert list(data.evaluations["timesteps"]) == list(steps)
    np.testing.assert_allclose(data.evaluations["return_mean"], expected)
    (row,) = scores.run_scores(data.evaluations).to_dict("records")
    assert row["final"] == pytest.approx(np.mean(expected[-10:]))


def test_runs_of_stable_baselines3_are_read_and_named_by_a_pattern(tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = tmp_path / "ppo" / f"CartPole-v1_{seed}"
        env = Monitor(gym.make("CartPole-v1"), str(folder / "monitor.csv"))
        model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, seed=seed)
        evaluate = EvalCallback(
            Monitor(gym.make("CartPole-v1")),
            n_eval_episodes=2,
            eval_freq=64,
            log_path=str(folder),
            verbose=0,
        )
        model.learn(256, callback=evaluate)
    data = loaded(tmp_path, pattern="{algo}/{env_id}_{seed}")
    assert data.metric.name == "evaluation"
    assert list(data.runs["seed"]) == [0, 1]
    for seed, rows in data.evaluations.groupby("seed"):
        written = np.load(tmp_path / "ppo" / f"CartPole-v1_{seed}" / "evaluations.npz")
        np.testing.assert_array_equal(rows["timesteps"], written["timesteps"])
        np.testing.assert_allclose(rows["return_mean"], written["results"].mean(axis=1))
    assert loaded(tmp_path, pattern="{algo}/{env_id}_{seed}", metric="training").metric.name == (
        "training"
    )


def test_metric_is_training_where_some_have_nothing_else(tmp_path: Path) -> None:
    zoo_run(tmp_path / "logs")
    zoo_run(tmp_path / "logs", "a2c")
    cleanrl_run(tmp_path / "runs")
    names = [f"{tmp_path}/logs/=zoo", f"{tmp_path}/runs=cleanrl"]
    data = loaded(tmp_path / "logs", tmp_path / "runs", names=names)
    assert data.metric.name == "training"
    assert labels(data) == ["cleanrl", "zoo a2c", "zoo ppo"]
    # All are read off at the same steps.
    grids = {tuple(rows["timesteps"]) for _, rows in data.evaluations.groupby("label")}
    assert len(grids) == 1
    (note,) = data.notes
    assert "2 of 3 runs have evaluations, too" in note
    assert "--metric evaluation" in note
    assert not loaded(tmp_path / "logs").notes


@pytest.mark.parametrize("first", [0, 60, 99])
def test_a_run_that_has_diverged_is_left_out_and_named(first: int, tmp_path: Path) -> None:
    for seed in range(3):
        folder = zoo_run(tmp_path, seed=seed)
    file = folder / "evaluations.npz"
    results = dict(np.load(file))
    results["results"][first:] = np.nan
    np.savez(file, **results)
    data = loaded(tmp_path)
    assert data.metric.name == "evaluation"
    assert sorted(data.runs["seed"]) == [0, 1]
    (line,) = data.broken
    assert "seed 2" in line
    assert "not finite" in line
    (only,) = loaded(tmp_path, metric="training", where="seed=2").runs["seed"]
    assert only == 2
    with pytest.raises(
        ReportError, match="no run is left without values that are not finite; ppo on"
    ):
        loaded(tmp_path, where="seed=2")


def test_own_runs_mix_with_those_of_other_programs(tmp_path: Path, folders: RunFolders) -> None:
    folder = folders.add("npg", seed=0, returns=np.linspace(20, 480, 21), n_timesteps=100_000)
    steps = np.arange(1, 51) * 2_000
    pd.DataFrame(
        {"time/total_timesteps": steps, "rollout/ep_rew_mean": np.linspace(20, 300, 50)}
    ).to_csv(folder / "progress.csv", index=False)
    zoo_run(tmp_path / "logs")
    data = loaded(folders.root, tmp_path / "logs")
    assert data.metric.name == "evaluation"
    assert labels(data) == ["npg", "ppo"]
    assert data.of_suite["label"].tolist() == ["npg"]
    cleanrl_run(tmp_path / "cleanrl", algo="dqn")
    data = loaded(folders.root, tmp_path / "logs", tmp_path / "cleanrl")
    assert data.metric.name == "training"
    assert labels(data) == ["dqn", "npg", "ppo"]
    npg = data.evaluations[data.evaluations["label"] == "npg"]
    assert npg["timesteps"].iloc[0] == 2_000  # where the first of all has a value
    assert npg["return_mean"].iloc[-1] == 300


def test_a_column_is_a_metric_and_runs_without_it_are_named(tmp_path: Path) -> None:
    zoo_run(tmp_path / "logs", "a2c")
    for seed in (1, 2):
        cleanrl_run(tmp_path / "runs", seed=seed)
    data = loaded(tmp_path / "logs", tmp_path / "runs", metric="losses/approx_kl")
    assert labels(data) == ["ppo"]
    (line,) = data.without_metric
    assert "a2c on CartPole-v1, seed 0" in line
    assert "evaluation, training" in line


def test_success_rates_are_a_metric(tmp_path: Path) -> None:
    successes = np.random.default_rng(0).random((100, 5)) < 0.7
    for seed in (0, 1):
        file = zoo_run(tmp_path, seed=seed) / "evaluations.npz"
        np.savez(file, **np.load(file), successes=successes)
    data = loaded(tmp_path, metric="success_rate")
    assert data.metric.noun == "success rate"
    rows = scores.run_scores(data.evaluations).to_dict("records")
    assert [row["final"] for row in rows] == pytest.approx([successes[-10:].mean()] * 2)
    assert rows[0]["best"] == successes.mean(axis=1).max()


def test_lower_is_better_turns_best_ahead_and_bold_round(tmp_path: Path) -> None:
    for algo, level in (("ppo", 0.0), ("a2c", 100.0)):
        for seed in range(5):
            zoo_run(tmp_path, algo, seed=seed, level=level)
    data = loaded(tmp_path, lower_is_better=True)
    of_runs = scores.run_scores(data.evaluations, lower_is_better=True)
    lowest = data.evaluations.groupby(["label", "seed"])["return_mean"].min()
    found = of_runs.set_index(["label", "seed"])["best"]
    pd.testing.assert_series_equal(found, lowest, check_names=False)
    table = scores.score_table(data.runs, of_runs)
    compared = verdicts.comparisons_of(table, of_runs, lower_is_better=True)
    verdict = compared.verdict("CartPole-v1", "ppo", "a2c")
    assert verdict is not None
    assert verdict.word == verdicts.AHEAD
    assert verdict.improvement.value == 1.0
    assert compared.bold("final", table).tolist() == [False, True]
    # What is shown is not turned.
    assert compared.means["final", "CartPole-v1", "ppo"].value > 0


@pytest.mark.parametrize(
    ("where", "seeds"),
    [
        ("seed<2", {0, 1}),
        ("seed>1 and env_id=CartPole-v1", {2, 5}),
        ("algo!=ppo", {5}),
        ("hyperparams.n_steps=2048 and seed!=0", {1, 5}),
        ("hyperparams.n_steps=5e2", {2}),
        ("label='ppo' and format=zoo and seed=1", {1}),
        ('hyperparams.policy="MlpPolicy"', {2}),
        ("hyperparams.policy!=MlpPolicy", {0, 1, 5}),
    ],
)
def test_where_selects_runs(where: str, seeds: set[int], tmp_path: Path) -> None:
    for seed in (0, 1):
        zoo_run(tmp_path, seed=seed)
    zoo_run(tmp_path, seed=2, hyperparams={"n_steps": 500, "policy": "MlpPolicy"})
    zoo_run(tmp_path, "a2c", seed=5)
    assert set(loaded(tmp_path, where=where).runs["seed"]) == seeds


def test_where_selects_own_runs_and_what_was_asked_for(folders: RunFolders) -> None:
    folders.ask(["npg", "ppo"], range(2))
    for algo in ("npg", "ppo"):
        for seed in range(2):
            folders.add(algo, seed=seed)
    data = loaded(folders.root, where="algo=npg and seed=1")
    assert data.runs[["label", "seed"]].to_numpy().tolist() == [["npg", 1]]
    assert set(data.evaluations["label"]) == {"npg"}
    assert set(data.asked["label"]) == {"npg"}


def test_groups_are_labelled_by_a_setting_and_sorted_by_number(tmp_path: Path) -> None:
    for n_steps in (2048, 64, 512):
        for seed in (0, 1):
            zoo_run(tmp_path, seed=seed, hyperparams={"n_steps": n_steps})
    data = loaded(tmp_path, group_by="hyperparams.n_steps")
    assert labels(data) == ["n_steps=64", "n_steps=512", "n_steps=2048"]
    assert data.runs.groupby("label").size().tolist() == [2, 2, 2]
    zoo_run(tmp_path, "a2c", seed=0, hyperparams={"n_steps": 64})
    data = loaded(tmp_path, group_by="hyperparams.n_steps")
    assert labels(data)[:2] == ["a2c, n_steps=64", "ppo, n_steps=64"]


def test_own_runs_are_grouped_by_a_setting(folders: RunFolders) -> None:
    for critic in ("adam", "ng"):
        folders.add("npg", hyperparams={"critic": critic})
    assert labels(loaded(folders.root, group_by="hyperparams.critic")) == [
        "critic=adam",
        "critic=ng",
    ]


def test_seeds_with_different_settings_are_told_of(tmp_path: Path) -> None:
    zoo_run(tmp_path, seed=0, hyperparams={"n_steps": 64, "gamma": 0.9})
    zoo_run(tmp_path, seed=1, hyperparams={"n_steps": 128, "gamma": 0.9})
    (note,) = loaded(tmp_path).notes
    assert note.startswith("ppo on CartPole-v1: its runs differ in n_steps")


def test_settings_that_were_not_recorded_are_not_known_to_differ(tmp_path: Path) -> None:
    zoo_run(tmp_path, seed=0)
    folder = zoo_run(tmp_path, seed=1)
    (folder / "CartPole-v1" / "config.yml").unlink()
    assert not loaded(tmp_path).notes


def test_different_evaluation_steps_are_interpolated_for_curves_alone(tmp_path: Path) -> None:
    fine, coarse = zoo_run(tmp_path, seed=0), zoo_run(tmp_path, seed=1)
    results = write_evaluations(coarse, 100_000, 20, np.random.default_rng(1))
    data = loaded(tmp_path)
    assert any("interpolated" in note for note in data.notes)
    assert any("20 to 100 evaluations" in note for note in data.notes)
    finals = scores.run_scores(data.evaluations).set_index("seed")["final"]
    whole = np.load(fine / "evaluations.npz")["results"]
    assert finals[0] == pytest.approx(whole.mean(axis=1)[-10:].mean())
    assert finals[1] == pytest.approx(results.mean(axis=1)[-2:].mean())
    curve = scores.learning_curves(data.evaluations)
    assert curve["timesteps"].tolist() == np.linspace(5_000, 100_000, 20).tolist()
    expected = (whole.mean(axis=1)[4::5] + results.mean(axis=1)) / 2
    np.testing.assert_allclose(curve["mean"], expected)


def test_runs_of_unequal_length_are_refused_or_cut(tmp_path: Path) -> None:
    zoo_run(tmp_path, seed=0)
    zoo_run(tmp_path, "a2c", seed=0, n_timesteps=50_000)
    with pytest.raises(ReportError, match="not equally long") as refused:
        loaded(tmp_path)
    said = str(refused.value)
    assert "a2c: 50,000 steps (1 run)" in said
    assert "--cut-to-shortest" in said
    for metric in ("evaluation", "training"):
        data = loaded(tmp_path, cut_to_shortest=True, metric=metric)
        assert data.evaluations.groupby("label")["timesteps"].max().tolist() == [50_000, 50_000]
        assert any("cut to 50,000 steps" in note for note in data.notes)
    assert set(data.runs["n_timesteps"]) == {50_000}


def test_lengths_may_differ_by_one_evaluation(tmp_path: Path) -> None:
    zoo_run(tmp_path, seed=0, n_evaluations=10)
    zoo_run(tmp_path, seed=1, n_timesteps=90_000, n_evaluations=9)
    assert loaded(tmp_path).evaluations.groupby("seed")["timesteps"].max().tolist() == [
        100_000,
        90_000,
    ]


def test_runs_without_names_are_refused(tmp_path: Path) -> None:
    write_evaluations(tmp_path, 1_000, 5, np.random.default_rng(0))
    with pytest.raises(ReportError, match=r"algorithm and environment and seed.*--pattern"):
        loaded(tmp_path)


def test_the_same_run_at_two_places_is_refused_unless_they_are_named(tmp_path: Path) -> None:
    a, b = zoo_run(tmp_path / "a"), zoo_run(tmp_path / "b")
    with pytest.raises(ReportError, match="seed 0: is there twice") as refused:
        loaded(tmp_path / "a", tmp_path / "b")
    assert str(a) in str(refused.value)
    assert str(b) in str(refused.value)
    assert "--name" in str(refused.value)
    names = [f"{tmp_path}/a=before", f"{tmp_path}/b=after"]
    data = loaded(tmp_path / "a", tmp_path / "b", names=names)
    assert labels(data) == ["after", "before"]


def test_named_places_tell_own_runs_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        RunFolders(tmp_path / name).add("npg")
    with pytest.raises(ReportError, match="the same run is there 2 times"):
        loaded(tmp_path / "a", tmp_path / "b")
    names = [f"{tmp_path}/a=before", f"{tmp_path}/b=after"]
    data = loaded(tmp_path / "a", tmp_path / "b", names=names)
    assert labels(data) == ["after", "before"]
    assert len(data.evaluations) == 4


def test_one_label_for_two_programs_is_refused(tmp_path: Path) -> None:
    zoo_run(tmp_path / "logs", seed=0)
    cleanrl_run(tmp_path / "runs", seed=1)
    with pytest.raises(ReportError, match="ppo: is the label of runs of different programs"):
        loaded(tmp_path / "logs", tmp_path / "runs")


def test_no_common_metric_is_refused(tmp_path: Path) -> None:
    only = zoo_run(tmp_path / "logs", "a2c")
    (only / "0.monitor.csv").unlink()
    cleanrl_run(tmp_path / "runs")
    with pytest.raises(ReportError, match="--metric: must be given") as refused:
        loaded(tmp_path / "logs", tmp_path / "runs")
    assert "  evaluation: 1 run, such as a2c on CartPole-v1" in str(refused.value)
    assert "--where" in str(refused.value)
    with pytest.raises(ReportError, match="'success_rate'; there are evaluation, losses/approx_kl"):
        loaded(tmp_path / "logs", tmp_path / "runs", metric="success_rate")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"where": "colour=red"}, "'colour'; there are algo, env_id, seed, label, format, hyperp"),
        ({"where": "seed"}, "must be FIELD=VALUE"),
        ({"where": "seed=1 or seed=2"}, "several joined by 'and'"),
        ({"where": "seed<many"}, "must be compared with a number, got 'many'"),
        ({"where": "seed=77"}, "holds of none of 1 run"),
        ({"group_by": "hyperparams.colour"}, "--group-by: no run has a field"),
        ({"pattern": "{nothing}"}, "--pattern"),
        ({"formats": ["elsewhere=zoo"]}, "--format-of: must be PATH=FORMAT with a path of"),
        ({"names": ["={}"]}, "--name: must be PATH=LABEL"),
    ],
    ids=str,
)
def test_an_option_that_does_not_fit_is_refused(
    wanted: dict[str, Any], said: str, tmp_path: Path
) -> None:
    zoo_run(tmp_path)
    with pytest.raises(ReportError, match=said.replace("{", "").replace("}", "")):
        loaded(tmp_path, **wanted)


def test_a_path_that_is_given_twice_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="is given twice"):
        sources_of([tmp_path, tmp_path])
    with pytest.raises(ReportError, match=f"{tmp_path}/ppo is in {tmp_path}; its runs would"):
        sources_of([tmp_path / "ppo", tmp_path])
    with pytest.raises(ReportError, match="there is no such folder"):
        loaded(tmp_path / "none")
    with pytest.raises(ReportError, match="no run in it that can be read"):
        loaded(tmp_path)
    with pytest.raises(ReportError, match="--format-of"):
        loaded(tmp_path, formats=[f"{tmp_path}=word"])


def test_columns_of_a_table(tmp_path: Path) -> None:
    rows = [
        {"exp": algo, "env": "CartPole-v1", "s": seed, "step": 100 * i, "ret": 10.0 * i}
        for algo in ("a", "b")
        for seed in (0, 1)
        for i in range(1, 11)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "all.csv", index=False)
    text = "algo=exp,env_id=env,seed=s,timesteps=step,return=ret"
    data = loaded(tmp_path / "all.csv", columns=columns_of(text))
    assert len(data.runs) == 4
    assert labels(data) == ["a", "b"]
    file = tmp_path / "columns.yml"
    file.write_text("algo: exp\nenv_id: env\nseed: s\ntimesteps: step\nreturn: ret\n")
    assert columns_of(str(file)) == columns_of(text)
    with pytest.raises(ReportError, match="--columns: must be a YAML file, or FIELD=COLUMN"):
        columns_of("algo")
    with pytest.raises(ReportError, match="--columns"):
        loaded(tmp_path / "all.csv", columns={"algo": "nothing"})
    with pytest.raises(ReportError, match="its seed; say where a column has them with --columns"):
        loaded(tmp_path / "all.csv", columns=columns_of(text.replace("seed=s,", "")))


def test_two_hundred_runs_are_all_there(tmp_path: Path) -> None:
    for env in range(10):
        for algo in ("a2c", "ppo", "sac", "td3"):
            for seed in range(5):
                zoo_run(tmp_path, algo, f"Env{env}-v0", seed)
    data = loaded(tmp_path)
    assert len(data.runs) == 200
    assert len(data.evaluations) == 200 * 100
    assert data.runs.groupby(["env_id", "label"]).size().eq(5).all()
    assert not data.notes
    assert not data.broken
