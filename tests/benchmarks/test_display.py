"""What a sweep shows on a terminal."""

import io

from rich.console import Console

from benchmarks.display import Bars
from benchmarks.engines import Advanced, Ended, Failure
from benchmarks.run import Progress


def test_the_sweeps_line_counts_runs_and_speed(make_spec) -> None:
    specs = [make_spec(seed=seed, n_timesteps=1_000) for seed in range(4)]
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    bars = Bars(console, specs, n_skipped=2)

    def shown() -> str:
        return str(bars.progress.tasks[0].fields["status"])

    assert shown() == "0/4 runs"
    for spec in specs[:2]:
        bars.show(Advanced(spec, Progress(timesteps=400, training_seconds=0.5, return_mean=31.2)))
    assert shown() == "0/4 runs, 2 running  1,600 steps/s"
    assert bars.progress.tasks[0].completed == 800
    bars.show(Ended(specs[0], "", Failure("ValueError: the pole is gone\nmore", "")))
    assert shown() == "1/4 runs, 1 running, 1 failed  800 steps/s"
    assert bars.progress.tasks[0].completed == 1_400  # nothing of it is left to do
    bars.show(Ended(specs[1], ""))
    assert shown() == "2/4 runs, 1 failed"
    output = console.file.getvalue()
    assert "2 of 6 runs are already there" in output
    assert "ppo CartPole-v1 seed 0 failed: ValueError: the pole is gone\n" in output
