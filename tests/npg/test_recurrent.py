"""One update of a recurrent policy: what it has in common with NPG, and what padding does."""

import copy

import numpy as np
import pytest
import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.env_util import make_vec_env

from sb3_natural import NPG, RecurrentNPG
from sb3_natural.curvature.solvers import Empirical
from sb3_natural.npg import MlpLstmPolicy
from sb3_natural.rollouts.sequences import SequenceBatches
from tests.npg.test_update import collected, logged
from tests.recurrent import MEMORIES, scribbled

SMALL = {"policy_kwargs": {"lstm_hidden_size": 8}}


class PassedThrough(MlpLstmPolicy):
    """The memory's output is its input."""

    @staticmethod
    def _process_sequence(features, lstm_states, episode_starts, lstm):
        return features, lstm_states


def weights(model):
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


def same(left, right):
    return all(torch.equal(left[name], right[name]) for name in left | right)


OPTIONS = {
    "default": {},
    "line search": {"line_search": True, "target_kl": 0.01},
    "fixed": {"step_size": 0.5},
    "plain": {"normalize_observations": False, "normalize_returns": False},
    "Adam": {"critic": "adam", "n_critic_updates": 3, "batch_size": 10_000},
    "dense": {"policy_kwargs": {"net_arch": [4]}, "fisher_solver": "dense"},
    "some steps": {"sub_sampling_factor": 3, "critic_curvature_samples": 50},
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_without_a_memory_it_is_npg(env, option):
    """The same rollout and the same weights: the same weights after an update, up to rounding."""
    # Conjugate gradient multiplies rounding errors in ill-conditioned systems, so these are not.
    given = {"n_steps": 128, "critic_curvature_samples": None, "critic_damping": 1.0}
    given |= copy.deepcopy(OPTIONS[option])
    npg = NPG("MlpPolicy", make_vec_env(env, 2, seed=0), seed=0, **given)
    npg._setup_learn(128)
    n_inputs = npg.observation_space.shape[0]
    given["policy_kwargs"] = given.get("policy_kwargs", {}) | {"lstm_hidden_size": n_inputs}
    ours = RecurrentNPG(PassedThrough, make_vec_env(env, 2, seed=0), seed=0, **given)
    missing, unexpected = ours.policy.load_state_dict(npg.policy.state_dict(), strict=False)
    assert unexpected == []
    assert {name.partition(".")[0] for name in missing} == {"lstm_actor", "lstm_critic"}
    collected(ours)
    npg._return_scale = copy.deepcopy(ours._return_scale)
    # In the order in which the sequences come, so that random choices fall on the same steps.
    batch = next(SequenceBatches(ours.rollout_buffer).get())
    plain = batch._replace(observations=batch.observations.observations)
    npg.rollout_buffer.get = lambda batch_size=None: iter([plain])
    before = {name: value.clone() for name, value in npg.policy.state_dict().items()}
    for model in (npg, ours):
        torch.manual_seed(3)
        model.train()
        assert logged(model)["train/skipped_updates"] == 0
    after = ours.policy.state_dict()
    for name, value in npg.policy.state_dict().items():
        scale = (value - before[name]).abs().max().item()
        assert scale > 0
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-3 * scale + 1e-7)
    theirs = logged(npg)
    for name, value in logged(ours).items():
        if name != "train/explained_variance":  # of the buffer that npg has not filled
            assert value == pytest.approx(theirs[name], rel=1e-2, abs=1e-5), name


@pytest.mark.parametrize("critic", ["adam", "gauss_newton"])
@pytest.mark.parametrize("memory", MEMORIES)
def test_what_is_in_the_padding_does_not_matter(memory, critic, monkeypatch):
    def run(changed):
        options = {"lstm_hidden_size": 8, **MEMORIES[memory]}
        env = make_vec_env("CartPole-v1", 2, seed=0)
        model = collected(
            RecurrentNPG(
                "MlpLstmPolicy", env, n_steps=64, seed=0, critic=critic, policy_kwargs=options
            )
        )
        n_scribbled = 0
        original = SequenceBatches.get

        def get(self, batch_size=None):
            nonlocal n_scribbled
            for batch in original(self, batch_size):
                n_rows = sum(len(block.observations) for block in batch.observations.blocks)
                n_scribbled += n_rows - len(batch.observations)
                yield batch._replace(observations=scribbled(batch.observations))

        with monkeypatch.context() as patch:
            if changed:
                patch.setattr(SequenceBatches, "get", get)
            np.random.seed(0)  # noqa: NPY002 - what minibatches are drawn with
            model.train()
        assert bool(n_scribbled) == changed
        return weights(model)

    assert same(run(changed=False), run(changed=True))


def test_the_measured_divergence_is_nearly_the_predicted_one():
    env = make_vec_env("Pendulum-v1", 2, seed=0)
    options = {"target_kl": 0.002, "max_log_std_change": None, **SMALL}
    model = collected(RecurrentNPG("MlpLstmPolicy", env, n_steps=256, seed=0, **options))
    model.train()
    assert logged(model)["train/kl_predicted"] == pytest.approx(0.002, rel=1e-4)
    assert logged(model)["train/kl"] == pytest.approx(0.002, rel=0.1)


def test_with_a_line_search_the_surrogate_improves_within_target_kl():
    env = make_vec_env("CartPole-v1", 2, seed=0)
    options = {"target_kl": 0.05, "line_search": True, **SMALL}
    model = collected(RecurrentNPG("MlpLstmPolicy", env, n_steps=256, seed=0, **options))
    model.train()
    assert 0.01 < logged(model)["train/kl"] <= 0.05
    assert logged(model)["train/policy_objective"] > 0.01


@pytest.mark.parametrize("solver", ["dense", "diagonal", "empirical", "identity"])
def test_every_solver_steps(solver):
    env = make_vec_env("CartPole-v1", 2, seed=0)
    model = RecurrentNPG(
        "MlpLstmPolicy",
        env,
        n_steps=16,
        seed=0,
        fisher_solver=solver,
        critic_solver="cg" if solver == "empirical" else solver,
        policy_kwargs={"lstm_hidden_size": 2, "net_arch": [3]},
    )
    before = weights(model)
    model.learn(32)
    assert logged(model)["train/skipped_updates"] == 0
    assert not same(before, weights(model))


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_critic_does_not_move_the_policy(memory):
    """With policy steps of next to no length, only the critic's own parameters move."""
    env = make_vec_env("CartPole-v1", 2, seed=0)
    options = {"lstm_hidden_size": 8, **MEMORIES[memory]}
    model = RecurrentNPG(
        "MlpLstmPolicy", env, n_steps=64, seed=0, step_size=lambda _: 0.0, policy_kwargs=options
    )
    before = {name: param.clone() for name, param in model.policy.named_parameters()}
    model.learn(256)
    moved = {
        name.partition(".")[0] + ("." + name.split(".")[1] if "mlp" in name else "")
        for name, param in model.policy.named_parameters()
        if not torch.equal(param, before[name])
    }
    own = {"separate": {"lstm_critic"}, "shared": set(), "actor only": {"critic"}}[memory]
    assert moved == {"mlp_extractor.value_net", "value_net"} | own


BAD = [
    ({"policy": RecurrentActorCriticPolicy, "rollout_buffer_class": None}, None),
    ({"policy": NPG.policy_aliases["MlpPolicy"]}, "policy must be one of MlpLstmPolicy"),
    ({"policy_kwargs": {"shared_lstm": True}}, "enable_critic_lstm=False"),
    (
        {
            "policy_kwargs": {
                "shared_lstm": True,
                "enable_critic_lstm": False,
                "share_features_extractor": False,
            }
        },
        "share_features_extractor=True",
    ),
    ({"policy_kwargs": {"lstm_kwargs": {"batch_first": True}}}, "batch_first"),
    ({"policy_kwargs": {"lstm_kwargs": {"bidirectional": True}}}, "bidirectional"),
    ({"rollout_buffer_kwargs": {"a": 1}}, "rollout_buffer_kwargs"),
    ({"n_steps": 0}, "n_steps must be at least 1"),
    ({"fisher_solver": "kfca"}, "fisher_solver must be"),
    ({"critic_solver": Empirical()}, "critic_solver must be"),
    ({"critic_curvature_samples": 0}, "critic_curvature_samples must be"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_bad_arguments_are_named(given, message):
    given = {"policy": "MlpLstmPolicy", **given}
    if message is None:
        with pytest.warns(UserWarning, match="does not normalise observations"):
            assert RecurrentNPG(env="CartPole-v1", **given).normalize_observations is False
        return
    with pytest.raises(ValueError, match=message):
        RecurrentNPG(env="CartPole-v1", **given)


def test_npg_refuses_a_policy_with_a_memory(tmp_path):
    with pytest.raises(ValueError, match="RecurrentNPG"):
        NPG(MlpLstmPolicy, "CartPole-v1")
    RecurrentNPG("MlpLstmPolicy", "CartPole-v1", n_steps=16).save(tmp_path / "recurrent")
    NPG("MlpPolicy", "CartPole-v1", n_steps=16).save(tmp_path / "plain")
    for weights_only in (False, True):
        with pytest.raises(ValueError, match="is a model of RecurrentNPG, which NPG cannot load"):
            NPG.load(tmp_path / "recurrent", weights_only=weights_only)
        with pytest.raises(ValueError, match="is a model of NPG, which RecurrentNPG cannot load"):
            RecurrentNPG.load(tmp_path / "plain", weights_only=weights_only)
