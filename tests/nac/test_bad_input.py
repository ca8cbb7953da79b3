"""Wrong arguments, policies and files are named before any work is lost."""

import math

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from sb3_natural import NAC, NPG
from sb3_natural.nac import estimation
from tests.helpers import SpacesEnv

WRONG = [
    ("variant", "td", "'lstd' or 'episodic'"),
    ("n_steps", 0, "at least 1"),
    ("gamma", 1.5, "between 0 and 1"),
    ("trace", -0.1, "between 0 and 1"),
    ("trace", math.nan, "between 0 and 1"),
    ("target_kl", 0.0, "positive"),
    ("step_size", -1.0, "positive"),
    ("forgetting_factor", 1.01, "between 0 and 1"),
    ("ridge", -1e-3, "not negative"),
    ("ridge", math.inf, "finite"),
    ("max_angle", 4.0, "between 0 and 3.14"),
    ("n_episodes", 1, "at least 2"),
    ("n_episodes", 2.5, "integer"),
    ("use_sde", 1, "True or False"),
    ("seed", -1, "between 0"),
    ("device", "abacus", "device"),
]


@pytest.mark.parametrize(("name", "value", "valid"), WRONG)
def test_a_wrong_argument_is_named_with_what_is_valid(name, value, valid):
    with pytest.raises(ValueError, match=f"{name} must be .*{valid}"):
        NAC("MlpPolicy", "CartPole-v1", **{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("ridge", -1.0), ("variant", "td"), ("n_episodes", 0), ("step_size", 0.1)]
)
def test_wrong_values_assigned_later_are_refused_before_any_step(name, value):
    model = NAC("MlpPolicy", "CartPole-v1", n_steps=32)
    setattr(model, name, value)
    with pytest.raises(ValueError, match=name):
        model.learn(64)
    assert model.num_timesteps == 0


def test_the_two_lengths_of_a_step_exclude_each_other():
    with pytest.raises(ValueError, match=r"target_kl=0.01 and step_size=0.1 exclude each other"):
        NAC("MlpPolicy", "CartPole-v1", target_kl=0.01, step_size=0.1)


def test_a_schedule_that_gives_no_length_is_named():
    model = NAC("MlpPolicy", "CartPole-v1", n_steps=32, step_size=lambda progress: -1.0)
    with pytest.raises(ValueError, match=r"schedule of step_size gave -1.0"):
        model.learn(32)


def test_what_does_not_fit_in_memory_is_refused_with_its_size(monkeypatch):
    """A matrix, a copy and its factors, of 8 bytes an entry: 130 scores and 65 state features."""
    model = NAC("MlpPolicy", "CartPole-v1", n_steps=32, seed=0, device="cpu")
    n_params = 4 * 16 + 16 + 16 * 2 + 2
    needed = 3 * 8 * (n_params + 65) ** 2
    monkeypatch.setattr(estimation, "_memory", lambda device: needed - 1)
    with pytest.raises(ValueError, match=rf"{n_params} parameters .* {needed:,} bytes.*episodic"):
        model.learn(32)
    assert model.num_timesteps == 0
    model.variant = "episodic"
    model.learn(32)
    model.variant = "lstd"
    monkeypatch.setattr(estimation, "_memory", lambda device: needed)
    model.learn(32)


def test_sb3s_network_for_images_is_too_large_for_lstd():
    """It has 1.7 million parameters, whose matrix no machine holds."""
    env = SpacesEnv(spaces.Box(0, 255, (84, 84, 1), "uint8"), spaces.Discrete(4))
    model = NAC("CnnPolicy", env, n_steps=8, device="cpu")
    with pytest.raises(ValueError, match=r"1,\d{3},\d{3} parameters .* bytes"):
        model.learn(8)


def test_memory_is_that_of_the_machine():
    memory = estimation._memory(torch.device("cpu"))
    assert memory is None or 2**28 < memory < 2**45


class NotLinear(ActorCriticPolicy):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.value_net = nn.Sequential(self.value_net, nn.Tanh())


def test_values_that_are_not_linear_are_refused():
    model = NAC(NotLinear, "CartPole-v1", n_steps=32)
    with pytest.raises(ValueError, match=r"value_net .*Linear.* NotLinear has Sequential"):
        model.learn(32)
    assert model.num_timesteps == 0


def test_files_of_other_algorithms_are_refused_by_name(tmp_path):
    NPG("MlpPolicy", "CartPole-v1", n_steps=32).save(tmp_path / "npg")
    NAC("MlpPolicy", "CartPole-v1", n_steps=32).save(tmp_path / "nac")
    with pytest.raises(ValueError, match="is a model of NPG, which NAC cannot load"):
        NAC.load(tmp_path / "npg")
    with pytest.raises(ValueError, match="is a model of NAC, which NPG cannot load"):
        NPG.load(tmp_path / "nac")


@pytest.mark.filterwarnings("ignore:.* update skipped")
@pytest.mark.parametrize("variant", ["lstd", "episodic"])
def test_sums_that_are_not_finite_cost_one_update_not_the_policy(variant, tmp_path):
    """As in a file that somebody has changed."""
    model = NAC("MlpPolicy", "CartPole-v1", variant, n_steps=128, forgetting_factor=1.0,
                n_episodes=2, seed=0)  # fmt: skip
    model.learn(128)
    model._lstd.a[2, 2] = math.nan
    model._episodes.open_scores[:] = math.nan
    model.learn(256, reset_num_timesteps=False)
    assert model.logger.name_to_value["train/skipped_updates"] >= 1
    assert all(torch.isfinite(param).all() for param in model.policy.parameters())
    model.learn(256, reset_num_timesteps=False)
    assert model.logger.name_to_value["train/kl"] > 0


def test_sums_of_other_shapes_start_anew(tmp_path):
    model = NAC("MlpPolicy", "CartPole-v1", n_steps=64, forgetting_factor=1.0, seed=0).learn(64)
    model._lstd.a = torch.zeros(3, 3).double()
    model.save(tmp_path / "model")
    loaded = NAC.load(tmp_path / "model", make_vec_env("CartPole-v1")).learn(64)
    assert loaded._lstd.count == 64
    assert loaded.logger.name_to_value["train/kl"] > 0


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_values_of_which_one_half_is_frozen_are_refused(name):
    model = NAC("MlpPolicy", "CartPole-v1", n_steps=32)
    getattr(model.policy.value_net, name).requires_grad_(False)
    with pytest.raises(ValueError, match=r"value_net .*freeze both or neither"):
        model.learn(32)
    assert model.num_timesteps == 0
