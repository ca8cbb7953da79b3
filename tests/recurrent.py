"""Recurrent policies, and rollouts of them, that several tests need."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.buffers import RecurrentDictRolloutBuffer, RecurrentRolloutBuffer
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy

from sb3_natural.curvature.sequences import SequenceBlock, Sequences
from sb3_natural.npg.policies import CnnLstmPolicy, MlpLstmPolicy, MultiInputLstmPolicy
from sb3_natural.observations import mapped
from tests.helpers import (
    ACTION_SPACES,
    OBSERVATION_SPACES,
    CombinedExtractor64,
    FlattenExtractor64,
    NatureCNN64,
)

MEMORIES: dict[str, dict[str, bool]] = {
    "separate": {},
    "shared": {"shared_lstm": True, "enable_critic_lstm": False},
    "actor only": {"enable_critic_lstm": False},
}
POLICIES = {
    "mlp": "MlpLstmPolicy",
    "discrete": "MlpLstmPolicy",
    "cnn": "CnnLstmPolicy",
    "dict": "MultiInputLstmPolicy",
}


def make_recurrent_policy(
    actions: str = "categorical",
    observations: str = "mlp",
    n_layers: int = 1,
    memory: str = "separate",
    n_hidden: int = 3,
) -> RecurrentActorCriticPolicy:
    """A small policy in float64, with parameters far enough from zero to matter."""
    torch.manual_seed(0)
    cls, extractor, extractor_kwargs = {
        "mlp": (MlpLstmPolicy, FlattenExtractor64, {}),
        "discrete": (MlpLstmPolicy, FlattenExtractor64, {}),
        "cnn": (CnnLstmPolicy, NatureCNN64, {"features_dim": 3}),
        "dict": (MultiInputLstmPolicy, CombinedExtractor64, {"cnn_output_dim": 3}),
    }[observations]
    policy = cls(
        OBSERVATION_SPACES[observations],
        ACTION_SPACES[actions],
        lambda _: 1e-3,
        net_arch=[4],
        use_sde=actions == "gsde",
        features_extractor_class=extractor,
        features_extractor_kwargs=extractor_kwargs,
        lstm_hidden_size=n_hidden,
        n_lstm_layers=n_layers,
        **MEMORIES[memory],
    ).double()
    with torch.no_grad():
        for module in (policy.action_net, policy.lstm_actor, policy.lstm_critic, policy.value_net):
            for param in module.parameters() if module is not None else ():
                param.normal_()
        if hasattr(policy, "log_std"):
            policy.log_std.normal_(mean=-0.5, std=0.3)
    if policy.use_sde:
        policy.reset_noise()
    policy.set_training_mode(False)
    return policy


def filled_buffer(
    policy: RecurrentActorCriticPolicy, n_steps: int, n_envs: int, starts: Any = ()
) -> Any:
    """A full buffer of random numbers, with random states before every step.

    :param starts: (step, environment) pairs at which episodes begin
    """
    rng = np.random.default_rng(0)
    n_layers, _, n_hidden = policy.lstm_hidden_state_shape
    is_dict = isinstance(policy.observation_space, spaces.Dict)
    cls = RecurrentDictRolloutBuffer if is_dict else RecurrentRolloutBuffer
    shape = (n_steps, n_layers, n_envs, n_hidden)
    spaces_of = policy.observation_space, policy.action_space
    buffer: Any = cls(n_steps, *spaces_of, shape, "cpu", n_envs=n_envs)
    for space in spaces_of:
        space.seed(0)
    for step in range(n_steps):
        for env in range(n_envs):
            observation, action = (space.sample() for space in spaces_of)
            if is_dict:
                for key, rows in buffer.observations.items():
                    rows[step, env] = observation[key]
            else:
                buffer.observations[step, env] = observation
            buffer.actions[step, env] = action
    for name in ("values", "log_probs", "advantages", "returns"):
        getattr(buffer, name)[:] = rng.normal(size=(n_steps, n_envs))
    for name in ("hidden_states_pi", "cell_states_pi", "hidden_states_vf", "cell_states_vf"):
        getattr(buffer, name)[:] = rng.normal(size=shape)
    for start in starts:
        buffer.episode_starts[start] = 1
    buffer.pos, buffer.full = n_steps, True
    return buffer


def in_float64(sequences: Sequences) -> Sequences:
    """The same sequences, with states in float64, for exact tests."""
    blocks = [
        SequenceBlock(
            block.observations,
            tuple(state.double() for state in block.states_pi),
            tuple(state.double() for state in block.states_vf),
        )
        for block in sequences.blocks
    ]
    return Sequences(blocks, sequences.rows)


def scribbled(sequences: Sequences) -> Sequences:
    """The same sequences with other observations where there is padding."""
    blocks, n_before = [], 0
    for block in sequences.blocks:
        n_rows = len(next(iter(_parts(block.observations))))
        padding = torch.ones(n_rows, dtype=torch.bool)
        own = (sequences.rows >= n_before) & (sequences.rows < n_before + n_rows)
        padding[sequences.rows[own] - n_before] = False

        def scribble(rows: torch.Tensor, padding: torch.Tensor = padding) -> torch.Tensor:
            rows = rows.clone()
            rows[padding] = rows[padding].flip(0) * 3 + 1 if rows.is_floating_point() else 0
            return rows

        blocks.append(block._replace(observations=mapped(scribble, block.observations)))
        n_before += n_rows
    return Sequences(blocks, sequences.rows)


def _parts(observations: Any) -> list[torch.Tensor]:
    return list(observations.values()) if isinstance(observations, dict) else [observations]
