"""Natural policy gradient (Kakade 2001) for Stable-Baselines3."""

import math
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import (
    GymEnv,
    MaybeCallback,
    PyTorchObs,
    RolloutBufferSamples,
    Schedule,
)
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule, explained_variance
from torch import Tensor, nn

from sb3_natural.arguments import (
    DEVICE,
    FINITE_AND_NOT_NEGATIVE,
    POSITIVE_AND_FINITE,
    SEED,
    at_least,
    between,
    check_attributes,
    check_no_memory,
    checked,
    one_of,
)
from sb3_natural.curvature.families import ACTION_SPACES, ActionFamily, family_of
from sb3_natural.curvature.jacobian import Jacobian
from sb3_natural.curvature.kfac import KFAC, own_kfac
from sb3_natural.curvature.masking import masked_family
from sb3_natural.curvature.operators import Damped, FisherOperator, statistics_jacobian
from sb3_natural.curvature.penalty import Aim, PenalisedAscent, PenalisedRise, adapted, penalty_for
from sb3_natural.curvature.solution import solved
from sb3_natural.curvature.solvers import (
    SOLVERS,
    ConjugateGradient,
    Empirical,
    NoStepError,
    Solution,
    Solver,
)
from sb3_natural.curvature.surrogate import Surrogate
from sb3_natural.curvature.trust_region import (
    PolicyLine,
    StepTaken,
    backtracking_line_search,
    fixed_step,
    kl_normalised_length,
    limited,
    shortened_step,
)
from sb3_natural.curvature.value_fit import AdamFit, GaussNewtonFit, ValueFit, split_parameters
from sb3_natural.loading import Loadable
from sb3_natural.networks.mlp import actor_mlp, critic_mlp
from sb3_natural.networks.normalization import (
    NormalizedObservations,
    normalizable,
    normalizer_of,
)
from sb3_natural.networks.parameters import assign_flat, flatten
from sb3_natural.networks.threads import one_thread_if_small
from sb3_natural.npg.policies import CnnPolicy, MlpPolicy, MultiInputPolicy
from sb3_natural.rollouts.collection import forget_graph
from sb3_natural.rollouts.masks import MaskedRollouts, fitting_buffer, masks_of
from sb3_natural.rollouts.normalized_returns import NormalizedReturns
from sb3_natural.rollouts.scaling import ReturnScale
from sb3_natural.updates.sound_steps import SoundSteps

SelfNPG = TypeVar("SelfNPG", bound="NPG")

DEFAULT_TARGET_KL = LinearSchedule(0.04, 0.0, 1.0)
# A gradient below this is a rounding error, which the KL-normalised step would blow up.
VANISHING = 1e-12


class PolicyStep(NamedTuple):
    """What one policy update did: by default nothing."""

    taken: StepTaken = StepTaken(0.0, 0.0, 0.0)
    target_kl: float = 0.0
    """delta as the step took it; 0 for a fixed step"""
    kl_predicted: float = 0.0
    solution: Solution | None = None
    randomness: dict[str, float] | None = None
    """See ``ActionFamily.randomness``; of the new policy."""
    kl: float = 0.0
    """The measured KL divergence, the mean over states, in nats"""
    kl_max: float = 0.0
    """That of the state where it is largest"""
    penalty: float = 0.0
    """C, in units of advantages per nat"""
    penalised: PenalisedRise | None = None


class NPG(Loadable, SoundSteps, MaskedRollouts, NormalizedReturns):
    """Natural policy gradient, with TRPO as a special case.

    Each update takes one rollout and moves the policy's parameters theta along the natural
    gradient::

        x = (F + cg_damping I)^-1 g,    g = grad_theta mean(rho A),

    where F is the Fisher information of the policy over the rollout's states, rho the ratio of new
    to old action probabilities, and A the GAE advantages. The length of the step is

    - *KL-normalised* (default): ``theta += sqrt(2 target_kl / x^T F x) x``, so that the quadratic
      model of the KL divergence between the old and the new policy equals ``target_kl``; if the
      model fails, the step is shortened until the measured divergence is at most 1.5 ``target_kl``;
    - *fixed* (``step_size``): ``theta += step_size x``, as in Kakade 2001;
    - *with line search* (``line_search=True``): the KL-normalised step, shrunk until the surrogate
      improves and the measured KL divergence is within ``target_kl``: with ``plateau_threshold=0``
      and ``max_log_std_change=None`` this is TRPO;
    - *penalised* (``kl_penalty``): one or more steps that raise the surrogate minus C times the
      measured KL divergence, the first of which is ``theta += x / C`` without damping.

    Whatever the length, ``max_log_std_change`` bounds the part of the step that changes the noise.

    Papers: Kakade 2001 (A natural policy gradient), Rajeswaran et al. 2017 (the KL-normalised
    step), Schulman et al. 2015 (TRPO, GAE).

    Both the policy and the critic are updated with the policy in evaluation mode (dropout off,
    batch norm frozen): the distribution whose KL divergence is bounded is the one that acted.

    Observations and rewards are normalised as by ``VecNormalize``, without a wrapper around the
    environment: the statistics belong to the model and are saved with it, and ``predict`` takes
    observations as the environment gives them. The statistics of observations change only after an
    update, with the rollout that it used, so that all samples of a rollout come from one policy.
    If the environment is a ``VecNormalize`` all the same, both act, one after the other, which does
    no harm.

    :param policy: the policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy, or a class)
    :param env: the environment to learn from (if registered in Gymnasium, can be str)
    :param learning_rate: learning rate of the critic's Adam, a float or a schedule; the policy
        and ``critic="gauss_newton"`` do not use it
    :param n_steps: steps to run in each environment per update
        (the batch has n_steps * n_envs samples)
    :param batch_size: minibatch size of the critic's Adam
    :param gamma: discount factor
    :param gae_lambda: trade-off of bias against variance in generalised advantage estimation
    :param target_kl: delta, the KL divergence of an update in nats, a float or a schedule; if
        neither this nor ``step_size`` is given, 0.04, falling linearly to 0 at the end of training
    :param step_size: fixed multiple of the natural gradient, a float or a schedule; excludes
        ``target_kl``
    :param kl_penalty: C, the price of a nat of KL divergence, in units of the (normalised)
        advantages; a float or a schedule: an update maximises the surrogate minus C times the
        divergence; excludes ``target_kl`` and ``step_size``. "adaptive": C starts where the
        quadratic model's divergence is ``target_kl``, doubles after an update that measured more
        than 1.5 ``target_kl``, and halves after one that measured less than ``target_kl`` / 1.5
    :param kl_constraint: which divergence ``target_kl`` bounds and ``kl_penalty`` prices: "mean",
        over states, or "max", that of the state where it is largest
    :param fisher_solver: how to solve for x: "cg", "diagonal", "empirical", "dense", "identity",
        "kfac", or a :class:`~sb3_natural.curvature.solvers.Solver`
    :param cg_max_steps: most iterations of conjugate gradient, for the policy
        (``fisher_solver="cg"``) and for each Gauss-Newton step of the critic
        (``critic_solver="cg"``)
    :param cg_tol: relative residual at which the policy's conjugate gradient stops
    :param cg_damping: multiple of the identity added to F, for every solver
    :param plateau_threshold: below this share of their usual spread, advantages say that little is
        left to gain, and ``target_kl`` falls with their variance; 0: it never does. The usual
        spread is the root of their mean variance over all rollouts so far
    :param max_log_std_change: most that the log standard deviations of a Gaussian policy may change
        in one update (root of the mean square over action dimensions), so that exploration
        outlasts the first gains; None: whatever the step says. Has no effect on gSDE and discrete
        actions
    :param line_search: shrink the step as TRPO does; needs ``target_kl``
    :param line_search_shrinking_factor: ratio of successive lengths that the line search tries
    :param line_search_max_iter: how many lengths it tries before the update is skipped
    :param critic: "gauss_newton" (natural-gradient steps on the whole rollout), "adam" (minibatch
        regression), or a :class:`~sb3_natural.curvature.value_fit.ValueFit`, which brings its own
        numbers: ``n_critic_updates``, ``batch_size`` and ``critic_...`` are not used then
    :param n_critic_updates: critic updates per rollout: epochs of Adam (10 by default), or
        Gauss-Newton steps (2 by default)
    :param critic_gae_lambda: lambda of the returns the critic is fitted to, larger than that of
        the advantages, which lean on the critic for what comes later; None: ``gae_lambda``
    :param critic_solver: how the Gauss-Newton critic solves for its step: "cg", "diagonal",
        "dense", "identity", "kfac", or a :class:`~sb3_natural.curvature.solvers.Solver`; Adam does
        not use it, nor the next two
    :param critic_damping: damping of the Gauss-Newton critic
    :param critic_curvature_samples: how many samples, drawn at random from the rollout, each
        Gauss-Newton step estimates its curvature from; the gradient uses all. None: all
    :param sub_sampling_factor: use one in this many states, drawn at random, for the Fisher
        information; the gradient uses all
    :param normalize_advantage: whether to normalise the advantages over the rollout
    :param normalize_observations: whether the policy scales each element of an observation to mean
        0 and standard deviation 1, by statistics of all rollouts so far, and clips it to 10; in
        Dict spaces, key by key. Images and discrete observations stay as they are. A policy class
        of your own has to be derived from one of ``sb3_natural.npg`` (``MlpPolicy``,
        ``CnnPolicy``, ``MultiInputPolicy``); others do not normalise, with a warning
    :param normalize_returns: whether to divide rewards by the standard deviation of the discounted
        return, estimated from all rollouts so far, so that ``critic_damping`` and the critic's
        error do not depend on the scale of rewards
    :param use_sde: whether to use generalised state-dependent exploration (gSDE)
    :param sde_sample_freq: sample a new gSDE noise matrix every n steps (-1: once per rollout)
    :param rollout_buffer_class: rollout buffer class to use; chosen automatically if None
    :param rollout_buffer_kwargs: keyword arguments of the rollout buffer
    :param stats_window_size: number of episodes that the logged episode statistics average over
    :param tensorboard_log: the log location for TensorBoard (if None, no logging)
    :param policy_kwargs: additional arguments to be passed to the policy on creation; the
        ``log_std_init`` of a Gaussian policy of ``sb3_natural.npg`` is ``-log(max(3, n)) / 2`` for
        n action dimensions if not given, so that its noise has about the same length in every
        action space; that of other classes is their own
    :param verbose: 0 no output, 1 info messages, 2 debug messages
    :param device: device (cpu, cuda, ...) on which the code should be run
    :param seed: seed for the pseudo random generators
    :param _init_setup_model: whether or not to build the network at the creation of the instance
    :raises ValueError: an argument is out of range or of the wrong type, or two exclude each other
    """

    _solver_states: ClassVar[tuple[str, ...]] = ("_fisher_kfac", "_critic_kfac")
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }

    @checked(
        device=DEVICE,
        seed=SEED,
        verbose=at_least(0),
        stats_window_size=at_least(1),
        sde_sample_freq=at_least(-1),
        learning_rate=FINITE_AND_NOT_NEGATIVE,
        n_steps=at_least(1),
        batch_size=at_least(1),
        gamma=between(0, 1),
        gae_lambda=between(0, 1),
        target_kl=POSITIVE_AND_FINITE,
        step_size=POSITIVE_AND_FINITE,
        kl_penalty=POSITIVE_AND_FINITE,
        fisher_solver=one_of(SOLVERS),
        cg_max_steps=at_least(1),
        cg_tol=FINITE_AND_NOT_NEGATIVE,
        cg_damping=FINITE_AND_NOT_NEGATIVE,
        plateau_threshold=FINITE_AND_NOT_NEGATIVE,
        max_log_std_change=POSITIVE_AND_FINITE,
        line_search_shrinking_factor=between(0, 1, ends=False),
        line_search_max_iter=at_least(1),
        n_critic_updates=at_least(1),
        critic_gae_lambda=between(0, 1),
        critic_solver=one_of(name for name in SOLVERS if name != "empirical"),
        critic_damping=FINITE_AND_NOT_NEGATIVE,
        critic_curvature_samples=at_least(1),
        sub_sampling_factor=at_least(1),
    )
    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-3,
        n_steps: int = 2048,
        batch_size: int = 128,
        gamma: float = 0.99,
        gae_lambda: float = 0.9,
        target_kl: float | Schedule | None = None,
        step_size: float | Schedule | None = None,
        kl_penalty: float | Schedule | Literal["adaptive"] | None = None,
        kl_constraint: Literal["mean", "max"] = "mean",
        fisher_solver: str | Solver = "cg",
        cg_max_steps: int = 10,
        cg_tol: float = 1e-5,
        cg_damping: float = 1.0,
        plateau_threshold: float = 0.3,
        max_log_std_change: float | None = 0.006,
        line_search: bool = False,
        line_search_shrinking_factor: float = 0.8,
        line_search_max_iter: int = 10,
        critic: Literal["adam", "gauss_newton"] | ValueFit = "gauss_newton",
        n_critic_updates: int | None = None,
        critic_gae_lambda: float | None = 0.97,
        critic_solver: str | Solver = "cg",
        critic_damping: float = 0.01,
        critic_curvature_samples: int | None = 512,
        sub_sampling_factor: int = 1,
        normalize_advantage: bool = True,
        normalize_observations: bool = True,
        normalize_returns: bool = True,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: bool | int = 0,
        device: torch.device | str = "auto",
        seed: int | None = None,
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=0.0,  # part of SB3's base class; NPG has no entropy bonus,
            vf_coef=0.0,  # fits its critic separately,
            max_grad_norm=0.0,  # and bounds its steps by the KL divergence
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            device=device,
            seed=seed,
            _init_setup_model=False,
            supported_action_spaces=ACTION_SPACES,
        )
        self.batch_size = batch_size
        self.target_kl = target_kl
        self.step_size = step_size
        self.kl_penalty = kl_penalty
        self.kl_constraint = kl_constraint
        self.fisher_solver = fisher_solver
        self.cg_max_steps = cg_max_steps
        self.cg_tol = cg_tol
        self.cg_damping = cg_damping
        self.plateau_threshold = plateau_threshold
        self.max_log_std_change = max_log_std_change
        self.line_search = line_search
        self.line_search_shrinking_factor = line_search_shrinking_factor
        self.line_search_max_iter = line_search_max_iter
        self.critic = critic
        self.n_critic_updates = n_critic_updates
        self.critic_gae_lambda = critic_gae_lambda
        self.critic_solver = critic_solver
        self.critic_damping = critic_damping
        self.critic_curvature_samples = critic_curvature_samples
        self.sub_sampling_factor = sub_sampling_factor
        self.normalize_advantage = normalize_advantage
        self.normalize_observations = normalize_observations
        self.normalize_returns = normalize_returns
        self._return_scale = ReturnScale()
        self._usual_variance = 0.0
        self._n_variances = 0
        self._adaptive_penalty = 0.0  # not known before the first update
        self._skipped_updates = 0
        self._warned: set[str] = set()
        self._fisher_kfac: KFAC | None = None
        self._critic_kfac: KFAC | None = None
        if _init_setup_model:
            self._setup_model()

    def _check_arguments(self) -> None:
        check_attributes(self)
        if self.target_kl is not None and self.step_size is not None:
            raise ValueError(
                f"target_kl={self.target_kl} and step_size={self.step_size} exclude each other: "
                "give target_kl for a KL-normalised step, or step_size for a fixed one"
            )
        if self.kl_penalty is not None:
            self._check_penalty()
        if self.kl_constraint == "max" and self.step_size is not None:
            raise ValueError(
                'kl_constraint="max" says which KL divergence target_kl bounds or kl_penalty '
                f"prices; a fixed step (step_size={self.step_size}) does neither"
            )
        if self.line_search and self.target_kl is None:
            raise ValueError(
                "line_search=True shrinks the step until the KL divergence is within target_kl: "
                "give target_kl instead of step_size"
            )
        if self.target_kl is None and self.step_size is None and self.kl_penalty is None:
            raise ValueError("target_kl=None and step_size=None: give one of them, or kl_penalty")
        policy = vars(self).get("policy")
        if (
            isinstance(policy, NormalizedObservations)
            and policy.normalize_observations != self.normalize_observations
        ):
            raise ValueError(
                f"normalize_observations={self.normalize_observations} was set too late: the "
                f"policy was made with normalize_observations={policy.normalize_observations}"
            )
        solver = self.fisher_solver
        if (solver == "empirical" or isinstance(solver, Empirical)) and self.cg_damping == 0:
            raise ValueError("the empirical fisher_solver needs cg_damping > 0, got 0")
        if isinstance(self.critic_solver, Empirical):
            raise ValueError(
                "critic_solver must be one of cg, diagonal, dense, identity, kfac, or another "
                "Solver, got Empirical, which needs a policy's scores"
            )

    def _check_penalty(self) -> None:
        if self.step_size is not None:
            raise ValueError(
                f"kl_penalty={self.kl_penalty} and step_size={self.step_size} exclude each other: "
                "give one of them"
            )
        if self.line_search:
            raise ValueError(
                f"kl_penalty={self.kl_penalty} and line_search=True exclude each other: a "
                "penalised step has a search of its own"
            )
        if self.kl_penalty == "adaptive" and self.target_kl is None:
            raise ValueError('kl_penalty="adaptive" adapts to target_kl, got target_kl=None')
        if self.kl_penalty != "adaptive" and self.target_kl is not None:
            raise ValueError(
                f"kl_penalty={self.kl_penalty} and target_kl={self.target_kl} exclude each other: "
                'give one of them, or both as kl_penalty="adaptive", which adapts to target_kl'
            )

    def _check_policy_class(self) -> None:
        check_no_memory(self.policy_class)

    def _setup_model(self) -> None:
        bounded = self.kl_penalty is None or self.kl_penalty == "adaptive"
        if self.target_kl is None and self.step_size is None and bounded:
            self.target_kl = DEFAULT_TARGET_KL
        self._check_arguments()  # here, since load() may bring new ones
        self._keep_kfac()
        self._setup_policy()
        if self.target_kl is not None:
            self.target_kl = FloatSchedule(self.target_kl)
        if self.step_size is not None:
            self.step_size = FloatSchedule(self.step_size)
        if self.kl_penalty is not None and self.kl_penalty != "adaptive":
            self.kl_penalty = FloatSchedule(self.kl_penalty)

    @classmethod
    def _arguments_of_earlier_version(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        if "_return_scale" in settings:
            return {}
        return {
            "normalize_observations": False,
            "normalize_returns": False,
            "plateau_threshold": 0.0,
            "max_log_std_change": None,
            "critic_gae_lambda": None,
        }

    def _setup_policy(self) -> None:
        """Make policy and rollout buffer, with or without normalised observations."""
        self._check_policy_class()
        given = self.policy_kwargs
        if "normalize_observations" in given:
            raise ValueError(
                f"policy_kwargs={given}: give normalize_observations to NPG itself, which updates "
                "the statistics"
            )
        log_std = given.get("log_std_init", 0.0)
        if not isinstance(log_std, int | float) or not math.isfinite(log_std):
            raise ValueError(
                f"policy_kwargs: log_std_init must be a finite number, got {log_std!r}"
            )
        if issubclass(self.policy_class, NormalizedObservations):
            own: dict[str, Any] = {"normalize_observations": self.normalize_observations}
            if isinstance(self.action_space, spaces.Box) and not self.use_sde:
                own["log_std_init"] = -0.5 * math.log(max(3, math.prod(self.action_space.shape)))
            self.policy_kwargs = own | given
        elif self.normalize_observations:
            if normalizable(self.observation_space):
                warnings.warn(
                    f"{self.policy_class.__name__} does not normalise observations: derive it from "
                    "one of the policies of sb3_natural.npg, or give normalize_observations=False",
                    stacklevel=5,
                )
            self.normalize_observations = False
        super()._setup_model()
        self.policy_kwargs = given

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        self._check_arguments()
        if self.kl_penalty is not None and self.kl_penalty != "adaptive":
            for progress in (1.0, 0.0):
                self._scheduled_penalty(progress)
        result = super()._setup_learn(*args, **kwargs)
        self.rollout_buffer = fitting_buffer(self, self._is_masked)
        # Before any step is taken, on an observation that the environment really gives.
        self.policy.set_training_mode(False)
        _, value_params = split_parameters(self._updated_policy(), self._last_observations())
        forget_graph(self.policy)
        frozen = any(not param.requires_grad for param in self.policy.parameters())
        if not value_params and not frozen:
            raise ValueError(
                f"every parameter behind {type(self.policy).__name__}'s values also moves its "
                "policy, so the critic has none of its own to fit"
            )
        return result

    def _keep_kfac(self) -> None:
        """Have K-FAC where it is chosen; it goes on from update to update."""
        self._fisher_kfac = own_kfac(self.fisher_solver, self._fisher_kfac)
        self._critic_kfac = own_kfac(self.critic_solver, self._critic_kfac)

    def _make_solver(self) -> Solver:
        cg = ConjugateGradient(self.cg_max_steps, self.cg_tol)
        return self._fisher_kfac or _solver(self.fisher_solver, cg)

    # What RecurrentNPG has of its own: a policy and batches that deal in sequences.

    def _updated_policy(self) -> Any:
        """The policy as a function of a batch's observations."""
        return self.policy

    def _batches(self) -> Any:
        """What to get batches of the rollout from."""
        return self.rollout_buffer

    def _last_observations(self) -> Any:
        """The observations that the environments gave last, as those of a batch."""
        return self.policy.obs_to_tensor(self._last_obs)[0]  # type: ignore[arg-type]

    def _observed(self, batch: RolloutBufferSamples) -> PyTorchObs:
        """The observations in a batch as the environments gave them."""
        return batch.observations

    def _make_critic(self) -> ValueFit:
        if isinstance(self.critic, ValueFit):
            return self.critic
        if self.critic == "adam":
            return AdamFit(self.n_critic_updates or 10, self.batch_size)
        return GaussNewtonFit(
            self.n_critic_updates or 2,
            self._critic_kfac or _solver(self.critic_solver, ConjugateGradient(self.cg_max_steps)),
            self.critic_damping,
            self.critic_curvature_samples,
        )

    @np.errstate(all="ignore")  # every direction and step is checked for non-finite numbers
    def train(self) -> None:
        """Update the policy, then the critic, from the rollout buffer.

        :raises ValueError: an argument has been set to an invalid value
        """
        self._check_arguments()  # here too, since they may be assigned at any time
        self._keep_kfac()
        self.policy.set_training_mode(False)
        self._update_learning_rate(self.policy.optimizer)
        policy, batches = self._updated_policy(), self._batches()
        batch = next(batches.get(batch_size=None))
        policy_params, value_params = split_parameters(policy, batch.observations)
        step, value_loss = PolicyStep(), math.nan

        mlp = actor_mlp(self.policy) or critic_mlp(self.policy)
        with one_thread_if_small(mlp, len(batch.advantages)):
            if policy_params:  # and not all of them frozen
                with self._skipping("policy"):
                    step = self._policy_step(batch)
            if value_params:
                with self._skipping("critic"):
                    value_loss = self._make_critic().fit(policy, value_params, batches)
            else:
                value_loss = nn.functional.mse_loss(batch.old_values, batch.returns).item()

        self._n_updates += 1
        self._record(step, value_loss, batch)
        forget_graph(self.policy)
        if (normalizer := normalizer_of(self.policy)) is not None:
            normalizer.update(self._observed(batch))

    def _policy_step(self, batch: RolloutBufferSamples) -> PolicyStep:
        """One natural-gradient step.

        :raises NoStepError: no sound step exists; the parameters are as before
        """
        actions = self._actions(batch)
        fisher, jacobian, family = self._fisher(batch, actions)
        advantages = self._usable_advantages(batch.advantages)
        surrogate = Surrogate(fisher.distribution, actions, batch.old_log_prob, advantages, family)
        objective, phi_gradient = surrogate.with_gradient(jacobian.outputs)
        gradient = jacobian.vjp(phi_gradient)
        solution, quadratic_form = self._natural_gradient(fisher, gradient)
        direction = solution.direction
        if self.kl_penalty is not None:
            aim = Aim(fisher, jacobian, gradient, direction, quadratic_form)
            return self._penalised_step(batch, surrogate, aim, solution)

        target_kl = 0.0
        if self.step_size is not None:
            length = self._now("step_size", self.step_size)
        else:
            target_kl = self._target_kl(batch)
            length = self._length(fisher, direction, quadratic_form, target_kl)
        if self.max_log_std_change is not None and (block := self._log_std_block(fisher)):
            direction = limited(direction, block, self.max_log_std_change / max(length, VANISHING))
            if direction is not solution.direction:
                quadratic_form = fisher.quadratic_form(direction)

        line = PolicyLine(fisher, jacobian, surrogate, direction, self.kl_constraint == "max")
        try:
            taken = self._step_along(line, length, objective, target_kl)
        except Exception:  # whatever went wrong, the policy is never left half-way
            line.go_back()
            raise
        kl_predicted = 0.5 * taken.length**2 * quadratic_form
        randomness = family.randomness(line.phi)
        kls = line.kls.mean().item(), line.kls.max().item()
        return PolicyStep(taken, target_kl, kl_predicted, solution, randomness, *kls)

    def _fisher(
        self, batch: RolloutBufferSamples, actions: Tensor
    ) -> tuple[FisherOperator, Jacobian, ActionFamily]:
        """The Fisher information where the policy is; Jacobian and family of all samples."""
        n_samples, masks = math.ceil(len(actions) / self.sub_sampling_factor), masks_of(batch)
        policy = self._updated_policy()
        fisher = FisherOperator(policy, batch.observations, actions, n_samples, masks=masks)
        jacobian, family = fisher.jacobian, fisher.family  # of the states that it uses
        if self.sub_sampling_factor > 1:
            family, jacobian = statistics_jacobian(policy, batch.observations)
            family = family if masks is None else masked_family(family, masks)
        return fisher, jacobian, family

    def _natural_gradient(self, fisher: FisherOperator, gradient: Tensor) -> tuple[Solution, float]:
        """x = (F + cg_damping I)^-1 g, and x^T F x.

        :param gradient: g, (P,)
        :raises NoStepError: g vanishes, or g or x is not finite
        """
        if not torch.isfinite(gradient).all():
            raise NoStepError("the policy gradient is not finite")
        if gradient.norm() < VANISHING:
            raise NoStepError(f"the policy gradient vanishes (norm {gradient.norm().item():.3g})")
        damped = Damped(fisher, self.cg_damping)
        solution = solved(self._make_solver(), damped, gradient)
        if not torch.isfinite(solution.direction).all():
            raise NoStepError("the natural gradient is not finite")
        return solution, damped.undamped_form(solution.direction, solution.curvature)

    def _length(
        self, fisher: FisherOperator, direction: Tensor, quadratic_form: float, target_kl: float
    ) -> float:
        """The length at which the quadratic model of the divergence that is bounded is delta."""
        if self.kl_constraint == "max":
            quadratic_form = fisher.quadratic_forms(direction).max().item()
        return kl_normalised_length(quadratic_form, target_kl)

    def _target_kl(self, batch: RolloutBufferSamples) -> float:
        """delta of this update."""
        target_kl = self._now("target_kl", self.target_kl)
        return target_kl * self._left_to_gain(batch.advantages)

    def _penalised_step(
        self, batch: RolloutBufferSamples, surrogate: Surrogate, aim: Aim, solution: Solution
    ) -> PolicyStep:
        """Steps along natural gradients that raise the surrogate minus C times the divergence.

        :param aim: the natural gradient of the surrogate
        :raises NoStepError: there is none; the parameters are as before
        """
        target_kl = 0.0
        if self.kl_penalty == "adaptive":
            target_kl = self._target_kl(batch)
            if target_kl == 0:  # the end of the default schedule: it asks for no step
                return PolicyStep(solution=solution)
        penalty = self._penalty_now(aim, target_kl)
        origin, family = aim.jacobian.outputs, surrogate.family
        maximal = self.kl_constraint == "max"
        noise = None if self.max_log_std_change is None else self._log_std_block(aim.fisher)
        ascent = PenalisedAscent(
            surrogate, origin, penalty, maximal, noise, self.max_log_std_change or math.inf
        )

        def next_aim() -> Aim:
            fisher, jacobian, _ = self._fisher(batch, self._actions(batch))
            gradient = jacobian.vjp(ascent.gradient(jacobian.outputs))
            solution, quadratic_form = self._natural_gradient(fisher, gradient)
            return Aim(fisher, jacobian, gradient, solution.direction, quadratic_form)

        theta = flatten(param.detach() for param in aim.fisher.params)
        try:
            rise = ascent.run(aim, next_aim)
        except NoStepError:  # at this price no step was worth taking
            if self.kl_penalty == "adaptive":
                self._adaptive_penalty = adapted(penalty, 0.0, target_kl)
            raise
        except Exception:  # whatever went wrong, the policy is never left half-way
            assign_flat(aim.fisher.params, theta)
            raise
        if self.kl_penalty == "adaptive":
            self._adaptive_penalty = adapted(penalty, rise.taken.kl, target_kl)
        kls = family.kl(origin, rise.phi)
        return PolicyStep(
            rise.taken,
            target_kl,
            rise.kl_predicted,
            solution,
            family.randomness(rise.phi),
            kls.mean().item(),
            kls.max().item(),
            penalty,
            rise,
        )

    def _penalty_now(self, aim: Aim, target_kl: float) -> float:
        """C of this update.

        :raises ValueError: its schedule gave no positive number
        """
        if self.kl_penalty != "adaptive":
            return self._scheduled_penalty()
        if not self._adaptive_penalty:
            self._adaptive_penalty = penalty_for(aim, target_kl, self.kl_constraint == "max")
        return self._adaptive_penalty

    def _scheduled_penalty(self, progress: float | None = None) -> float:
        """C of a schedule, now or with a share of the training remaining.

        :raises ValueError: it is not positive
        """
        assert self.kl_penalty != "adaptive"
        if (penalty := self._now("kl_penalty", self.kl_penalty, progress)) == 0:
            raise ValueError(
                "the schedule of kl_penalty gave 0, which sets no bound to a step; it must be "
                "positive to the end of the training"
            )
        return penalty

    def _step_along(
        self, line: PolicyLine, length: float, objective: float, target_kl: float
    ) -> StepTaken:
        if self.step_size is not None:
            return fixed_step(line, length)
        # A schedule that has come down to zero asks for no step, not for a search.
        if self.line_search and target_kl > 0:
            return backtracking_line_search(
                line,
                length,
                objective,
                target_kl,
                self.line_search_shrinking_factor,
                self.line_search_max_iter,
            )
        return shortened_step(line, length, target_kl)

    def _left_to_gain(self, advantages: Tensor) -> float:
        """The share of ``target_kl`` that advantages of this spread are worth: 1, or less."""
        scale = self._return_scale.std if self.normalize_returns else 1.0
        variance = advantages.var().item() * scale**2  # in units that do not change in training
        self._n_variances += 1
        self._usual_variance += (variance - self._usual_variance) / self._n_variances
        little = self.plateau_threshold**2 * self._usual_variance
        return 1.0 if variance >= little else variance / little

    def _log_std_block(self, fisher: FisherOperator) -> slice | None:
        """Where a Gaussian's log standard deviations are among the parameters."""
        if not isinstance(fisher.distribution, DiagGaussianDistribution):
            return None
        start = 0
        for param in fisher.params:
            if param is getattr(self.policy, "log_std", None):
                return slice(start, start + param.numel())
            start += param.numel()
        return None

    def _usable_advantages(self, advantages: Tensor) -> Tensor:
        """The advantages, normalised if asked for.

        :raises NoStepError: they prefer no action to another, or are not finite
        """
        if not torch.isfinite(advantages).all():
            raise NoStepError("an advantage is not finite")
        if len(advantages) < 2:
            raise NoStepError("a batch of one sample prefers no action to another")
        deviation = advantages.std()
        # Equal advantages deviate by rounding errors, which normalising would blow up.
        if not deviation > 1e-6 * advantages.abs().max():
            raise NoStepError("all advantages are equal")
        if self.normalize_advantage:
            return (advantages - advantages.mean()) / (deviation + 1e-8)
        return advantages

    def _actions(self, batch: RolloutBufferSamples) -> Tensor:
        """The actions in the form that the distribution's ``log_prob`` takes."""
        if isinstance(self.action_space, spaces.Discrete):
            return batch.actions.long().flatten()
        return batch.actions

    def _record(self, step: PolicyStep, value_loss: float, batch: RolloutBufferSamples) -> None:
        randomness = step.randomness
        if randomness is None:  # there was no step
            with torch.no_grad():
                distribution = self._updated_policy().get_distribution(batch.observations)
                family = family_of(distribution)
                if (masks := masks_of(batch)) is not None:
                    family = masked_family(family, masks)
                randomness = family.randomness(family.statistics(distribution))
        log = self.logger.record
        log("train/policy_objective", step.taken.objective)
        log("train/kl", step.kl)
        log("train/kl_divergence_loss", step.kl)  # TRPO's name for it
        log("train/kl_predicted", step.kl_predicted)
        if self.kl_constraint == "max":
            log("train/kl_max", step.kl_max)
        if self.target_kl is not None:
            log("train/target_kl", step.target_kl)
        log("train/step_length", step.taken.length)
        if self.step_size is None:
            log("train/step_shortenings", step.taken.shortenings)
        if step.penalised is not None:
            log("train/kl_penalty", step.penalty)
            log("train/penalised_objective", step.penalised.objective)
            log("train/inner_steps", step.penalised.n_steps)
        if step.solution is not None and step.solution.iterations is not None:
            log("train/cg_iterations", step.solution.iterations)
            log("train/cg_residual", step.solution.residual)
        log("train/value_loss", value_loss)
        log(
            "train/explained_variance",
            explained_variance(
                self.rollout_buffer.values.flatten(), self.rollout_buffer.returns.flatten()
            ),
        )
        for name, value in randomness.items():
            log(f"train/{name}", value)
        if self.normalize_returns:
            log("train/return_std", self._return_scale.std)
        log("train/skipped_updates", self._skipped_updates)
        log("train/n_updates", self._n_updates, exclude="tensorboard")

    def learn(
        self: SelfNPG,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "NPG",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfNPG:
        """Train for ``total_timesteps`` environment steps, as SB3's algorithms do.

        :return: the model itself
        :raises TypeError: the policy's action distribution is not supported
        :raises ValueError: an argument has been set to an invalid value, the critic has no
            parameters of its own, or an observation, a reward or an action is NaN or infinite
        """
        return super().learn(
            total_timesteps=total_timesteps,
            callback=callback,
            log_interval=log_interval,
            tb_log_name=tb_log_name,
            reset_num_timesteps=reset_num_timesteps,
            progress_bar=progress_bar,
        )


def _solver(chosen: str | Solver, cg: ConjugateGradient) -> Solver:
    """The solver that an argument is or names.

    :param cg: what "cg" stands for
    """
    if isinstance(chosen, Solver):
        return chosen
    return cg if chosen == "cg" else SOLVERS[chosen]()
