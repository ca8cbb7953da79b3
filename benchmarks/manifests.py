"""Manifests: the runs that sweeps were asked for, so that it is known what is missing."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.archive_files import folder_of
from benchmarks.errors import SpecError
from benchmarks.records import BrokenRunError, ManifestRecord, RunKey, RunSpec
from benchmarks.run_files import Found, find, manifest_path, now, write_manifest
from benchmarks.storage import Folder, claimed, is_below, remove_abandoned


@dataclass(frozen=True)
class Manifest:
    """The runs that a sweep was asked for.

    ``finished``: when the sweep came to its end, at which each run had finished or failed; None
    while it goes on, and after it was interrupted. ``path``: the manifest's file, or where that
    would be if it were not archived.
    """

    command: str
    runs: list[RunKey]
    started: str | None
    finished: str | None
    path: Folder


@contextmanager
def kept(specs: Sequence[RunSpec], out: Folder, command: str) -> Iterator[None]:
    """Keep a manifest of what a sweep is asked for; it is finished when the block ends.

    The same runs have the same file, so that a sweep that is repeated replaces its own manifest.

    :param out: the folder below which all runs stand
    :raises OSError: it cannot be written
    """
    runs = _grouped(spec.key for spec in specs)
    digest = hashlib.sha256(json.dumps(runs).encode()).hexdigest()[:8]
    path = manifest_path(out, digest)
    is_new = not path.exists()
    fields = {"command": command, "started": now(), "finished": None, "runs": runs}
    _write(path, fields)
    try:
        yield
    except SpecError:  # the sweep could not even begin
        if is_new:
            path.unlink(missing_ok=True)
        raise
    _write(path, {**fields, "finished": now()})


def fields_of(manifest: Manifest) -> dict[str, Any]:
    """What the manifest's record holds."""
    return {
        "command": manifest.command,
        "started": manifest.started,
        "finished": manifest.finished,
        "runs": _grouped(manifest.runs),
    }


def _grouped(runs: Iterable[RunKey]) -> list[dict[str, Any]]:
    """The runs, with those that differ in their seeds alone in one entry."""
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    for suite, algo, env_id, seed, config in runs:
        groups.setdefault((suite, algo, env_id, config), []).append(seed)
    return [
        {"suite": suite, "algo": algo, "env_id": env_id, "config": config, "seeds": seeds}
        for (suite, algo, env_id, config), seeds in groups.items()
    ]


def _write(path: Folder, fields: dict[str, Any]) -> None:
    remove_abandoned([path.parent], path.name)
    with claimed(path):  # the same sweep may begin on another machine
        write_manifest(path, fields)


def load(root: Folder) -> list[Manifest]:
    """The manifests of the sweeps that have runs below ``root``, with those runs alone.

    :raises BrokenRunError: one that cannot be read
    """
    manifests, broken = readable(find(root), root)
    if broken:
        raise broken[0]
    return manifests


def readable(found: Found, root: Folder) -> tuple[list[Manifest], list[BrokenRunError]]:
    """As :func:`load`, of what has been found below ``root``, and what cannot be read."""
    manifests, broken = [], []
    folder = folder_of(root)
    for stored in found.manifests:
        try:
            record = stored.record()
        except BrokenRunError as error:
            broken.append(error)
            continue
        runs = [key for key in _keys(record) if is_below(key.folder(stored.path.parent), folder)]
        if runs:
            manifests.append(_manifest(record, runs, stored.path))
    return manifests, broken


def _manifest(record: ManifestRecord, runs: list[RunKey], path: Folder) -> Manifest:
    return Manifest(record.command, runs, record.started, record.finished, path)


def _keys(record: ManifestRecord) -> Iterator[RunKey]:
    for group in record.runs:
        for seed in group.seeds:
            yield RunKey(group.suite, group.algo, group.env_id, seed, group.config)
