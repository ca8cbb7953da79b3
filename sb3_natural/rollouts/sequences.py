"""Rollouts of recurrent policies as batches of sequences."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sb3_contrib.common.recurrent.buffers import RecurrentDictRolloutBuffer, RecurrentRolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from sb3_natural.curvature.sequences import LstmStates, SequenceBlock, Sequences
from sb3_natural.observations import mapped

__all__ = ["SequenceBatches"]


class SequenceBatches:
    """Batches of a full recurrent rollout buffer: what :meth:`get` gives holds steps, no padding.

    Sequences end where an episode or the rollout does. Those of about the same length, within a
    factor of four, are padded and run through the network together: with all of them padded to the
    longest, one long episode would make every short one as slow.

    :param buffer: one of sb3-contrib's, or derived from one
    """

    def __init__(self, buffer: RecurrentRolloutBuffer | RecurrentDictRolloutBuffer) -> None:
        self._buffer: Any = buffer

    def get(self, batch_size: int | None = None) -> Iterator[RolloutBufferSamples]:
        """Batches whose observations are :class:`~sb3_natural.curvature.sequences.Sequences`.

        :param batch_size: None for one batch of everything; else sequences are also cut after so
            many steps, and come in random order, about so many steps in a batch. The states before
            a sequence's first step are those that the policy had there when it acted
        """
        buffer = self._buffer
        if not buffer.generator_ready:
            next(buffer.get(batch_size=1))  # which sorts rows by environment, then by step
        firsts, lengths = self._sequences(batch_size)
        if batch_size is None:
            yield self._batch(firsts, lengths)
            return
        order = np.random.permutation(len(firsts))  # noqa: NPY002 - as SB3's buffers draw
        firsts, lengths = firsts[order], lengths[order]
        batch_of = (np.cumsum(lengths) - lengths) // batch_size
        for index in np.unique(batch_of):
            yield self._batch(firsts[batch_of == index], lengths[batch_of == index])

    def _sequences(self, max_length: int | None) -> tuple[np.ndarray, np.ndarray]:
        """The row of each sequence's first step, and how many steps it has."""
        n_rows, n_steps = len(self._buffer.episode_starts), self._buffer.buffer_size
        is_first = self._buffer.episode_starts.reshape(-1) > 0
        is_first[::n_steps] = True
        firsts = np.flatnonzero(is_first)
        if max_length is not None:
            ends = np.append(firsts[1:], n_rows)
            parts = [
                np.arange(first, end, max_length) for first, end in zip(firsts, ends, strict=True)
            ]
            firsts = np.concatenate(parts)
        return firsts, np.diff(firsts, append=n_rows)

    def _batch(self, firsts: np.ndarray, lengths: np.ndarray) -> RolloutBufferSamples:
        buffer = self._buffer
        bands = np.ceil(np.log2(lengths) / 2)
        blocks, rows, steps, n_rows = [], [], [], 0
        for band in np.unique(bands):
            chosen = bands == band
            block_firsts, block_lengths = firsts[chosen, None], lengths[chosen, None]
            time = np.arange(block_lengths.max())[None]
            is_step = time < block_lengths
            # The padding is a step that the policy has seen, so that no policy can object to it.
            index = np.where(is_step, block_firsts + time, block_firsts)
            blocks.append(self._block(index))
            rows.append(n_rows + np.flatnonzero(is_step))
            steps.append(index[is_step])
            n_rows += index.size
        order = np.concatenate(steps)
        columns = (
            buffer.to_torch(getattr(buffer, name)[order].astype(np.float32, copy=False))
            for name in ("actions", "values", "log_probs", "advantages", "returns")
        )
        actions, *others = columns
        sequences = Sequences(blocks, buffer.to_torch(np.concatenate(rows)))
        return RolloutBufferSamples(sequences, actions, *(each.flatten() for each in others))  # type: ignore[arg-type]

    def _block(self, index: np.ndarray) -> SequenceBlock:
        """The sequences of the rows at an index, (n_sequences, T)."""
        buffer, firsts = self._buffer, index[:, 0]
        goes_on = 1.0 - buffer.episode_starts[firsts].reshape(1, -1, 1)

        def states(part: str) -> LstmStates:
            stored = (getattr(buffer, f"{name}_states_{part}") for name in ("hidden", "cell"))
            hidden, cell = (
                buffer.to_torch((array[firsts].swapaxes(0, 1) * goes_on).astype(np.float32))
                for array in stored
            )
            return hidden, cell

        observations = mapped(
            lambda rows: buffer.to_torch(rows[index.reshape(-1)]), buffer.observations
        )
        return SequenceBlock(observations, states("pi"), states("vf"))
