"""ACER with environments that say which actions are valid."""

import io
import json
import math

import numpy as np
import pytest
import torch
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked
from stable_baselines3.common.env_util import make_vec_env
from torch.distributions import Categorical

from sb3_natural import ACER
from sb3_natural.acer.buffers import SegmentBuffer
from sb3_natural.acer.loss import discrete_estimates, policy_gradient
from sb3_natural.acer.policies import MlpPolicy
from sb3_natural.curvature.masking import MASKED
from tests.helpers import SpacesEnv
from tests.masked_envs import Chords, Keyboard

ENVS = {"discrete": Keyboard, "multidiscrete": Chords}
KINDS = pytest.mark.parametrize("env", ENVS.values(), ids=ENVS)


def build(env, n_envs=3, **arguments):
    given = dict(n_steps=8, replay_start=48, seed=0, device="cpu") | arguments
    return ACER("MlpPolicy", make_vec_env(env, n_envs, seed=0), **given)


def counts(vec_env):
    return sum(vec_env.get_attr("taken")), sum(vec_env.get_attr("invalid"))


def weights(model):
    return [value.clone() for value in model.policy.state_dict().values()]


@KINDS
@pytest.mark.parametrize("path", ["numpy", "torch"])
def test_only_valid_actions_are_taken(env, path):
    model = build(env)
    model.rollout_path = path
    model.learn(960)
    assert counts(model.get_env()) == (960, 0)
    assert model.logger.name_to_value["train/skipped_updates"] == 0
    assert all(torch.isfinite(value).all() for value in weights(model))


def valid_in(segments, index):
    """What the environment allows in a row, by its observation."""
    return Keyboard().valid[segments.observations[index].argmax()]


@pytest.mark.parametrize("time_limit", [False, True])
def test_replayed_masks_are_those_of_the_observations_beside_them(time_limit):
    """Also in the last row of a segment; where a time limit cut off, all actions count as valid."""
    model = build(lambda: Keyboard(time_limit=time_limit), buffer_size=120).learn(960)
    buffer, rng = model.replay_buffer, np.random.default_rng(0)
    n_cut = 0
    for segments in (buffer.latest(8), *(buffer.sample(5, 8, rng) for _ in range(40))):
        n_seen = 9 * segments.rewards.shape[1]
        assert segments.masks.shape == (len(segments.observations), 40)
        for index in range(n_seen):
            np.testing.assert_array_equal(segments.masks[index], valid_in(segments, index))
        assert segments.masks[n_seen:].all()
        n_cut += len(segments.masks) - n_seen
        chosen = segments.actions.reshape(-1)
        assert segments.masks[np.arange(len(chosen)), chosen].all()
        mu = segments.statistics.reshape(len(chosen), 40)
        np.testing.assert_array_equal(mu == np.float32(MASKED), ~segments.masks[: len(chosen)])
    assert (n_cut > 0) == time_limit


def random_case(seed=0, n=6, n_actions=5):
    """Logits, mu, Q and masks of some states in float64, and valid actions."""
    torch.manual_seed(seed)
    masks = torch.rand(n, n_actions) < 0.5
    masks[:, 2] = True
    masks[0] = True
    phi, mu, q = (2 * torch.randn(n, n_actions, dtype=torch.float64) for _ in range(3))
    phi, mu = (x.masked_fill(~masks, MASKED) for x in (phi, mu))
    return phi, mu, q, masks, Categorical(logits=mu).sample()


class Critic(torch.nn.Module):
    """Q as given, for a policy's value_net."""

    def forward(self, latent):
        return latent


@pytest.mark.parametrize("c", [0.5, 2.0, math.inf])
def test_estimates_and_gradient_are_sums_over_the_valid_actions(c):
    """Equations 6 and 7 of Wang et al. 2017, one valid action at a time."""
    phi, mu, q, masks, actions = random_case()
    space = SpacesEnv(Keyboard().observation_space, Keyboard(5, 2).action_space)
    policy = MlpPolicy(space.observation_space, space.action_space, lambda _: 1e-3).double()
    policy.value_net = Critic()
    estimates = discrete_estimates(policy, phi, q, mu, actions, c)
    returns = torch.randn(len(phi), dtype=torch.float64)
    advantages = returns - estimates.values
    gradient = policy_gradient(policy, phi, actions, estimates, advantages, c, ent_coef=0.1)
    for index, mask in enumerate(masks):
        valid = torch.nonzero(mask).flatten().tolist()
        logits = phi[index, valid].clone().requires_grad_(True)
        pi, behaviour = logits.softmax(0), mu[index, valid].softmax(0)
        value = sum(pi[i] * q[index, a] for i, a in enumerate(valid))
        assert estimates.values[index].item() == pytest.approx(value.item())
        taken = valid.index(actions[index].item())
        rho = (pi / behaviour).detach()
        assert estimates.log_rho[index].exp().item() == pytest.approx(rho[taken].item())
        objective = min(c, rho[taken]) * advantages[index] * pi[taken].log()
        for i, a in enumerate(valid):
            left_out = max(0.0, 1 - c / rho[i].item())
            objective = objective + (
                left_out * pi[i].detach() * (q[index, a] - value.detach()) * pi[i].log()
            )
        objective = objective - 0.1 * (pi * pi.log()).sum()
        (expected,) = torch.autograd.grad(objective, logits)
        torch.testing.assert_close(gradient[index, valid], expected, rtol=1e-8, atol=1e-10)
        assert not gradient[index][~mask].any()
    assert (~masks).sum() > 5


@KINDS
def test_updates_leave_the_logits_of_actions_that_are_never_valid_alone(env):
    """By their own layer's weights: Q, which only valid actions teach, and pi."""
    never = {Keyboard: ~Keyboard().valid.any(axis=0)}.get(env)
    model = build(env, ent_coef=0.05)
    before = [layer.clone() for layer in model.policy.action_net.parameters()]
    model.learn(480)
    moved = [
        (old != new).reshape(len(old), -1).any(dim=1)
        for old, new in zip(before, model.policy.action_net.parameters(), strict=True)
    ]
    for rows in moved:
        if never is None:
            assert rows.all()
        else:
            np.testing.assert_array_equal(rows.numpy(), ~never)


def test_many_invalid_actions_are_learnt_around():
    """36 of 40 keys cannot be pressed: with masks none ever is, and the paying ones are found."""
    model = build(Keyboard, 4, n_steps=20, replay_start=200).learn(12_000)
    assert counts(model.get_env()) == (model.num_timesteps, 0)
    env = make_vec_env(Keyboard, 1, seed=1)
    mean, _ = evaluate_masked(model, env, n_eval_episodes=10)
    assert mean > 19  # 20 is the most; 5 is a random choice among valid keys
    assert counts(env) == (200, 0)


def test_two_dimensions_of_actions_learn_with_masks():
    model = build(Chords, 4, n_steps=20, replay_start=200).learn(16_000)
    assert counts(model.get_env()) == (model.num_timesteps, 0)
    env = make_vec_env(Chords, 1, seed=1)
    mean, _ = evaluate_masked(model, env, n_eval_episodes=20)
    assert mean > 6.5  # 10 is the most
    assert counts(env) == (200, 0)


@KINDS
def test_same_seed_gives_the_same_run(env):
    first, second = (weights(build(env).learn(480)) for _ in range(2))
    assert all(map(torch.equal, first, second))


def arrays_of(buffer):
    file = io.BytesIO()
    buffer.save(file)
    file.seek(0)
    return dict(np.load(file))


def saved(arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    return file


def test_masks_are_saved_with_the_replay_buffer(tmp_path):
    model = build(Keyboard).learn(240)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = ACER.load(tmp_path / "model", env=make_vec_env(Keyboard, 3, seed=0))
    loaded.load_replay_buffer(tmp_path / "buffer", truncate_last_traj=False)
    ours, theirs = (m.replay_buffer.latest(40) for m in (model, loaded))
    np.testing.assert_array_equal(ours.masks, theirs.masks)
    assert not ours.masks.all()
    loaded.learn(240, reset_num_timesteps=False)
    assert counts(loaded.get_env()) == (240, 0)


def test_buffers_without_masks_load_as_before_and_wrong_masks_are_refused():
    plain = build(lambda: SpacesEnv(Keyboard().observation_space, Keyboard().action_space))
    arrays = arrays_of(plain.learn(96).replay_buffer)
    assert "masks" not in arrays
    header = json.loads(str(arrays["header"]))
    del header["has_masks"]  # as earlier versions wrote it
    earlier = SegmentBuffer.load(saved(arrays | {"header": np.array(json.dumps(header))}))
    assert earlier.latest(8).masks is None

    arrays = arrays_of(build(Keyboard).learn(96).replay_buffer)
    assert SegmentBuffer.load(saved(arrays)).latest(8).masks is not None
    wrong = {
        "of another shape": arrays["masks"][:, :, :3],
        "of another kind": arrays["masks"].astype(np.int8),
        "neither": (2 * arrays["masks"].astype(np.uint8)).view(bool),
    }
    for masks in wrong.values():
        with pytest.raises(ValueError, match=r"not one of ACER's replay buffers.*masks"):
            SegmentBuffer.load(saved(arrays | {"masks": masks}))
    del arrays["masks"]
    with pytest.raises(ValueError, match="not one of ACER's replay buffers"):
        SegmentBuffer.load(saved(arrays))


def test_in_an_environment_without_masks_new_steps_have_none():
    model = build(Keyboard).learn(96)
    model.set_env(make_vec_env(lambda: SpacesEnv(model.observation_space, model.action_space), 3))
    model.learn(96)
    assert model.replay_buffer.latest(32).masks.all()
    assert not model.replay_buffer.latest(64).masks.all()


def test_masks_that_make_no_sense_are_named():
    class NoChoice(Keyboard):
        def action_masks(self):
            return np.zeros(self.action_space.n, dtype=bool)

    model = build(NoChoice)
    with pytest.raises(ValueError, match="action_masks of environment 0 allow no action"):
        model.learn(96)
