"""Recurrent policies as functions of whole sequences, one output for each step.

What a recurrent policy does at step t depends on the steps before it, back to the start of the
episode or of the rollout, whose memory is a constant. With J_t the Jacobian of step t's statistics
through all of these, the Fisher information is

    F = mean_t J_t^T M(phi_t) J_t

over the steps of all sequences. A batch of :class:`Sequences` stands where observations stand
elsewhere, and a :class:`SequencePolicy` where the policy does; then
:class:`~sb3_natural.curvature.operators.FisherOperator` and the others compute this.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn
from torch.optim import Optimizer

from sb3_natural.curvature.families import family_of
from sb3_natural.observations import at, batch_length, mapped

__all__ = ["SequenceBlock", "SequencePolicy", "Sequences"]

LstmStates = tuple[Tensor, ...]  # hidden and cell, as sb3-contrib annotates them


class SequenceBlock(NamedTuple):
    """Sequences padded to one length T, in the layout of sb3-contrib's recurrent policies.

    A new episode is a new sequence, whose states are zero: so none begins within a sequence, and
    the network's own loop over time can be used.
    """

    observations: PyTorchObs
    """(n_sequences * T, ...), sequence by sequence"""
    states_pi: LstmStates
    """Hidden and cell states before the first step, each (n_layers, n_sequences, n_hidden)"""
    states_vf: LstmStates
    """The critic's"""

    @property
    def n_sequences(self) -> int:
        """How many there are."""
        return self.states_pi[0].shape[1]

    def of(self, sequences: Tensor, length: int) -> "SequenceBlock":
        """The first steps of some of the sequences.

        :param sequences: their indices
        :param length: how many steps
        """

        def cut(rows: Tensor) -> Tensor:
            by_sequence = rows.reshape(self.n_sequences, -1, *rows.shape[1:])
            return by_sequence[sequences, :length].flatten(0, 1)

        pi, vf = (
            (hidden[:, sequences], cell[:, sequences])
            for hidden, cell in (self.states_pi, self.states_vf)
        )
        return SequenceBlock(mapped(cut, self.observations), pi, vf)


class Sequences:
    """N steps in sequences, to be indexed and counted as observations are.

    :param blocks: the sequences with their padding
    :param rows: where the steps are in the blocks' rows, one block after the other, (N,); all other
        rows are padding or steps that only lead to those, and have no outputs
    """

    def __init__(self, blocks: Sequence[SequenceBlock], rows: Tensor) -> None:
        self.blocks = list(blocks)
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | Tensor) -> "Sequences":
        """Some of the steps, in any order, without sequences and later steps that they don't need.

        :param index: a slice, or indices of steps, (n,)
        """
        rows = self.rows[index]
        blocks, moved = [], torch.empty_like(rows)
        n_before, n_kept = 0, 0
        for block in self.blocks:
            n_rows = batch_length(block.observations)
            length = n_rows // block.n_sequences
            own = (rows >= n_before) & (rows < n_before + n_rows)
            if own.any():
                within = rows[own] - n_before
                needed, positions = (within // length).unique(return_inverse=True)
                n_steps = int((within % length).max()) + 1
                moved[own] = n_kept + positions * n_steps + within % length
                blocks.append(block.of(needed, n_steps))
                n_kept += len(needed) * n_steps
            n_before += n_rows
        return Sequences(blocks, moved)

    @property
    def observations(self) -> PyTorchObs:
        """The observations of the N steps, without padding."""
        joined = mapped(lambda *parts: torch.cat(parts), *(b.observations for b in self.blocks))
        return at(joined, self.rows)


class SequencePolicy:
    """A recurrent policy, called with :class:`Sequences` where other policies take observations.

    :param policy: whatever its features, layers, actions, and the critic's memory: its own, the
        actor's, or none
    """

    def __init__(self, policy: RecurrentActorCriticPolicy) -> None:
        self._policy: Any = policy  # whose annotations know nothing of Dict observations

    @property
    def optimizer(self) -> Optimizer:
        """The policy's."""
        return self._policy.optimizer

    def parameters(self) -> Iterator[nn.Parameter]:
        """The policy's, in its order."""
        return self._policy.parameters()

    def modules(self) -> Iterator[nn.Module]:
        """None: through the memory, a sample's gradient is in no layer a single outer product."""
        return iter(())

    def get_distribution(self, sequences: Sequences) -> Distribution:
        """The distribution of actions in each of the N steps."""
        parts = []
        with _differentiable():
            for block in sequences.blocks:
                distribution, _ = self._policy.get_distribution(
                    block.observations, block.states_pi, _no_starts(block)
                )
                parts.append(family_of(distribution).statistics(distribution))
        return family_of(distribution).at(distribution, torch.cat(parts)[sequences.rows])

    def predict_values(self, sequences: Sequences) -> Tensor:
        """The values of the N steps, shape (N, 1)."""
        with _differentiable():
            parts = [
                self._policy.predict_values(block.observations, block.states_vf, _no_starts(block))
                for block in sequences.blocks
            ]
        return torch.cat(parts)[sequences.rows]


def _differentiable() -> AbstractContextManager[None]:
    """Torch's own LSTM: cuDNN's has no derivative outside training mode, nor a second one."""
    return torch.backends.cudnn.flags(enabled=False)


def _no_starts(block: SequenceBlock) -> Tensor:
    n_rows = batch_length(block.observations)
    return torch.zeros(n_rows, device=block.states_pi[0].device)
