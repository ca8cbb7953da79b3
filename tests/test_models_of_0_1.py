"""Models saved by version 0.1.0 load, predict what they predicted then, and learn on.

They were made at commit bf3def5 by a learn() of two rollouts each. ``predictions.json`` holds what
``predict(observations, deterministic=True)`` gave.
"""

import io
import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import sb3_natural
from sb3_natural import ACER, NPG, FisherOperator
from sb3_natural.curvature.solvers import Solver
from sb3_natural.curvature.value_fit import ValueFit
from sb3_natural.loading import _MOVED, _Unpickler

MODELS = Path(__file__).parent / "models"
PREDICTIONS = json.loads((MODELS / "predictions.json").read_text())
# Solvers and critics that are objects: without the file's code they have to be given.
OBJECTS = {
    "npg-warm-start": {"fisher_solver": "cg"},
    "npg-dense-solver": {"fisher_solver": "dense", "critic": "adam"},
    "npg-gauss-newton": {"fisher_solver": "cg", "critic": "gauss_newton"},
}
SAFE = [name for name, noted in PREDICTIONS.items() if noted["algorithm"] in ("NPG", "ACER")]


def check(model, noted):
    """The prediction, and one update."""
    observations = np.array(noted["observations"], dtype=np.float32)
    actions, _ = model.predict(observations, deterministic=True)
    np.testing.assert_allclose(actions, noted["actions"], rtol=1e-5, atol=1e-6)
    before = [param.detach().clone() for param in model.policy.parameters()]
    n_updates = model._n_updates
    model.learn(model.n_steps, reset_num_timesteps=False)
    assert model.num_timesteps == 3 * model.n_steps
    assert model._n_updates > n_updates
    assert getattr(model, "_skipped_updates", 0) == 0
    after = list(model.policy.parameters())
    assert not all(map(torch.equal, after, before))
    assert all(torch.isfinite(param).all() for param in after)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_model_of_0_1_loads_predicts_and_learns_on(name, tmp_path):
    noted = PREDICTIONS[name]
    algorithm = getattr(sb3_natural, noted["algorithm"])
    model = algorithm.load(MODELS / name, gym.make(noted["env"]), device="cpu")
    check(model, noted)
    model.save(tmp_path / name)
    algorithm.load(tmp_path / name, device="cpu")


@pytest.mark.parametrize("name", SAFE)
def test_a_model_of_0_1_loads_without_executing_code_in_it(name):
    noted = PREDICTIONS[name]
    algorithm = {"NPG": NPG, "ACER": ACER}[noted["algorithm"]]
    env = gym.make(noted["env"])
    given = OBJECTS.get(name, {})
    if given:
        with pytest.raises(ValueError, match="fisher_solver"):
            algorithm.load(MODELS / name, env, weights_only=True)
    check(algorithm.load(MODELS / name, env, device="cpu", weights_only=True, **given), noted)


def test_objects_in_a_model_of_0_1_keep_their_settings():
    solver = NPG.load(MODELS / "npg-warm-start", device="cpu").fisher_solver
    assert solver.max_steps == 5
    critic = NPG.load(MODELS / "npg-dense-solver", device="cpu").critic
    assert (critic.n_epochs, critic.batch_size) == (2, 32)
    critic = NPG.load(MODELS / "npg-gauss-newton", device="cpu").critic
    assert (critic.n_steps, critic.damping, critic.n_curvature_samples) == (2, 0.01, 32)


@pytest.mark.parametrize("module", _MOVED)
def test_every_module_of_0_1_is_found_where_it_is_now(module):
    """As pickles name modules: those of what is imported in a function of the user's."""
    name = f"sb3_natural.{module}"
    pickled = f"ccloudpickle.cloudpickle\nsubimport\n(V{name}\ntR.".encode()
    found = _Unpickler(io.BytesIO(pickled)).load()
    assert found.__name__ == f"sb3_natural.{_MOVED[module]}"


def test_classes_of_0_1_are_found_by_the_names_that_they_have_now():
    def found(module, name):
        return _Unpickler(io.BytesIO(f"c{module}\n{name}\n.".encode())).load()

    assert found("sb3_natural.common.fisher", "FisherOperator") is FisherOperator
    assert found("sb3_natural.common.solvers", "FisherSolver") is Solver
    assert found("sb3_natural.common.critic", "Critic") is ValueFit
