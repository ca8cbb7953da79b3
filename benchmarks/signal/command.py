"""``python -m benchmarks signal``, from its options to its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.command_line import make_console
from benchmarks.errors import SpecError, clean_up
from benchmarks.signal.policies import Source, freeze, make
from benchmarks.signal.settings import Plan

if TYPE_CHECKING:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    from benchmarks.signal.report import Row, Signal

# Apart from those of training and of evaluations: the samples are of other episodes.
_FIRST_SEED = 2_000_000


def signal(
    source: Source,
    make_plan: Callable[[float], Plan],
    n_samples: int,
    truth_lambda: float | None,
    seed: int,
    out: Path,
    command: str,
) -> str:
    """Measure, and write the files.

    :param make_plan: makes the settings from the policy's own gae_lambda
    :param n_samples: how many are collected; half of them are the truth
    :param truth_lambda: of the truth's advantages; None: the policy's own
    :param seed: of the samples
    :param command: the command line, for the record
    :return: the table as text
    :raises SpecError: an option is not valid for this policy; nothing has been trained then
    :raises BrokenRunError: the run cannot be read
    """
    from benchmarks.signal import figure, report
    from benchmarks.tables import to_text

    model = make(source)
    try:
        plan = make_plan(model.gae_lambda)
        plan.check_samples(n_samples, model.n_envs)
        _check_critics(plan, model)
        rows, found = _measured(source, model, plan, n_samples, truth_lambda, seed)
    finally:
        env = model.get_env()
        if env is not None:
            clean_up(env.close)
    spec = source.spec
    out.mkdir(parents=True, exist_ok=True)
    report.write(
        out, rows, found, _about(source, n_samples, truth_lambda, seed, command), spec.env_id
    )
    if found.is_found:
        figure.save(rows, spec.env_id, out / "signal.png")
    parts = (found.sentence(), to_text(report.table(rows)), report.warning(rows))
    return "\n\n".join(filter(None, parts))


def _measured(
    source: Source,
    model: OnPolicyAlgorithm,
    plan: Plan,
    n_samples: int,
    truth_lambda: float | None,
    seed: int,
) -> tuple[list[Row], Signal]:
    from benchmarks.run import log_interval
    from benchmarks.signal.measure import Discount, measure, n_directions
    from benchmarks.signal.report import Signal, rows_of
    from benchmarks.signal.samples import collect

    steps = n_samples // 2 // model.n_envs
    spec = source.spec
    with _bars() as bar:
        if source.run is None:
            with bar("training", spec.n_timesteps) as advance:
                model.learn(
                    spec.n_timesteps,
                    _reporting(advance),
                    log_interval=log_interval(model, spec.n_timesteps),
                )
        freeze(model)
        model.set_random_seed(_FIRST_SEED + seed)
        with bar("collecting", 2 * steps) as advance:
            samples = collect(model, 2 * steps, advance)
        own = model.gae_lambda if truth_lambda is None else truth_lambda
        with bar("measuring", n_directions(plan, steps * model.n_envs)) as advance:
            truth, improvements = measure(
                model.policy, samples, steps, plan, Discount(model.gamma, own), advance
            )
    found = Signal(truth.signal, truth.error, truth.in_sample, truth.fisher.n_samples)
    return rows_of(improvements, truth.best), found


def _check_critics(plan: Plan, model: OnPolicyAlgorithm) -> None:
    from sb3_natural.curvature.value_fit import split_parameters

    if any(each.critic == "refit" for each in plan.advantages):
        observation, _ = model.policy.obs_to_tensor(model.observation_space.sample())
        if not split_parameters(model.policy, observation)[1]:
            raise SpecError(
                "--critic: refit needs parameters that move the values alone, got a policy of "
                f"{type(model.policy).__name__} that has none"
            )


def _reporting(advance: Callable[[int], None]) -> Callable[..., bool]:
    """A callback that reports the steps of a training."""
    last = 0

    def callback(locals_: dict[str, Any], _: dict[str, Any]) -> bool:
        nonlocal last
        now = locals_["self"].num_timesteps
        advance(now - last)
        last = now
        return True

    return callback


def _about(
    source: Source, n_samples: int, truth_lambda: float | None, seed: int, command: str
) -> dict[str, Any]:
    from benchmarks import provenance

    return {
        "command": command,
        "policy": source.spec.to_dict(),
        "run": None if source.run is None else source.run.name,
        "samples": n_samples,
        "truth_gae_lambda": truth_lambda,
        "seed": seed,
        "commit": provenance.commit(),
        "dirty": provenance.is_dirty(),
        "versions": provenance.versions(),
        "machine": provenance.machine(),
    }


@contextmanager
def _bars() -> Iterator[Callable[[str, int], Any]]:
    """Makes a bar for each part of the work; on a terminal only, and gone in the end."""
    console = make_console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(bar_width=30), TimeElapsedColumn()
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

    @contextmanager
    def bar(what: str, total: int) -> Iterator[Callable[..., None]]:
        """A bar for one part, of ``total`` units of work."""
        task = progress.add_task(what, total=total)

        def advance(n: int = 1) -> None:
            progress.advance(task, n)

        yield advance
        progress.remove_task(task)

    with progress:
        yield bar
