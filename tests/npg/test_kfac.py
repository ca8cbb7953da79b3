"""NPG with K-FAC: the solver lives, and is saved, with the model."""

import copy
import pickle

import pytest
import torch

from sb3_natural import NPG
from sb3_natural.curvature.solvers import KFAC
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES
from tests.npg.test_sb3_contract import POLICIES, make_envs, same, weights


def build(**kwargs):
    arguments = dict(fisher_solver="kfac", critic_solver="kfac", n_steps=32, seed=0, device="cpu")
    return NPG("MlpPolicy", "Pendulum-v1", **{**arguments, **kwargs})


def n_updates(model):
    """Of the policy's K-FAC and of the critic's, which takes two steps a rollout."""
    return [each.state_dict()["n_updates"] for each in (model._fisher_kfac, model._critic_kfac)]


@pytest.mark.parametrize("observations", OBSERVATION_SPACES)
@pytest.mark.parametrize("actions", [name for name in ACTION_SPACES if name != "gsde"])
def test_learns_in_every_space(actions, observations):
    env = make_envs(actions, observations, 2)
    model = NPG(
        POLICIES[observations],
        env,
        n_steps=8,
        fisher_solver=KFAC(others="error"),
        critic_solver="kfac",
        seed=0,
    )
    start = weights(model)
    model.learn(32)
    assert not same(start, weights(model))
    assert all(torch.isfinite(value).all() for value in weights(model).values())
    assert model.logger.name_to_value["train/skipped_updates"] == 0
    assert n_updates(model) == [2, 4]


@pytest.mark.parametrize("case", ["saved", "weights only", "copied", "pickled"])
def test_a_model_goes_on_as_if_it_had_not_been_interrupted(case, tmp_path):
    solver = KFAC(decay=0.9, inverse_every=2)
    model = build(fisher_solver=solver).learn(96)
    if case == "copied":
        other = copy.deepcopy(model)
    elif case == "pickled":
        other = pickle.loads(pickle.dumps(model))
    else:
        model.save(tmp_path / "model")
        given = dict(weights_only=True, fisher_solver=solver) if case == "weights only" else {}
        other = NPG.load(tmp_path / "model", model.get_env(), device="cpu", **given)
    assert n_updates(other) == n_updates(model) == [3, 6]
    results = []
    for each in (other, model):
        each.set_env(build().get_env())
        each.set_random_seed(3)
        each.learn(96)
        results.append(weights(each))
    assert same(*results)
    assert n_updates(other) == [6, 12]


def test_the_given_solver_is_left_as_it_is():
    solver = KFAC()
    first = build(fisher_solver=solver).learn(64)
    assert solver.state_dict()["n_updates"] == 0
    second = build(fisher_solver=solver).learn(64)
    assert same(weights(first), weights(second))


def test_averages_go_on_with_other_settings():
    model = build().learn(64)
    assert n_updates(model) == [2, 4]
    model.fisher_solver = KFAC()
    model.learn(32, reset_num_timesteps=False)
    assert n_updates(model) == [3, 6]
    model.fisher_solver = KFAC(decay=0.5)
    model.learn(32, reset_num_timesteps=False)
    assert n_updates(model) == [4, 8]
    assert model._fisher_kfac.decay == 0.5
    model.fisher_solver = model.critic_solver = "cg"
    model.learn(32, reset_num_timesteps=False)
    assert model._fisher_kfac is model._critic_kfac is None


def test_a_model_loads_with_another_solver(tmp_path):
    model = build().learn(64)
    model.save(tmp_path / "kfac")
    loaded = NPG.load(tmp_path / "kfac", fisher_solver="cg", device="cpu")
    assert loaded._fisher_kfac is None
    assert n_updates(model)[1] == loaded._critic_kfac.state_dict()["n_updates"] == 4
    assert same(weights(model), weights(loaded))
    loaded.save(tmp_path / "cg")
    again = NPG.load(tmp_path / "cg", fisher_solver="kfac", device="cpu")
    assert n_updates(again) == [0, 4]
    again.set_parameters(str(tmp_path / "kfac"), device="cpu")
    assert n_updates(again) == [2, 4]
    again.set_parameters(model.get_parameters())
    assert n_updates(again) == [2, 4]


def test_a_derived_solver_stays_what_it_is():
    class Counted(KFAC):
        calls = 0

        def solve(self, operator, b):
            type(self).calls += 1
            return super().solve(operator, b)

    NPG("MlpPolicy", "CartPole-v1", n_steps=32, fisher_solver=Counted(), device="cpu").learn(64)
    assert Counted.calls == 2
