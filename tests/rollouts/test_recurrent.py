"""Rollouts of recurrent policies, against sb3-contrib's own, and as batches of sequences."""

import copy

import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_natural import RecurrentNPG
from sb3_natural.curvature.sequences import SequencePolicy
from sb3_natural.rollouts.sequences import SequenceBatches
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, SpacesEnv
from tests.recurrent import MEMORIES, POLICIES, filled_buffer, make_recurrent_policy

PLAIN = {"normalize_observations": False, "normalize_returns": False, "critic_gae_lambda": None}


class Rollouts(BaseCallback):
    """Keeps a copy of each rollout."""

    def __init__(self):
        super().__init__()
        self.buffers = []

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.buffers.append(copy.deepcopy(self.model.rollout_buffer))


def make_envs(actions="categorical", observations="mlp", n_envs=3):
    def env(index):
        inner = SpacesEnv(
            copy.deepcopy(OBSERVATION_SPACES[observations]),
            copy.deepcopy(ACTION_SPACES[actions]),
            length=5 + 2 * index,
        )
        inner.observation_space.seed(index)
        return inner

    return DummyVecEnv([lambda index=index: env(index) for index in range(n_envs)])


def assert_same(ours, theirs):
    for name in (
        "actions",
        "episode_starts",
        "values",
        "log_probs",
        "hidden_states_pi",
        "cell_states_pi",
        "hidden_states_vf",
        "cell_states_vf",
    ):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), name)
    # Values after time limits are computed together here, one by one there.
    for name in ("rewards", "advantages", "returns"):
        one, other = getattr(ours, name), getattr(theirs, name)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5, err_msg=name)
    if isinstance(ours.observations, dict):
        for key, rows in ours.observations.items():
            np.testing.assert_array_equal(rows, theirs.observations[key])
    else:
        np.testing.assert_array_equal(ours.observations, theirs.observations)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("env", ["Pendulum-v1", "CartPole-v1"])
def test_a_rollout_is_the_one_that_sb3_contrib_collects(env, memory):
    """In Pendulum-v1, time limits end the episodes after 200 steps."""
    buffers = []
    for cls, own in ((RecurrentNPG, PLAIN), (RecurrentPPO, {})):
        model = cls(
            RecurrentPPO.policy_aliases["MlpLstmPolicy"],
            make_vec_env(env, 3, seed=0),
            n_steps=256,
            gae_lambda=0.9,
            seed=0,
            policy_kwargs={"lstm_hidden_size": 8, **MEMORIES[memory]},
            **own,
        )
        rollouts = Rollouts()
        model.learn(3 * 256, callback=rollouts)
        buffers.append(rollouts.buffers[0])
    assert buffers[0].episode_starts[1:].any()
    assert_same(*buffers)


@pytest.mark.parametrize(("actions", "observations"), [("gsde", "mlp"), ("bernoulli", "dict")])
def test_the_memory_goes_on_from_rollout_to_rollout(actions, observations):
    buffers = []
    for cls, own in ((RecurrentNPG, PLAIN), (RecurrentPPO, {})):
        model = cls(
            RecurrentPPO.policy_aliases[POLICIES[observations]],
            make_envs(actions, observations),
            n_steps=8,
            gae_lambda=0.9,
            use_sde=actions == "gsde",
            sde_sample_freq=4,
            seed=0,
            policy_kwargs={"lstm_hidden_size": 8},
            **own,
        )
        model.train = lambda: None
        rollouts = Rollouts()
        model.learn(3 * 3 * 8, callback=rollouts)
        buffers.append(rollouts.buffers)
    for ours, theirs in zip(*buffers, strict=True):
        assert_same(ours, theirs)
    assert (ours.hidden_states_pi[0, :, ours.episode_starts[0] == 0] != 0).all()


@pytest.mark.parametrize("memory", MEMORIES)
def test_whole_sequences_give_the_log_probabilities_and_values_of_single_steps(memory):
    rollouts = Rollouts()
    model = RecurrentNPG(
        "MlpLstmPolicy",
        make_envs(),
        n_steps=16,
        seed=0,
        policy_kwargs={"lstm_hidden_size": 8, **MEMORIES[memory]},
    )
    with torch.no_grad():
        model.policy.action_net.weight.normal_()  # SB3 starts with nearly equal probabilities
    model.train = lambda: None
    model.learn(2 * 3 * 16, callback=rollouts)
    batch = next(SequenceBatches(rollouts.buffers[1]).get())
    policy = SequencePolicy(model.policy)
    with torch.no_grad():
        distribution = policy.get_distribution(batch.observations)
        log_probs = distribution.log_prob(batch.actions.flatten())
        values = policy.predict_values(batch.observations).flatten()
    torch.testing.assert_close(log_probs, batch.old_log_prob)
    torch.testing.assert_close(values, batch.old_values)
    assert distribution.entropy().std() > 0.01


@pytest.mark.parametrize("batch_size", [None, 1, 4, 1000])
def test_every_step_is_in_one_batch_once(batch_size):
    policy = make_recurrent_policy(actions="gaussian", observations="mlp")
    n_steps, n_envs = 11, 3
    buffer = filled_buffer(policy, n_steps, n_envs, [(0, 1), (1, 1), (5, 2), (7, 2)])
    batches = list(SequenceBatches(buffer).get(batch_size))
    place = {value: row for row, value in enumerate(buffer.returns.reshape(-1).tolist())}
    rows = [np.array([place[value] for value in b.returns.tolist()]) for b in batches]
    assert sorted(np.concatenate(rows)) == list(range(n_steps * n_envs))
    for batch, index in zip(batches, rows, strict=True):
        for ours, name in (
            (batch.observations.observations, "observations"),
            (batch.actions, "actions"),
            (batch.old_values, "values"),
            (batch.old_log_prob, "log_probs"),
            (batch.advantages, "advantages"),
        ):
            expected = getattr(buffer, name)[index].reshape(ours.shape)
            np.testing.assert_array_equal(ours.numpy(), expected, name)
        if batch_size is not None:
            assert len(index) < 2 * batch_size


def test_minibatches_start_from_the_states_of_their_first_steps():
    policy = make_recurrent_policy()
    buffer = filled_buffer(policy, 8, 2, [(6, 1)])
    batches = list(SequenceBatches(buffer).get(4))
    place = {value: row for row, value in enumerate(buffer.returns.reshape(-1).tolist())}
    firsts = []
    for batch in batches:
        n_before = 0
        for block in batch.observations.blocks:
            length = len(block.observations) // block.n_sequences
            for sequence in range(block.n_sequences):
                rows = batch.observations.rows
                (step,) = (rows == n_before + sequence * length).nonzero().flatten().tolist()
                first = place[batch.returns[step].item()]
                firsts.append(first)
                for part in ("pi", "vf"):
                    for state, kind in zip(
                        getattr(block, f"states_{part}"), ("hidden", "cell"), strict=True
                    ):
                        stored = getattr(buffer, f"{kind}_states_{part}")[first]
                        expected = 0 * stored if first == 14 else stored  # an episode begins
                        np.testing.assert_array_equal(state[:, sequence].numpy(), expected)
            n_before += len(block.observations)
    assert sorted(firsts) == [0, 4, 8, 12, 14]


def test_n_steps_may_change_between_rollouts():
    model = RecurrentNPG("MlpLstmPolicy", make_envs(), n_steps=16, seed=0)
    model.learn(3 * 16)
    model.n_steps = 9
    model.learn(3 * 9)
    assert model.rollout_buffer.hidden_states_pi.shape[0] == 9 * 3
    assert model.num_timesteps == 3 * 9


class Watcher(BaseCallback):
    """Compares what callbacks see with what the policy returns."""

    def _on_step(self):
        seen = self.locals
        policy = self.model.policy
        starts = torch.as_tensor(self.model._last_episode_starts).float()
        values = policy.predict_values(
            seen["obs_tensor"] + 0, self.model._last_lstm_states.vf, starts
        )
        torch.testing.assert_close(seen["values"], values.detach())
        assert seen["log_probs"].shape == (3,)
        assert len(seen["lstm_states"].pi) == 2
        return self.n_calls < 20


def test_callbacks_see_a_steps_values_and_can_stop():
    model = RecurrentNPG("MlpLstmPolicy", make_envs(), n_steps=16, seed=0)
    model.learn(3 * 64, callback=Watcher())
    assert model.num_timesteps == 3 * 20
    assert model._n_updates == 1
    model.learn(3 * 16, reset_num_timesteps=False)
    assert model._n_updates == 2
