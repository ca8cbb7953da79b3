"""A sweep: execute the runs that have not finished yet, and say what became of them."""

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from benchmarks import manifests
from benchmarks.display import display_for
from benchmarks.engines import Advanced, Ended, Failure, run_locally
from benchmarks.records import BrokenRunError, FailureRecord, RunSpec
from benchmarks.results import check_versions
from benchmarks.run_files import (
    check_run,
    is_finished,
    now,
    read_record,
    read_run,
    write_failure,
)
from benchmarks.sources import by_module
from benchmarks.sources import changed as changed_sources
from benchmarks.storage import Folder, check_writable, has_record, remove_abandoned, set_aside
from benchmarks.work_queue import WorkQueue

_OUTDATED = "outdated-"
Engine = Callable[[WorkQueue, Folder, str], Generator[Advanced | Ended, None, None]]
"""Executes the runs of a queue; takes the folder below which they stand, and the command line."""


@dataclass(frozen=True)
class FailedRun:
    """A run that failed, and why."""

    spec: RunSpec
    error: str


@dataclass(frozen=True)
class SweepResult:
    """What became of the runs: executed now, failed now, or skipped, since they had finished.

    ``changed``: the skipped ones that were made with another source of algorithm or environment.
    """

    finished: list[RunSpec]
    failed: list[FailedRun]
    skipped: list[RunSpec]
    changed: list[RunSpec] = field(default_factory=list)


class SweepError(Exception):
    """A sweep cannot begin or go on; the message says why."""


def sweep(
    specs: Sequence[RunSpec],
    out: Folder,
    jobs: int,
    command: str,
    show_progress: bool = True,
    engine: Engine | None = None,
    trackers: Sequence[str] = (),
    run_timeout: float | None = None,
    rerun_changed: bool | None = False,
) -> SweepResult:
    """Execute the runs of ``specs`` that have not finished below ``out``, in their order.

    A run that fails leaves a record beside where its folder would be, the others go on, and the
    next sweep tries it again. An interrupt (Ctrl-C) loses the runs in flight and nothing else. Runs
    that another sweep is doing are left to it, and waited for. A manifest below ``out`` keeps which
    runs were asked for.

    :param jobs: the number of runs at once
    :param command: the command line, for the records
    :param show_progress: bars on a terminal, a line for each run elsewhere
    :param engine: executes the runs; None: ``jobs`` processes on this machine
    :param trackers: those of ``benchmarks.tracking`` that the processes log to
    :param run_timeout: seconds after which a process ends its run, which counts as failed
    :param rerun_changed: execute runs again that were made with another source of a user's own
        algorithm or environment; the old ones are kept beside them, as ``outdated-...``. None: take
        them as they are, and say nothing
    :raises SweepError: nothing can be written below ``out``, runs there are of another version or
        cannot be read, or one to execute again is archived; finished runs stay as they are
    """
    _check_folder(out)
    unique = list({spec.folder(out): spec for spec in specs}.values())
    skipped, missing = _sorted(unique, out)
    _check_runs(skipped, out)
    changed, notes = _changed(skipped, out)
    if rerun_changed and changed:
        _refuse_archived(changed, out)
        for spec in changed:
            set_aside(spec.folder(out), f"{_OUTDATED}{re.sub('[^0-9]', '', now())}-")
        (skipped, missing), changed, notes = _sorted(unique, out), [], []
    elif rerun_changed is None:
        notes = []
    result = SweepResult([], [], skipped, changed)
    parents = {spec.folder(out).parent for spec in unique}
    remove_abandoned(parents)
    agenda = WorkQueue(missing, out)
    if engine is None:
        events = run_locally(agenda, out, jobs, command, trackers, run_timeout)
    else:
        events = engine(agenda, out, command)
    try:
        with (
            manifests.kept(unique, out, command),
            display_for(missing, len(skipped), show_progress, notes) as display,
            closing(events),
        ):
            for event in events:
                if isinstance(event, Ended):
                    _settle(event, out, command, result)
                    agenda.release(event.spec)
                display.show(event)
    except OSError as error:
        raise SweepError(
            f"--out: {out}: {error}; what is finished is safe, and the same command goes on"
        ) from error
    finally:
        agenda.close()
        remove_abandoned(parents)
    result.skipped.extend(agenda.finished_elsewhere)
    result.failed.extend(_failure_elsewhere(spec, out) for spec in agenda.failed_elsewhere)
    return result


def _sorted(specs: Sequence[RunSpec], out: Folder) -> tuple[list[RunSpec], list[RunSpec]]:
    """Those that have finished already, and the others."""
    finished = [is_finished(spec.folder(out)) for spec in specs]
    there = [spec for spec, is_there in zip(specs, finished, strict=True) if is_there]
    return there, [spec for spec, is_there in zip(specs, finished, strict=True) if not is_there]


def _changed(specs: Sequence[RunSpec], out: Folder) -> tuple[list[RunSpec], list[str]]:
    """The runs that were made with another source, and what to say of them."""
    names = changed_sources(read_run(spec.folder(out)).sources for spec in specs)
    notes = [
        f"{number} of them were made with another source of {name}; "
        "--rerun-changed makes them again"
        for name, number in by_module(names).items()
    ]
    return [spec for spec, each in zip(specs, names, strict=True) if each], notes


def _refuse_archived(specs: Sequence[RunSpec], out: Folder) -> None:
    archived = [spec for spec in specs if not has_record(spec.folder(out))]
    if archived:
        raise SweepError(
            f"--out: {out}: {len(archived)} of the runs to make again are archived there, the "
            f"first of them {archived[0]}; choose another folder"
        )


def _check_folder(out: Folder) -> None:
    try:
        check_writable(out)
    except OSError as error:
        raise SweepError(f"--out: {out}: {error.strerror or error}") from None
    try:
        check_versions(out)
    except BrokenRunError as error:
        raise SweepError(f"--out: {error}") from None


def _check_runs(specs: Sequence[RunSpec], out: Folder) -> None:
    """Check that the finished runs can be read: a report would lack them."""
    damaged = []
    for spec in specs:
        try:
            check_run(spec.folder(out))
        except BrokenRunError as error:
            damaged.append(f"{error}\n  remove {spec.folder(out)}, and the run is made again")
    if damaged:
        raise SweepError("\n".join([f"--out: {len(damaged)} runs there are damaged", *damaged]))


def _failure_elsewhere(spec: RunSpec, out: Folder) -> FailedRun:
    try:
        return FailedRun(spec, read_record(spec.failure_file(out), FailureRecord).error)
    except BrokenRunError as error:
        return FailedRun(spec, str(error))


def _settle(event: Ended, out: Folder, command: str, result: SweepResult) -> None:
    if event.failure is None:
        result.finished.append(event.spec)
        return
    record_failure(event.spec, out, command, event.started, event.failure)
    result.failed.append(FailedRun(event.spec, event.failure.error))


def record_failure(
    spec: RunSpec, out: Folder, command: str, started: str, failure: Failure
) -> None:
    """Write the record of a failed run, beside where its folder would be."""
    fields = {
        "spec": spec.to_dict(),
        "config": spec.config,
        "command": command,
        "started": started,
        "error": failure.error,
        "traceback": failure.traceback,
    }
    write_failure(spec.failure_file(out), fields)
