"""Deep Q-learning whose steps are natural gradients (Knight & Lerner 2018)."""

import math
from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor
from torch.nn import functional as F

from sb3_natural.arguments import (
    DEVICE,
    FINITE_AND_NOT_NEGATIVE,
    POSITIVE_AND_FINITE,
    SEED,
    at_least,
    between,
    check_attributes,
    checked,
    one_of,
)
from sb3_natural.curvature.action_values import ActionValueCurvature
from sb3_natural.curvature.kfac import KFAC, own_kfac
from sb3_natural.curvature.operators import Damped
from sb3_natural.curvature.solution import solved
from sb3_natural.curvature.solvers import SOLVERS, Empirical, NoStepError, Solver
from sb3_natural.loading import Loadable
from sb3_natural.networks.parameters import assign_flat, flatten
from sb3_natural.updates.sound_steps import SoundSteps

_SOLVERS = [name for name in SOLVERS if name != "empirical"]


class NaturalDQN(Loadable, SoundSteps, DQN):
    """Stable-Baselines3's DQN with a natural gradient in place of Adam.

    With g the gradient of DQN's loss on a minibatch, an update of the parameters theta is::

        F = mean_i J_i^T J_i,    J_i = grad_theta Q(s_i, a_i),
        x = (F + critic_damping I)^-1 g,
        theta -= min(learning_rate, max_q_change / sqrt(x^T F x)) x.

    F is the Gauss-Newton matrix of the values of the actions taken. It is also the Fisher
    information of Gaussians of unit variance around Q(s, a), so that a step depends on what it does
    to the values instead of on how the network is parameterised; ``learning_rate=1`` would be a
    damped Gauss-Newton step. K-FAC's averages see more than one minibatch, and its step costs a few
    times that of Adam.

    Paper: Knight & Lerner 2018 (Natural gradient deep Q-learning).

    :param policy: the policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy, or a class)
    :param env: the environment to learn from (if registered in Gymnasium, can be str)
    :param learning_rate: the share of the natural gradient that a step takes, a float or a schedule
    :param buffer_size: transitions in the replay buffer, over all environments
    :param learning_starts: steps over all environments, taken at random, before the first update
    :param batch_size: transitions in a minibatch
    :param tau: the target network moves by this share of its distance from the network when it is
        updated; 1: it becomes a copy
    :param gamma: discount factor
    :param train_freq: steps in each environment between two trainings, or a pair of a number and a
        unit: ``(5, "step")``, ``(2, "episode")``
    :param gradient_steps: updates per training; -1: as many as steps, over all environments, since
        the last one
    :param replay_buffer_class: replay buffer class to use; chosen automatically if None
    :param replay_buffer_kwargs: keyword arguments of the replay buffer
    :param optimize_memory_usage: whether the replay buffer holds each observation only once, in
        half the memory; not for Dict observations, and only with
        ``handle_timeout_termination=False`` in ``replay_buffer_kwargs``
    :param n_steps: rewards that a target adds up before it uses the target network; more than 1
        needs ``replay_buffer_class=None``, and no Dict observations
    :param target_update_interval: steps, over all environments, between two updates of the target
        network
    :param exploration_fraction: share of the training over which the rate of random actions falls
    :param exploration_initial_eps: rate of random actions at the start
    :param exploration_final_eps: rate of random actions at the end of that share, and after it
    :param critic_solver: how to solve for x: "kfac" (with inverses at every 20th update), "cg",
        "diagonal", "dense", "identity", or a :class:`~sb3_natural.curvature.solvers.Solver`
    :param critic_damping: multiple of the identity added to F, for every solver
    :param max_q_change: most that Q may change in a step (root of the mean square over the
        minibatch, in the units of rewards, as F predicts it); None: whatever the step says
    :param stats_window_size: number of episodes that the logged episode statistics average over
    :param tensorboard_log: the log location for TensorBoard (if None, no logging)
    :param policy_kwargs: additional arguments to be passed to the policy on creation
    :param verbose: 0 no output, 1 info messages, 2 debug messages
    :param seed: seed for the pseudo random generators
    :param device: device (cpu, cuda, ...) on which the code should be run
    :param _init_setup_model: whether or not to build the network at the creation of the instance
    :raises ValueError: an argument is out of range or of the wrong type
    """

    _solver_states: ClassVar[tuple[str, ...]] = ("_critic_kfac",)

    @checked(
        device=DEVICE,
        seed=SEED,
        verbose=at_least(0),
        stats_window_size=at_least(1),
        learning_rate=FINITE_AND_NOT_NEGATIVE,
        buffer_size=at_least(1),
        learning_starts=at_least(0),
        batch_size=at_least(1),
        tau=between(0, 1),
        gamma=between(0, 1),
        train_freq=at_least(1),
        gradient_steps=at_least(-1),
        n_steps=at_least(1),
        target_update_interval=at_least(1),
        exploration_fraction=between(0, 1),
        exploration_initial_eps=between(0, 1),
        exploration_final_eps=between(0, 1),
        critic_solver=one_of(_SOLVERS),
        critic_damping=FINITE_AND_NOT_NEGATIVE,
        max_q_change=POSITIVE_AND_FINITE,
    )
    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 0.03,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 128,
        tau: float = 1.0,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 4,
        gradient_steps: int = 1,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        target_update_interval: int = 10_000,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        critic_solver: str | Solver = "kfac",
        critic_damping: float = 0.01,
        max_q_change: float | None = 0.1,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: bool | int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        self.critic_solver = critic_solver
        self.critic_damping = critic_damping
        self.max_q_change = max_q_change
        self._critic_kfac: KFAC | None = None
        self._skipped_updates = 0
        self._warned: set[str] = set()
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            target_update_interval=target_update_interval,
            exploration_fraction=exploration_fraction,
            exploration_initial_eps=exploration_initial_eps,
            exploration_final_eps=exploration_final_eps,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
        )

    def _setup_model(self) -> None:
        check_attributes(self)  # here, since load() may bring new ones
        if isinstance(self.critic_solver, Empirical):
            raise ValueError(
                f"critic_solver must be one of {', '.join(_SOLVERS)}, or another Solver, got "
                "Empirical, which needs a policy's scores"
            )
        self._keep_kfac()
        super()._setup_model()

    def _keep_kfac(self) -> None:
        """Have K-FAC where it is chosen; it goes on from update to update."""
        chosen = self.critic_solver
        # Minibatches change the averages slowly, and inverses are most of the work.
        own = KFAC(inverse_every=20) if chosen == "kfac" else chosen
        self._critic_kfac = own_kfac(own, self._critic_kfac)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Take natural-gradient steps on minibatches from the replay buffer.

        :param gradient_steps: number of steps
        :param batch_size: transitions in each minibatch
        """
        check_attributes(self)
        # Gradient and curvature are those of one function: dropout off, batch norm frozen.
        self.policy.set_training_mode(False)
        self._update_learning_rate(self.policy.optimizer)
        rate = self.lr_schedule(self._current_progress_remaining)
        self._keep_kfac()
        steps = [self._step(rate, batch_size) for _ in range(gradient_steps)]
        self._n_updates += gradient_steps

        losses, lengths, changes = zip(*steps, strict=True)
        log = self.logger.record
        log("train/n_updates", self._n_updates, exclude="tensorboard")
        log("train/loss", np.mean(losses))
        log("train/step_length", np.mean(lengths))
        log("train/q_change", np.mean(changes))
        log("train/skipped_updates", self._skipped_updates)

    def _step(self, rate: float, batch_size: int) -> tuple[float, float, float]:
        """One update: the loss before it, the multiple of x, and the change of Q to come of it."""
        assert self.replay_buffer is not None
        batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
        discounts = self.gamma if batch.discounts is None else batch.discounts
        with torch.no_grad():
            following = self.q_net_target(batch.next_observations).max(dim=1, keepdim=True).values
            targets = batch.rewards + (1 - batch.dones) * discounts * following
        curvature = ActionValueCurvature(self.q_net, batch.observations, batch.actions.flatten())
        values, targets = curvature.values, targets.flatten()
        loss = F.smooth_l1_loss(values, targets).item()
        # The derivative of Huber's loss is the error, from -1 to 1.
        gradient = curvature.gradient((values - targets).clamp(-1, 1) / len(values))
        direction = None
        with self._skipping():
            direction = self._direction(curvature, gradient)
        if direction is None:
            return loss, 0.0, 0.0
        change = math.sqrt(max(curvature.quadratic_form(direction), 0.0))
        length = rate
        if self.max_q_change is not None and rate * change > self.max_q_change:
            length = self.max_q_change / change
        before = flatten(param.detach() for param in curvature.params)
        assign_flat(curvature.params, before - length * direction)
        return loss, length, length * change

    def _direction(self, curvature: ActionValueCurvature, gradient: Tensor) -> Tensor:
        solver = self._critic_kfac or self.critic_solver
        if isinstance(solver, str):
            solver = SOLVERS[solver]()
        direction = solved(solver, Damped(curvature, self.critic_damping), gradient).direction
        if not torch.isfinite(direction).all():
            raise NoStepError("the natural gradient is not finite")
        return direction
