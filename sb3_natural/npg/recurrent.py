"""NPG and TRPO for policies with a memory."""

from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.buffers import RecurrentDictRolloutBuffer, RecurrentRolloutBuffer
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import (
    GymEnv,
    MaybeCallback,
    PyTorchObs,
    RolloutBufferSamples,
    Schedule,
)

from sb3_natural.curvature.kfac import KFAC
from sb3_natural.curvature.sequences import SequenceBlock, SequencePolicy, Sequences
from sb3_natural.npg.npg import NPG
from sb3_natural.npg.policies import CnnLstmPolicy, MlpLstmPolicy, MultiInputLstmPolicy
from sb3_natural.rollouts.actors import Actor
from sb3_natural.rollouts.recorders import Recorder
from sb3_natural.rollouts.recurrent import RecurrentActor, RecurrentRecorder, zero_states
from sb3_natural.rollouts.sequences import SequenceBatches

SelfRecurrentNPG = TypeVar("SelfRecurrentNPG", bound="RecurrentNPG")

# What changes the shape of an LSTM's outputs or inputs from what sb3-contrib's policies expect.
_RESHAPING = ("batch_first", "bidirectional", "proj_size")


class RecurrentNPG(NPG):
    """:class:`~sb3_natural.npg.npg.NPG` for policies with an LSTM, such as RecurrentPPO's.

    Its step is that of NPG, with derivatives through the memory. The Fisher information is::

        F = mean_t J_t^T M(phi_t) J_t,

    where J_t, the Jacobian of the action distribution at step t, goes back through all steps of the
    episode in this rollout, to the memory that the policy had when the rollout began. That memory
    is a constant, and zero where an episode begins. Policy gradient, Fisher information, KL
    divergence and the critic's error are means over the steps that were taken; padding is in none
    of them. With ``line_search=True`` this is TRPO for recurrent policies.

    It has all of NPG's arguments except those of the rollout buffer, with the same defaults but for
    ``critic_curvature_samples``: each step needs those before it, so taking some of them saves
    nothing, and the critic's curvature comes from all. For the same reason ``sub_sampling_factor``
    saves no time. ``fisher_solver="diagonal"`` and ``"empirical"`` need a backward pass for each
    step, and are for small networks. K-FAC has no factors for an LSTM and is refused.

    ``predict`` returns the memory and takes it back::

        action, state = model.predict(observation, state, episode_start=starts)

    Paper: Wierstra et al. 2010 (Recurrent policy gradients); for the step see NPG.

    :param policy: the policy model to use (MlpLstmPolicy, CnnLstmPolicy, MultiInputLstmPolicy, or
        a class derived from sb3-contrib's ``RecurrentActorCriticPolicy``)
    :param env: as in NPG
    :param learning_rate: as in NPG
    :param n_steps: as in NPG; gradients go back through at most this many steps. A step of many
        environments takes hardly longer than a step of one: several environments with fewer steps
        each learn faster, where so many steps are long enough for the task
    :param batch_size: as in NPG, in steps: longer sequences are cut
    :param critic_curvature_samples: as in NPG, but None by default
    :param policy_kwargs: as in NPG. sb3-contrib's are ``lstm_hidden_size`` (256), ``n_lstm_layers``
        (1), ``lstm_kwargs``, ``enable_critic_lstm`` (True: the critic has an LSTM of its own;
        False: none) and ``shared_lstm`` (False; True: the critic reads the actor's LSTM, which it
        does not move, and needs ``enable_critic_lstm=False``)
    :param kwargs: the other arguments of NPG, by name
    :raises ValueError: as NPG; or the policy has no memory, or has one that sb3-contrib's policies
        do not support
    """

    _files_of_its_own = True  # a model of NPG is none of these, nor the other way round
    policy: RecurrentActorCriticPolicy
    rollout_buffer: RecurrentRolloutBuffer | RecurrentDictRolloutBuffer
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpLstmPolicy": MlpLstmPolicy,
        "CnnLstmPolicy": CnnLstmPolicy,
        "MultiInputLstmPolicy": MultiInputLstmPolicy,
    }

    def __init__(
        self,
        policy: str | type[RecurrentActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-3,
        n_steps: int = 2048,
        batch_size: int = 128,
        *,
        critic_curvature_samples: int | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        self._last_lstm_states: RNNStates | None = None
        super().__init__(
            policy,
            env,
            learning_rate,
            n_steps,
            batch_size,
            critic_curvature_samples=critic_curvature_samples,
            _init_setup_model=_init_setup_model,
            **kwargs,
        )

    def _check_policy_class(self) -> None:
        if not issubclass(self.policy_class, RecurrentActorCriticPolicy):
            raise ValueError(
                "policy must be one of "
                f"{', '.join(self.policy_aliases)}, or derived from sb3-contrib's "
                f"RecurrentActorCriticPolicy, got {self.policy_class.__name__}"
            )
        if self.rollout_buffer_class not in (None, RolloutBuffer, DictRolloutBuffer):
            raise ValueError(
                "rollout_buffer_class must be None: RecurrentNPG uses sb3-contrib's recurrent "
                f"buffers, got {self.rollout_buffer_class.__name__}"
            )
        if self.rollout_buffer_kwargs:
            raise ValueError(
                f"rollout_buffer_kwargs must be None, got {self.rollout_buffer_kwargs}: sb3-contrib"
                "'s recurrent buffers take none"
            )
        given = self.policy_kwargs
        if given.get("shared_lstm", False) and given.get("enable_critic_lstm", True):
            raise ValueError(
                "policy_kwargs: shared_lstm=True lets the critic read the actor's LSTM, so it "
                "needs enable_critic_lstm=False"
            )
        if given.get("shared_lstm", False) and not given.get("share_features_extractor", True):
            raise ValueError(
                "policy_kwargs: shared_lstm=True needs share_features_extractor=True, since a "
                "shared LSTM reads one set of features"
            )
        if wrong := [name for name in _RESHAPING if (given.get("lstm_kwargs") or {}).get(name)]:
            raise ValueError(
                f"policy_kwargs: lstm_kwargs must have no {' or '.join(wrong)}, which "
                "sb3-contrib's policies do not support"
            )

    def _check_arguments(self) -> None:
        super()._check_arguments()
        solvers = {
            "fisher_solver": self.fisher_solver,
            "critic_solver": self.critic_solver,
            "critic's solver": getattr(self.critic, "solver", None),
        }
        for name, chosen in solvers.items():
            if chosen == "kfac" or isinstance(chosen, KFAC):
                raise ValueError(f"{name} must not be K-FAC, which has no factors for an LSTM")

    def _offers_masks(self) -> bool:
        if super()._offers_masks():
            raise ValueError(
                "the environment has action_masks, which RecurrentNPG does not use: to train "
                "without them, hide the environment's method of that name"
            )
        return False

    def predict(  # type: ignore[override]  # NPG's takes action_masks
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Choose actions, and return the memory to give with the next observations.

        :param observation: one observation, or several
        :param state: the memory that the last call returned; None: that of an episode's beginning
        :param episode_start: which of the observations are the first of an episode, (n,): their
            memory starts from zero; None: none of them
        :param deterministic: whether to take the mode of the distribution instead of a sample
        :return: the actions, and the memory after them
        """
        return super().predict(observation, state, episode_start, deterministic)

    def _setup_policy(self) -> None:
        super()._setup_policy()
        policy, before = self.policy, self._last_lstm_states
        states = zero_states(policy, self.n_envs)
        if before is not None and before.pi[0].shape == states.pi[0].shape:  # a loaded model's
            pi, vf = (tuple(state.to(self.device) for state in part) for part in before)
            states = RNNStates(pi, vf)
        self._last_lstm_states = states
        n_layers, _, n_hidden = policy.lstm_hidden_state_shape
        is_dict = isinstance(self.observation_space, spaces.Dict)
        buffer_class = RecurrentDictRolloutBuffer if is_dict else RecurrentRolloutBuffer
        self.rollout_buffer = buffer_class(
            self.n_steps,
            self.observation_space,
            self.action_space,
            (self.n_steps, n_layers, self.n_envs, n_hidden),
            self.device,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            n_envs=self.n_envs,
        )

    def _make_actor(self) -> Actor:
        return RecurrentActor(self)

    def _recorder(self, buffer: Any, actor: Actor) -> Recorder:
        scale = self._scale_of_rollout()
        return RecurrentRecorder(self, buffer, actor, scale, self.critic_gae_lambda)

    def _updated_policy(self) -> SequencePolicy:
        return SequencePolicy(self.policy)

    def _batches(self) -> SequenceBatches:
        return SequenceBatches(self.rollout_buffer)

    def _last_observations(self) -> Sequences:
        observations = super()._last_observations()
        states = zero_states(self.policy, self.n_envs)
        block = SequenceBlock(observations, states.pi, states.vf)
        return Sequences([block], torch.arange(self.n_envs, device=self.device))

    def _observed(self, batch: RolloutBufferSamples) -> PyTorchObs:
        sequences: Any = batch.observations
        return sequences.observations

    def learn(
        self: SelfRecurrentNPG,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "RecurrentNPG",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfRecurrentNPG:
        """Train for ``total_timesteps`` environment steps, as SB3's algorithms do.

        :return: the model itself
        :raises TypeError: the policy's action distribution is not supported
        :raises ValueError: as :meth:`NPG.learn <sb3_natural.NPG.learn>`; or the environment has
            action masks
        """
        return super().learn(
            total_timesteps=total_timesteps,
            callback=callback,
            log_interval=log_interval,
            tb_log_name=tb_log_name,
            reset_num_timesteps=reset_num_timesteps,
            progress_bar=progress_bar,
        )
