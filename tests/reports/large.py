"""How long a report over 1,000 runs of 100 evaluations takes, and how much memory: ``make large``.

No test, since what it measures is the machine as well.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from tests.reports.conftest import RunFolders

ENVIRONMENTS = [
    "Ant-v5", "CartPole-v1", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5",
    "InvertedDoublePendulum-v5", "InvertedPendulum-v5", "Reacher-v5", "Swimmer-v5", "Walker2d-v5",
]  # fmt: skip
# Each with the column in which its log has the KL divergence of an update, if it has one.
ALGORITHMS = {
    "npg": "train/kl",
    "trpo": "train/kl_divergence_loss",
    "ppo": "train/approx_kl",
    "a2c": None,
    "acer": None,
}
N_SEEDS = 20
N_EVALUATIONS = 100
N_UPDATES = 500
N_TIMESTEPS = 1_000_000


def write_runs(root: Path) -> int:
    """Run folders with curves that rise, and logs of their updates; how many."""
    folders, rng = RunFolders(root), np.random.default_rng(0)
    progress = np.linspace(0.0, 1.0, N_EVALUATIONS + 1)
    runs = [(a, e, s) for a in ALGORITHMS for e in ENVIRONMENTS for s in range(N_SEEDS)]
    for algo, env_id, seed in runs:
        rise = 1 - np.exp(-3 * rng.uniform(0.7, 1.3) * progress)
        noise = 30 * rng.normal(size=N_EVALUATIONS + 1)
        returns = (1000 * rise + noise).tolist()
        folder = folders.add(algo, env_id, seed, returns, N_TIMESTEPS)
        if (kl := ALGORITHMS[algo]) is not None:
            log(kl, rng).to_csv(folder / "progress.csv", index=False)
    return len(runs)


def log(kl: str, rng: np.random.Generator) -> pd.DataFrame:
    """What an algorithm with a trust region logs."""
    updates = np.arange(1, N_UPDATES + 1)
    columns = {
        "time/iterations": updates,
        "time/total_timesteps": updates * (N_TIMESTEPS // N_UPDATES),
        kl: 0.02 * rng.lognormal(0.0, 0.1, N_UPDATES),
        "train/kl_predicted": 0.02,
        "train/cg_residual": rng.uniform(0.1, 0.5, N_UPDATES),
    }
    return pd.DataFrame(columns)


def main() -> None:
    """Build the report in a process of its own, and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        n_runs = write_runs(Path(folder) / "runs")
        command = [sys.executable, "-m", "reports", "build", f"{folder}/runs"]
        began = time.perf_counter()
        subprocess.run([*command, "--out", f"{folder}/report"], check=True)
        seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{n_runs:,} runs of {N_EVALUATIONS} evaluations: {seconds:.0f} s ({used.ru_utime:.0f} s "
        f"of one core; {os.cpu_count()} cores here), at most {used.ru_maxrss / 1024:.0f} MiB"
    )


if __name__ == "__main__":
    main()
