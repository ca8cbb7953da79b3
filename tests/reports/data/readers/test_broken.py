"""Logs of programs that were killed, of other versions, and of people who mean harm."""

from __future__ import annotations

import os
import pickle
import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from reports.data.readers.find import FoundLogs, read
from reports.data.readers.logged import EVALUATION, SUCCESS_RATE, TRAINING, LoggedRun
from tests.reports.data.readers.conftest import write_cleanrl, write_evaluations, write_monitor

RESULTS = np.arange(6.0).reshape(3, 2)


def only(path: Path) -> LoggedRun:
    (run,) = read(path).runs
    return run


def cut(path: Path, n_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:-n_bytes])


def assert_broken(found: FoundLogs, said: str) -> None:
    assert found.runs == []
    (line,) = found.broken
    assert said in line


def test_of_a_run_with_a_broken_log_the_others_are_read(sb3_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sb3_run, folder)
    cut(folder / "evaluations.npz", 100)
    (folder / "1.monitor.csv").write_bytes(b"")

    run = only(folder)

    # The logger has logged the evaluations too.
    np.testing.assert_allclose(
        run.metrics[EVALUATION].values, only(sb3_run).metrics[EVALUATION].values
    )
    assert run.metrics[EVALUATION].episodes.tolist() == [0] * 4
    assert np.all(run.metrics[TRAINING].timesteps % 4 == 0)
    for name in ("evaluations.npz", "1.monitor.csv"):
        assert any(name in problem for problem in run.problems)


@pytest.mark.parametrize("left_out", [(), ("ep_lengths",), ("successes",)])
def test_arrays_that_other_versions_do_not_write(left_out: tuple[str, ...], tmp_path: Path) -> None:
    more = {"ep_lengths": 2 * RESULTS, "successes": RESULTS > 2}
    kept = {name: array for name, array in more.items() if name not in left_out}
    write_evaluations(tmp_path / "evaluations.npz", [1, 2, 3], RESULTS, **kept)

    run = only(tmp_path)

    assert run.metrics[EVALUATION].values.tolist() == [0.5, 2.5, 4.5]
    assert np.isnan(run.metrics[EVALUATION].lengths).all() == ("ep_lengths" in left_out)
    assert (SUCCESS_RATE in run.metrics) == ("successes" not in left_out)
    assert run.problems == []


def test_arrays_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.npz"
    pickled = np.array([{}], dtype=object)
    write_evaluations(path, [1, 2, 3], RESULTS, ep_lengths=RESULTS[:2], successes=pickled)

    run = only(tmp_path)

    assert run.metrics[EVALUATION].values.tolist() == [0.5, 2.5, 4.5]
    lengths, successes = run.problems
    assert "ep_lengths left out" in lengths
    assert "successes left out" in successes


def test_returns_that_are_no_numbers_are_left_out_and_named(tmp_path: Path) -> None:
    results = RESULTS.copy()
    results[1, 0] = np.nan
    write_evaluations(tmp_path / "evaluations.npz", [1_000, 2_000, 3_000], results)
    write_monitor(tmp_path / "monitor.csv", [(1.0, 10), (float("nan"), 10), (4.0, 10)])

    run = only(tmp_path)

    assert run.metrics[EVALUATION].timesteps.tolist() == [1_000, 3_000]
    assert run.metrics[TRAINING].timesteps.tolist() == [10, 30]
    assert run.metrics[TRAINING].values.tolist() == [1.0, 2.5]
    evaluation, training = run.problems
    assert "at step 2,000" in evaluation
    assert "at step 20" in training

    write_evaluations(tmp_path / "evaluations.npz", [1, 2, 3], np.full((3, 2), np.inf))
    (tmp_path / "monitor.csv").unlink()
    assert_broken(read(tmp_path), "at step 1, 2, 3")


def test_means_that_are_too_large_for_a_number_are_left_out(tmp_path: Path) -> None:
    write_monitor(tmp_path / "monitor.csv", [(1.0, 10), (1e308, 10), (1e308, 10)])

    run = only(tmp_path)

    assert run.metrics[TRAINING].values.tolist() == [1.0, 5e307]
    (problem,) = run.problems
    assert "at step 30" in problem


def test_what_a_resumed_run_did_again_stands(tmp_path: Path) -> None:
    results = np.arange(6.0).reshape(6, 1)
    write_evaluations(tmp_path / "evaluations.npz", [10, 20, 30, 20, 20, 40], results)

    run = only(tmp_path)

    assert run.metrics[EVALUATION].timesteps.tolist() == [10, 20, 40]
    assert run.metrics[EVALUATION].values.tolist() == [0.0, 4.0, 5.0]
    (problem,) = run.problems
    assert "3 values" in problem


def test_the_cut_line_of_a_crashed_run_is_left_out(tmp_path: Path) -> None:
    write_monitor(tmp_path / "monitor.csv", [(1.0, 10), (3.0, 10), (5.0, 200)])
    cut(tmp_path / "monitor.csv", 5)

    run = only(tmp_path)

    assert run.metrics[TRAINING].timesteps.tolist() == [10, 20]
    (problem,) = run.problems
    assert "cut" in problem


def test_lines_of_a_monitor_that_are_none_are_left_out(tmp_path: Path) -> None:
    write_monitor(tmp_path / "monitor.csv", [(1.0, 10), (3.0, 10)])
    with (tmp_path / "monitor.csv").open("a") as file:
        file.write("7.0,5\n1,x,3\n1,-5,3\n1,nan,3\n1,2,3,4\n\0\0\n2.0,10,9.0\n")

    run = only(tmp_path)

    assert run.metrics[TRAINING].values.tolist() == [1.0, 2.0, 2.0]
    (problem,) = run.problems
    assert "no episode's: 6" in problem


def test_a_half_written_row_of_progress_is_left_out(sb3_run: Path, tmp_path: Path) -> None:
    shutil.copy(sb3_run / "progress.csv", tmp_path)
    whole = only(tmp_path).metrics[TRAINING]
    cut(tmp_path / "progress.csv", 30)

    run = only(tmp_path)

    assert run.metrics[TRAINING].timesteps.tolist() == whole.timesteps[:-1].tolist()
    (problem,) = run.problems
    assert "cut" in problem


def test_a_damaged_cell_of_progress_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "progress.csv").write_text(
        "time/total_timesteps,rollout/ep_rew_mean,note\n10,1.0,a\n20,2x0,b\n30,nan,c\n40,4.0,d\n"
        "50,,e\n60,6.0\n"
    )

    run = only(tmp_path)

    assert run.metrics.keys() == {TRAINING}
    assert run.metrics[TRAINING].timesteps.tolist() == [10, 40]
    cells, values = run.problems
    assert "lines left out without a cell for each column: 1" in cells
    assert "at step 20, 30" in values


def test_what_comes_before_a_cut_record_is_kept(tmp_path: Path) -> None:
    write_cleanrl(tmp_path, [1.0, 2.0, 3.0], [10, 20, 30], seed=1)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    cuts = range(1, len(whole), 7)
    seen = set()
    for n_bytes in cuts:
        path.write_bytes(whole[:-n_bytes])
        found = read(tmp_path)
        for run in found.runs:
            seen.add(len(run.metrics[TRAINING].values) if TRAINING in run.metrics else 0)
            assert len(run.problems) <= 1
        assert bool(found.runs) != bool(found.broken)
    assert seen >= {1, 2, 3}


def test_a_damaged_record_ends_a_file(tmp_path: Path) -> None:
    write_cleanrl(tmp_path, [1.0, 2.0], [10, 20], seed=1)
    (path,) = tmp_path.iterdir()
    damaged = bytearray(path.read_bytes())
    place = damaged.rindex(b"losses/value_loss")
    damaged[place - 6 : place] = b"\xff" * 6
    path.write_bytes(damaged)

    run = only(tmp_path)

    assert run.metrics[TRAINING].values.tolist() == [1.0, 1.5]
    (problem,) = run.problems
    assert "damaged" in problem or "cut" in problem


NAMES = ("evaluations.npz", "monitor.csv", "3.monitor.csv", "progress.csv", "events.out.tfevents.1")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff\xfe\n,,,\n" * 3, b"PK\x03\x04abc"])
def test_files_that_are_no_logs_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert_broken(read(tmp_path), name)


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    class Makes:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "evaluations.npz"
    objects = np.empty((3, 1), dtype=object)
    objects[:] = Makes()
    np.savez(path, timesteps=[1, 2, 3], results=objects)
    assert_broken(read(tmp_path), "allow_pickle=False")
    path.write_bytes(pickle.dumps(Makes()))
    assert_broken(read(tmp_path), "evaluations.npz")
    assert not (tmp_path / "made").exists()


def test_what_is_too_large_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("timesteps.npy", "w") as file,
    ):
        for _ in range(257):
            file.write(bytes(2**20))
    assert_broken(read(tmp_path), "more than 268,435,456 bytes")


def test_an_array_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000, 3), }"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "evaluations.npz", "w") as archive:
        archive.writestr("timesteps.npy", npy)
        archive.writestr("results.npy", npy)
    assert_broken(read(tmp_path), "evaluations.npz")


@pytest.mark.parametrize("name", ["monitor.csv", "progress.csv"])
def test_a_line_of_millions_of_columns_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("r,l,t" + "," * 10_000_000 + "\n1,2,3\n")
    began = time.process_time()

    assert_broken(read(tmp_path), "a line of more than")

    assert time.process_time() - began < 1


def test_too_many_columns_are_refused(tmp_path: Path) -> None:
    names = ",".join(f"c{i}" for i in range(6_000))
    (tmp_path / "progress.csv").write_text(f"time/total_timesteps,{names}\n")
    assert_broken(read(tmp_path), "more than 5,000 columns")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "monitor.csv")
    assert read(tmp_path) == FoundLogs([], [])


def test_a_run_that_has_only_begun_is_named(tmp_path: Path) -> None:
    write_monitor(tmp_path / "monitor.csv", [])
    assert_broken(read(tmp_path), "nothing has been logged yet")
