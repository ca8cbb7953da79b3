"""A sweep: the runs that have no finished folder yet, executed, and what became of them."""

import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.display import display_for
from benchmarks.engines import Ended, Failure, run_locally
from benchmarks.run import FORMAT, TEMPORARY, remove_abandoned
from benchmarks.specs import RunSpec


@dataclass(frozen=True)
class FailedRun:
    """A run that failed, and why."""

    spec: RunSpec
    error: str


@dataclass(frozen=True)
class SweepResult:
    """What became of the runs: executed now, failed now, or there already."""

    finished: list[RunSpec]
    failed: list[FailedRun]
    skipped: list[RunSpec]


def sweep(
    specs: Sequence[RunSpec], out: Path, jobs: int, command: str, show_progress: bool = True
) -> SweepResult:
    """Execute the runs of ``specs`` that have no finished folder below ``out``, in their order.

    A failing run leaves a record in the place of its folder, the others go on, and the next sweep
    tries it again. Interrupted (Ctrl-C), the runs in flight are lost and nothing else.

    :param jobs: runs at once
    :param command: the command line, for the record
    :param show_progress: bars on a terminal, a line for each run elsewhere
    """
    unique = list({spec.folder(out): spec for spec in specs}.values())
    skipped = [spec for spec in unique if spec.folder(out).exists()]
    missing = [spec for spec in unique if not spec.folder(out).exists()]
    result = SweepResult([], [], skipped)
    parents = {spec.folder(out).parent for spec in unique}
    remove_abandoned(parents)
    try:
        with (
            display_for(missing, len(skipped), show_progress) as display,
            closing(run_locally(missing, out, jobs, command)) as events,
        ):
            for event in events:
                if isinstance(event, Ended):
                    _settle(event, out, command, result)
                display.show(event)
    finally:
        remove_abandoned(parents)
    return result


def _settle(event: Ended, out: Path, command: str, result: SweepResult) -> None:
    if event.failure is None:
        result.finished.append(event.spec)
        return
    record_failure(event.spec, out, command, event.started, event.failure)
    result.failed.append(FailedRun(event.spec, event.failure.error))


def record_failure(spec: RunSpec, out: Path, command: str, started: str, failure: Failure) -> None:
    """Write the record of a failed run, in the place of its folder."""
    record = {
        "format": FORMAT,
        "spec": spec.to_dict(),
        "config": spec.config,
        "command": command,
        "started": started,
        "error": failure.error,
        "traceback": failure.traceback,
    }
    path = spec.failure_file(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    unfinished.write_text(json.dumps(record, indent=2) + "\n")
    unfinished.replace(path)
