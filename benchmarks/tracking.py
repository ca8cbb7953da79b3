"""Experiment trackers beside the TensorBoard log: Weights & Biases and MLflow, if installed.

Both work offline. W&B writes into the run's folder; ``wandb sync runs/**/wandb/offline-run-*``
uploads that, and ``WANDB_MODE=online`` does so at once. MLflow writes to ``MLFLOW_TRACKING_URI``,
or else to a database beside the runs
(``mlflow ui --backend-store-uri sqlite:///runs/mlflow.db``).
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from numbers import Real
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter

from benchmarks.errors import SpecError, clean_up
from benchmarks.records import RunSpec
from benchmarks.secrets import mask
from benchmarks.storage import Folder

TRACKERS = ("wandb", "mlflow")
_EXPERIMENT = "sb3-natural"
_URI = "MLFLOW_TRACKING_URI"


def prepare(names: Sequence[str], out: Folder, on_this_machine: bool) -> None:
    """Check trackers, and prepare the storage that the runs of a sweep share.

    :param on_this_machine: whether the runs are executed here
    :raises SpecError: a tracker is unknown, is not installed, or has nowhere to write to
    """
    for name in names:
        if name not in TRACKERS:
            raise SpecError(f"--track: {name!r} is not one of {', '.join(TRACKERS)}")
        try:
            import_module(name)
        except ImportError:
            raise SpecError(f"--track: {name!r} is not installed: pip install {name}") from None
    if "mlflow" in names:
        _prepare_mlflow(out, on_this_machine)


def _prepare_mlflow(out: Folder, on_this_machine: bool) -> None:
    if _URI not in os.environ:
        if not (on_this_machine and isinstance(out, Path)):
            raise SpecError(f"--track: 'mlflow' needs {_URI} here: runs or results are elsewhere")
        out.mkdir(parents=True, exist_ok=True)
        # The processes of the runs inherit it.
        os.environ[_URI] = f"sqlite:///{out.absolute()}/mlflow.db"
    # Now, since runs that begin together would all make the same tables.
    try:
        import_module("mlflow").set_experiment(_EXPERIMENT)
    except Exception as error:  # of MLflow, of its client, of its database
        uri = os.environ[_URI]
        raise SpecError(mask(f"--track: 'mlflow': {_URI} is {uri!r}: {error}")) from None


@contextmanager
def tracking(names: Sequence[str], spec: RunSpec, folder: Path) -> Iterator[list[KVWriter]]:
    """Writers for SB3's logger, which are open during the block."""
    writers: list[_Tracker] = []
    succeeded = False
    try:
        for name in names:
            writers.append(_WandB(spec, folder) if name == "wandb" else _MLflow(spec))
        yield list(writers)
        succeeded = True
    finally:
        clean_up(*(partial(writer.end, succeeded) for writer in writers))


class _Tracker(KVWriter, ABC):
    """Passes the numbers that SB3 logs on to a tracker."""

    name: str

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Log the numbers among the values, except those that exclude this tracker."""
        self.log(
            {
                key: float(value)
                for key, value in key_values.items()
                if isinstance(value, Real) and self.name not in (key_excluded.get(key) or ())
            },
            step,
        )

    @abstractmethod
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log numbers at an environment step."""

    @abstractmethod
    def end(self, succeeded: bool) -> None:
        """Close the record of the run."""

    def close(self) -> None:
        """Do nothing yet: SB3's logger closes its writers before the run's last files exist."""


class _WandB(_Tracker):
    name = "wandb"

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        self._run = import_module("wandb").init(
            mode=os.environ.get("WANDB_MODE", "offline"),
            dir=folder,
            project=_EXPERIMENT,
            group=f"{spec.suite} {spec.algo} {spec.env_id}",
            name=str(spec),
            config=spec.to_dict(),
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log numbers of a step."""
        self._run.log(dict(metrics), step=step)

    def end(self, succeeded: bool) -> None:
        """Close the tracker's run."""
        self._run.finish(exit_code=0 if succeeded else 1)


class _MLflow(_Tracker):
    name = "mlflow"

    def __init__(self, spec: RunSpec) -> None:
        self._mlflow = import_module("mlflow")
        self._mlflow.set_experiment(_EXPERIMENT)
        self._mlflow.start_run(run_name=str(spec))
        fields = spec.to_dict()
        self._mlflow.log_params({**fields.pop("hyperparams"), **fields, "config": spec.config})

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log numbers of a step."""
        self._mlflow.log_metrics(dict(metrics), step=step)

    def end(self, succeeded: bool) -> None:
        """Close the tracker's run."""
        self._mlflow.end_run("FINISHED" if succeeded else "FAILED")
