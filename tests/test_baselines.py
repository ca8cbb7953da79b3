"""The updates of PPO, A2C and TRPO without autograd are those of SB3 and sb3-contrib."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.utils import set_random_seed
from torch import nn

from sb3_natural import A2C, NPG, PPO, TRPO
from sb3_natural.networks.parameters import flatten
from sb3_natural.updates.flat_adam import FlatAdam
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, SpacesEnv

PLAIN_ACTIONS = ["categorical", "gaussian", "multicategorical", "bernoulli"]


ORIGINALS = {PPO: sb3.PPO, A2C: sb3.A2C, TRPO: sb3_contrib.TRPO}
DEFAULTS = {
    PPO: {"n_steps": 50, "batch_size": 32, "n_epochs": 3, "ent_coef": 0.01},
    A2C: {"n_steps": 5},
    TRPO: {"n_steps": 50, "batch_size": 32, "n_critic_updates": 3, "cg_max_steps": 8},
}


def collected(policy="MlpPolicy", actions="gaussian", observations="mlp", algorithm=PPO, **kwargs):
    """An algorithm with a full rollout buffer."""
    env = make_vec_env(
        lambda: SpacesEnv(OBSERVATION_SPACES[observations], ACTION_SPACES[actions]), 2, seed=0
    )
    kwargs = DEFAULTS[algorithm] | kwargs
    model = algorithm(policy, env, seed=0, device="cpu", use_sde=actions == "gsde", **kwargs)
    model.set_logger(configure(None, []))
    _, callback = model._setup_learn(100)
    assert model.collect_rollouts(env, callback, model.rollout_buffer, model.n_steps)
    return model


def trained(model, original, n_updates=2):
    """A copy after some updates, what they logged, and numpy's next random number."""
    model = copy.deepcopy(model)
    set_random_seed(1)
    for _ in range(n_updates):
        (ORIGINALS[type(model)] if original else type(model)).train(model)
    return model, dict(model.logger.name_to_value), np.random.randint(2**31)  # noqa: NPY002 - the one that SB3 uses


def assert_same_training(model, n_updates=2):
    assert model._plain_networks() is not None
    (ours, our_log, our_next), (theirs, their_log, their_next) = (
        trained(model, original, n_updates) for original in (False, True)
    )
    for param, expected in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        torch.testing.assert_close(param, expected, rtol=1e-4, atol=1e-5)
    for param, expected in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        assert (param.grad is None) == (expected.grad is None)
        if param.grad is not None:
            torch.testing.assert_close(param.grad, expected.grad, rtol=1e-3, atol=1e-5)
    changed = [
        not torch.equal(param, before)
        for param, before in zip(ours.policy.parameters(), model.policy.parameters(), strict=True)
    ]
    assert all(changed)
    states = ours.policy.optimizer.state_dict(), theirs.policy.optimizer.state_dict()
    assert states[0]["param_groups"] == states[1]["param_groups"]
    assert states[0]["state"].keys() == states[1]["state"].keys()
    for index, expected in states[1]["state"].items():
        torch.testing.assert_close(states[0]["state"][index], expected, rtol=1e-3, atol=1e-5)
    our_log.pop("train/kl", None)  # NPG's name for TRPO's train/kl_divergence_loss
    assert our_log == pytest.approx(their_log, rel=1e-4, abs=1e-5)
    assert ours._n_updates == theirs._n_updates
    assert our_next == their_next
    return ours


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"clip_range_vf": 0.2, "normalize_advantage": False},
        {"policy_kwargs": {"activation_fn": nn.ReLU, "net_arch": {"pi": [9], "vf": []}}},
        {"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.1, "amsgrad": True}}},
        {"max_grad_norm": 0.01, "learning_rate": lambda remaining: 1e-3 * remaining},
        {"batch_size": 99},  # the last one has a single sample, whose advantage is left alone
    ],
    ids=["defaults", "clip_range_vf", "networks", "adam", "max_grad_norm", "one sample"],
)
def test_updates_are_those_of_the_original(kwargs):
    assert_same_training(collected(**kwargs))


@pytest.mark.parametrize("actions", PLAIN_ACTIONS)
@pytest.mark.parametrize("observations", ["mlp", "discrete"])
def test_updates_are_those_of_the_original_in_every_space(actions, observations):
    assert_same_training(collected(actions=actions, observations=observations))


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"normalize_advantage": False, "cg_damping": 0.5},
        {"policy_kwargs": {"activation_fn": nn.ReLU, "net_arch": {"pi": [9], "vf": []}}},
        {"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.1, "amsgrad": True}}},
        {"sub_sampling_factor": 3, "target_kl": 0.1, "line_search_shrinking_factor": 0.5},
        {"batch_size": 99, "learning_rate": lambda remaining: 1e-2 * remaining},
        {"target_kl": 2.0},  # so far that steps have to be shrunk
    ],
    ids=["defaults", "damping", "networks", "adam", "subsampled", "one sample", "line search"],
)
def test_updates_of_trpo_are_those_of_the_original(kwargs):
    assert_same_training(collected(algorithm=TRPO, **kwargs))


@pytest.mark.parametrize("actions", PLAIN_ACTIONS)
@pytest.mark.parametrize("observations", ["mlp", "discrete"])
def test_updates_of_trpo_are_those_of_the_original_in_every_space(actions, observations):
    assert_same_training(collected(algorithm=TRPO, actions=actions, observations=observations))


TF_LIKE = {"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5, "alpha": 0.9}}


@pytest.mark.parametrize("n_updates", [1, 4])
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"n_steps": 20},  # too many samples for the passes in numpy
        {"use_rms_prop": False},
        {"policy_kwargs": TF_LIKE},
        {
            "policy_kwargs": {
                "optimizer_class": torch.optim.RMSprop,
                "optimizer_kwargs": {"weight_decay": 0.1},
            }
        },
        {"normalize_advantage": True, "ent_coef": 0.05, "vf_coef": 0.3},
        {"policy_kwargs": {"activation_fn": nn.ReLU, "net_arch": {"pi": [9], "vf": []}}},
        {"max_grad_norm": 0.01, "learning_rate": lambda remaining: 1e-3 * remaining},
        {"rms_prop_eps": 1e-2, "max_grad_norm": 100.0},
    ],
    ids=[
        "defaults",
        "longer",
        "Adam",
        "as in TensorFlow",
        "weight decay",
        "coefficients",
        "networks",
        "max_grad_norm",
        "rms_prop_eps",
    ],
)
def test_updates_of_a2c_are_those_of_the_original(kwargs, n_updates):
    assert_same_training(collected(algorithm=A2C, **kwargs), n_updates)


@pytest.mark.parametrize("use_rms_prop", [True, False])
@pytest.mark.parametrize("actions", PLAIN_ACTIONS)
@pytest.mark.parametrize("observations", ["mlp", "discrete"])
def test_updates_of_a2c_are_those_of_the_original_in_every_space(
    actions, observations, use_rms_prop
):
    assert_same_training(
        collected(
            algorithm=A2C,
            actions=actions,
            observations=observations,
            use_rms_prop=use_rms_prop,
            ent_coef=0.01,
        )
    )


@pytest.mark.parametrize("path", ["numpy", "torch"])
@pytest.mark.parametrize("actions", PLAIN_ACTIONS)
def test_training_of_a2c_draws_the_originals_random_numbers(actions, path):
    """Ten rollouts and updates, up to the state of all generators."""

    def run(cls):
        env = make_vec_env(
            lambda: SpacesEnv(OBSERVATION_SPACES["mlp"], ACTION_SPACES[actions]), 2, seed=0
        )
        model = cls("MlpPolicy", env, seed=0, device="cpu")
        if cls is A2C:
            model.rollout_path = path
        model.learn(100)
        return model, torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002

    (ours, *our_states), (theirs, *their_states) = run(A2C), run(sb3.A2C)
    for param, expected in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        torch.testing.assert_close(param, expected, rtol=1e-3, atol=1e-5)
    assert torch.equal(our_states[0], their_states[0])
    np.testing.assert_array_equal(our_states[1], their_states[1])


def test_a2c_goes_on_from_states_that_are_loaded_or_exchanged():
    model = collected(algorithm=A2C)
    results = []
    for cls in (A2C, sb3.A2C):
        one = copy.deepcopy(model)
        set_random_seed(2)
        cls.train(one)
        optimizer = one.policy.optimizer
        cls.train(one)
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        cls.train(one)
        param = one.policy.value_net.weight
        optimizer.state[param]["square_avg"] = torch.ones_like(param)
        cls.train(one)
        optimizer.state.clear()
        cls.train(one)
        optimizer.param_groups[0]["momentum"] = 0.5
        optimizer.state.clear()
        cls.train(one)
        one.policy.value_net = nn.Linear(64, 1)
        with torch.no_grad():
            for param in one.policy.value_net.parameters():
                param.fill_(0.01)
        one.policy.optimizer = torch.optim.RMSprop(one.policy.parameters())
        for _ in range(2):
            cls.train(one)
        results.append(flatten(param.detach() for param in one.policy.parameters()))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


def test_gradients_of_an_update_of_a2c_outlast_the_next():
    model = collected(algorithm=A2C)
    model.train()
    held = [param.grad for param in model.policy.parameters()]
    copies = [grad.clone() for grad in held]
    model.train()
    assert all(map(torch.equal, held, copies))


def test_a_line_search_of_trpo_that_fails_leaves_the_policy_as_in_the_original():
    results = []
    for original in (False, True):
        model = collected(algorithm=TRPO, line_search_max_iter=1, target_kl=50.0)
        before = [param.detach().clone() for param in model.policy.parameters()]
        ours, log, _ = trained(model, original)
        assert log["train/is_line_search_success"] == 0
        assert log["train/kl_divergence_loss"] == 0
        results.append(list(ours.policy.parameters()))
        kept = [torch.equal(*pair) for pair in zip(before, ours.policy.parameters(), strict=True)]
        names = [name for name, _ in ours.policy.named_parameters()]
        assert kept == ["value" not in name for name in names]
    for pair in zip(*results, strict=True):
        torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("verbose", [0, 1])
def test_stops_early_where_the_original_does(verbose, capsys):
    model = collected(target_kl=0.003, learning_rate=3e-3, n_epochs=8, verbose=verbose)
    capsys.readouterr()
    ours = assert_same_training(model)
    assert 2 <= ours._n_updates < 16
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 * verbose
    assert lines[:2] == lines[2:]


def test_can_be_continued_by_the_original_and_the_other_way_round():
    model = collected()
    orders = [(PPO, sb3.PPO, PPO), (sb3.PPO, PPO, sb3.PPO), (sb3.PPO,) * 3]
    results = []
    for order in orders:
        one = copy.deepcopy(model)
        set_random_seed(2)
        for cls in order:
            cls.train(one)
        results.append(flatten(param.detach() for param in one.policy.parameters()))
    torch.testing.assert_close(results[0], results[2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(results[1], results[2], rtol=1e-4, atol=1e-5)


def test_parameters_keep_their_memory_even_if_an_update_is_interrupted(monkeypatch):
    model = collected()
    step, own_memory = FlatAdam.step, [param.data_ptr() for param in model.policy.parameters()]
    before = flatten(param.detach() for param in model.policy.parameters()).clone()
    steps = []

    def interrupted(self, gradient):
        if len(steps) == 2:
            raise KeyboardInterrupt
        steps.append(gradient)
        step(self, gradient)

    monkeypatch.setattr(FlatAdam, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.train()
    params = list(model.policy.parameters())
    assert [param.data_ptr() for param in params] == own_memory
    assert not torch.equal(flatten(param.detach() for param in params), before)
    state = model.policy.optimizer.state
    assert {float(state[param]["step"]) for param in params} == {2.0}


class OwnEvaluation(ActorCriticPolicy):
    def evaluate_actions(self, obs, actions):
        values, log_prob, entropy = super().evaluate_actions(obs, actions)
        return values, log_prob, 2 * entropy


class OwnBatches(RolloutBuffer):
    def get(self, batch_size=None):
        yield from super().get(batch_size)


class OwnSamples(RolloutBuffer):
    def _get_samples(self, batch_inds, env=None):
        samples = super()._get_samples(batch_inds, env)
        return samples._replace(advantages=2 * samples.advantages)


def test_samples_of_ones_own_are_those_of_a2cs_update():
    results = []
    for update in (A2C.train, sb3.A2C.train):
        model = collected(algorithm=A2C, rollout_buffer_class=OwnSamples)
        set_random_seed(1)
        update(model)
        results.append(list(model.policy.parameters()))
    assert all(map(torch.equal, *results))


def freeze(model):
    model.policy.value_net.bias.requires_grad_(False)


def hook(model):
    model.policy.action_net.weight.register_hook(lambda grad: 2 * grad)


def hook_a_module(model):
    model.policy.action_net.register_full_backward_hook(lambda *_: None)


def hook_accumulated_gradients(model):
    model.policy.action_net.weight.register_post_accumulate_grad_hook(lambda param: None)


def hook_steps(model):
    model.policy.optimizer.register_step_post_hook(lambda *_: None)


def take_torch_path(model):
    model.rollout_path = "torch"


def watch_steps_late(model):
    model.train()
    hook_steps(model)


def freeze_late(model):
    model.train()
    freeze(model)


def hook_late(model):
    model.train()
    hook(model)


def hook_a_module_late(model):
    model.train()
    hook_a_module(model)


def take_torch_path_late(model):
    model.train()
    take_torch_path(model)


def share_a_layer_late(model):
    model.train()
    share_a_layer(model)


def share_a_layer(model):
    extractor = model.policy.mlp_extractor
    extractor.value_net[0] = extractor.policy_net[0]


@pytest.mark.parametrize(
    ("kwargs", "change"),
    [
        ({"actions": "gsde"}, None),
        ({"policy": "CnnPolicy", "observations": "cnn"}, None),
        ({"policy": "MultiInputPolicy", "observations": "dict"}, None),
        ({"policy_kwargs": {"activation_fn": nn.ELU}}, None),
        ({"policy_kwargs": {"optimizer_class": torch.optim.SGD}}, None),
        ({"policy_kwargs": {"optimizer_class": torch.optim.AdamW}}, None),
        ({"policy": OwnEvaluation}, None),
        ({"rollout_buffer_class": OwnBatches}, None),
        ({}, freeze),
        ({}, hook),
        ({}, hook_a_module),
        ({}, hook_accumulated_gradients),
        ({}, hook_steps),
        ({}, take_torch_path),
        ({}, share_a_layer),
        ({}, freeze_late),
        ({}, hook_late),
        ({}, hook_a_module_late),
        ({}, watch_steps_late),
        ({}, take_torch_path_late),
        ({}, share_a_layer_late),
    ],
)
@pytest.mark.parametrize("algorithm", [PPO, A2C, TRPO])
def test_anything_out_of_the_ordinary_is_left_to_the_original(algorithm, kwargs, change):
    results = []
    for update in (algorithm.train, ORIGINALS[algorithm].train):
        model = collected(algorithm=algorithm, **kwargs)
        set_random_seed(1)
        if change is not None:
            change(model)
        assert model._plain_networks() is None
        for _ in range(2):
            update(model)
        results.append((list(model.policy.parameters()), model.logger.name_to_value))
    (ours, our_log), (theirs, their_log) = results
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    their_log.pop("train/kl", None)  # of an update before the change
    assert {name: our_log[name] for name in their_log} == their_log


@pytest.mark.parametrize("frozen", ["action_net.bias", "log_std", "policy_net.0"])
def test_trpo_leaves_frozen_parts_of_the_actor_alone(frozen):
    model = collected(algorithm=TRPO)
    named = dict(model.policy.named_parameters())
    for name, param in named.items():
        param.requires_grad_(frozen not in name)
    before = {name: param.detach().clone() for name, param in named.items()}
    for _ in range(2):
        model.train()
    log = model.logger.name_to_value
    assert log["train/is_line_search_success"] == 1
    assert 0.005 < log["train/kl"] < 0.01
    for name, param in named.items():
        assert torch.equal(param, before[name]) == (frozen in name), name


class Saddle(TRPO):
    """Whose curvature is negative, as rounding can make it."""

    def hessian_vector_product(self, params, grad_kl, vector, retain_graph=True):
        return -vector


def test_a_step_of_trpo_that_is_none_is_undone():
    model = Saddle("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, seed=0, device="cpu")
    before = [param.detach().clone() for param in model.policy.parameters()]
    with pytest.warns(UserWarning, match="update is undone"):
        model.learn(64)
    assert model.num_timesteps == 64
    assert all(map(torch.equal, model.policy.parameters(), before))


def test_learns():
    model = PPO("MlpPolicy", gym.make("CartPole-v1"), seed=0, device="cpu").learn(12_000)
    lengths = [info["l"] for info in model.ep_info_buffer]
    assert np.mean(lengths[-20:]) > 100


def test_the_kl_divergence_is_logged_under_both_names():
    shared = dict(n_steps=64, target_kl=0.01, seed=0, device="cpu")
    for algorithm in (NPG, TRPO):
        model = algorithm("MlpPolicy", "Pendulum-v1", **shared).learn(64)
        log = model.logger.name_to_value
        assert log["train/kl"] == log["train/kl_divergence_loss"] > 0
