"""What updates gain on samples that they have not seen."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from typer.testing import CliRunner, Result

from benchmarks.__main__ import app
from benchmarks.errors import SpecError
from benchmarks.run import run
from benchmarks.signal import measure as measuring
from benchmarks.signal.command import _check_critics
from benchmarks.signal.figure import draw
from benchmarks.signal.measure import Discount, Truth, across, blocks_of, measure
from benchmarks.signal.policies import freeze, make, source_of_run, source_to_train
from benchmarks.signal.report import rows_of, table, warning
from benchmarks.signal.samples import (
    Samples,
    collect,
    estimates,
    fisher_of,
    refitted,
    values_of,
)
from benchmarks.signal.settings import (
    PLAIN,
    Advantages,
    Data,
    Plan,
    Setting,
    Solve,
    make_plan,
    numbers,
)
from sb3_natural import NPG
from sb3_natural.curvature.operators import Damped
from sb3_natural.curvature.solvers import ConjugateGradient, Dense
from sb3_natural.signal import normalised, sample_gradients
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, SpacesEnv

N_ENVS = 4
OWN = Advantages(0.95, "model")
BATCH = Data(32, 1)


def make_model(
    actions: str = "gaussian", n_steps: int = 16, net_arch: tuple[int, ...] = (4,)
) -> NPG:
    env = DummyVecEnv(
        [
            lambda: SpacesEnv(OBSERVATION_SPACES["mlp"], ACTION_SPACES[actions])
            for _ in range(N_ENVS)
        ]
    )
    return NPG(
        "MlpPolicy",
        env,
        n_steps=n_steps,
        normalize_returns=False,
        seed=0,
        device="cpu",
        policy_kwargs={"net_arch": list(net_arch), "log_std_init": -0.5},
    )


def plan_of(*solves: Solve, data: Data = BATCH, advantages: Advantages = OWN) -> Plan:
    return Plan([data], [advantages], [Solve(PLAIN), *solves])


# --- samples


def test_samples_of_a_model_that_scales_rewards_have_its_scale():
    rewards = []
    for factor in (1.0, 4.0):
        model = make_model(n_steps=8)
        model.normalize_returns = True
        model._return_scale._moments.var = np.array(factor**2)
        model._return_scale._moments.count = 1e12  # what is collected does not change it
        rewards.append(collect(model, 16).rewards)
    np.testing.assert_allclose(rewards[0], 4 * rewards[1], rtol=1e-6)


def test_samples_are_those_of_the_rollout_buffer():
    """Block by block, advantages are what SB3 computes for a rollout that ends there."""
    model = make_model(n_steps=8)
    kept = []

    class Buffer(type(model.rollout_buffer)):
        def __init__(self, of):
            vars(self).update(vars(of))

        def compute_returns_and_advantage(self, last_values, dones):
            super().compute_returns_and_advantage(last_values, dones)
            kept.append((self.advantages.copy(), self.returns.copy(), self.rewards.copy()))

    model.rollout_buffer = Buffer(model.rollout_buffer)
    samples = collect(model, 24)
    assert samples.shape == (24, N_ENVS)
    values = values_of(model.policy, samples, model.gamma)
    for i, (advantages, returns, rewards) in enumerate(kept):
        block = i * 8, (i + 1) * 8
        found = estimates(samples, values, *block, model.gamma, model.gae_lambda)
        np.testing.assert_allclose(found[0].view(8, N_ENVS), advantages, atol=1e-5)
        np.testing.assert_allclose(found[1].view(8, N_ENVS), returns, atol=1e-5)
        np.testing.assert_allclose(values.rewards[slice(*block)], rewards, atol=1e-5)


def test_time_limits_are_bootstrapped_with_the_critic_that_is_asked():
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1", max_episode_steps=5) for _ in range(2)])
    model = NPG("MlpPolicy", env, n_steps=16, seed=0, device="cpu")
    samples = collect(model, 16)
    assert [(each.step, each.env_index) for each in samples.cut_off] == [
        (step, i) for step in (4, 9, 14) for i in (0, 1)
    ]
    before = values_of(model.policy, samples, 0.9)
    np.testing.assert_array_equal(before.rewards != samples.rewards, samples.starts[1:] == 1)
    with torch.no_grad():
        model.policy.value_net.bias += 3.0
    after = values_of(model.policy, samples, 0.9)
    np.testing.assert_allclose(after.values, before.values + 3.0, atol=1e-5)
    bonus = 0.9 * 3.0 * samples.starts[1:]
    np.testing.assert_allclose(after.rewards, before.rewards + bonus, atol=1e-4)


@pytest.mark.parametrize("env_id", ["Taxi-v4", "Pendulum-v1"])
def test_collecting_leaves_the_policy_and_the_statistics_alone(env_id):
    env = VecNormalize(
        DummyVecEnv([lambda: gym.make(env_id) for _ in range(2)]), norm_obs=env_id != "Taxi-v4"
    )
    model = NPG("MlpPolicy", env, n_steps=16, seed=0, device="cpu")
    model.learn(32)
    params = {name: value.clone() for name, value in model.policy.state_dict().items()}
    freeze(model)
    counts = env.ret_rms.count
    samples = collect(model, 20)
    assert samples.shape == (32, 2)
    assert len(samples.observations) == len(samples.starts) == 33
    assert env.ret_rms.count == counts
    for name, value in model.policy.state_dict().items():
        assert torch.equal(value, params[name])
    fisher = fisher_of(model.policy, samples, 3, 10)
    assert fisher.n_samples == len(fisher.actions) == 14


def test_refitting_fits_its_block_and_puts_the_critic_back():
    model = make_model()
    samples = collect(model, 256)
    # Of episodes of one step, whose reward the observation tells.
    rewards = 3.0 + 2.0 * samples.observations[:-1, :, 0]
    samples = replace(samples, rewards=rewards, starts=np.ones_like(samples.starts), cut_off=[])
    before = model.policy.state_dict()["value_net.weight"].clone()
    own = values_of(model.policy, samples, model.gamma)
    new = refitted(model.policy, samples, 0, 128, model.gamma, 1.0)
    assert torch.equal(model.policy.state_dict()["value_net.weight"], before)

    def errors(values, start, stop):
        returns = estimates(samples, values, start, stop, model.gamma, 1.0)[1]
        residuals = returns.numpy() - values.values[start:stop].flatten()
        return float(np.mean(residuals**2))

    assert errors(new, 0, 128) < 0.05 * errors(own, 0, 128)
    assert errors(new, 128, 256) < 0.05 * errors(own, 128, 256)


# --- the truth


def repeated(samples: Samples, times: int) -> Samples:
    """The same steps again and again; each copy ends with its last episodes."""
    n_steps = samples.shape[0]
    starts = samples.starts[:n_steps].copy()
    starts[0] = 1
    return Samples(
        np.concatenate([*[samples.observations[:n_steps]] * times, samples.observations[:1]]),
        np.concatenate([samples.actions] * times),
        np.concatenate([samples.rewards] * times),
        np.concatenate([*[starts] * times, np.ones_like(starts[:1])]),
        [],
    )


@pytest.mark.parametrize("actions", ["gaussian", "categorical"])
def test_without_noise_the_natural_gradient_gains_all(actions, monkeypatch):
    """Every block of the truth and every batch has the same samples: a gradient without noise."""
    monkeypatch.setattr(measuring, "_DAMPING", 1e-5)  # which shortens the best direction a little
    monkeypatch.setattr(measuring, "_ITERATIONS", 300)
    model = make_model(actions, net_arch=())
    blocks = measuring.TRUTH_BLOCKS
    samples = repeated(collect(model, 16), 2 * blocks)
    exact = Solve("dense", measuring._DAMPING)
    solves = [exact, *(Solve("cg", 0.01, k) for k in (1, 3, 100)), Solve("dense", 10.0)]
    truth, found = measure(
        model.policy,
        samples,
        16 * blocks,
        plan_of(*solves, data=Data(16 * N_ENVS, 1)),
        Discount(model.gamma, OWN.gae_lambda),
    )
    assert truth.signal == pytest.approx(truth.in_sample, rel=1e-5)
    assert truth.error < 1e-3 * truth.signal
    rows = {row.setting.solve: row for row in rows_of(found, truth.best)}
    assert len(rows[exact].gains) == blocks
    assert rows[exact].gain.value == pytest.approx(1.0, abs=2e-3)
    assert 0.9 < rows[Solve("cg", 0.01, 100)].gain.value < rows[exact].gain.value
    plain, one, three = (rows[each].gain.value for each in (Solve(PLAIN), solves[1], solves[2]))
    assert one == pytest.approx(plain, rel=1e-5)
    assert plain < three < rows[exact].gain.value
    assert plain < rows[solves[-1]].gain.value < rows[exact].gain.value
    assert rows[exact].over_plain.value == pytest.approx(rows[exact].gain.value - plain)
    assert rows[exact].share_of_kl == pytest.approx(rows[exact].gain.value ** 2)


class Bandit:
    """Samples of a policy whose signal is known: rewards are SLOPE a, plus noise, in one step."""

    SLOPE, NOISE, SIGMA = 0.3, 1.0, np.exp(-0.5)

    def __init__(self) -> None:
        self.model = make_model()
        self.n_actions = 2
        policy = self.model.policy
        with torch.no_grad():
            for param in (policy.action_net.weight, policy.value_net.weight):
                param.zero_()
            policy.log_std.fill_(-0.5)
        self.rng = np.random.default_rng(0)

    def samples(self, n_steps: int) -> Samples:
        observations = np.zeros((n_steps + 1, N_ENVS, 4), np.float32)
        noise = self.rng.normal(size=(n_steps, N_ENVS, self.n_actions))
        bias = self.model.policy.action_net.bias.detach().numpy()
        actions = bias + self.SIGMA * noise
        rewards = self.SLOPE * actions.sum(axis=2)
        rewards += self.NOISE * self.rng.normal(size=rewards.shape)
        return Samples(
            observations,
            actions.astype(np.float32),
            rewards.astype(np.float32),
            np.ones((n_steps + 1, N_ENVS), np.float32),
            [],
        )

    def signal(self, damping: float) -> float:
        """g = SLOPE and F = SIGMA^-2 for each action's bias, and no other parameter has any."""
        variance = self.n_actions * (self.SLOPE * self.SIGMA) ** 2 + self.NOISE**2
        return self.n_actions * self.SLOPE**2 / (self.SIGMA**-2 + damping) / variance


def test_the_truths_signal_is_unbiased_and_its_error_is_true():
    bandit, found = Bandit(), []
    policy = bandit.model.policy
    for _ in range(150):
        samples = bandit.samples(64)
        values = values_of(policy, samples, 0.99)
        truth = measuring.find_truth(policy, samples, values, 64, Discount(0.99, 0.95))
        found.append((truth.signal, truth.error, truth.in_sample))
    signals, errors, in_sample = np.array(found).T
    true = bandit.signal(measuring._DAMPING)
    standard_error = signals.std() / np.sqrt(len(signals))
    assert abs(signals.mean() - true) < 4 * standard_error
    assert in_sample.mean() - true > 5 * standard_error
    assert in_sample.mean() - true == pytest.approx(4 / (64 * N_ENVS), rel=0.25)
    assert np.sqrt((errors**2).mean()) == pytest.approx(signals.std(), rel=0.35)


def test_gains_are_those_that_the_known_gradient_gives():
    """One truth from many samples: a batch's gain is the cosine to the known direction."""
    bandit = Bandit()
    policy, steps = bandit.model.policy, 4_096
    exact = Solve("dense", 0.01)
    truth, found = measure(
        policy, bandit.samples(2 * steps), steps, plan_of(exact), Discount(0.99, 0.95)
    )
    gains = np.array(found[Setting(Data(32, 1), OWN, exact)]) / truth.best
    assert len(gains) == steps * N_ENVS // 32
    # x is F^-1 (g + noise): signal s, and noise 1/N for each of 2 biases and 2 log_stds.
    known = np.random.default_rng(1).normal(size=(20_000, 4)) / np.sqrt(32)
    known[:, 0] += np.sqrt(bandit.signal(0.01))
    expected = (known[:, 0] / np.linalg.norm(known, axis=1)).mean()
    assert gains.mean() == pytest.approx(expected, abs=0.04)
    # Without the independent samples, each batch would seem to gain much more.
    in_sample = [
        float(g @ Dense().solve(Damped(f, 0.01), g).direction)
        for f, g in batches(policy, bandit.samples(256), 8)
    ]
    assert np.mean(in_sample) > 1.8 * bandit.signal(0.01)


@pytest.mark.parametrize("critic", ["model", "refit"])
def test_without_signal_nothing_is_gained(critic, monkeypatch):
    """Nor by a critic that is fitted to other batches, over episodes of twenty steps."""
    monkeypatch.setattr(Bandit, "SLOPE", 0.0)
    bandit, found = Bandit(), []
    advantages = Advantages(0.95, critic)
    plan = plan_of(Solve("cg", 0.1, 10), advantages=advantages)
    for _ in range(15):
        samples = bandit.samples(256)
        starts = bandit.rng.random(samples.starts.shape) < 0.05
        samples = replace(samples, starts=starts.astype(np.float32))
        _, improvements = measure(
            bandit.model.policy, samples, 128, plan, Discount(0.99, advantages.gae_lambda)
        )
        found.append([each.mean() for each in improvements.values()])
    means, errors = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
    assert (np.abs(means) < 4 * errors).all()


def batches(policy, samples, length):
    values = values_of(policy, samples, 0.99)
    for start in range(0, samples.shape[0], length):
        fisher = fisher_of(policy, samples, start, start + length)
        advantages = estimates(samples, values, start, start + length, 0.99, 0.95)[0]
        per_sample = sample_gradients(fisher, normalised(advantages)) / fisher.n_samples
        yield fisher, fisher.jacobian.vjp(per_sample)


def test_across_leaves_out_the_diagonal_and_its_error_is_the_jackknifes():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2_000):
        vectors = rng.normal(size=(8, 5)) + 0.5
        found.append((*across(vectors @ vectors.T), np.mean(vectors @ vectors.T)))
    means, errors, in_sample = np.array(found).T
    assert means.mean() == pytest.approx(5 * 0.25, abs=0.05)
    assert in_sample.mean() == pytest.approx(5 * 0.25 + 5 / 8, abs=0.05)
    assert np.sqrt((errors**2).mean()) == pytest.approx(means.std(), rel=0.15)


def test_no_signal_means_no_gains():
    truth = Truth.__new__(Truth)
    truth.signal = -0.001
    assert np.isnan(truth.best)
    setting = Setting(Data(32, 1), OWN, Solve(PLAIN))
    (row,) = rows_of({setting: np.array([0.1, 0.2])}, truth.best)
    assert np.isnan(row.gain.value)
    assert table([row]).columns[-2].data()["share of KL (%)"] == [None]


def test_averaging_pools_batches_with_advantages_of_their_own():
    blocks = blocks_of(Data(32, 3), 100, 200, N_ENVS)
    assert (blocks.length, blocks.batch) == (24, 8)
    assert blocks.starts == [100, 124, 148, 172]
    assert (blocks.middle, blocks.stop) == (148, 196)
    bandit = Bandit()
    samples = bandit.samples(256)
    gains = {}
    for data in (Data(32, 1), Data(32, 4), Data(128, 1)):
        plan = plan_of(Solve("cg", 0.1, 10), data=data)
        _, found = measure(bandit.model.policy, samples, 128, plan, Discount(0.99, 0.95))
        gains[data] = found[Setting(data, OWN, Solve("cg", 0.1, 10))]
    assert [len(each) for each in gains.values()] == [16, 4, 4]
    # Every step is an episode, so that nothing is bootstrapped where a batch ends.
    np.testing.assert_allclose(gains[Data(32, 4)], gains[Data(128, 1)], rtol=1e-4)


def test_a_batch_without_a_solution_takes_no_step():
    bandit = Bandit()
    samples = bandit.samples(64)
    samples.rewards[32:] = 1.0  # all batches' advantages are equal
    bandit.model.policy.value_net.bias.data.zero_()
    solves = [Solve("cg", 0.1, 5), Solve("diagonal", 0.0)]
    _, found = measure(bandit.model.policy, samples, 32, plan_of(*solves), Discount(0.99, 0.95))
    for improvements in found.values():
        np.testing.assert_array_equal(improvements, 0.0)


# --- options


def test_numbers_of_an_option():
    assert numbers("--batch", "512, 64", int, 1) == [64, 512]
    for text, said in (
        ("5,x", "--batch: must be integers of at least 1, separated by commas, got 'x'"),
        ("0", "got '0'"),
        ("", "got ''"),
        ("2.5", "got '2.5'"),
        ("4,4", "--batch: 4 is given twice"),
    ):
        with pytest.raises(SpecError) as error:
            numbers("--batch", text, int, 1)
        assert said in str(error.value)
    for text in ("nan", "inf", "-1"):
        with pytest.raises(SpecError, match="numbers of at least 0"):
            numbers("--damping", text, float, 0)


def test_a_plan_is_each_with_each():
    plan = make_plan("64,32", "1,2", "", "model,refit", "cg,dense", "0.1,1", "3,5", 0.9)
    assert plan.data == [Data(32, 1), Data(32, 2), Data(64, 1), Data(64, 2)]
    assert plan.advantages == [Advantages(0.9, "model"), Advantages(0.9, "refit")]
    assert plan.solves == [
        Solve("identity"),
        *(Solve("cg", d, k) for d in (0.1, 1.0) for k in (3, 5)),
        *(Solve("dense", d) for d in (0.1, 1.0)),
    ]
    many = ",".join(map(str, range(1, 40)))
    with pytest.raises(SpecError, match="at most 1,000 settings, each with each, got 1,560"):
        make_plan(many, "1", "", "model", "cg", "0.1", many, 0.9)


EIGHT = ["--env", "CartPole-v1", "--set", "n_envs=8"]
SMALL = ["--samples", "1024", "--batch", "64,128", "--iterations", "1,5"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["signal", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--env or --model: one of them must be given"),
        (["--env", "Nosuch-v0"], "--env: 'Nosuch-v0' is not an environment of Gymnasium"),
        (["--env", "CartPole-v1", "--solver", "magic"], "--solver: 'magic' is not one of cg, "),
        (["--env", "CartPole-v1", "--critic", "mine"], "--critic: 'mine' is not one of model, "),
        (["--env", "CartPole-v1", "--gae-lambda", "1.5"], "--gae-lambda: must be numbers from 0"),
        ([*EIGHT, "--batch", "100"], "--batch: must be a multiple of the 8 env"),
        ([*EIGHT, "--samples", "96"], "--samples: must be at least 128 with 8"),
        (["--env", "CartPole-v1", "--samples", "1024"], "--batch: 512: must be at most 256, a qu"),
        (
            ["--env", "CartPole-v1", "--samples", "1024", "--batch", "64", "--average", "8"],
            "--batch: 64 times --average 8: must be at most 256",
        ),
        (
            ["--env", "CartPole-v1", "--solver", "empirical", "--damping", "0,1"],
            "--damping: must be positive for --solver empirical, got 0",
        ),
        (["--env", "CartPole-v1", "--algo", "acer"], "--algo: must be of an on-policy algorithm"),
        (
            ["--env", "CartPole-v1", "--algo", "recurrent_npg"],
            "--algo: must be of policies without",
        ),
        (["--env", "CartPole-v1", "--algo", "no"], "--algo"),
        (["--env", "CartPole-v1", "--set", "device=meta"], "--set: device: must be 'cpu'"),
        (["--env", "CartPole-v1", "--set", "gama=1"], "--set: gama: 1 is for a hyperparameter"),
        (["--env", "CartPole-v1", "--set", "n_timesteps=1"], "--set: n_timesteps: use --train"),
        (["--model", "nowhere"], "nowhere"),
        (["--model", "nowhere", "--train", "5"], "--algo, --train and --set are for a policy that"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_training(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NPG, "learn", None)
    result = call(*arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_policy_is_trained_and_measured(tmp_path: Path) -> None:
    settings = ["--set", "n_steps=16", "--set", "policy_kwargs=dict(net_arch=[8])"]
    out = tmp_path / "out"
    arguments = ["--env", "CartPole-v1", "--train", 512, *SMALL, *settings, "--damping", "0.1,1"]
    result = call(*arguments, "--seed", 2, "--out", out)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} >= {"signal.csv", "signal.md", "signal.json"}

    document = json.loads((out / "signal.json").read_text())
    assert document["policy"]["env_id"] == "CartPole-v1"
    assert document["policy"]["n_timesteps"] == 512
    assert document["command"].startswith("python -m benchmarks ")
    assert document["truth"]["samples"] == 512
    assert document["truth"]["signal"] > 0  # or there are no gains to look at
    assert len(document["rows"]) == 2 * (1 + 2 * 2)
    assert [len(row["gains"]) for row in document["rows"]] == [8] * 5 + [4] * 5

    few = "fewer than 8 batches (here as few as 4)"
    assert few in " ".join(result.output.split())
    assert few in (out / "signal.md").read_text()

    rows = list(csv.DictReader((out / "signal.csv").open()))
    assert len(rows) == len(document["rows"])
    for row, stored in zip(rows, document["rows"], strict=True):
        assert (row["solver"], int(row["batch"])) == (stored["solver"], stored["batch"])
        assert float(row["gain"]) == pytest.approx(np.mean(stored["gains"]), abs=1e-5)
        assert float(row["gain low"]) <= float(row["gain"]) <= float(row["gain high"])
    # One step of conjugate gradient is the plain gradient, whatever the damping.
    by_batch = {row["batch"]: row["gains"] for row in document["rows"] if row["solver"] == PLAIN}
    for row in document["rows"]:
        if row["iterations"] == 1:
            assert row["gains"] == pytest.approx(by_batch[row["batch"]], rel=1e-3, abs=1e-5)

    again = call(*arguments, "--seed", 2, "--out", tmp_path / "again")
    assert again.exit_code == 0
    assert (tmp_path / "again/signal.csv").read_bytes() == (out / "signal.csv").read_bytes()


def test_a_finished_runs_policy_is_measured_with_its_statistics(
    tmp_path: Path, make_spec: Callable
) -> None:
    spec = make_spec("npg", "Pendulum-v1", 3, 512, normalize=True)
    folder = run(spec, tmp_path / "runs", "made for a test")
    model = make(source_of_run(folder, "Pendulum-v1"))
    trained = NPG.load(folder / "model.zip").policy.state_dict()
    for name, value in model.policy.state_dict().items():
        assert torch.equal(value, trained[name])
    env = model.get_env()
    assert isinstance(env, VecNormalize)
    assert env.obs_rms.count > 500
    assert model.n_envs == 2

    result = call("--model", folder, *SMALL, "--critic", "refit", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out/signal.json").read_text())
    assert document["run"] == folder.name
    assert {row["critic"] for row in document["rows"]} == {"refit"}

    result = call("--model", folder, "--env", "CartPole-v1", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "--env: must be Pendulum-v1, that of the run in --model" in result.stderr
    (folder / "vecnormalize.pkl").write_bytes(b"nothing")
    result = call("--model", folder, *SMALL, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "vecnormalize.pkl: cannot be read" in result.stderr
    (folder / "model.zip").unlink()
    result = call("--model", folder, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "has no model.zip" in result.stderr


def test_a_policy_without_values_of_its_own_is_not_refitted(tmp_path: Path) -> None:
    source = source_to_train("CartPole-v1", "npg", 64, 0, {})
    model = make(source)
    for net in (model.policy.mlp_extractor.value_net, model.policy.value_net):
        net.requires_grad_(False)
    _check_critics(plan_of(), model)
    with pytest.raises(SpecError, match="--critic: refit needs parameters that move the values"):
        _check_critics(plan_of(advantages=Advantages(0.9, "refit")), model)


# --- the figure


@pytest.mark.parametrize(
    ("solves", "n_panels", "label"),
    [
        (
            [Solve("cg", d, k) for d in (0.1, 1.0) for k in (1, 5)],
            2,
            "conjugate gradient iterations",
        ),
        ([Solve("cg", 0.1, 5), Solve("diagonal", 0.1)], 1, "samples in the batch"),
    ],
)
def test_the_figure_shows_every_gain(solves, n_panels, label):
    rng = np.random.default_rng(0)
    improvements = {
        Setting(Data(n, 1), OWN, solve): rng.normal(0.5, 0.1, size=6)
        for n in (64, 512)
        for solve in (Solve(PLAIN), *solves)
    }
    rows = rows_of(improvements, 1.0)
    figure = draw(rows, "Task")
    assert len(figure.axes) == n_panels
    shown = [y for ax in figure.axes for line in ax.lines for y in np.atleast_1d(line.get_ydata())]
    for row in rows:
        assert np.isclose(shown, row.gain.value).any()
    assert {ax.get_xlabel() for ax in figure.axes} == {label}
    assert figure.axes[0].get_ylabel() == "gain (1: the best direction)"


@pytest.mark.parametrize(("n_batches", "warns"), [(7, True), (8, False)])
def test_intervals_over_a_few_batches_come_with_a_warning(n_batches, warns):
    setting = Setting(Data(64, 1), OWN, Solve(PLAIN))
    rows = rows_of({setting: np.linspace(0, 1, n_batches)}, 1.0)
    assert bool(warning(rows)) == warns


def test_conjugate_gradient_is_named_with_its_iterations():
    assert isinstance(measuring._solver(Solve("cg", 0.1, 7)), ConjugateGradient)
    assert measuring._solver(Solve("cg", 0.1, 7)).max_steps == 7
