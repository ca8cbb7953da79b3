"""A whole rollout as one batch, and how well its values predict its returns."""

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.utils import explained_variance as sb3_explained_variance

from sb3_natural.rollouts.returns import explained_variance
from sb3_natural.rollouts.whole import whole_rollout

BUFFER_SIZE, N_ENVS = 6, 3


def full_buffer():
    buffer = RolloutBuffer(
        BUFFER_SIZE, spaces.Box(-1, 1, (2, 2)), spaces.MultiDiscrete([4, 5]), "cpu", n_envs=N_ENVS
    )
    rng = np.random.default_rng(0)
    for name in ("observations", "actions", "values", "log_probs", "advantages", "returns"):
        array = getattr(buffer, name)
        array[...] = rng.integers(0, 4, size=array.shape)
    buffer.full = True
    return buffer


@pytest.mark.parametrize("passes", [1, 2])
def test_it_is_the_buffers_batch_in_order(passes):
    ours, theirs = full_buffer(), full_buffer()
    for _ in range(passes):
        np.random.seed(7)  # noqa: NPY002 - the one that SB3 uses
        batch, after = whole_rollout(ours), np.random.random()  # noqa: NPY002
        np.random.seed(7)  # noqa: NPY002
        expected, expected_after = next(theirs.get(None)), np.random.random()  # noqa: NPY002
        np.random.seed(7)  # noqa: NPY002
        order = np.random.permutation(BUFFER_SIZE * N_ENVS)  # noqa: NPY002
        assert after == expected_after
        for name, array in batch._asdict().items():
            right = getattr(expected, name).numpy()
            assert array.dtype == right.dtype
            np.testing.assert_array_equal(array[order], right)
    for name, value in vars(theirs).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(vars(ours)[name], value)
    assert ours.generator_ready


@pytest.mark.parametrize("shape", [(5,), (6, 3)])
def test_explained_variance_is_sb3s(shape):
    rng = np.random.default_rng(0)
    returns = rng.normal(50, 2, size=shape).astype(np.float32)
    for values in (returns, returns + rng.normal(size=shape).astype(np.float32), 0 * returns):
        expected = sb3_explained_variance(values.flatten(), returns.flatten())
        assert explained_variance(values, returns) == pytest.approx(expected, abs=1e-5)


def test_equal_returns_have_no_variance_to_explain():
    assert np.isnan(explained_variance(np.zeros(5, np.float32), np.full(5, 0.3, np.float32)))
