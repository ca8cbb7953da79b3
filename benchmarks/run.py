"""One run, from its spec to its finished folder."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.algorithms import algorithm_class, parameters_of
from benchmarks.environments import Wrapper, make_envs
from benchmarks.errors import clean_up
from benchmarks.evaluation import ScheduledEvaluation, freeze
from benchmarks.processes import peak_resident_mib
from benchmarks.provenance import Code, loaded_code, machine, packages, versions
from benchmarks.records import EvaluationRow, RunSpec
from benchmarks.run_files import (
    UNCOMMITTED,
    is_finished,
    now,
    write_evaluations,
    write_record,
)
from benchmarks.sources import sources
from benchmarks.storage import Folder, claimed, publish, scratch_folder
from benchmarks.tracking import tracking
from benchmarks.zoo import ModelArguments, action_noise, model_arguments
from sb3_natural.environments.vec_normalize import VecNormalize

_LARGEST_DIFF = 1_000_000  # bytes
_REPORT_INTERVAL = 0.5  # seconds
_ROWS = 100


@dataclass(frozen=True)
class Progress:
    """The progress of a run; ``return_mean`` is that of its latest evaluation."""

    timesteps: int
    training_seconds: float
    return_mean: float


def run(
    spec: RunSpec,
    out: Folder,
    command: str,
    report: Callable[[Progress], None] | None = None,
    trackers: Sequence[str] = (),
    watch: Callable[[EvaluationRow], None] | None = None,
) -> Folder:
    """Train one run and write its folder, whole or not at all.

    :param out: the folder below which all run folders are
    :param command: the command line, for the record
    :param report: called about twice a second
    :param trackers: those of ``benchmarks.tracking`` to log to as well
    :param watch: called after each evaluation; if it raises, the run ends and leaves no folder
    :return: the finished folder; one that exists already is left as it is
    :raises SpecError: hyperparameters that the algorithm cannot use
    """
    folder = spec.folder(out)
    if is_finished(folder):
        return folder
    with claimed(folder), scratch_folder(folder) as scratch:

        def reached(progress: Progress) -> None:
            os.utime(scratch)  # shows that the run makes progress
            if report is not None:
                report(progress)

        train(
            spec,
            scratch,
            command,
            reached,
            trackers,
            watch=watch,
            finished=lambda: publish(scratch, folder),
        )
    _forget_failure(spec, out)
    return folder


def receive(spec: RunSpec, out: Folder, files: Mapping[str, bytes]) -> None:
    """Write the folder of a run that was trained elsewhere, whole or not at all.

    :param files: the content of the files that :func:`train` has written there, by name
    """
    folder = spec.folder(out)
    with scratch_folder(folder) as scratch:
        for name, content in files.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_bytes(content)
        publish(scratch, folder)
    _forget_failure(spec, out)


def _forget_failure(spec: RunSpec, out: Folder) -> None:
    """Remove the record of an earlier failure."""
    clean_up(partial(spec.failure_file(out).unlink, missing_ok=True))


def train(
    spec: RunSpec,
    folder: Path,
    command: str,
    report: Callable[[Progress], None] | None = None,
    trackers: Sequence[str] = (),
    provenance: Code | None = None,
    watch: Callable[[EvaluationRow], None] | None = None,
    finished: Callable[[], None] = lambda: None,
) -> None:
    """Train one run and write its files into an existing folder, ``run.json`` last.

    :param provenance: the code's commit; None: what this process has imported
    :param watch: called after each evaluation
    :param finished: called when all files are written, before the environments are closed
    """
    record = {
        "spec": spec.to_dict(),
        "config": spec.config,
        "command": command,
        # Now at the latest, since the working tree may change during the run.
        **_write_code(provenance or loaded_code(), folder),
        "versions": versions(),
        "machine": machine(),
        "started": now(),
    }
    arguments = model_arguments(spec.algo, spec.hyperparams, "hyperparams")
    with ExitStack() as opened:
        env = make_env(spec, arguments, arguments.n_envs, spec.seed)
        opened.callback(clean_up, env.close)
        eval_env = make_evaluation_env(spec, arguments)
        opened.callback(clean_up, eval_env.close)
        model = make_model(spec, arguments, env)
        wrappers = wrappers_of(spec, arguments)
        record["packages"] = _packages(model, env, wrappers)
        record["sources"] = {name: vars(each) for name, each in sources(spec, wrappers).items()}
        evaluation = ScheduledEvaluation(eval_env, spec.n_timesteps, spec.evaluation, watch)
        callbacks: list[BaseCallback] = [evaluation]
        if report is not None:
            callbacks.append(_Reporting(report, evaluation))
        _learn(model, spec, callbacks, folder, trackers)

        record["wall_seconds"] = round(evaluation.training_seconds, 3)
        record["evaluation_seconds"] = round(evaluation.seconds, 3)
        record["timesteps"] = model.num_timesteps
        # In a sweep, of a process that has done nothing else.
        record["peak_memory_mib"] = peak_resident_mib()
        _write_results(folder, model, env, evaluation)
        write_record(folder, record)
        finished()


def _learn(
    model: BaseAlgorithm,
    spec: RunSpec,
    callbacks: list[BaseCallback],
    folder: Path,
    trackers: Sequence[str],
) -> None:
    logger = configure(str(folder), ["csv", "tensorboard"])
    with tracking(trackers, spec, folder) as writers:
        logger.output_formats.extend(writers)
        model.set_logger(logger)
        model.learn(spec.n_timesteps, callbacks, log_interval=log_interval(model, spec.n_timesteps))
        clean_up(*(each.close for each in logger.output_formats))


def _write_results(
    folder: Path, model: BaseAlgorithm, env: VecEnv, evaluation: ScheduledEvaluation
) -> None:
    for events in folder.glob("events.out.tfevents.*"):
        events.rename(folder / "events.out.tfevents")  # without the machine's name
    model.save(folder / "model.zip")
    if isinstance(env, VecNormalize):
        env.save(str(folder / "vecnormalize.pkl"))
    write_evaluations(folder, evaluation.rows)


def _write_code(origin: Code, folder: Path) -> dict[str, Any]:
    """Write the uncommitted changes, unless they are very large; return fields for the record."""
    fields: dict[str, Any] = {"commit": origin.commit, "dirty": origin.dirty}
    if origin.diff:
        size = len(origin.diff.encode())
        if size > _LARGEST_DIFF:
            fields["uncommitted"] = f"not kept, since it is {size / 1e6:.1f} MB large"
        else:
            fields["uncommitted"] = UNCOMMITTED
            (folder / UNCOMMITTED).write_text(origin.diff, encoding="utf-8")
    return fields


def _packages(
    model: BaseAlgorithm, env: VecEnv, wrappers: Sequence[Wrapper]
) -> dict[str, str | None]:
    """The versions of the packages of the algorithm, the environment and its wrappers."""
    (innermost,) = env.get_attr("unwrapped", indices=[0])
    paths = [path for each in wrappers for path in ([each] if isinstance(each, str) else each)]
    return packages([type(model), type(innermost)], paths)


def make_evaluation_env(spec: RunSpec, arguments: ModelArguments) -> VecEnv:
    """The environments of a run's evaluations, one for each episode."""
    protocol = spec.evaluation
    return freeze(make_env(spec, arguments, protocol.episodes, protocol.seed, protocol.max_steps))


def make_env(
    spec: RunSpec, arguments: ModelArguments, n_envs: int, seed: int, max_steps: int | None = None
) -> VecEnv:
    """The environments of a run, with normalisation if the hyperparameters ask for it.

    :param max_steps: steps after which an episode is cut; None: only the environment ends it
    """
    options = spec.environment
    frame_stack = options.get("frame_stack", arguments.frame_stack)
    wrappers = wrappers_of(spec, arguments)
    kwargs = options.get("kwargs")
    env = make_envs(spec.env_id, n_envs, seed, kwargs, wrappers, frame_stack, max_steps)
    if arguments.normalize is not None:
        env = VecNormalize(env, **arguments.normalize)
    return env


def wrappers_of(spec: RunSpec, arguments: ModelArguments) -> list[Wrapper]:
    """The suite's wrappers, then the other wrappers of the hyperparameters."""
    wrappers = list(spec.environment.get("wrappers", []))
    return wrappers + [wrapper for wrapper in arguments.wrappers if wrapper not in wrappers]


def make_model(spec: RunSpec, arguments: ModelArguments, env: VecEnv) -> BaseAlgorithm:
    """The untrained model of a run."""
    constructor: dict[str, Any] = {
        # Networks of this size are faster on a core than on a GPU, and a run owns one core.
        "device": "cpu",
        **deepcopy(arguments.constructor),  # some classes change what they are given
        "seed": spec.seed,
        "verbose": 0,
    }
    if arguments.noise is not None:
        constructor["action_noise"] = action_noise(arguments.noise, env.action_space)
    return algorithm_class(spec.algo)(arguments.policy, env, **constructor)


def log_interval(model: BaseAlgorithm, n_timesteps: int) -> int:
    """The number of updates (episodes, if off-policy) after which a row is logged.

    It is the class's own number, or a lower one if that would give fewer than a hundred rows.
    """
    own: int = parameters_of(type(model), "learn")["log_interval"].default
    if not isinstance(model, OnPolicyAlgorithm):
        return own
    n_updates = n_timesteps // (model.n_steps * model.n_envs)
    return max(1, min(own, n_updates // _ROWS))


class _Reporting(BaseCallback):
    """Reports the progress of the run, at most twice a second."""

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
