"""Methods that bear the name of one of SB3's are called as that one is."""

import inspect

import pytest
import sb3_contrib
import stable_baselines3
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

import sb3_natural
from sb3_natural import acer, nac, npg
from sb3_natural.environments.envpool import EnvPoolVecEnv
from sb3_natural.environments.processes import ProcessVecEnv
from sb3_natural.environments.vec_env import LeanDummyVecEnv
from sb3_natural.rollouts.finiteness import VecCheckFinite

# A name is looked up in the first peer that has it. ``SegmentBuffer`` has none: it is no buffer of
# SB3's, and nothing of SB3's calls it.
PEERS = {
    sb3_natural.NPG: [stable_baselines3.PPO],
    sb3_natural.NAC: [stable_baselines3.PPO],
    sb3_natural.RecurrentNPG: [sb3_contrib.RecurrentPPO],
    sb3_natural.ACER: [stable_baselines3.A2C, OffPolicyAlgorithm],
    sb3_natural.ACKTR: [stable_baselines3.A2C],
    sb3_natural.NaturalDQN: [stable_baselines3.DQN],
    sb3_natural.PPO: [stable_baselines3.PPO],
    sb3_natural.A2C: [stable_baselines3.A2C],
    sb3_natural.TRPO: [sb3_contrib.TRPO],
    acer.ACERPolicy: [ActorCriticPolicy],
    acer.MlpPolicy: [ActorCriticPolicy],
    acer.CnnPolicy: [ActorCriticCnnPolicy],
    acer.MultiInputPolicy: [MultiInputActorCriticPolicy],
    nac.MlpPolicy: [ActorCriticPolicy],
    nac.CnnPolicy: [ActorCriticCnnPolicy],
    nac.MultiInputPolicy: [MultiInputActorCriticPolicy],
    npg.MlpPolicy: [ActorCriticPolicy],
    npg.CnnPolicy: [ActorCriticCnnPolicy],
    npg.MultiInputPolicy: [MultiInputActorCriticPolicy],
    npg.MlpLstmPolicy: [RecurrentActorCriticPolicy],
    LeanDummyVecEnv: [DummyVecEnv],
    EnvPoolVecEnv: [VecEnv],
    ProcessVecEnv: [VecEnv],
    VecCheckFinite: [VecEnvWrapper],
}
# What each of SB3's algorithms has a default of its own for.
OWN_DEFAULTS = {("learn", "log_interval"), ("learn", "tb_log_name")}


def methods():
    for ours, peers in PEERS.items():
        named = {}
        for theirs in reversed(peers):
            named |= {name: theirs for name in dir(theirs) if not name.startswith("_")}
        for name, theirs in named.items():
            own, method = (inspect.getattr_static(cls, name, None) for cls in (ours, theirs))
            if own is not None and own is not method and callable(getattr(theirs, name)):
                yield ours, theirs, name


FOUND = list(methods())


@pytest.mark.parametrize(
    ("ours", "theirs", "name"), FOUND, ids=[f"{cls.__name__}.{name}" for cls, _, name in FOUND]
)
def test_a_method_of_sb3s_name_has_its_signature(ours, theirs, name):
    own = inspect.signature(getattr(ours, name)).parameters
    expected = inspect.signature(getattr(theirs, name)).parameters
    positional = [key for key, each in expected.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert list(own)[: len(positional)] == positional
    for key, parameter in expected.items():
        assert own[key].kind is parameter.kind, key
        if (name, key) not in OWN_DEFAULTS:
            assert own[key].default == parameter.default, key
    for key in own.keys() - expected.keys():
        assert own[key].default is not inspect.Parameter.empty, key


def test_there_are_methods_to_compare():
    compared = {(cls.__name__, name) for cls, _, name in FOUND}
    assert {
        ("NPG", "learn"),
        ("NPG", "load"),
        ("NPG", "save"),
        ("NPG", "collect_rollouts"),
        ("ACKTR", "learn"),
        ("ACKTR", "set_parameters"),
        ("NAC", "learn"),
        ("NAC", "load"),
        ("RecurrentNPG", "learn"),
        ("ACER", "load_replay_buffer"),
        ("ACER", "save_replay_buffer"),
        ("ACER", "set_random_seed"),
        ("PPO", "train"),
        ("ACERPolicy", "forward"),
        ("ACERPolicy", "evaluate_actions"),
        ("LeanDummyVecEnv", "step_wait"),
        ("EnvPoolVecEnv", "env_is_wrapped"),
        ("ProcessVecEnv", "env_method"),
        ("VecCheckFinite", "reset"),
    } <= compared
