"""Tables of other tools, against the arrays that they were made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.errors import SpecError
from reports.data.readers.find import read
from reports.data.readers.logged import EVALUATION, TRAINING

COLUMNS = {
    "algo": "exp_name",
    "env_id": "env",
    "seed": "seed",
    "timesteps": "global_step",
    "return": "episodic_return",
}


def episodes(n_episodes: int = 150) -> pd.DataFrame:
    """Two runs, their rows mixed, and a loss that only every third of them has."""
    rng = np.random.default_rng(0)
    runs = [
        pd.DataFrame(
            {
                "exp_name": "ppo",
                "env": "Hopper-v4",
                "seed": seed,
                "global_step": np.cumsum(rng.integers(1, 100, n_episodes)),
                "episodic_return": rng.normal(size=n_episodes),
                "loss": np.where(np.arange(n_episodes) % 3, np.nan, 0.25),
                "note": "text",
                "elapsed": np.arange(n_episodes) * 0.5,
            }
        )
        for seed in (4, 5)
    ]
    return pd.concat(runs).sample(frac=1, random_state=0)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_runs_of_a_table_are_told_apart(suffix: str, tmp_path: Path) -> None:
    frame, path = episodes(), tmp_path / f"export{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)

    found = read(path, columns=COLUMNS | {"wall_seconds": "elapsed"})

    assert found.broken == []
    assert [(run.algo, run.env_id, run.seed) for run in found.runs] == [
        ("ppo", "Hopper-v4", 4),
        ("ppo", "Hopper-v4", 5),
    ]
    for run in found.runs:
        rows = frame[frame["seed"] == run.seed].sort_values("global_step")
        training, loss = run.metrics[TRAINING], run.metrics["loss"]
        assert run.metrics.keys() == {TRAINING, "loss"}
        np.testing.assert_array_equal(training.timesteps, rows["global_step"])
        expected = rows["episodic_return"].rolling(100, min_periods=1).mean()
        np.testing.assert_allclose(training.values, expected, rtol=1e-9)
        np.testing.assert_array_equal(training.wall_seconds, rows["elapsed"])
        np.testing.assert_array_equal(loss.timesteps, rows.dropna()["global_step"])
        assert set(loss.values) == {0.25}
        assert run.problems == []


def test_means_over_episodes_are_not_averaged_again(tmp_path: Path) -> None:
    frame = episodes()
    frame.to_csv(tmp_path / "a.csv", index=False)

    found = read(tmp_path, columns=COLUMNS | {"kind": "training_mean"})

    rows = frame[frame["seed"] == 4].sort_values("global_step")
    np.testing.assert_array_equal(found.runs[0].metrics[TRAINING].values, rows["episodic_return"])


def test_the_episodes_of_an_evaluation_are_averaged(tmp_path: Path) -> None:
    frame = pd.DataFrame({"step": [20, 10, 10, 20, 30], "r": [1.0, 2.0, 4.0, 5.0, 7.0]})
    frame.to_csv(tmp_path / "ppo-3.csv", index=False)

    (run,) = read(
        tmp_path,
        columns={"timesteps": "step", "return": "r", "kind": "evaluation"},
        pattern="{algo}-{seed}",
    ).runs

    evaluation = run.metrics[EVALUATION]
    assert (run.algo, run.env_id, run.seed) == ("ppo", None, 3)
    assert evaluation.timesteps.tolist() == [10, 20, 30]
    assert evaluation.values.tolist() == [3.0, 3.0, 7.0]
    np.testing.assert_array_equal(evaluation.spread, [1.0, 2.0, np.nan])
    assert evaluation.episodes.tolist() == [2, 2, 0]


def test_several_rows_of_a_step_are_averaged(tmp_path: Path) -> None:
    frame = pd.DataFrame({"step": [10, 10, 20], "r": [1.0, 2.0, 3.0], "loss": [0.0, 1.0, 2.0]})
    frame.to_csv(tmp_path / "a.csv", index=False)

    (run,) = read(tmp_path, columns={"timesteps": "step", "return": "r"}).runs

    assert run.metrics[TRAINING].values.tolist() == [1.5, 2.0]
    assert run.metrics["loss"].values.tolist() == [0.5, 2.0]
    assert run.metrics["loss"].episodes.tolist() == [0, 0]
    assert run.problems == []


def test_a_long_table_has_a_metric_a_row(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "run": ["a", "a", "a", "b"],
            "key": ["eval/mean", "kl", "eval/mean", "eval/mean"],
            "value": [1.0, 0.1, 2.0, 3.0],
            "step": [10, 10, 20, 10],
        }
    )
    frame.to_csv(tmp_path / "mlflow.csv", index=False)

    found = read(
        tmp_path / "mlflow.csv",
        columns={
            "algo": "run",
            "timesteps": "step",
            "metric": "key",
            "value": "value",
            "return": "eval/mean",
            "kind": "evaluation",
        },
    )

    first, second = found.runs
    assert first.metrics[EVALUATION].values.tolist() == [1.0, 2.0]
    assert first.metrics["kl"].values.tolist() == [0.1]
    assert second.metrics[EVALUATION].values.tolist() == [3.0]


def test_columns_that_are_not_there_are_named_with_those_that_are(tmp_path: Path) -> None:
    episodes().to_csv(tmp_path / "a.csv", index=False)

    with pytest.raises(SpecError, match=r"'reward'.*it has exp_name, env, seed, global_step"):
        read(tmp_path, columns=COLUMNS | {"return": "reward"})


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"timesteps": "step"}, "return is missing"),
        ({"return": "r"}, "timesteps is missing"),
        (COLUMNS | {"reward": "r"}, "'reward' is not one of algo"),
        (COLUMNS | {"kind": "test"}, "'test' is not one of training"),
        (COLUMNS | {"metric": "key"}, "metric and value"),
        (COLUMNS | {"seed": ""}, "seed: must be the name of a column"),
    ],
)
def test_a_mapping_that_says_too_little_is_refused(
    columns: dict[str, str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=said):
        read(tmp_path, columns=columns)


def test_rows_that_are_no_run_s_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    frame = episodes().reset_index(drop=True).astype({"seed": object, "loss": object})
    frame.loc[0, "seed"] = "first"
    frame.loc[1, "env"] = None
    frame.loc[2, "episodic_return"] = np.inf
    frame.loc[3, "global_step"] = -1
    frame.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "b.csv").write_text("")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and no more")

    found = read(tmp_path, columns=COLUMNS)

    assert [run.seed for run in found.runs] == [4, 5]
    for said in ("'first'", "1 rows that name no run", "b.csv", "c.parquet"):
        assert any(said.strip("'") in line for line in found.broken)
    problems = [problem for run in found.runs for problem in run.problems]
    assert any("not finite" in problem for problem in problems)
    assert any("without a usable step" in problem for problem in problems)
