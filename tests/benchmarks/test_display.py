"""What a sweep shows on a terminal."""

import io
import re
import time

import pytest
from rich.console import Console
from rich.text import Text

from benchmarks.display import Bars
from benchmarks.engines import Advanced, Ended, Failure
from benchmarks.run import Progress


def test_the_sweeps_line_counts_runs_and_speed(make_spec) -> None:
    specs = [make_spec(seed=seed, n_timesteps=1_000) for seed in range(4)]
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    bars = Bars(console, specs, n_skipped=2)

    def shown() -> str:
        return "  ".join(filter(None, bars.progress.tasks[0].fields["status"]))

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


BAR = "━" * 20
NAMES = [
    ("trpo", "HalfCheetah-v5"),
    ("npg", "InvertedDoublePendulum-v5"),
    ("sb3_contrib.ppo_recurrent:RecurrentPPO", "MountainCarContinuous-v0"),
]


def make_console(width: int) -> Console:
    # Without colours, a bar shows nothing of what is left to do.
    return Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=width)


def lines(bars: Bars) -> list[str]:
    """What a terminal shows now."""
    console = bars.progress.console
    with console.capture() as output:
        console.print(*bars.progress.get_renderables())
    return [Text.from_ansi(line).plain for line in output.get().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(("algo", "env_id"), NAMES)
def test_bars_and_times_are_whole_from_80_columns_on(
    make_spec, algo: str, env_id: str, width: int
) -> None:
    specs = [make_spec(algo, env_id, seed=seed, n_timesteps=1_000_000) for seed in (0, 1)]
    bars = Bars(make_console(width), specs * 20, n_skipped=0)
    for spec in specs:
        for steps in (100_000, 300_000):
            bars.show(Advanced(spec, Progress(steps, steps / 1_234, -1_234.56)))
            time.sleep(0.01)  # what is left is reckoned from two moments

    whole, *rows = lines(bars)

    assert max(map(len, [whole, *rows])) <= width
    assert len(rows) == 2
    assert re.fullmatch(
        r"all runs [━╸╺]{20} 0/40 runs, 2 running  2,468 steps/s \d+:\d\d:\d\d *", whole
    )
    for seed, row in enumerate(rows):
        assert re.search(rf"{env_id} seed {seed} ━━━[━╸╺]{{7,17}} ", row)
        assert "return -1,234.6" in row
        assert re.search(r" \d+:\d\d:\d\d *$", row)
        # The least important goes first.
        assert ("300,000/1,000,000 steps" in row) == (width == 120 and algo in ("trpo", "npg"))
        assert ("1,234 steps/s" in row) == (width == 120 or algo == "trpo")
        assert (algo in row) == ("…" not in row) == (width == 120 or algo in ("trpo", "npg"))


def test_what_is_not_known_yet_is_not_shown(make_spec) -> None:
    spec = make_spec(n_timesteps=1_000)
    bars = Bars(make_console(100), [spec], n_skipped=0)
    bars.show(Advanced(spec, Progress(timesteps=0, training_seconds=0.01, return_mean=9.3)))

    whole, row = lines(bars)

    assert whole.split() == ["all", "runs", BAR, "0/1", "runs,", "1", "running"]
    assert row.split() == [
        *("ppo", "CartPole-v1", "seed", "0", BAR),
        *("return", "9.3", "0/1,000", "steps"),
    ]
