"""Sweeps on a real Ray cluster: two nodes on this machine."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.engines import Advanced
from benchmarks.engines.ray_cluster import RayOptions, run_on_ray
from benchmarks.errors import SpecError
from benchmarks.results import load_evaluations, load_runs
from benchmarks.run import run
from benchmarks.sweep import SweepResult, sweep

ray = pytest.importorskip("ray", reason="Ray is not installed")
from ray.cluster_utils import Cluster  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
# The nodes' processes find the tests' environments there.
pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("ray")]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head node without a place for runs; tests add nodes that have one."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    # Else workers give way to everything else, and a busy machine starves them.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    # Small, since the machine's memory is shared with other tests.
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "object_store_memory": 100 * 2**20,
            # Else it takes the head node a minute to miss another.
            "_system_config": {"health_check_period_ms": 1000, "health_check_failure_threshold": 5},
        },
    )
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def add_node(cluster: Cluster, cpus: int = 1):
    return cluster.add_node(num_cpus=cpus, object_store_memory=100 * 2**20)


def sweep_on(cluster: Cluster, specs, out: Path, **options) -> SweepResult:
    def engine(queue, out, command):
        return run_on_ray(queue, out, command, RayOptions(cluster.address, **options))

    return sweep(specs, out, 1, "the command", show_progress=False, engine=engine)


def test_runs_and_failures_on_a_cluster_are_those_of_this_machine(
    cluster: Cluster, make_spec, tmp_path: Path
) -> None:
    add_node(cluster, cpus=2)
    good = make_spec("npg", "Pendulum-v1", normalize=True)
    bad = make_spec(env_id="tests.benchmarks.envs:Raising-v0")
    dying = make_spec(env_id="tests.benchmarks.envs:Dying-v0")

    result = sweep_on(cluster, [good, bad, dying], tmp_path / "ray", retries=1)

    assert result.finished == [good]
    errors = {failed.spec.env_id: failed.error for failed in result.failed}
    assert errors[bad.env_id] == "ValueError: the pole is gone"
    assert errors[dying.env_id].startswith("WorkerCrashedError: ")
    record = json.loads(bad.failure_file(tmp_path / "ray").read_text())
    assert 'raise ValueError("the pole is gone")' in record["traceback"]

    run(good, tmp_path / "here", "the command")
    there, here = (
        load_evaluations(tmp_path / name).drop(columns="wall_seconds") for name in ("ray", "here")
    )
    assert there.equals(here)
    ours, theirs = (good.folder(tmp_path / name) for name in ("ray", "here"))
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
    (row,) = load_runs(tmp_path / "ray").to_dict("records")
    assert row["commit"] == json.loads((theirs / "run.json").read_text())["commit"]
    assert not list((tmp_path / "ray").rglob(".tmp-*"))
    assert not list((tmp_path / "ray").rglob(".lock-*"))


def test_a_node_that_is_killed_in_the_middle_costs_time_and_no_run(
    cluster: Cluster, make_spec, tmp_path: Path
) -> None:
    doomed, _ = add_node(cluster), add_node(cluster)
    specs = [make_spec(seed=seed, n_timesteps=10_000) for seed in range(4)]
    events, killed = [], []

    def engine(queue, out, command):
        for event in run_on_ray(queue, out, command, RayOptions(cluster.address)):
            events.append(event)
            # Both nodes are well into a run: take one away, without a word.
            at = {each.spec.seed: each.progress.timesteps for each in advances(events)}
            if sum(steps > 2_000 for steps in at.values()) >= 2 and not killed:
                killed.extend(kill(doomed))
            yield event

    result = sweep(specs, tmp_path, 1, "", show_progress=False, engine=engine)

    assert killed
    assert sorted(spec.seed for spec in result.finished) == [0, 1, 2, 3]
    assert not result.failed
    runs = load_runs(tmp_path)
    assert list(runs["seed"]) == [0, 1, 2, 3]
    # A run that had begun began again: its progress went back.
    steps: dict[int, list[int]] = {}
    for event in advances(events):
        steps.setdefault(event.spec.seed, []).append(event.progress.timesteps)
    assert any(sorted(each) != each for each in steps.values())
    assert len(events) - len(advances(events)) == 4


def advances(events) -> list[Advanced]:
    return [event for event in events if isinstance(event, Advanced)]


def kill(node) -> list[int]:
    """SIGKILL for all processes of a node: its raylet, and the workers below."""
    (raylet,) = [info.process for info in node.all_processes["raylet"]]
    processes = [*psutil.Process(raylet.pid).children(recursive=True), psutil.Process(raylet.pid)]
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    return [process.pid for process in processes]


def test_interrupted_sweeps_end_their_tasks(cluster: Cluster, make_spec, tmp_path: Path) -> None:
    add_node(cluster)
    spec = make_spec(n_timesteps=10_000_000)

    class InterruptedError_(Exception):
        pass

    def engine(queue, out, command):
        for event in run_on_ray(queue, out, command, RayOptions(cluster.address)):
            yield event
            raise InterruptedError_

    with pytest.raises(InterruptedError_):
        sweep([spec], tmp_path, 1, "", show_progress=False, engine=engine)

    (left,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert left.name.startswith("sweep-")  # what was asked for
    # The place is free again: a run finds it, and does not wait until the test's time is over.
    after = make_spec(seed=1)
    assert sweep_on(cluster, [after], tmp_path).finished == [after]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at '127.0.0.1:1'"),
        ("nowhere", "must be host:port or auto, got 'nowhere'"),
    ],
)
def test_no_cluster_is_said(make_spec, tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        sweep(
            [make_spec()],
            tmp_path,
            1,
            "",
            show_progress=False,
            engine=lambda *args: run_on_ray(*args, RayOptions(address)),
        )
    assert str(error.value).startswith(f"--address: {message}")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
