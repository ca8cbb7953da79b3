"""Training logs made by hand."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.reports.conftest import RunFolders


def write_log(folder: Path, rollout: int = 100, **train: list[float | None]) -> None:
    """``progress.csv`` with a first row that tells of no update, as SB3 begins."""
    n_rows = len(next(iter(train.values()))) + 1
    with (folder / "progress.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["time/iterations", "time/total_timesteps", *(f"train/{name}" for name in train)]
        )
        for i in range(n_rows):
            values = ["" if i == 0 else column[i - 1] for column in train.values()]
            writer.writerow([i + 1, (i + 1) * rollout, *values])


def npg_by_hand(folders: RunFolders) -> None:
    """Two seeds, five updates of which one was skipped; delta is 0.02."""
    first = folders.add("npg", seed=0, hyperparams={"target_kl": 0.02})
    write_log(
        first,
        kl=[0.01, 0.02, 0.0],
        kl_predicted=[0.02, 0.02, 0.0],
        cg_iterations=[4, 6, None],
        cg_residual=[1e-3, 3e-3, None],
        skipped_updates=[0, 0, 1],
        n_updates=[1, 2, 3],
    )
    second = folders.add("npg", seed=1, hyperparams={"target_kl": 0.02})
    write_log(
        second,
        kl=[0.03, 0.05],
        kl_predicted=[0.02, 0.02],
        cg_iterations=[5, 9],
        cg_residual=[2e-3, 4e-3],
        skipped_updates=[0, 0],
        n_updates=[1, 2],
    )
