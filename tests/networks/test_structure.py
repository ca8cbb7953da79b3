"""What counts as a change of a policy, and what is remembered until then."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.modules import module as global_hooks

from sb3_natural import A2C
from sb3_natural.networks.structure import Remembered, Structure
from tests.helpers import make_policy


@pytest.fixture
def policy():
    return make_policy("gaussian")


def exchange_layer(policy):
    policy.mlp_extractor.policy_net[0] = nn.Linear(4, 5)


def exchange_activation(policy):
    policy.mlp_extractor.value_net[1] = nn.ReLU()


def append_layer(policy):
    policy.mlp_extractor.policy_net.append(nn.Tanh())


def swap_networks(policy):
    extractor = policy.mlp_extractor
    extractor.policy_net, extractor.value_net = extractor.value_net, extractor.policy_net


def exchange_parameter(policy):
    policy.log_std = nn.Parameter(policy.log_std.detach().clone())


def exchange_data(policy):
    policy.value_net.bias.data = policy.value_net.bias.data.clone()


def transpose_data(policy):
    weight = policy.mlp_extractor.policy_net[2].weight
    weight.data = weight.data.t()


def change_precision(policy):
    policy.float()


def parametrize(policy):
    nn.utils.parametrizations.weight_norm(policy.action_net)


def hook_forward(policy):
    policy.action_net.register_forward_hook(lambda *_: None)


def hook_before(policy):
    policy.register_forward_pre_hook(lambda *_: None)


def hook_backward(policy):
    policy.value_net.register_full_backward_hook(lambda *_: None)


def replace_hooks(policy):
    policy.value_net._forward_hooks = {0: lambda *_: None}


def own_forward(policy):
    policy.forward = lambda *_: None


def own_layers_forward(policy):
    policy.action_net.forward = lambda x: x


def exchange_distribution(policy):
    policy.action_dist = copy.copy(policy.action_dist)


def exchange_optimizer(policy):
    policy.optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)


def change_class(policy):
    class Own(type(policy)):
        pass

    policy.__class__ = Own


def mix_modes(policy):
    policy.action_net.train(not policy.training)


CHANGES = [
    exchange_layer,
    exchange_activation,
    append_layer,
    swap_networks,
    exchange_parameter,
    exchange_data,
    transpose_data,
    change_precision,
    parametrize,
    hook_forward,
    hook_before,
    hook_backward,
    replace_hooks,
    own_forward,
    own_layers_forward,
    exchange_distribution,
    exchange_optimizer,
    change_class,
    mix_modes,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(policy, change):
    structure = Structure(policy)
    assert structure.is_current(policy)
    change(policy)
    assert not structure.is_current(policy)


def test_another_policy_is_noticed(policy):
    assert not Structure(policy).is_current(copy.deepcopy(policy))


def test_a_method_that_is_patched_in_the_class_is_noticed(policy, monkeypatch):
    structure = Structure(policy)
    monkeypatch.setattr(type(policy), "predict_values", lambda *_: None)
    assert not structure.is_current(policy)


def test_a_hook_on_all_modules_is_noticed(policy):
    structure = Structure(policy)
    handle = global_hooks.register_module_forward_hook(lambda *_: None)
    assert not structure.is_current(policy)
    handle.remove()
    assert structure.is_current(policy)


def test_training_is_no_change(policy):
    structure = Structure(policy)
    policy.evaluate_actions(torch.ones(3, 4), torch.ones(3, 2))[1].sum().backward()
    policy.optimizer.step()
    policy.set_training_mode(True)
    policy.load_state_dict(policy.state_dict())
    assert structure.is_current(policy)


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_is_set_as_by_the_policy(policy, mode):
    Structure(policy).set_training_mode(mode)
    assert all(module.training == mode for module in policy.modules())


def test_a_mode_of_ones_own_is_called(policy):
    seen = []
    policy.action_net.train = seen.append
    Structure(policy).set_training_mode(True)
    assert seen == [True]


def test_results_are_kept_until_the_policy_changes(policy):
    remembered, made = Remembered(), []

    def make():
        made.append(len(made))
        return made[-1]

    def recall(is_worth_it=lambda _: True):
        return remembered.recall("key", policy, make, is_worth_it)

    assert recall(lambda _: False) == 0
    assert [recall(), recall()] == [1, 1]
    exchange_parameter(policy)
    assert [recall(), recall()] == [2, 2]
    for twin in (copy.deepcopy(remembered), pickle.loads(pickle.dumps(remembered))):
        assert twin.recall("key", policy, make, bool) == made[-1]
    assert len(made) == 5


def test_what_is_remembered_is_not_saved(tmp_path):
    model = A2C("MlpPolicy", "CartPole-v1", device="cpu").learn(20)
    model.save(tmp_path / "model")
    assert "_remembered" in vars(model)
    assert "_remembered" not in vars(A2C.load(tmp_path / "model", device="cpu"))
