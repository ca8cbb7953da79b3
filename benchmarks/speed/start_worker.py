"""``python -m benchmarks.speed.start_worker``: measures what a run takes beside its training.

It imports little, since every process of a run imports the main module of its parent.
"""

import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.processes import ChildProcess, deferred_interrupts, prepare_children
from benchmarks.records import Evaluation, RunSpec
from benchmarks.run import run
from benchmarks.speed.protocol import Task, serve

_POLL = 0.002  # seconds
_OF_THE_RUN = ("wall_seconds", "evaluation_seconds")


def start_a_run(env_id: str, steps: int, forked: bool) -> dict[str, Any]:
    """Make a run of one rollout in a process of its own, as a sweep does.

    :param forked: see :class:`benchmarks.processes.ChildProcess`
    :return: ``seconds``: from the start of the process to its end, without training and evaluation
    """
    if forked:
        prepare_children()
    spec = RunSpec("speed", "npg", env_id, 0, steps, {"n_steps": steps}, Evaluation(1, 1, 0))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        before = time.perf_counter()
        with deferred_interrupts():
            process = ChildProcess(run, (spec, out, ""), out, forked)
        while process.is_alive():
            time.sleep(_POLL)
        seconds = time.perf_counter() - before
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(process.take_output())
        record = json.loads((spec.folder(out) / "run.json").read_text())
    return {"seconds": seconds - sum(record[name] for name in _OF_THE_RUN)}


TASKS: dict[str, Task] = {"start_a_run": start_a_run}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve(TASKS)
