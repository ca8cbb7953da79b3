"""One run, from its spec to its finished folder."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from benchmarks.evaluation import ScheduledEvaluation, freeze, write_rows
from benchmarks.provenance import commit, is_dirty, machine, versions
from benchmarks.specs import RunSpec
from benchmarks.zoo import ModelArguments, algorithm_class, model_arguments
from sb3_natural import make_vec_env

FORMAT = 1
TEMPORARY = ".tmp-"
_REPORT_INTERVAL = 0.5  # seconds


@dataclass(frozen=True)
class Progress:
    """How far a run has come; ``return_mean`` is its latest evaluation's."""

    timesteps: int
    training_seconds: float
    return_mean: float


def run(
    spec: RunSpec,
    out: Path,
    command: str,
    report: Callable[[Progress], None] | None = None,
) -> Path:
    """Train one run and write its folder, whole or not at all.

    :param out: the folder below which all runs stand
    :param command: the command line, for the record
    :param report: called about twice a second
    :return: the finished folder; one that is already there is left as it is
    :raises SpecError: hyperparameters that the algorithm cannot use
    """
    folder = spec.folder(out)
    if folder.exists():
        return folder
    with _scratch_folder(folder) as scratch:
        _train(spec, scratch, command, report)
        _publish(scratch, folder)
    spec.failure_file(out).unlink(missing_ok=True)
    return folder


def _train(
    spec: RunSpec, scratch: Path, command: str, report: Callable[[Progress], None] | None
) -> None:
    record = {
        "format": FORMAT,
        "spec": spec.to_dict(),
        "config": spec.config,
        "command": command,
        # Now, since the working tree may change while the run goes on.
        "commit": commit(),
        "dirty": is_dirty(),
        "versions": versions(),
        "machine": machine(),
        "started": now(),
    }
    arguments = model_arguments(spec.algo, spec.hyperparams, "hyperparams")
    env = make_env(spec.env_id, arguments, arguments.n_envs, spec.seed)
    eval_env = freeze(
        make_env(spec.env_id, arguments, spec.evaluation.episodes, spec.evaluation.seed)
    )
    model = make_model(spec, arguments, env)
    model.set_logger(configure(str(scratch), ["csv"]))
    evaluation = ScheduledEvaluation(eval_env, spec.n_timesteps, spec.evaluation)
    callbacks: list[BaseCallback] = [evaluation]
    if report is not None:
        callbacks.append(_Reporting(report, evaluation))

    model.learn(spec.n_timesteps, callback=callbacks)

    record["wall_seconds"] = round(evaluation.training_seconds, 3)
    record["evaluation_seconds"] = round(evaluation.seconds, 3)
    record["timesteps"] = model.num_timesteps
    model.logger.close()
    model.save(scratch / "model.zip")
    if isinstance(env, VecNormalize):
        env.save(str(scratch / "vecnormalize.pkl"))
    write_rows(evaluation.rows, scratch / "evaluations.csv")
    (scratch / "run.json").write_text(json.dumps(record, indent=2) + "\n")
    env.close()
    eval_env.close()


def make_env(env_id: str, arguments: ModelArguments, n_envs: int, seed: int) -> VecEnv:
    """The environments of a run, with normalisation if the hyperparameters ask for it."""
    env: VecEnv = make_vec_env(env_id, n_envs, seed)
    if arguments.normalize is not None:
        env = VecNormalize(env, **arguments.normalize)
    return env


def make_model(spec: RunSpec, arguments: ModelArguments, env: VecEnv) -> BaseAlgorithm:
    """The untrained model of a run."""
    constructor: dict[str, Any] = {
        # Networks of this size are faster on a core than on a GPU, and a run owns one core.
        "device": "cpu",
        **arguments.constructor,
        "seed": spec.seed,
        "verbose": 0,
    }
    return algorithm_class(spec.algo)(arguments.policy, env, **constructor)


class _Reporting(BaseCallback):
    """Passes on how far the run has come, at most twice a second."""

    def __init__(self, report: Callable[[Progress], None], evaluation: ScheduledEvaluation) -> None:
        super().__init__()
        self._report = report
        self._evaluation = evaluation
        self._next = 0.0

    def _on_training_start(self) -> None:
        self._on_step()

    def _on_step(self) -> bool:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _REPORT_INTERVAL
            self._report(
                Progress(
                    timesteps=self.num_timesteps,
                    training_seconds=self._evaluation.training_seconds,
                    return_mean=self._evaluation.rows[-1].return_mean,
                )
            )
        return True


@contextmanager
def _scratch_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside the final one, named after its maker; gone at the end."""
    scratch = folder.with_name(f"{TEMPORARY}{folder.name}-{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _publish(scratch: Path, folder: Path) -> None:
    """Give a complete folder its final name, unless another process has been faster."""
    try:
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def remove_abandoned(parents: Iterable[Path]) -> None:
    """Remove what processes that are no longer running have left unfinished in ``parents``."""
    for parent in parents:
        for scratch in parent.glob(f"{TEMPORARY}*"):
            if _maker_lives(scratch):
                continue
            if scratch.is_dir():
                shutil.rmtree(scratch, ignore_errors=True)
            else:
                scratch.unlink(missing_ok=True)


def _maker_lives(scratch: Path) -> bool:
    try:
        pid = int(scratch.name.rpartition("-")[2])
        # A process that began after the folder was last changed has only inherited the number.
        return psutil.Process(pid).create_time() <= scratch.stat().st_mtime + 1
    except (ValueError, psutil.NoSuchProcess, FileNotFoundError):
        return False


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
