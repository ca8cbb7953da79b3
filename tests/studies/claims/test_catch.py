"""The small tasks of the claims: Catch, and CartPole without velocities."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.preprocessing import is_image_space

from studies.claims.catch import SIDE, Catch
from studies.claims.positions import Positions


def pixels(image):
    """Where the ball and the paddle are: (row, column) of every white pixel."""
    return np.argwhere(image[..., 0]).tolist()


def test_gymnasium_accepts_it_and_sb3_sees_an_image():
    env = gym.make("studies.claims.catch:Catch-v0").unwrapped
    check_env(env, skip_render_check=True)
    assert is_image_space(env.observation_space)


def test_the_ball_falls_straight_and_the_paddle_stays_inside():
    env = Catch()
    (ball, _), actions = pixels(env.reset(seed=3)[0]), [0] * SIDE
    for row, action in enumerate(actions[: SIDE - 2], start=1):
        seen = pixels(env.step(action)[0])
        assert seen[0] == [row, ball[1]]
    assert seen[1] == [SIDE - 1, 0], "all the way to the left"


@pytest.mark.parametrize("seed", range(20))
def test_who_follows_the_ball_catches_it_and_who_flees_does_not(seed):
    for follows, wanted in ((True, 1.0), (False, -1.0)):
        env = Catch()
        ball, paddle = pixels(env.reset(seed=seed)[0])
        rewards, is_over = [], False
        while not is_over:
            side = int(np.sign(ball[1] - paddle[1]))
            if not follows:
                side = -1 if ball[1] >= SIDE // 2 else 1
            image, reward, is_over, is_cut, _ = env.step(1 + side)
            rewards.append(reward)
            paddle = [paddle[0], min(max(paddle[1] + side, 0), SIDE - 1)]
        assert rewards == [0.0] * (SIDE - 2) + [wanted]
        assert not is_cut
        assert pixels(image) == ([paddle] if follows else sorted([paddle, [SIDE - 1, ball[1]]]))


def test_without_velocities_the_positions_are_left():
    env, whole = Positions(gym.make("CartPole-v1")), gym.make("CartPole-v1")
    hidden, seen = env.reset(seed=0)[0], whole.reset(seed=0)[0]
    assert hidden.tolist() == [seen[0], seen[2]]
    assert env.observation_space.contains(hidden)
