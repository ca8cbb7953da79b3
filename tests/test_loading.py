"""Files of other algorithms are refused by name; loading weights only executes nothing."""

import base64
import inspect
import io
import json
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

import sb3_natural
from sb3_natural import ACER, ACKTR, NPG, NaturalDQN
from tests.helpers import SpacesEnv
from tests.npg.test_sb3_contract import POLICIES, make_envs, same, weights
from tests.test_spaces import BAD_SPACES, OwnBox

SMALL = {
    NPG: dict(n_steps=32),
    ACKTR: dict(n_steps=32),
    ACER: dict(n_steps=8, replay_start=0),
    NaturalDQN: dict(buffer_size=500, learning_starts=10),
}


def make(algorithm, env="CartPole-v1", **kwargs):
    return algorithm("MlpPolicy", env, device="cpu", seed=0, **SMALL[algorithm], **kwargs)


# Whose file?


def algorithms():
    for package in (stable_baselines3, sb3_contrib, sb3_natural):
        for member in vars(package).values():
            if isinstance(member, type) and issubclass(member, BaseAlgorithm):
                yield member


@pytest.mark.parametrize(
    "other", list(algorithms()), ids=lambda cls: f"{cls.__module__}.{cls.__name__}"
)
def test_files_of_other_algorithms_are_refused_by_name(other, tmp_path):
    policies = list(other.policy_aliases)
    takes_numbers = {"DDPG", "TD3", "SAC", "TQC", "CrossQ"}
    env = "Pendulum-v1" if other.__name__ in takes_numbers else "CartPole-v1"
    policy = "MlpPolicy" if "MlpPolicy" in policies else policies[0]
    other(policy, env, device="cpu").save(tmp_path / "model")
    for ours in SMALL:
        if ours is other:
            assert type(ours.load(tmp_path / "model")) is ours
            continue
        with pytest.raises(
            ValueError, match=rf"model is a model of .*\b{other.__name__}\b.*, which"
        ):
            ours.load(tmp_path / "model")


def test_a_file_that_is_no_zip_file_is_named(tmp_path):
    (tmp_path / "model.zip").write_text("nothing")
    with pytest.raises(ValueError, match=r"model is not a zip file, as saved models are"):
        NPG.load(tmp_path / "model")
    with pytest.raises(FileNotFoundError, match=r"elsewhere\.zip"):
        NPG.load(tmp_path / "elsewhere")


@pytest.mark.parametrize("algorithm", list(SMALL))
def test_files_of_derived_classes_and_of_earlier_versions_are_taken(algorithm, tmp_path):
    class Derived(algorithm):
        def __init__(self, *args, extra=1, **kwargs):
            self.extra = extra
            super().__init__(*args, **kwargs)

    Derived("MlpPolicy", "CartPole-v1", extra=2, **SMALL[algorithm]).save(tmp_path / "derived")
    assert algorithm.load(tmp_path / "derived").extra == 2
    # Before there was a setting, files did not have it.
    added = {
        NPG: "normalize_advantage",
        ACER: "retrace",
        ACKTR: "normalize_returns",
        NaturalDQN: "critic_damping",
    }[algorithm]
    exclude = [added, "critic_curvature_samples", "_plain_settings"]
    default = inspect.signature(algorithm).parameters[added].default
    make(algorithm).save(tmp_path / "early", exclude=exclude)
    for cls in (algorithm, Derived):
        loaded = cls.load(tmp_path / "early")
        assert getattr(loaded, added) == default


@pytest.mark.parametrize("algorithm", list(SMALL))
def test_whose_file_it_is_does_not_depend_on_what_was_left_out(algorithm, tmp_path):
    own = set(inspect.signature(algorithm).parameters) - {"policy", "env"}
    model = make(algorithm)
    model.save(tmp_path / "model", exclude=own - {"verbose", "policy_kwargs"})
    for weights_only in (False, True):
        loaded = algorithm.load(tmp_path / "model", weights_only=weights_only)
        assert same(weights(model), weights(loaded))
    other = NPG if algorithm is ACER else ACER
    with pytest.raises(ValueError, match=f"is a model of {algorithm.__name__}, which"):
        other.load(tmp_path / "model")


# Without its code.


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (pathlib.Path.touch, (self.marker,))


def with_bombs(path, marker, names=None):
    """A copy of a saved model with other pickles in the place of its own (or of some)."""
    changed = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for member in old.namelist():
            content = old.read(member)
            if member == "data":
                data = json.loads(content)
                bomb = base64.b64encode(pickle.dumps(Bomb(marker))).decode()
                pickled = [name for name, value in data.items() if is_pickled(value)]
                assert len(pickled) > 3
                for name in [*pickled, "unheard_of"] if names is None else names:
                    data[name] = {":type:": "x", ":serialized:": bomb}
                content = json.dumps(data)
            new.writestr(member, content)
    return changed


def is_pickled(value):
    return isinstance(value, dict) and ":serialized:" in value


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("algorithm", list(SMALL))
def test_loading_weights_only_executes_nothing(algorithm, trained, tmp_path):
    model = make(algorithm)
    if trained:
        model.learn(64)
    model.save(tmp_path / "model")
    marker = tmp_path / "executed"
    changed = with_bombs(tmp_path / "model.zip", marker)
    loaded = algorithm.load(changed, weights_only=True, device="cpu")
    assert not marker.exists()
    assert same(weights(model), weights(loaded))
    with pytest.raises(Exception, match=r".*"):  # it does not come far
        algorithm.load(with_bombs(tmp_path / "model.zip", marker, ["policy_class"]))
    assert marker.exists()


def test_the_file_does_not_choose_where_logs_go(tmp_path):
    make(NPG, tensorboard_log=str(tmp_path / "theirs")).save(tmp_path / "model")
    assert NPG.load(tmp_path / "model", weights_only=True).tensorboard_log is None
    ours = str(tmp_path / "ours")
    loaded = NPG.load(tmp_path / "model", weights_only=True, tensorboard_log=ours)
    assert loaded.tensorboard_log == ours


@pytest.mark.parametrize("algorithm", list(SMALL))
def test_pickles_among_the_parameters_are_refused(algorithm, tmp_path):
    make(algorithm).save(tmp_path / "model")
    marker = tmp_path / "executed"
    with zipfile.ZipFile(tmp_path / "model.zip", "a") as archive:
        content = io.BytesIO()
        torch.save({"x": Bomb(marker)}, content)
        archive.writestr("policy.extra.pth", content.getvalue())
    with pytest.raises(pickle.UnpicklingError):
        algorithm.load(tmp_path / "model", weights_only=True)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("actions", "observations"),
    [
        ("categorical", "mlp"),
        ("gaussian", "dict"),
        ("multicategorical", "cnn"),
        ("bernoulli", "discrete"),
    ],
)
@pytest.mark.parametrize("algorithm", [NPG, ACER, ACKTR])
def test_weights_only_brings_back_all_that_matters(algorithm, actions, observations, tmp_path):
    env = make_envs(actions, observations, 2)
    policy = POLICIES[observations]
    model = algorithm(policy, env, gamma=0.9, device="cpu", seed=0, **SMALL[algorithm])
    model.learn(64)
    model.save(tmp_path / "model")
    for new_env in (None, env):
        loaded = algorithm.load(tmp_path / "model", env=new_env, weights_only=True)
        assert same(weights(model), weights(loaded))
        assert loaded.observation_space == model.observation_space
        assert loaded.action_space == model.action_space
        assert type(loaded.policy) is type(model.policy)
        for name in inspect.signature(algorithm).parameters:
            if name in vars(model) and name not in ("policy", "env", "target_kl"):
                assert getattr(loaded, name) == getattr(model, name), name
        ours, theirs = (each.policy.optimizer.state_dict() for each in (model, loaded))
        assert ours["param_groups"] == theirs["param_groups"]
        assert (loaded.num_timesteps, loaded._n_updates) == (64, model._n_updates)
    if algorithm is NPG:
        assert [loaded.target_kl(progress) for progress in (1.0, 0.5)] == [0.04, 0.02]
    assert loaded._return_scale.std == model._return_scale.std != 1.0
    np.testing.assert_array_equal(loaded._return_scale._returns, model._return_scale._returns)
    loaded.learn(64, reset_num_timesteps=False)
    assert loaded.num_timesteps == 128


class OwnPolicy(ActorCriticPolicy):
    pass


def test_what_needs_code_is_named_and_can_be_given(tmp_path):
    needs_code = dict(
        learning_rate=lambda progress: 1e-3 * progress,
        target_kl=lambda progress: 0.01 + 0.04 * progress,
        policy_kwargs=dict(activation_fn=nn.ReLU),
    )
    model = NPG(OwnPolicy, "CartPole-v1", n_steps=32, device="cpu", seed=0, **needs_code)
    model.learn(64).save(tmp_path / "model")
    names = "(policy|learning_rate|policy_kwargs|target_kl)"
    message = rf"are missing: {names}, {names}, {names}, {names}\. Give them to load"
    with pytest.raises(ValueError, match=message):
        NPG.load(tmp_path / "model", weights_only=True)
    given = {name: value for name, value in needs_code.items() if name != "policy_kwargs"}
    with pytest.raises(ValueError, match="are missing: policy_kwargs"):
        NPG.load(tmp_path / "model", weights_only=True, policy=OwnPolicy, **given)
    loaded = NPG.load(tmp_path / "model", weights_only=True, policy=OwnPolicy, **needs_code)
    assert same(weights(model), weights(loaded))
    assert type(loaded.policy) is OwnPolicy
    assert loaded.target_kl(0.5) == pytest.approx(0.03)
    observation = model.observation_space.sample()
    assert loaded.predict(observation, True)[0] == model.predict(observation, True)[0]


def test_linear_schedules_need_no_code(tmp_path):
    schedules = dict(
        learning_rate=LinearSchedule(1e-3, 0.0, 0.5), target_kl=LinearSchedule(0.05, 0.01, 1.0)
    )
    model = NPG("MlpPolicy", "CartPole-v1", n_steps=32, device="cpu", seed=0, **schedules)
    model.learn(64).save(tmp_path / "model")
    loaded = NPG.load(tmp_path / "model", weights_only=True)
    for progress in (1.0, 0.75, 0.25):
        assert loaded.target_kl(progress) == schedules["target_kl"](progress)
        assert loaded.lr_schedule(progress) == schedules["learning_rate"](progress)


@pytest.mark.parametrize("algorithm", [NPG, ACER, ACKTR])
def test_files_without_plain_settings_need_an_environment(algorithm, tmp_path):
    """As SB3's own ``save`` writes them."""
    model = make(algorithm, make_vec_env("Pendulum-v1", 2)).learn(64)
    model.save(tmp_path / "model", exclude=["_plain_settings"])
    with pytest.raises(ValueError, match=r"are missing: .*env"):
        algorithm.load(tmp_path / "model", weights_only=True)
    given = dict(policy="MlpPolicy")
    if algorithm is not ACER:
        given |= dict(rollout_buffer_class=None)
    if algorithm is NPG:
        given |= dict(target_kl=0.01)
    env = make_vec_env("Pendulum-v1", 3)
    loaded = algorithm.load(tmp_path / "model", env=env, weights_only=True, **given)
    assert same(weights(model), weights(loaded))
    loaded.learn(96)


def test_a_file_object_is_loaded_too():
    model = make(NPG)
    content = io.BytesIO()
    model.save(content)
    for weights_only in (False, True):
        content.seek(0)
        assert same(weights(model), weights(NPG.load(content, weights_only=weights_only)))
    assert not content.closed


def changed(path, change=None, data=None):
    """A copy of a saved model with other data: changed in place, or something else."""
    copy = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            content = old.read(member)
            if member == "data":
                if change is not None:
                    settings = json.loads(content)
                    change(settings)
                    data = json.dumps(settings)
                content = data
            if content is not None:
                new.writestr(member, content)
    return copy


@pytest.mark.parametrize("algorithm", list(SMALL))
def test_the_file_chooses_no_environment_and_replaces_no_method(algorithm, tmp_path, monkeypatch):
    (tmp_path / "evilmod.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()")
    monkeypatch.syspath_prepend(str(tmp_path))
    model = make(algorithm)
    model.save(tmp_path / "model")
    names = dict.fromkeys(["predict", "learn", "_setup_model", "logger", "unheard_of"], "hello")
    more = dict(_custom_logger=True, _last_obs="x", device="cdua", __class__="x", _rng="x")
    path = changed(
        tmp_path / "model.zip",
        lambda settings: settings.update(names, env="evilmod:Foo-v0", **more),
    )
    loaded = algorithm.load(path, weights_only=True, device="cpu")
    assert not (tmp_path / "executed").exists()
    assert loaded.env is None
    assert same(weights(model), weights(loaded))
    assert not vars(loaded).keys() & names.keys()
    assert loaded._last_obs is None
    loaded.set_env(make_vec_env("CartPole-v1", 1))
    assert loaded.learn(32).num_timesteps == 32


BAD_DATA = {
    "none": None,
    "no JSON": b"{",
    "no UTF-8": b"\xff\xff",
    "list": b"[1]",
    "empty": b"{}",
    "deep": b"[" * 10**5,
}


@pytest.mark.parametrize("weights_only", [False, True])
@pytest.mark.parametrize("what", BAD_DATA)
def test_files_without_settings_are_named(what, weights_only, tmp_path):
    make(NPG).save(tmp_path / "model")
    path = changed(tmp_path / "model.zip", data=BAD_DATA[what])
    with pytest.raises(ValueError, match=r"changed\.zip is not a saved model: "):
        NPG.load(path, weights_only=weights_only)


def test_plain_settings_that_are_none_are_named(tmp_path):
    make(NPG).save(tmp_path / "model")
    path = changed(tmp_path / "model.zip", lambda settings: settings.update(_plain_settings=5))
    for weights_only in (False, True):
        with pytest.raises(
            ValueError, match=r"changed\.zip is not a saved model: .*_plain_settings"
        ):
            NPG.load(path, weights_only=weights_only)


def test_more_settings_than_a_model_has_are_not_read(tmp_path):
    make(NPG).save(tmp_path / "model")
    path = changed(tmp_path / "model.zip", data=b" " * (2**26 + 1))
    with pytest.raises(ValueError, match=r"changed\.zip is not a saved model: .* 67108865 bytes"):
        NPG.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gamma", 1.5, "gamma must be between 0 and 1, got 1.5"),
        ("gamma", "predict", "gamma must be .*, got 'predict'"),
        ("n_steps", 32.0, "n_steps must be an integer"),
        ("policy_kwargs", 5, "."),
        ("policy_kwargs", {"unheard_of": 1}, "unheard_of"),
        ("num_timesteps", "x", "num_timesteps must be a finite number, got 'x'"),
        ("_n_updates", float("nan"), "_n_updates must be a finite number"),
        ("_stats_window_size", 0, "stats_window_size must be at least 1"),
        ("n_envs", -1, "n_envs must be an integer that is at least 1"),
        ("seed", -1, "seed must be between 0"),
    ],
)
@pytest.mark.parametrize("algorithm", list(SMALL))
def test_settings_that_cannot_be_are_refused(algorithm, name, value, message, tmp_path):
    make(algorithm).save(tmp_path / "model")
    path = changed(tmp_path / "model.zip", lambda settings: settings.update({name: value}))
    with pytest.raises(ValueError, match=rf"changed\.zip cannot be loaded: .*{message}"):
        algorithm.load(path, weights_only=True)


@pytest.mark.parametrize(
    "scale",
    [
        5,
        {},
        dict(gamma=1, returns=[0], mean=0, var=-1, count=1),
        dict(gamma=1, returns=[0], mean=float("nan"), var=1, count=1),
        dict(gamma=1, returns=[[0]], mean=0, var=1, count=1),
    ],
)
def test_a_scale_of_returns_that_is_none_is_refused(scale, tmp_path):
    make(ACER).save(tmp_path / "model")
    path = changed(
        tmp_path / "model.zip",
        lambda settings: settings["_plain_settings"].update(_return_scale=scale),
    )
    with pytest.raises(ValueError, match=r"changed\.zip cannot be loaded: the scale of returns"):
        ACER.load(path, weights_only=True)


@pytest.mark.parametrize("numbers", [["a", 0, 1], [0.1, 0.0], 0.1, [float("nan"), 0.0, 1.0]])
def test_a_schedule_that_is_none_is_refused(numbers, tmp_path):
    make(NPG).save(tmp_path / "model")
    schedule = {"linear schedule": numbers}
    path = changed(
        tmp_path / "model.zip",
        lambda settings: settings["_plain_settings"].update(target_kl=schedule),
    )
    with pytest.raises(ValueError, match=r"changed\.zip cannot be loaded: target_kl"):
        NPG.load(path, weights_only=True)


def test_the_file_sets_no_variables_of_torch(tmp_path):
    make(NPG).save(tmp_path / "model")
    content = io.BytesIO()
    torch.save({"policy.action_net.weight": torch.zeros(2, 64)}, content)
    with zipfile.ZipFile(tmp_path / "model.zip", "a") as archive:
        archive.writestr("tensors.pth", content.getvalue())
    with pytest.raises(
        ValueError, match=r"model cannot be loaded: tensors\.pth holds variables other than"
    ):
        NPG.load(tmp_path / "model", weights_only=True)


def test_control_characters_of_the_file_are_not_printed(tmp_path, capsys):
    make(NPG).save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model.zip") as old:
        members = {name: old.read(name) for name in old.namelist()}
    members["system_info.txt"] += b"\n\x1b[2J- Moon: 1"
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    NPG.load(tmp_path / "model", weights_only=True, print_system_info=True)
    printed = capsys.readouterr().out
    assert r"\x1b[2J- Moon: 1" in printed
    assert "\x1b" not in printed
    assert "- Stable-Baselines3: " in printed.split("SAVED MODEL")[1]


def test_a_custom_object_takes_the_place_of_a_setting(tmp_path):
    make(NPG).save(tmp_path / "model")
    custom = dict(gamma=0.5, unheard_of=1)
    loaded = NPG.load(tmp_path / "model", custom_objects=custom, weights_only=True)
    assert loaded.gamma == 0.5
    assert not hasattr(loaded, "unheard_of")


def test_a_model_of_a_derived_space_is_loaded_without_its_environment(tmp_path):
    space = OwnBox(-1, 1, (4,))
    env = SpacesEnv(space, spaces.Discrete(2))
    model = make(NPG, env)
    model.save(tmp_path / "model")
    loaded = NPG.load(tmp_path / "model", weights_only=True)
    assert loaded.observation_space == space
    assert same(weights(model), weights(loaded))


@pytest.mark.parametrize("name", BAD_SPACES)
def test_a_model_with_what_is_no_space_is_named(name, tmp_path):
    plain, message = BAD_SPACES[name]
    make(NPG).save(tmp_path / "model")
    path = changed(
        tmp_path / "model.zip",
        lambda settings: settings["_plain_settings"].update(observation_space=plain),
    )
    with pytest.raises(ValueError, match=rf"changed\.zip cannot be loaded: .*{message}"):
        NPG.load(path, weights_only=True)
