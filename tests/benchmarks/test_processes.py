"""The processes of runs: forks of one that has imported everything, and yet as good as new."""

import ast
import atexit
import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from benchmarks import processes
from benchmarks.processes import ChildProcess, deferred_interrupts, prepare_children
from benchmarks.provenance import loaded_code
from benchmarks.run import run
from benchmarks.sweep import sweep

REPOSITORY = Path(__file__).parents[2]
FORKED_RUNS = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
# In the files of a run, what differs from one to the next.
TIMES = ("wall_seconds", "evaluation_seconds", "time/", "started", "peak_memory_mib")


def child(target: Callable[..., object], *args: Any, outputs: Path, **how: Any) -> ChildProcess:
    with deferred_interrupts():
        return ChildProcess(target, args, outputs, **how)


def wait_for(process: ChildProcess) -> None:
    """Unlike join, which does not wait long."""
    while process.is_alive():
        time.sleep(0.02)
    process.join()


def printed(target: Callable[..., object], *args: Any, outputs: Path, **how: Any) -> Any:
    """What a child prints, which is JSON, after it has ended well."""
    process = child(target, *args, outputs=outputs, **how)
    wait_for(process)
    output = process.take_output()
    assert process.exitcode == 0, output
    return json.loads(output)


def test_one_run_that_ends_its_process_does_not_disturb_another(make_spec, tmp_path: Path) -> None:
    bad = [
        make_spec(env_id=f"tests.benchmarks.envs:{name}-v0")
        for name in ("Aborting", "Leaving", "Raising", "Dying")
    ]
    good = [make_spec(seed=seed) for seed in range(3)]
    specs = [good[0], bad[0], bad[1], good[1], bad[2], bad[3], good[2]]

    result = sweep(specs, tmp_path, 2, "", show_progress=False)

    assert sorted(spec.seed for spec in result.finished) == [0, 1, 2]
    assert {failed.spec.env_id.partition(":")[2]: failed.error for failed in result.failed} == {
        "Aborting-v0": "WorkerDied: the process was killed by SIGABRT",
        "Leaving-v0": "WorkerDied: the process ended with exit code 3",
        "Raising-v0": "ValueError: the pole is gone",
        "Dying-v0": "WorkerDied: the process was killed by SIGKILL",
    }


def test_a_killed_process_leaves_the_others_alone(tmp_path: Path) -> None:
    killed, other = (child(time.sleep, 3.0, outputs=tmp_path) for _ in range(2))

    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()

    assert killed.exitcode == -signal.SIGKILL
    assert other.is_alive()
    wait_for(other)
    assert other.exitcode == 0


def test_an_exception_is_exit_code_1_and_its_traceback_is_kept(tmp_path: Path) -> None:
    process = child(int, "no number", outputs=tmp_path)
    wait_for(process)

    assert process.exitcode == 1
    assert "ValueError" in process.take_output()


@pytest.mark.parametrize("algo", ["npg", "trpo", "ppo", "a2c", "acer"])
def test_a_run_is_the_same_as_in_a_process_that_began_from_nothing(
    algo: str, make_spec, tmp_path: Path
) -> None:
    spec = make_spec(algo, "CartPole-v1")
    if algo in ("a2c", "acer"):
        spec.hyperparams.pop("batch_size")
    files = []
    for forked in (True, False):
        out = tmp_path / str(forked)
        process = child(run, spec, out, "", outputs=tmp_path, forked=forked)
        wait_for(process)
        assert process.exitcode == 0, process.take_output()
        files.append(without_times(spec.folder(out)))

    assert set(files[0]) >= {"run.json", "evaluations.csv", "progress.csv", "model.zip"}
    assert files[0] == files[1]


def without_times(folder: Path) -> dict[str, object]:
    """The contents of a run's files, by name, without what differs from run to run."""
    found: dict[str, object] = {}
    for path in folder.iterdir():
        if path.suffix == ".json":
            found[path.name] = untimed(json.loads(path.read_text()))
        elif path.suffix == ".csv":
            found[path.name] = [untimed(row) for row in csv.DictReader(path.open())]
        elif path.suffix == ".zip":
            found[path.name] = parameters(path)
        elif "tfevents" not in path.name:
            found[path.name] = path.read_bytes()
    return found


def untimed(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if not key.startswith(TIMES)}


def parameters(model: Path) -> dict[str, list[float]]:
    content = io.BytesIO(zipfile.ZipFile(model).read("policy.pth"))
    return {name: tensor.tolist() for name, tensor in torch.load(content).items()}


def n_threads_of(process: int) -> int:
    return len(list(Path(f"/proc/{process}/task").iterdir()))


def say_what_is_there() -> None:
    print(
        json.dumps(
            {
                "compiler": "torch._dynamo" in sys.modules,
                "code": loaded_code.cache_info().currsize,
                "cuda": torch.cuda.is_initialized(),
                "rendering": [name for name in sys.modules if name.endswith(("egl", "glfw"))],
                "threads of the server": n_threads_of(os.getppid()),
            }
        )
    )


# In a process of its own: other tests may have started the server for other reasons.
SAY_WHAT_IS_THERE = """
import pathlib, sys
from benchmarks.processes import prepare_children
from tests.benchmarks.test_processes import printed, say_what_is_there
if __name__ == "__main__":
    prepare_children()
    print(printed(say_what_is_there, outputs=pathlib.Path(sys.argv[1])))
"""


@FORKED_RUNS
def test_what_takes_time_is_there_and_nothing_that_a_fork_would_break(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SAY_WHAT_IS_THERE)
    said = subprocess.run(
        [sys.executable, script, tmp_path],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )

    assert said.returncode == 0, said.stderr
    assert ast.literal_eval(said.stdout) == {
        "compiler": True,
        "code": 1,
        "cuda": False,
        "rendering": [],
        "threads of the server": 1,
    }


def draw() -> None:
    print(json.dumps([np.random.random(), random.random()]))  # noqa: NPY002 (as users do)


def test_global_generators_without_a_seed_differ(tmp_path: Path) -> None:
    first, second = (printed(draw, outputs=tmp_path) for _ in range(2))

    assert first[0] != second[0]
    assert first[1] != second[1]


def say_where() -> None:
    print(json.dumps([os.environ.get("SET_LATE"), os.environ.get("HOME"), str(Path.cwd())]))


def test_a_process_has_the_variables_and_the_folder_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_children()
    monkeypatch.setenv("SET_LATE", "yes")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.chdir(tmp_path)

    assert printed(say_where, outputs=tmp_path) == ["yes", None, str(tmp_path)]


def say_value(module: str) -> None:
    print(json.dumps(import_module(module).VALUE))


def test_an_edited_module_of_a_user_is_seen_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for value in ("first", "second one"):
        (tmp_path / "my_own_module.py").write_text(f"VALUE = {value!r}\n")

        assert printed(say_value, "my_own_module", outputs=tmp_path) == value


def register_an_end() -> None:
    atexit.register(print, '"the end"')


def test_what_is_registered_for_the_end_is_called_once(tmp_path: Path) -> None:
    assert printed(register_an_end, outputs=tmp_path) == "the end"


def use_threads() -> None:
    before = n_threads_of(os.getpid())
    asked_for = torch.get_num_threads()
    torch.ones(2_000_000).exp_()
    begun = n_threads_of(os.getpid()) - before
    torch.set_num_threads(1)
    print(json.dumps([asked_for, begun, torch.get_num_threads()]))


@FORKED_RUNS
@pytest.mark.parametrize("n_threads", [1, 2])
def test_threads_are_as_many_as_in_a_process_that_began_from_nothing(
    n_threads: int, tmp_path: Path
) -> None:
    script = (
        "from pathlib import Path\n"
        "from tests.benchmarks.test_processes import printed, use_threads\n"
        "out = Path({!r})\n"
        "print([printed(use_threads, outputs=out, forked=each) for each in (True, False)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script.format(str(tmp_path))],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": str(n_threads)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    forked, spawned = json.loads(done.stdout)
    assert forked == spawned
    assert forked[1:] == [forked[0] - 1, 1]
    assert forked[0] == min(n_threads, os.cpu_count() or 1)


@FORKED_RUNS
def test_without_the_process_it_was_forked_from_a_process_ends_and_the_next_goes_on(
    tmp_path: Path,
) -> None:
    process = child(time.sleep, 60.0, outputs=tmp_path)
    running = psutil.Process(process.pid)
    server = running.parent()
    assert server is not None
    assert server.pid != os.getpid()

    server.kill()

    _, alive = psutil.wait_procs([running], timeout=30)
    assert not alive
    process.join()
    assert process.exitcode == 255
    next_one = child(time.sleep, 0.0, outputs=tmp_path)
    wait_for(next_one)
    assert next_one.exitcode == 0


def be_a_child_of(pid: int) -> None:
    processes._end_with_parent(pid)
    time.sleep(60.0)


def test_a_process_ends_if_its_parent_ended_before_it_began(tmp_path: Path) -> None:
    """It has another parent by then, which it must not take for its own."""
    process = child(be_a_child_of, os.getpid() + 1, outputs=tmp_path)
    wait_for(process)
    assert process.exitcode == 1
