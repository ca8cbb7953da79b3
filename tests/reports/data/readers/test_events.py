"""TensorBoard's event files as other writers than PyTorch's make them."""

from __future__ import annotations

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from reports.data.readers.find import read


def write(path: Path, began: float, points: dict[int, TensorProto | float]) -> None:
    """An event file whose points, by their steps, are a second apart."""
    with path.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=began, file_version="brain.Event:2").SerializeToString())
        for i, (step, value) in enumerate(points.items(), start=1):
            is_tensor = isinstance(value, TensorProto)
            shown = Summary.Value(tag="loss", **{"tensor" if is_tensor else "simple_value": value})
            event = Event(wall_time=began + i, step=step, summary=Summary(value=[shown]))
            writer.write(event.SerializeToString())


def test_scalars_may_be_tensors(tmp_path: Path) -> None:
    points = {
        1: make_tensor_proto(0.5),
        2: make_tensor_proto([0.25], dtype="float64"),
        3: make_tensor_proto(3),
        4: make_tensor_proto([1.0, 2.0]),
        5: make_tensor_proto("text"),
    }
    write(tmp_path / "events.out.tfevents.1", 100.0, points)

    (run,) = read(tmp_path).runs

    assert run.metrics["loss"].timesteps.tolist() == [1, 2, 3]
    assert run.metrics["loss"].values.tolist() == [0.5, 0.25, 3.0]


def test_a_small_record_of_a_huge_tensor_is_not_unpacked(tmp_path: Path) -> None:
    huge = TensorProto(dtype=1, float_val=[1.0])
    huge.tensor_shape.dim.add(size=10**13)
    write(tmp_path / "events.out.tfevents.1", 100.0, {1: huge, 2: 0.5})

    (run,) = read(tmp_path).runs

    assert run.metrics["loss"].values.tolist() == [0.5]


def test_the_pause_before_a_run_was_resumed_does_not_count(tmp_path: Path) -> None:
    write(tmp_path / "events.out.tfevents.2", 5_000.0, {30: 3.0, 40: 4.0})
    write(tmp_path / "events.out.tfevents.1", 100.0, {10: 1.0, 20: 2.0})

    (run,) = read(tmp_path).runs

    assert run.metrics["loss"].values.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert run.metrics["loss"].wall_seconds.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert run.problems == []


def test_files_that_are_written_at_once_have_one_clock(tmp_path: Path) -> None:
    write(tmp_path / "events.out.tfevents.1", 100.0, {10: 1.0, 20: 2.0, 30: 3.0})
    write(tmp_path / "events.out.tfevents.2", 101.0, {40: 4.0, 50: 5.0})

    (run,) = read(tmp_path).runs

    assert run.metrics["loss"].wall_seconds.tolist() == [1.0, 2.0, 3.0, 2.0, 3.0]
