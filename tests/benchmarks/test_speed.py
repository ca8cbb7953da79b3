"""The measuring instrument: what it counts, how it takes turns, what it writes. No timings."""

import json
import sys
import time
from itertools import groupby
from pathlib import Path

import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.speed import command, peers, training
from benchmarks.speed import single_file_worker as loop
from benchmarks.speed.plan import (
    ACER,
    ACER_N_ENVS,
    ACER_N_STEPS,
    FAST_PPO,
    FULL,
    NPG,
    OURS,
    PFRL_ACER,
    PPO,
    SB3_ENV_NPG,
    SBX_PPO,
    SINGLE_FILE_PPO,
    TIANSHOU,
    TIANSHOU_PPO,
    TRPO,
    Block,
    Contender,
    Sizes,
    acer_block,
    measurements,
    plan,
    training_block,
)
from benchmarks.speed.protocol import UnavailableError, Worker, WorkerError
from benchmarks.speed.report import targets_text
from benchmarks.speed.results import Results, Spread, Target, targets
from benchmarks.speed.stepping import Spinning
from benchmarks.speed.stopwatch import ACER_PARTS, PHASES, Stopwatch, acer_parts, phases
from benchmarks.speed.updates import compare_solvers, compare_updates, product_flops
from sb3_natural.curvature.operators import FisherOperator

TINY = Sizes(
    repeats=1,
    steps_per_update=128,
    simulator_steps=64,
    n_envs=(1, 8, 16),
    peer_n_envs=(16,),
    ppo_n_envs=(1, 8),
    normalized_n_envs=(1,),
    pool_n_envs=16,
    process_n_envs=8,
    stepping_n_envs=(8,),
    step_costs=(50,),
    stepping_seconds=0.01,
    phases_n_envs=16,
    batches={64: 1},
    widths={64: 1, 256: 1},
    width_batch=128,
    products=((64, 128),),
    memory_hidden=(16, 16),
    memory_batch=128,
    acer_n_envs=(1, 8),
    acer_lengths=(20, 50),
    acer_rollouts=4,
    acer_peer_steps=20,
)


def test_flops_of_a_fisher_product_by_hand():
    # 3 -> 4 -> 2, one sample: forward 3*4 + 2*(4*2), back 2*(4*2) + 3*4; two flops each.
    assert product_flops([3, 4, 2], 1) == 2 * (12 + 16 + 16 + 12)
    assert product_flops([3, 4, 2], 10) == 10 * product_flops([3, 4, 2], 1)


def test_flops_of_a_fisher_product_are_those_that_torch_counts():
    policy = sb3.PPO("MlpPolicy", "CartPole-v1", device="cpu").policy
    # torch does not count products that are written in place, which the fast way uses.
    fisher = FisherOperator(policy, torch.randn(32, 4), fast=False)
    vector = torch.ones(fisher.shape[0])
    with FlopCounterMode(display=False) as counter:
        fisher @ vector
    assert counter.get_total_flops() == product_flops([4, 64, 64, 2], 32)


def test_contenders_take_turns():
    contenders = [Contender(name, "ours", "train", {}) for name in ("ours", "peer")]
    block = Block("a", contenders, repeats=3, session=None)
    turns = [(m.repeat, m.contender.name) for m in measurements([block])]
    assert turns == [(i, name) for i in range(3) for name in ("ours", "peer")]


def test_the_full_plan_compares_what_the_targets_need():
    turns = list(measurements(plan(FULL)))
    for block, group in groupby(turns, key=lambda m: m.block.name):
        found = [(m.contender.name, m.repeat) for m in group]
        assert len(found) == len(set(found)), f"{block} measures something twice"
    names = {target.name for target in targets(Results([]), FULL)}
    assert len(names) == 30


def test_the_full_plan_grows_acer_one_way_at_a_time():
    blocks = {block.name: block for block in plan(FULL)}
    usual = blocks[acer_block(ACER_N_ENVS, ACER_N_STEPS)]
    assert [contender.name for contender in usual.contenders] == [ACER, PFRL_ACER]
    points = [
        block.contenders[0].settings
        for block in blocks.values()
        if block.contenders[0].task == "train_acer"
    ]
    by_envs = [p["n_envs"] for p in points if p["n_steps"] == ACER_N_STEPS]
    by_length = [p["n_steps"] for p in points if p["n_envs"] == ACER_N_ENVS]
    assert sorted(by_envs) == [1, 4, 8, 16, 32]
    assert sorted(by_length) == [5, 20, 50, 100]
    # Every step is replayed equally often, whatever the number of environments.
    assert all(p["n_segments"] == p["n_envs"] for p in points)
    ours, peer = (contender.settings for contender in usual.contenders)
    shared = ("env_id", "n_steps", "replay_ratio", "replay_start")
    assert [ours[name] for name in shared] == [peer[name] for name in shared]


@pytest.mark.parametrize("n_envs", FULL.ppo_n_envs)
def test_ppo_is_compared_on_the_same_task(n_envs):
    (block,) = (block for block in plan(FULL) if block.name == training_block(n_envs))
    settings = {contender.name: contender.settings for contender in block.contenders}
    names = (PPO, FAST_PPO, SBX_PPO, SINGLE_FILE_PPO, TIANSHOU_PPO)
    shared = ("env_id", "n_envs", "steps_per_update")
    assert len({tuple(settings[name][key] for key in shared) for name in names}) == 1


def test_in_sb3s_make_vec_env_means_the_environment_of_the_originals():
    (block,) = (block for block in plan(FULL) if block.name == training_block(1))
    settings = {contender.name: contender.settings for contender in block.contenders}
    names = ("library", "env_id", "n_envs", "backend")
    for contender in (SB3_ENV_NPG, TRPO):
        given = {name: settings[contender].get(name, "dummy") for name in names}
        env = training._vec_env(**given, pool_threads=None, normalize=False)
        assert type(env) is DummyVecEnv
        assert env.envs[0].spec.id == "HalfCheetah-v5"


def test_normalised_means_vec_normalize_and_monitor_around_the_same_environment():
    (block,) = (block for block in plan(FULL) if block.name == training_block(1, normalized=True))
    trained = [each for each in block.contenders if each.task == "train"]
    assert {each.settings["env_id"] for each in trained} == {"HalfCheetah-v5"}
    for each in trained:
        given = {name: each.settings[name] for name in ("library", "env_id", "n_envs", "normalize")}
        env = training._vec_env(**given, backend="dummy", pool_threads=None)
        assert env.env_is_wrapped(Monitor) == [True]
        assert isinstance(env, VecNormalize) == (each.name != NPG)
        # The originals have SB3's own.
        assert each.worker == OURS or type(env) is VecNormalize
    model = training._model.__wrapped__("sb3_natural", "NPG", "CartPole-v1", 1, 64)
    assert model.normalize_observations
    assert model.normalize_returns


def test_single_file_ppo_has_the_numbers_of_sb3s_ppo():
    model = sb3.PPO("MlpPolicy", "Pendulum-v1", device="cpu")
    assert (model.n_epochs, model.batch_size) == (loop.EPOCHS, loop.MINIBATCH)
    assert (model.gamma, model.gae_lambda) == (loop.GAMMA, loop.GAE_LAMBDA)
    assert model.clip_range(1.0) == loop.CLIP_RANGE
    assert (model.vf_coef, model.max_grad_norm) == (loop.VALUE_WEIGHT, loop.MAX_GRAD_NORM)
    adam = model.policy.optimizer.defaults
    assert (adam["lr"], adam["eps"]) == (loop.LEARNING_RATE, loop.ADAM_EPS)
    training = loop.Training("Pendulum-v1", n_envs=1, n_steps=64)
    shapes = [sorted(p.numel() for p in m.parameters()) for m in (training.agent, model.policy)]
    assert shapes[0] == shapes[1]


def test_single_file_ppo_has_sb3s_advantages_and_learns():
    training = loop.Training("Pendulum-v1", n_envs=2, n_steps=256)
    training._collect()
    rollout, env = training.rollout, sb3.PPO("MlpPolicy", "Pendulum-v1", device="cpu").env
    assert rollout.starts.sum() > 0
    buffer = RolloutBuffer(256, env.observation_space, env.action_space, "cpu", n_envs=2)
    buffer.gae_lambda, buffer.gamma = loop.GAE_LAMBDA, loop.GAMMA
    buffer.rewards[:], buffer.values[:] = rollout.rewards, rollout.values
    buffer.episode_starts[:] = rollout.starts
    last_values = training.agent.value(training._observations).detach()
    buffer.compute_returns_and_advantage(last_values, training._starts.numpy())
    advantages = training._advantages()
    torch.testing.assert_close(
        advantages, torch.from_numpy(buffer.advantages), rtol=1e-4, atol=1e-3
    )

    def error() -> float:
        values = training.agent.value(rollout.observations.flatten(0, 1))
        return float((values - returns.flatten()).square().mean().detach())

    returns = advantages + rollout.values
    before = error()
    training._update(advantages, returns)
    assert error() < before


def test_ratio_is_the_median_of_paired_turns():
    rates = {"ours": [100.0, 10.0, 30.0], "peer": [50.0, 2.0, 10.0]}
    records = [
        {
            "block": "a",
            "contender": name,
            "task": "train",
            "repeat": repeat,
            "values": {"steps": rate, "seconds": 1.0},
        }
        for name, values in rates.items()
        for repeat, rate in enumerate(values)
    ]
    # A turn that only one of them has had says nothing.
    records.append({**records[0], "repeat": 3, "values": {"steps": 1e9, "seconds": 1.0}})
    ratio = Results(records).ratio("a", "ours", "peer")
    assert ratio == Spread((2.0, 5.0, 3.0))
    assert (ratio.median, ratio.low, ratio.high) == (3.0, 2.0, 5.0)
    assert Spread((4.0, 1.0)).median == 2.5


@pytest.mark.parametrize(
    ("relation", "value", "holds"),
    [(">=", 2.0, True), (">=", 1.9, False), ("<=", 2.0, True), ("<=", 2.1, False)],
)
def test_target_holds(relation, value, holds):
    assert Target("", relation, 2.0, "x", Spread((0.0, value, 9.0))).holds is holds
    assert Target("", relation, 2.0, "x", None, "no peer").holds is None


def test_targets_are_shown_with_their_range_and_why_one_is_missing():
    found = [
        Target("faster", ">=", 3.0, "x", Spread((2.5, 2.75, 3.5))),
        Target("small", "<=", 1.5, "x", Spread((0.75,))),
        Target("peer", ">=", 60.0, "x", None, "no peer"),
    ]
    assert targets_text(found).splitlines() == [
        "|        |          measured | target | unit | holds        |",
        "| ------ | ----------------: | ------ | ---- | ------------ |",
        "| faster | 2.75 [2.50, 3.50] | ≥ 3.00 | x    | **no**       |",
        "| small  |              0.75 | ≤ 1.50 | x    | yes          |",
        "| peer   |                 – | ≥ 60.0 | x    | not measured |",
        "",
        "Not measured:",
        "",
        "- peer: no peer",
    ]


def test_stopwatch_counts_once_and_only_when_asked():
    class Clock:
        def outer(self) -> None:
            self.inner()

        def inner(self) -> None:
            pass

    clock, stopwatch = Clock(), Stopwatch()
    stopwatch.watch(clock, "inner", "inner", only_during="outer")
    clock.inner()
    assert stopwatch.seconds == {}
    stopwatch.watch(clock, "outer", "outer")
    clock.outer()
    assert 0 < stopwatch.seconds["inner"] <= stopwatch.seconds["outer"]
    split = phases({"simulator": 1.0, "acting": 2.0}, 5.0)
    assert list(split) == list(PHASES)
    assert split["bookkeeping"] == 2.0
    assert sum(split.values()) == 5.0
    parts = acer_parts({"collecting": 1.0, "forward": 0.5}, 2.0)
    assert list(parts) == list(ACER_PARTS)
    assert parts["rest"] == 0.5


def test_both_updates_take_the_same_step():
    result = compare_updates([16, 16], 512, trpo_limit=60.0)
    assert result["cosine"] > 0.999
    left_out = compare_updates([16, 16], 512, trpo_limit=0.0)
    assert left_out["trpo"] is None
    assert left_out["npg"] > 0


def test_k_fac_and_conjugate_gradient_are_compared_on_one_system():
    values = compare_solvers([16, 16], 128, 2)
    assert set(values) == {"kfac", "cg"}
    assert min(values.values()) > 0


def test_worker_that_dies_says_why():
    worker = Worker([sys.executable, "-c", "import sys; sys.exit('no such library')"])
    try:
        with pytest.raises(WorkerError, match="exit code 1: no such library"):
            worker.wait_until_ready()
    finally:
        worker.close()


def test_peers_share_what_decides_the_speed(tmp_path):
    wanted = peers.requirements()
    for peer in ("tianshou", "pfrl", "sbx-rl"):
        assert any(requirement.startswith(peer) for requirement in wanted)
    assert f"torch=={torch.__version__.split('+')[0]}" in wanted
    with pytest.raises(UnavailableError, match="cannot be installed"):
        peers.install(tmp_path / "peers", ["./nowhere"])


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything as small as it gets, and peers that are not to be had."""
    monkeypatch.setattr(command, "QUICK", TINY)
    no_folder = tmp_path / "file"
    no_folder.touch()
    monkeypatch.setattr(peers, "ENVIRONMENT", no_folder / "peers")


@pytest.mark.usefixtures("tiny")
def test_command_writes_everything_and_goes_on_where_it_was(tmp_path):
    out = tmp_path / "speed"
    arguments = ["speed", "--quick", "--peers", "--out", str(out)]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    assert {path.name for path in out.iterdir()} == {
        "measurements",
        *(f"speed.{ending}" for ending in ("json", "csv", "md", "png", "svg")),
    }
    document = json.loads((out / "speed.json").read_text())
    check_measurements(document["measurements"])
    check_targets(document["targets"])
    check_page((out / "speed.md").read_text())

    # One measurement is lost: it alone is made again.
    files = sorted((out / "measurements").iterdir())
    lost = next(path for path in files if json.loads(path.read_text())["task"] == "simulate")
    times = {path: path.stat().st_mtime_ns for path in files}
    lost.unlink()
    second = CliRunner().invoke(app, arguments)
    assert second.exit_code == 0, second.output
    made = [path for path in files if path.stat().st_mtime_ns != times[path]]
    assert made == [lost]
    again = json.loads((out / "speed.json").read_text())["measurements"]
    assert [r for r in again if r["task"] != "simulate"] == [
        r for r in document["measurements"] if r["task"] != "simulate"
    ]


def test_a_spinning_environment_costs_what_is_asked():
    env = Spinning(2_000)
    env.reset()
    start = time.thread_time()
    for _ in range(10):
        observation = env.step(env.action_space.sample())[0]
    assert 0.02 <= time.thread_time() - start < 0.04
    assert env.observation_space.contains(observation)


@pytest.mark.usefixtures("tiny")
def test_worker_processes_are_compared_by_the_cost_of_a_step(tmp_path):
    arguments = ["speed", "--quick", "--out", str(tmp_path / "speed"), "--only", "stepping"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    shown = [line.split("|")[1].strip() for line in result.output.splitlines() if "|" in line]
    how = "8 environments, a process for each core / one process"
    assert shown[2:] == [f"HalfCheetah-v5, {how}", "a step", shown[4], "HalfCheetah-v5", "50 µs"]


@pytest.mark.usefixtures("tiny")
def test_some_blocks_can_be_measured_alone(tmp_path):
    out = tmp_path / "speed"
    arguments = ["speed", "--quick", "--out", str(out), "--only"]
    result = CliRunner().invoke(app, [*arguments, "training, 1 environment"])
    assert result.exit_code == 0, result.output
    assert "PPO, faster / PPO, 1 environment" in result.output
    assert "policy update" not in result.output
    assert [path.name for path in out.iterdir()] == ["measurements"]

    wrong = CliRunner().invoke(app, [*arguments, "training, 3 environments"])
    assert wrong.exit_code == 2
    assert "--only: 'training, 3 environments'" in wrong.output
    assert "training, 8 environments" in wrong.output


def check_measurements(records: list[dict]) -> None:
    for record in records:
        if record["contender"] in (TIANSHOU, TIANSHOU_PPO, SBX_PPO, PFRL_ACER):
            assert "the peers cannot be installed" in record["unavailable"]
        else:
            assert "values" in record, record
        values = record.get("values", {})
        if "phases" in values:
            assert list(values["phases"]) == list(PHASES)
            assert min(values["phases"].values()) >= 0
            assert sum(values["phases"].values()) == pytest.approx(values["seconds"])
            assert values["phases"]["simulator"] > 0
            assert values["phases"]["acting"] > 0
        if "parts" in values:
            assert list(values["parts"]) == list(ACER_PARTS)
            # Every part is found, under the names that the library has now.
            assert min(values["parts"].values()) > 0
            assert sum(values["parts"].values()) == pytest.approx(values["seconds"])
        if record["task"] == "train_acer" and values:
            settings = record["settings"]
            n_steps = settings["rollouts"] * settings["n_steps"] * settings["n_envs"]
            assert values["steps"] == n_steps
            assert values["updates"] >= settings["rollouts"]


def check_targets(found: list[dict]) -> None:
    missing = [target for target in found if target["holds"] is None]
    assert [target["name"] for target in missing] == [
        "NPG / Tianshou's NPG, training, 16 environments",
        "PPO, faster / SBX's PPO, 1 environment",
        "PPO, faster / Tianshou's PPO, 1 environment",
        "PPO, faster / SBX's PPO, 8 environments",
        "PPO, faster / Tianshou's PPO, 8 environments",
        "ACER, 8 environments / PFRL's ACER, training, CartPole-v1",
    ]
    assert all("the peers cannot be installed" in target["missing"] for target in missing)


def check_page(page: str) -> None:
    lines = page.splitlines()
    tables = [
        list(group)
        for is_table, group in groupby(lines, key=lambda line: line.startswith("|"))
        if is_table
    ]
    assert len(tables) == 11
    for table in tables:
        assert len(table) > 2
        assert len({len(line) for line in table}) == 1
        assert len({line.replace(r"\|", "").count("|") for line in table}) == 1
    assert any("the peers cannot be installed" in line for line in lines)
