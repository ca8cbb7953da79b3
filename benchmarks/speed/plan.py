"""The measurements: blocks of contenders that take turns."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ENV_ID = "HalfCheetah-v5"
# sb3-contrib's TRPO is left out where one update would take longer.
TRPO_LIMIT = 60.0  # seconds
# ACER's task, and where its targets are: steps of a segment, and replayed batches a rollout.
ACER_ENV_ID = "CartPole-v1"
ACER_N_ENVS, ACER_N_STEPS, ACER_REPLAY_RATIO = 8, 20, 4
ACER_REPLAY_START = 1_000  # steps

NPG, TRPO, PPO = "NPG", "TRPO (sb3-contrib)", "PPO (SB3)"
FAST_TRPO, FAST_PPO = "TRPO, fast rollouts", "PPO, fast rollouts and update"
A2C, FAST_A2C = "A2C (SB3)", "A2C, fast rollouts and update"
TIANSHOU = "NPG (Tianshou)"
SBX_PPO, SINGLE_FILE_PPO = "PPO (SBX)", "PPO (single file, as CleanRL's)"
TIANSHOU_PPO = "PPO (Tianshou)"
POOL_NPG, POOL = "NPG on EnvPool, 2 threads", "EnvPool alone, 2 threads"
SIMULATOR = "simulator alone"
# In an environment that users make themselves, as the originals are.
SB3_ENV_NPG = "NPG in SB3's make_vec_env"
# The same on one core, and with a process for each core.
PROCESS_NPG = "NPG, a process for each core"
ONE_PROCESS, PROCESSES = "one process", "a process for each core"
ACER, PFRL_ACER = "ACER", "ACER (PFRL)"
ACKTR = "ACKTR"
FORKED, SPAWNED = "forked", "from nothing"
PAIR, WAYS = "NPG and TRPO", "Fisher products"
SOLVERS = "K-FAC and conjugate gradient"

# The task and the rollout of a run whose start is measured.
START, START_ENV_ID, START_STEPS = "start of a run", "CartPole-v1", 512

# Who measures what: a process each, so that libraries do not share one.
OURS, SB3, PEER, PFRL, STARTER = "ours", "sb3", "tianshou", "pfrl", "starter"
SBX, SINGLE_FILE = "sbx", "single file"
ALGORITHMS = {
    NPG: (OURS, "sb3_natural", "NPG"),
    TRPO: (SB3, "sb3_contrib", "TRPO"),
    FAST_TRPO: (OURS, "sb3_natural", "TRPO"),
    PPO: (SB3, "stable_baselines3", "PPO"),
    FAST_PPO: (OURS, "sb3_natural", "PPO"),
    A2C: (SB3, "stable_baselines3", "A2C"),
    FAST_A2C: (OURS, "sb3_natural", "A2C"),
    ACKTR: (OURS, "sb3_natural", "ACKTR"),
}
# ACKTR's task and default. Like A2C it has many small updates where the others have one.
ACKTR_ENV_ID, ACKTR_N_ENVS, ACKTR_N_STEPS = "CartPole-v1", 8, 20
# Where K-FAC's target is.
KFAC_WIDTH = 256
# A2C's default. It has many small updates where the others have one.
A2C_N_STEPS = 5


@dataclass(frozen=True)
class Contender:
    """An implementation that is measured.

    :param worker: the kind of process that measures it
    :param task: the worker's function, and ``settings`` its arguments
    """

    name: str
    worker: str
    task: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Block:
    """Contenders that are compared: all of them are measured once, then all once more, and so on.

    :param session: successive blocks of the same session share their workers; None gives every
        measurement a fresh process
    """

    name: str
    contenders: Sequence[Contender]
    repeats: int
    session: str | None


@dataclass(frozen=True)
class Measurement:
    """One contender's turn."""

    block: Block
    contender: Contender
    repeat: int


@dataclass(frozen=True)
class Sizes:
    """The sizes of the problems, and how often each is measured."""

    repeats: int
    steps_per_update: int
    simulator_steps: int
    n_envs: Sequence[int]
    peer_n_envs: Sequence[int]
    ppo_n_envs: Sequence[int]
    normalized_n_envs: Sequence[int]
    pool_n_envs: int
    process_n_envs: int
    stepping_n_envs: Sequence[int]
    step_costs: Sequence[int]  # microseconds
    stepping_seconds: float
    phases_n_envs: int
    batches: Mapping[int, int]  # samples -> repeats, with two hidden layers of 64
    widths: Mapping[int, int]  # width of two hidden layers -> repeats
    width_batch: int
    products: Sequence[tuple[int, int]]  # (width, samples)
    memory_hidden: Sequence[int]
    memory_batch: int
    acer_n_envs: Sequence[int]
    acer_lengths: Sequence[int]  # steps of a segment
    acer_rollouts: int
    acer_peer_steps: int


FULL = Sizes(
    repeats=5,
    steps_per_update=2_048,
    simulator_steps=8_192,
    n_envs=(1, 2, 4, 8, 16, 32, 64),
    peer_n_envs=(1, 4, 16, 64),
    ppo_n_envs=(1, 8),
    normalized_n_envs=(1, 8),
    pool_n_envs=16,
    process_n_envs=8,
    stepping_n_envs=(8, 16, 32),
    step_costs=(10, 30, 100, 300, 1_000),
    stepping_seconds=0.5,
    phases_n_envs=16,
    batches={1_024: 5, 2_048: 5, 8_192: 5, 32_768: 3, 131_072: 1, 262_144: 1},
    # About 5,700, 50,000, 72,000, 500,000 and 5,000,000 parameters.
    widths={64: 5, 212: 5, 256: 5, 695: 3, 2_220: 1},
    width_batch=2_048,
    products=((64, 2_048), (64, 16_384), (256, 2_048)),
    memory_hidden=(1_550, 1_550, 1_550),
    memory_batch=65_536,
    acer_n_envs=(1, 4, 8, 16, 32),
    acer_lengths=(5, 20, 50, 100),
    # The number of replayed batches is drawn: many rollouts make it nearly the same each time.
    acer_rollouts=100,
    acer_peer_steps=500,
)
QUICK = Sizes(
    repeats=2,
    steps_per_update=512,
    simulator_steps=1_024,
    n_envs=(1, 8, 16),
    peer_n_envs=(16,),
    ppo_n_envs=(1, 8),
    normalized_n_envs=(1,),
    pool_n_envs=16,
    process_n_envs=8,
    stepping_n_envs=(8,),
    step_costs=(30, 300),
    stepping_seconds=0.1,
    phases_n_envs=16,
    batches={1_024: 2, 2_048: 2},
    widths={64: 2, 256: 2},
    width_batch=2_048,
    products=((64, 2_048),),
    memory_hidden=(128, 128),
    memory_batch=16_384,
    acer_n_envs=(1, 8, 16),
    acer_lengths=(5, 20, 50),
    acer_rollouts=20,
    acer_peer_steps=100,
)


def plan(sizes: Sizes) -> list[Block]:
    """All blocks."""
    return [
        *(_normalized_training(sizes, n_envs) for n_envs in sizes.normalized_n_envs),
        *(_training(sizes, n_envs) for n_envs in sizes.n_envs),
        *_stepping(sizes),
        *_phases(sizes),
        *_updates(sizes),
        _memory(sizes),
        *_acer(sizes),
        _acktr(sizes),
        _start(sizes),
    ]


def measurements(blocks: Sequence[Block]) -> Iterator[Measurement]:
    """The turns in their order: all contenders of a block once, then all of them again."""
    for block in blocks:
        for repeat in range(block.repeats):
            for contender in block.contenders:
                yield Measurement(block, contender, repeat)


def training_block(n_envs: int, normalized: bool = False) -> str:
    """The name of the block of whole training with this many environments.

    :param normalized: with observations and rewards normalised
    """
    what = "training, normalised" if normalized else "training"
    return f"{what}, {n_envs} environment{'s' if n_envs > 1 else ''}"


def stepping_block(what: str, n_envs: int) -> str:
    """The name of the block of vectorised environments alone.

    :param what: an environment's id, or what a step costs
    """
    return f"stepping, {what}, {n_envs} environments"


def update_block(width: int, n_samples: int) -> str:
    """The name of the block of policy updates with two hidden layers of this width."""
    return f"policy update, {width}-{width}, {n_samples:,} samples"


def kfac_block(n_samples: int) -> str:
    """The name of the block of K-FAC's direction beside conjugate gradient's."""
    return f"K-FAC, {KFAC_WIDTH}-{KFAC_WIDTH}, {n_samples:,} samples"


def acer_block(n_envs: int, n_steps: int) -> str:
    """The name of the block of ACER with this many environments and steps of a segment."""
    return f"ACER, {n_envs} environment{'s' if n_envs > 1 else ''}, segments of {n_steps} steps"


def _normalized_training(sizes: Sizes, n_envs: int) -> Block:
    """As on MuJoCo: all have VecNormalize and Monitor, but NPG, which normalises by itself."""
    contenders = [_simulator(sizes)]
    for name in (NPG, TRPO, FAST_TRPO, PPO, FAST_PPO, A2C, FAST_A2C):
        one = _trained(name, "train", sizes, n_envs)
        settings = {**one.settings, "normalize": name != NPG}
        contenders.append(Contender(name, one.worker, one.task, settings))
    return Block(training_block(n_envs, normalized=True), contenders, sizes.repeats, "training")


def _training(sizes: Sizes, n_envs: int) -> Block:
    names = [NPG, TRPO]
    if n_envs == 1:
        names += [FAST_TRPO, A2C, FAST_A2C]
    if n_envs in sizes.ppo_n_envs:
        names += [PPO, FAST_PPO]
    contenders = [
        _simulator(sizes),
        *(_trained(name, "train", sizes, n_envs) for name in names),
    ]
    if n_envs == 1:
        contenders.append(_npg_with("sb3", sizes, n_envs, SB3_ENV_NPG))
    if n_envs in sizes.ppo_n_envs:
        contenders += _ppo_peers(sizes, n_envs)
    if n_envs in sizes.peer_n_envs:
        contenders.append(_tianshou("NPG", "train", sizes, n_envs))
    if n_envs == sizes.pool_n_envs:
        pool = {"env_id": ENV_ID, "n_envs": n_envs, "pool_threads": 2}
        steps = {"steps": sizes.simulator_steps}
        contenders.append(Contender(POOL, OURS, "simulate_pool", {**pool, **steps}))
        contenders.append(_pool_npg("train", sizes, n_envs))
    if n_envs == sizes.process_n_envs:
        contenders.append(_npg_with("processes", sizes, n_envs, PROCESS_NPG))
    return Block(training_block(n_envs), contenders, sizes.repeats, "training")


def _stepping(sizes: Sizes) -> Iterator[Block]:
    # HalfCheetah's cost is about 30; what is around a step of any environment takes 10.
    points: list[tuple[str, float, int, dict[str, Any]]] = [
        (ENV_ID, 40, n_envs, {"env_id": ENV_ID}) for n_envs in sizes.stepping_n_envs
    ]
    points += [
        (f"{cost:,} µs a step", cost + 10, sizes.process_n_envs, {"cost": cost})
        for cost in sizes.step_costs
    ]
    for what, microseconds, n_envs, which in points:
        steps = int(1e6 * sizes.stepping_seconds / microseconds)
        contenders = [
            Contender(
                name, OURS, "step", {**which, "n_envs": n_envs, "steps": steps, "backend": backend}
            )
            for name, backend in ((ONE_PROCESS, "dummy"), (PROCESSES, "processes"))
        ]
        yield Block(stepping_block(what, n_envs), contenders, sizes.repeats, "stepping")


def _phases(sizes: Sizes) -> Iterator[Block]:
    n_envs, task = sizes.phases_n_envs, "train_by_phase"
    one = [_trained(name, task, sizes, 1) for name in (TRPO, FAST_TRPO, PPO, FAST_PPO, NPG)]
    many = [
        _tianshou("NPG", task, sizes, n_envs),
        _trained(NPG, task, sizes, n_envs),
        _pool_npg(task, sizes, n_envs),
    ]
    for contenders, number in ((one, 1), (many, n_envs)):
        yield Block(
            training_block(number).replace("training", "phases"),
            contenders,
            min(3, sizes.repeats),
            "training",
        )


def _simulator(sizes: Sizes) -> Contender:
    settings = {"env_id": ENV_ID, "steps": sizes.simulator_steps}
    return Contender(SIMULATOR, SB3, "simulate", settings)


def _trained(name: str, task: str, sizes: Sizes, n_envs: int) -> Contender:
    worker, library, algorithm = ALGORITHMS[name]
    settings = {
        "library": library,
        "algorithm": algorithm,
        "env_id": ENV_ID,
        "n_envs": n_envs,
        "steps_per_update": sizes.steps_per_update,
    }
    if algorithm == "A2C":
        steps = A2C_N_STEPS * n_envs
        settings |= {"steps_per_update": steps, "updates": sizes.steps_per_update // steps}
    return Contender(name, worker, task, settings)


def _npg_with(backend: str, sizes: Sizes, n_envs: int, name: str) -> Contender:
    settings = {**_trained(NPG, "train", sizes, n_envs).settings, "backend": backend}
    return Contender(name, OURS, "train", settings)


def _pool_npg(task: str, sizes: Sizes, n_envs: int) -> Contender:
    one = _trained(NPG, task, sizes, n_envs)
    return Contender(
        POOL_NPG, OURS, task, {**one.settings, "backend": "envpool", "pool_threads": 2}
    )


def _ppo_peers(sizes: Sizes, n_envs: int) -> list[Contender]:
    settings = _peer_settings(sizes, n_envs)
    return [
        Contender(SBX_PPO, SBX, "train", settings),
        Contender(SINGLE_FILE_PPO, SINGLE_FILE, "train", settings),
        _tianshou("PPO", "train", sizes, n_envs),
    ]


def _tianshou(algorithm: str, task: str, sizes: Sizes, n_envs: int) -> Contender:
    name = {"NPG": TIANSHOU, "PPO": TIANSHOU_PPO}[algorithm]
    settings = {"algorithm": algorithm, **_peer_settings(sizes, n_envs)}
    return Contender(name, PEER, task, settings)


def _peer_settings(sizes: Sizes, n_envs: int) -> dict[str, Any]:
    return {"env_id": ENV_ID, "n_envs": n_envs, "steps_per_update": sizes.steps_per_update}


def _updates(sizes: Sizes) -> Iterator[Block]:
    points = {(64, n_samples): repeats for n_samples, repeats in sizes.batches.items()}
    points |= {(width, sizes.width_batch): repeats for width, repeats in sizes.widths.items()}
    for (width, n_samples), repeats in points.items():
        settings = {"hidden": [width, width], "n_samples": n_samples, "trpo_limit": TRPO_LIMIT}
        pair = Contender(PAIR, OURS, "compare_updates", settings)
        yield Block(update_block(width, n_samples), [pair], repeats, "updates")
    settings = {"hidden": [KFAC_WIDTH] * 2, "n_samples": sizes.width_batch, "repeats": 10}
    solvers = Contender(SOLVERS, OURS, "compare_solvers", settings)
    yield Block(kfac_block(sizes.width_batch), [solvers], sizes.repeats, "updates")
    for width, n_samples in sizes.products:
        settings = {"hidden": [width, width], "n_samples": n_samples, "repeats": 20}
        ways = Contender(WAYS, OURS, "compare_products", settings)
        name = f"Fisher product, {width}-{width}, {n_samples:,} samples"
        yield Block(name, [ways], sizes.repeats, "updates")


def _memory(sizes: Sizes) -> Block:
    # Memory does not depend on the threads, and these take long on one.
    shared = {
        "hidden": list(sizes.memory_hidden),
        "n_samples": sizes.memory_batch,
        "threads": os.cpu_count() or 1,
    }
    updates = [
        Contender(name, OURS, "update_for_memory", {"what": what, **shared})
        for name, what in (("one pass", "pass"), ("NPG's update", "npg"))
    ]
    trainings = []
    for name in (NPG, TRPO, PPO):
        trained = _trained(name, "train_for_memory", sizes, sizes.phases_n_envs)
        trainings.append(trained)
    return Block("memory", [*updates, *trainings], 1, None)


def _start(sizes: Sizes) -> Block:
    settings = {"env_id": START_ENV_ID, "steps": START_STEPS}
    contenders = [
        Contender(name, STARTER, "start_a_run", {**settings, "forked": name == FORKED})
        for name in (FORKED, SPAWNED)
    ]
    return Block(START, contenders, sizes.repeats, START)


def _acer(sizes: Sizes) -> Iterator[Block]:
    points = [(n_envs, ACER_N_STEPS) for n_envs in sizes.acer_n_envs]
    points += [(ACER_N_ENVS, n_steps) for n_steps in sizes.acer_lengths]
    usual = (ACER_N_ENVS, ACER_N_STEPS)
    for n_envs, n_steps in dict.fromkeys(points):
        contenders = [_acer_contender("train_acer", sizes, n_envs, n_steps)]
        if (n_envs, n_steps) == usual:
            contenders.append(_pfrl_acer(sizes))
        yield Block(acer_block(n_envs, n_steps), contenders, sizes.repeats, "ACER")
    watched = _acer_contender("train_acer_by_part", sizes, *usual)
    yield Block("ACER, update by part", [watched], min(3, sizes.repeats), None)


def _acktr(sizes: Sizes) -> Block:
    worker, library, algorithm = ALGORITHMS[ACKTR]
    settings = {
        "library": library,
        "algorithm": algorithm,
        "env_id": ACKTR_ENV_ID,
        "n_envs": ACKTR_N_ENVS,
        "steps_per_update": ACKTR_N_ENVS * ACKTR_N_STEPS,
        "updates": sizes.acer_rollouts,
    }
    return Block(ACKTR, [Contender(ACKTR, worker, "train", settings)], sizes.repeats, ACKTR)


def _acer_contender(task: str, sizes: Sizes, n_envs: int, n_steps: int) -> Contender:
    # As many segments in a replayed batch as in a rollout: a step is replayed equally often.
    settings = {
        **_acer_settings(n_envs, n_steps),
        "n_segments": n_envs,
        "rollouts": sizes.acer_rollouts,
    }
    return Contender(ACER, OURS, task, settings)


def _pfrl_acer(sizes: Sizes) -> Contender:
    settings = {**_acer_settings(1, ACER_N_STEPS), "steps": sizes.acer_peer_steps}
    return Contender(PFRL_ACER, PFRL, "train_acer", settings)


def _acer_settings(n_envs: int, n_steps: int) -> dict[str, Any]:
    return {
        "env_id": ACER_ENV_ID,
        "n_envs": n_envs,
        "n_steps": n_steps,
        "replay_ratio": ACER_REPLAY_RATIO,
        "replay_start": ACER_REPLAY_START,
    }
