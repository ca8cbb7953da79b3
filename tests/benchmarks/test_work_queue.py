"""Several sweeps in the same folder."""

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.engines import Failure
from benchmarks.records import RunSpec
from benchmarks.results import load_failures, load_runs
from benchmarks.run import run
from benchmarks.storage import remove_abandoned
from benchmarks.sweep import record_failure, sweep
from benchmarks.work_queue import WorkQueue

REPOSITORY = Path(__file__).parents[2]


def test_a_claimed_run_is_nobody_elses_until_it_is_given_back(make_spec, tmp_path: Path) -> None:
    specs = [make_spec(seed=seed) for seed in (0, 1)]
    ours, theirs = WorkQueue(specs, tmp_path), WorkQueue(specs, tmp_path)

    assert ours.claim() == specs[0]
    assert theirs.claim() == specs[1]
    assert ours.claim() is theirs.claim() is None
    assert not ours.is_empty
    theirs.release(specs[1])
    assert ours.claim() == specs[1]
    assert ours.is_empty
    ours.close()
    assert theirs.claim() == specs[0]
    theirs.close()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_another_sweep_has_done_meanwhile_is_not_claimed(make_spec, tmp_path: Path) -> None:
    specs = [make_spec(seed=seed) for seed in (0, 1, 2)]
    record_failure(specs[2], tmp_path, "", "", Failure("before", ""))
    time.sleep(0.05)
    queue = WorkQueue(specs, tmp_path)
    run(specs[0], tmp_path, "")
    record_failure(specs[1], tmp_path, "", "", Failure("just now", ""))

    assert queue.claim() == specs[2]  # an old failure is tried again
    assert queue.is_empty
    assert queue.finished_elsewhere == [specs[0]]
    assert queue.failed_elsewhere == [specs[1]]
    queue.close()


def test_a_sweep_reports_what_another_one_did(make_spec, tmp_path: Path) -> None:
    specs = [make_spec(seed=seed) for seed in (0, 1)]

    def engine(queue: WorkQueue, out: Path, command: str):
        run(specs[0], out, "")
        record_failure(specs[1], out, "", "", Failure("ValueError: theirs", ""))
        assert queue.claim() is None
        yield from ()

    result = sweep(specs, tmp_path, 1, "", show_progress=False, engine=engine)

    assert result.skipped == [specs[0]]
    assert [(failed.spec, failed.error) for failed in result.failed] == [
        (specs[1], "ValueError: theirs")
    ]


def test_sweeps_at_once_share_the_work(tiny_suite: Path, tmp_path: Path) -> None:
    """Each run is done once, and both sweeps end when all are done; a failure is one, too."""
    tiny_suite.write_text(
        "{evaluation: {points: 1, episodes: 1}, environments: {CartPole-v1: {n_timesteps: 512},"
        " 'tests.benchmarks.envs:Raising-v0': {n_timesteps: 512}}}\n"
    )
    out = tmp_path / "runs"
    command = [sys.executable, "-m", "benchmarks", "run", str(tiny_suite), "--algos", "ppo"]
    command += ["--seeds", "3", "--set", "n_steps=64", "--out", str(out)]

    sweeps = [
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate()[0] for process in sweeps]

    # All of them in the summary of each.
    assert all("failed: ppo tests.benchmarks.envs:Raising-v0 seed 2" in text for text in outputs)
    assert [process.returncode for process in sweeps] == [1, 1]
    both = outputs[0] + outputs[1]
    for seed in range(3):
        assert both.count(f"] ppo CartPole-v1 seed {seed} finished") == 1
        assert both.count(f"] ppo tests.benchmarks.envs:Raising-v0 seed {seed} failed") == 1
    assert len(load_runs(out)) == 3
    assert len(load_failures(out)) == 3
    assert not [path for path in out.rglob(".*") if path.name.startswith((".tmp-", ".lock-"))]


# Prints a line when it holds the claim of a run, whose spec and folder are its arguments.
HOLDER = (
    "import json, sys, time\nfrom pathlib import Path\n"
    "from benchmarks.work_queue import WorkQueue\nfrom benchmarks.specs import RunSpec\n"
    "spec = RunSpec.from_dict(json.loads(sys.argv[1]))\n"
    "queue = WorkQueue([spec], Path(sys.argv[2]))\n"
    "assert queue.claim() == spec\nprint('claimed', flush=True)\ntime.sleep(600)"
)


def hold(spec: RunSpec, out: Path) -> "subprocess.Popen[str]":
    """A process that has claimed a run, and does not give it back."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, json.dumps(spec.to_dict()), str(out)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    return process


def test_a_killed_sweep_leaves_its_runs_to_the_other(make_spec, tmp_path: Path) -> None:
    spec = make_spec()
    process = hold(spec, tmp_path)
    queue = WorkQueue([spec], tmp_path)
    assert queue.claim() is None
    process.kill()
    process.wait()

    assert queue.claim() == spec
    queue.close()


def test_what_another_machine_is_writing_stays_as_long_as_its_run_is_claimed(
    make_spec, tmp_path: Path
) -> None:
    """Its processes cannot be found here, as if they were dead."""
    spec, other = make_spec(seed=0), make_spec(seed=1)
    folder = spec.folder(tmp_path)
    process = hold(spec, tmp_path)
    unfinished = folder.with_name(f".tmp-{folder.name}-999999999")
    record = folder.with_name(f".tmp-{folder.name}.failed.json-999999999")
    unfinished.mkdir()
    (unfinished / "progress.csv").write_text("half a li")
    record.write_text("{")

    result = sweep([other], tmp_path, 1, "", show_progress=False)  # beside it, start to end

    assert result.finished == [other]
    assert (unfinished / "progress.csv").read_text() == "half a li"
    assert record.exists()
    process.kill()
    process.wait()
    remove_abandoned([folder.parent])
    assert [path.name for path in folder.parent.iterdir()] == [other.folder(tmp_path).name]


def test_a_run_outside_of_a_sweep_is_claimed_too(make_spec, tmp_path: Path) -> None:
    """As a study's trials are, which machines can share as well."""
    spec = make_spec()
    queue = WorkQueue([spec], tmp_path)
    seen: list[object] = []

    run(spec, tmp_path, "", watch=lambda row: seen.append(queue.claim()))

    assert seen == [None, None, None]
    assert queue.claim() is None  # since it is there
    assert queue.finished_elsewhere == [spec]
    assert [path.name for path in tmp_path.rglob(".*")] == []
