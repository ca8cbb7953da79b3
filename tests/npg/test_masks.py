"""NPG with environments that say which actions are valid."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.buffers import MaskableRolloutBuffer
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize
from torch.distributions import kl_divergence

from benchmarks.evaluation import ScheduledEvaluation, with_masks
from benchmarks.records import Evaluation
from sb3_natural import NPG, SignalCallback, signal_share
from sb3_natural import make_vec_env as make_lean
from sb3_natural.curvature.masking import masked_distribution
from sb3_natural.rollouts.masks import masks_of
from tests.helpers import SpacesEnv
from tests.masked_envs import Chords, Keyboard

ENVS = {"discrete": Keyboard, "multidiscrete": Chords}
KINDS = pytest.mark.parametrize("env", ENVS.values(), ids=ENVS)
PATHS = pytest.mark.parametrize("path", ["numpy", "torch", "any network"])


class Shifted(ActorCriticPolicy):
    """Not a plain network: its outputs come from a method of its own."""

    def _get_action_dist_from_latent(self, latent_pi):
        return super()._get_action_dist_from_latent(latent_pi + 0.0)


def build(env, path="numpy", n_envs=3, **arguments):
    policy = Shifted if path == "any network" else "MlpPolicy"
    given = dict(n_steps=32, normalize_observations=False, seed=0, device="cpu") | arguments
    model = NPG(policy, make_vec_env(env, n_envs, seed=0), **given)
    if path == "torch":
        model.rollout_path = "torch"
    return model


def counts(vec_env):
    return sum(vec_env.get_attr("taken")), sum(vec_env.get_attr("invalid"))


def weights(model):
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


def same(left, right):
    return all(torch.equal(left[name], right[name]) for name in left | right)


class Watching(BaseCallback):
    """Checks each step's log-probability against SB3's own distribution, masked."""

    steps = 0

    def _on_step(self):
        self.steps += 1
        seen = self.locals
        buffer, pos = seen["rollout_buffer"], seen["rollout_buffer"].pos
        masks = torch.as_tensor(buffer.action_masks[pos]) > 0.5
        with torch.no_grad():
            policy = self.model.policy
            distribution = policy.get_distribution(torch.as_tensor(buffer.observations[pos]))
            masked = masked_distribution(distribution, masks)
            expected = masked.log_prob(torch.as_tensor(seen["actions"]))
        torch.testing.assert_close(seen["log_probs"].clone(), expected, rtol=1e-4, atol=1e-5)
        return True


@KINDS
@PATHS
def test_only_valid_actions_are_taken_and_their_log_probabilities_are_the_masked_ones(env, path):
    model, watching = build(env, path), Watching()
    model.learn(192, callback=watching)
    assert watching.steps == 64
    assert counts(model.get_env()) == (192, 0)
    assert model.rollout_path == ("torch" if path == "any network" else path)
    assert model.logger.name_to_value["train/skipped_updates"] == 0
    assert isinstance(model.rollout_buffer, MaskableRolloutBuffer)


@KINDS
def test_both_paths_take_the_same_actions(env):
    runs = []
    for path in ("numpy", "torch", "any network"):
        model = build(env, path)
        torch.manual_seed(5)
        _, callback = model._setup_learn(96)
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 32)
        runs.append(model.rollout_buffer)
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0].actions, other.actions)
        np.testing.assert_array_equal(runs[0].action_masks, other.action_masks)
        np.testing.assert_allclose(runs[0].log_probs, other.log_probs, rtol=1e-4, atol=1e-5)
    assert not runs[0].action_masks.all()


@pytest.mark.parametrize("arguments", [{}, {"line_search": True, "kl_constraint": "max"}])
@KINDS
def test_an_update_measures_the_divergence_of_the_valid_actions(env, arguments):
    """Masks are those of the rollout: by SB3's own distributions, masked."""
    model = build(env, n_steps=64, target_kl=0.02, plateau_threshold=0.0, **arguments)
    _, callback = model._setup_learn(1000)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 64)
    old, batch = copy.deepcopy(model.policy), next(copy.deepcopy(model.rollout_buffer).get())
    model.train()
    masks = masks_of(batch)
    with torch.no_grad():
        before, after = (
            masked_distribution(policy.get_distribution(batch.observations), masks).distribution
            for policy in (old, model.policy)
        )
        before, after = (d if isinstance(d, list) else [d] for d in (before, after))
        pairs = zip(before, after, strict=True)
        kls = torch.stack([kl_divergence(p, q) for p, q in pairs]).sum(dim=0)
        entropy = torch.stack([block.entropy() for block in after]).sum(dim=0).mean().item()
    log = model.logger.name_to_value
    assert log["train/kl"] == pytest.approx(kls.mean().item(), rel=1e-3)
    assert log["train/kl_predicted"] == pytest.approx(log["train/kl"], rel=0.3)
    assert log["train/entropy"] == pytest.approx(entropy, rel=1e-4)
    if arguments:
        assert log["train/kl_max"] == pytest.approx(kls.max().item(), rel=1e-3)
        assert kls.max() <= 0.02


@pytest.mark.parametrize(
    "arguments",
    [
        dict(kl_penalty=2.0),
        dict(kl_penalty="adaptive", kl_constraint="max", target_kl=0.02),
        dict(sub_sampling_factor=3, target_kl=0.02),
        dict(sub_sampling_factor=2, fisher_solver="empirical", target_kl=0.02),
        dict(fisher_solver="diagonal", critic="adam", target_kl=0.02),
    ],
)
def test_masks_go_with_every_kind_of_step(arguments):
    model = build(Chords, **arguments).learn(192)
    assert counts(model.get_env()) == (192, 0)
    log = model.logger.name_to_value
    assert log["train/skipped_updates"] == 0
    assert 0 < log["train/kl"] < 1


def learner(env_cls, **arguments):
    return NPG("MlpPolicy", make_vec_env(env_cls, 4, seed=0), n_steps=64, seed=0, **arguments)


def test_many_invalid_actions_are_learnt_around():
    """36 of 40 keys cannot be pressed: with masks none ever is, and the paying ones are found."""
    model = learner(Keyboard, target_kl=0.05).learn(10_000)
    taken, invalid = counts(model.get_env())
    assert taken == model.num_timesteps > 10_000
    assert invalid == 0
    env = make_vec_env(Keyboard, 1, seed=1)
    mean, _ = evaluate_masked(model, env, n_eval_episodes=10)
    assert mean > 19  # 20 is the most; 5 is a random choice among valid keys
    assert counts(env) == (200, 0)


def test_two_dimensions_of_actions_learn_with_masks():
    model = learner(Chords, target_kl=0.05).learn(16_000)
    assert counts(model.get_env()) == (model.num_timesteps, 0)
    env = make_vec_env(Chords, 1, seed=1)
    mean, _ = evaluate_masked(model, env, n_eval_episodes=20)
    assert mean > 8.5  # 10 is the most
    assert counts(env) == (200, 0)


@KINDS
def test_predictions_are_valid_for_one_observation_and_for_many(env):
    model, single = build(env), env()
    observation, _ = single.reset(seed=3)
    mask = single.action_masks()
    for deterministic in (True, False):
        for _ in range(20):
            action, state = model.predict(
                observation, deterministic=deterministic, action_masks=mask
            )
            single.step(action)
            assert state is None
            assert np.shape(action) == single.action_space.shape
            single.reset(seed=3)
    assert single.invalid == 0
    batch, masks = np.stack([observation] * 4), np.stack([mask] * 4)
    actions, _ = model.predict(batch, action_masks=masks)
    assert actions.shape == (4, *single.action_space.shape)
    all_valid = np.ones_like(masks)
    expected, _ = model.predict(batch, deterministic=True)
    unmasked, _ = model.predict(batch, deterministic=True, action_masks=all_valid)
    np.testing.assert_array_equal(unmasked, expected)


def test_evaluations_use_masks():
    model, eval_env = build(Keyboard), make_vec_env(Keyboard, 1, seed=1)
    evaluation = MaskableEvalCallback(eval_env, eval_freq=32, n_eval_episodes=2, verbose=0)
    model.learn(192, callback=evaluation)
    taken, invalid = counts(eval_env)
    assert taken >= 40
    assert invalid == 0


def test_the_suites_evaluations_use_masks():
    model, eval_env = build(Keyboard), make_vec_env(Keyboard, 2, seed=1)
    evaluation = ScheduledEvaluation(eval_env, 192, Evaluation(points=2, episodes=2, seed=7))
    model.learn(192, callback=evaluation)
    assert len(evaluation.rows) == 3
    taken, invalid = counts(eval_env)
    assert taken >= 3 * 2 * 20
    assert invalid == 0
    # A model that takes no masks is asked for none.
    plain = build(lambda: SpacesEnv(spaces.Box(0, 1, (6,)), spaces.Discrete(40)))
    plain.learn(96)
    assert with_masks(plain, plain.get_env()) is plain
    assert with_masks(model, eval_env) is not model


@pytest.mark.parametrize("wrapped", ["subprocess", "normalised", "lean", "masker"])
def test_masks_come_through_every_kind_of_wrapper(wrapped):
    if wrapped == "subprocess":
        env = make_vec_env(Keyboard, 2, seed=0, vec_env_cls=SubprocVecEnv)
    elif wrapped == "normalised":
        env = VecNormalize(make_vec_env(Keyboard, 2, seed=0))
    elif wrapped == "lean":
        gym.register("Keyboard-v0", Keyboard)
        env = make_lean("Keyboard-v0", 2, seed=0)
        gym.registry.pop("Keyboard-v0")
    else:
        env = DummyVecEnv(
            [lambda: ActionMasker(Keyboard(), lambda wrapper: wrapper.action_masks())]
        )
    model = NPG("MlpPolicy", env, n_steps=32, seed=0).learn(64)
    taken, invalid = counts(env)
    assert taken >= 64
    assert invalid == 0
    assert not model.rollout_buffer.action_masks.all()
    env.close()


@pytest.mark.parametrize("kind", ["same seed", "saved and continued"])
def test_runs_with_masks_are_repeatable(kind, tmp_path):
    def run():
        model = build(Chords)
        model.learn(192)
        if kind == "saved and continued":
            model.save(tmp_path / "model")
            model = NPG.load(tmp_path / "model", env=make_vec_env(Chords, 3, seed=4))
            model.set_random_seed(9)
            model.learn(96, reset_num_timesteps=False)
            assert counts(model.get_env())[1] == 0
        return weights(model)

    assert same(run(), run())


def test_a_model_may_go_to_an_environment_without_masks_and_back():
    model = build(Keyboard).learn(96)
    assert type(model.rollout_buffer) is MaskableRolloutBuffer
    model.set_env(
        make_vec_env(lambda: SpacesEnv(Keyboard().observation_space, Keyboard().action_space), 3)
    )
    model.learn(96)
    assert type(model.rollout_buffer) is RolloutBuffer
    model.set_env(make_vec_env(Keyboard, 3))
    model.learn(96)
    assert not model.rollout_buffer.action_masks.all()


def test_dict_observations_have_masks_too():
    class InDict(gym.ObservationWrapper):
        def __init__(self, env):
            super().__init__(env)
            self.observation_space = spaces.Dict(seen=env.observation_space)

        def observation(self, observation):
            return {"seen": observation}

    env = make_vec_env(lambda: InDict(Keyboard()), 2, seed=0)
    model = NPG("MultiInputPolicy", env, n_steps=32, seed=0).learn(128)
    assert counts(env) == (128, 0)
    assert isinstance(model.rollout_buffer.observations, dict)


def test_the_signal_in_a_rollout_is_that_of_the_masked_policy():
    """With masks that leave one action, there is no gradient, and no signal."""

    class OneKey(Keyboard):
        def __init__(self):
            super().__init__(n_valid=1)

        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, float(self.np_random.normal()), *rest

    for env, is_some in ((OneKey, False), (Keyboard, True)):
        model = build(env)
        _, callback = model._setup_learn(96)
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 32)
        found = signal_share(model.policy, model.rollout_buffer)
        assert (abs(found.total) > 1e-8) == is_some
    build(Keyboard).learn(96, callback=SignalCallback())


class NoChoice(Keyboard):
    def action_masks(self):
        return np.zeros(self.action_space.n, dtype=bool)


class OneDimension(Chords):
    def action_masks(self):
        return np.array([1] * 3 + [0] * 5 + [1] * 4)


class TooShort(Keyboard):
    def action_masks(self):
        return np.ones(3, dtype=bool)


class Moves(Keyboard):
    def __init__(self):
        super().__init__()
        self.action_space = spaces.MultiBinary(4)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (NoChoice, "action_masks of environment 0 allow no action$"),
        (OneDimension, "action_masks of environment 0 allow no action of dimension 1"),
        (TooShort, r"action_masks must be 3 masks of 40 values .*, got an array of shape \(3, 3\)"),
        (Moves, r"action_masks are for Discrete and MultiDiscrete actions, not for MultiBinary"),
    ],
)
def test_masks_that_make_no_sense_are_named(env, message):
    with pytest.raises(ValueError, match=message):
        build(env).learn(96)


def test_what_cannot_use_masks_is_refused_instead_of_taking_invalid_actions():
    class Own(RolloutBuffer):
        pass

    model = build(Keyboard, rollout_buffer_class=Own)
    with pytest.raises(ValueError, match="rollout_buffer_class=Own does not hold"):
        model.learn(96)

    class OwnForward(ActorCriticPolicy):
        def forward(self, obs, deterministic=False):
            return super().forward(obs, deterministic)

    env = make_vec_env(Keyboard, 2)
    model = NPG(OwnForward, env, n_steps=32, normalize_observations=False)
    with pytest.raises(ValueError, match="OwnForward has its own forward"):
        model.learn(64)
    model = build(Keyboard)
    model.rollout_path = "sb3"
    with pytest.raises(ValueError, match="rollout_path='sb3' does not use"):
        model.learn(96)
    with pytest.raises(ValueError, match="action_masks must be 1 masks of 40 values"):
        model.predict(np.zeros(6, dtype=np.float32), action_masks=np.ones(3))


def test_a_buffer_of_ones_own_that_holds_masks_is_kept():
    class Own(MaskableRolloutBuffer):
        pass

    model = build(Keyboard, rollout_buffer_class=Own).learn(96)
    assert type(model.rollout_buffer) is Own
    assert not model.rollout_buffer.action_masks.all()
    assert issubclass(Own, RolloutBuffer)
    assert not issubclass(Own, DictRolloutBuffer)
