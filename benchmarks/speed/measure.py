"""Executes a plan: workers take turns, and every finished measurement is kept."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from benchmarks.names import first_line
from benchmarks.speed.plan import Block, Measurement, measurements
from benchmarks.speed.protocol import UnavailableError, Worker, WorkerError
from benchmarks.storage import write_whole

Record = dict[str, Any]
# The command that starts a kind of worker, or why it cannot be started.
Commands = Mapping[str, Sequence[str] | str]
Notify = Callable[[Measurement, str], None]


class Store:
    """Finished measurements, each in a file of its own.

    :param folder: where the files are
    :param identity: what else a result depends on: versions, machine, code
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self._folder = folder
        self._identity = identity

    def load(self, measurement: Measurement) -> dict[str, Any] | None:
        """The values of a measurement if it was finished under the same conditions."""
        try:
            return json.loads(self._path(measurement).read_text())["values"]
        except FileNotFoundError:
            return None

    def save(self, measurement: Measurement, values: dict[str, Any]) -> None:
        """Keep a finished measurement."""
        record = {**_identity_of(measurement), "values": values}
        write_whole(self._path(measurement), json.dumps(record) + "\n")

    def clear(self) -> None:
        """Drop all measurements."""
        for path in self._folder.glob("*.json"):
            path.unlink()

    def _path(self, measurement: Measurement) -> Path:
        whole = {**_identity_of(measurement), "conditions": self._identity}
        key = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:20]
        return self._folder / f"{key}.json"


def execute(
    blocks: Sequence[Block], commands: Commands, store: Store, notify: Notify
) -> list[Record]:
    """Make the measurements that the store does not have.

    :param notify: called with each measurement and what became of it: "kept", "measured", or why
        there is none
    :return: a record for each measurement: what it is, and ``values``, ``unavailable`` (why it
        cannot be measured here) or ``error`` (how it failed)
    """
    records = []
    with closing(_Workers(commands)) as workers:
        for measurement in measurements(blocks):
            outcome = _outcome(measurement, workers, store)
            records.append({**_identity_of(measurement), **outcome.record})
            notify(measurement, outcome.told)
    return records


class _Outcome:
    def __init__(self, told: str, **record: Any) -> None:
        self.told = told
        self.record = record


def _outcome(measurement: Measurement, workers: "_Workers", store: Store) -> _Outcome:
    values = store.load(measurement)
    if values is not None:
        return _Outcome("kept", values=values)
    try:
        worker = workers.for_measurement(measurement)
        values = worker.ask(measurement.contender.task, measurement.contender.settings)
    except UnavailableError as error:
        return _Outcome(f"not measured: {error}", unavailable=str(error))
    except WorkerError as error:
        workers.discard(measurement)
        return _Outcome(f"failed: {first_line(str(error))}", error=str(error))
    store.save(measurement, values)
    return _Outcome("measured", values=values)


class _Workers:
    """The workers of one session."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._session: str | None = None
        self._workers: dict[str, Worker] = {}

    def for_measurement(self, measurement: Measurement) -> Worker:
        """A worker that is ready.

        :raises UnavailableError: this kind of worker cannot be started here
        :raises WorkerError: it died
        """
        session, kind = measurement.block.session, measurement.contender.worker
        command = self._commands[kind]
        if isinstance(command, str):
            raise UnavailableError(command)
        if session is None or session != self._session:
            self.close()
            self._session = session
        if kind not in self._workers:
            self._workers[kind] = Worker(command)
            self._workers[kind].wait_until_ready()
        return self._workers[kind]

    def discard(self, measurement: Measurement) -> None:
        """End a worker that has failed: the next measurement gets a new one."""
        worker = self._workers.pop(measurement.contender.worker, None)
        if worker is not None:
            worker.close()

    def close(self) -> None:
        """End all workers."""
        with ExitStack() as stack:
            for worker in self._workers.values():
                stack.callback(worker.close)
        self._workers = {}


def _identity_of(measurement: Measurement) -> dict[str, Any]:
    contender = measurement.contender
    return {
        "block": measurement.block.name,
        "contender": contender.name,
        "task": contender.task,
        "settings": dict(contender.settings),
        "repeat": measurement.repeat,
    }
