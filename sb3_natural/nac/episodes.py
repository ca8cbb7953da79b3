"""Whole episodes: the natural gradient as a regression of their returns on their scores.

Source: Peters & Schaal 2008, Natural actor-critic, Neurocomputing 71, table 2 (eNAC).
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sb3_natural.curvature.solvers import NoStepError
from sb3_natural.nac.lstd import exact_dtype
from sb3_natural.shapes import check_shape

__all__ = ["Episodes", "Regression"]


class Regression(NamedTuple):
    """return ~ w^T (sum of discounted scores) + baseline."""

    direction: Tensor
    """w, shape (P,)"""
    baseline: float


class Episodes:
    """Returns and summed scores of the episodes since the policy's last step.

    For an episode of T steps they are sum_t gamma^t r_t and sum_t gamma^t score_t. An episode that
    a step of the policy interrupts counts when it ends: each of its scores is that of the policy
    that drew the action. If interrupted episodes were left out, long ones would be, too often.

    Shapes: n_steps T, n_envs E, P parameters.

    :param device: where the sums are, in float64
    :ivar scores: of finished episodes, (n_episodes, P)
    :ivar returns: of finished episodes, (n_episodes,)
    :ivar open_scores: of the episodes underway, (E, P)
    :ivar open_returns: likewise, (E,)
    :ivar ages: their steps so far, (E,)
    :ivar known: whether they have been seen from their first step on, (E,)
    """

    VARIABLES = ("scores", "returns", "open_scores", "open_returns", "ages", "known")

    def __init__(self, device: torch.device) -> None:
        self.options: dict[str, Any] = {"dtype": exact_dtype(device), "device": device}
        self._start_anew(0, 0)

    def __len__(self) -> int:
        return len(self.returns)

    def _start_anew(self, n_params: int, n_envs: int) -> None:
        self.scores = torch.zeros(0, n_params, **self.options)
        self.returns = torch.zeros(0, **self.options)
        self.open_scores = torch.zeros(n_envs, n_params, **self.options)
        self.open_returns = torch.zeros(n_envs, **self.options)
        self.ages = torch.zeros(n_envs, dtype=torch.long, device=self.returns.device)
        self.known = torch.zeros(n_envs, dtype=torch.bool, device=self.returns.device)

    def prepare(self, n_params: int, n_envs: int) -> None:
        """Start anew if parameters or environments are others."""
        fits = self.scores.shape == (len(self), n_params)
        if not fits or self.open_scores.shape != (n_envs, n_params):
            self._start_anew(n_params, n_envs)

    def lose_track(self) -> None:
        """Steps are missing: the episodes underway do not count."""
        self.known = torch.zeros_like(self.known)

    def clear(self) -> None:
        """Forget the finished episodes."""
        self.scores, self.returns = self.scores[:0].clone(), self.returns[:0].clone()

    def add(
        self,
        scores: Tensor,
        rewards: Tensor,
        starts: np.ndarray,
        dones: np.ndarray,
        gamma: float,
    ) -> None:
        """Add consecutive steps of all environments.

        :param scores: (T, E, P)
        :param rewards: (T, E); where a time limit ended an episode, with gamma V of its last state
        :param starts: whether a step is the first of its episode, (T, E)
        :param dones: whether a step ended its episode, (T, E)
        :param gamma: discount factor
        :raises ValueError: an array has another shape; names it
        """
        n_steps, n_envs, n_params = scores.shape
        check_shape((n_envs, n_params), open_scores=self.open_scores)
        check_shape((n_steps, n_envs), rewards=rewards, starts=starts, dones=dones)
        starts, dones = starts.astype(bool), dones.astype(bool)
        # An environment's row 0 is the episode underway, the others are those that start here.
        order = np.cumsum(starts, axis=0)
        first_rows = np.cumsum([0, *(order[-1, :-1] + 1)])
        rows, n_rows = order + first_rows, int(np.sum(order[-1] + 1))

        ages = self._ages(starts)
        weights = torch.from_numpy(gamma ** ages.astype(np.float64)).to(**self.options)
        sums = torch.zeros(n_rows, n_params, **self.options)
        returns = torch.zeros(n_rows, **self.options)
        sums[first_rows], returns[first_rows] = self.open_scores, self.open_returns
        index = torch.from_numpy(rows.reshape(-1)).to(sums.device)
        weighted = weights[:, :, None] * scores.to(**self.options)
        sums.index_add_(0, index, weighted.reshape(-1, n_params))
        returns.index_add_(0, index, (weights * rewards.to(**self.options)).reshape(-1))

        known = np.ones(n_rows, dtype=bool)
        known[first_rows] = self.known.cpu().numpy()
        ended = rows[dones]
        ended = ended[known[ended]]
        self.scores = torch.cat([self.scores, sums[ended]])
        self.returns = torch.cat([self.returns, returns[ended]])
        self.open_scores, self.open_returns = sums[rows[-1]], returns[rows[-1]]
        self.ages = torch.from_numpy(ages[-1] + 1).to(sums.device)
        self.known = torch.from_numpy(known[rows[-1]] & ~dones[-1]).to(sums.device)

    def _ages(self, starts: np.ndarray) -> np.ndarray:
        """How many steps of its episode came before each step, (T, E)."""
        steps = np.arange(len(starts))[:, None]
        last_start = np.maximum.accumulate(np.where(starts, steps, -1), axis=0)
        underway = self.ages.cpu().numpy() + steps
        return np.where(last_start < 0, underway, steps - last_start)

    def regress(self, ridge: float) -> Regression:
        """The w and baseline that minimise mean((w^T scores + baseline - return)^2) + ridge |w|^2.

        Solved with as many unknowns as there are parameters or episodes, whichever are fewer.

        :raises NoStepError: the system is singular, or an episode is not finite: then all finished
            ones are forgotten
        """
        if not (torch.isfinite(self.scores).all() and torch.isfinite(self.returns).all()):
            self.clear()  # it would stay so for good
            raise NoStepError("the score or the return of an episode is not finite")
        mean_scores, mean_return = self.scores.mean(dim=0), self.returns.mean()
        x, y = self.scores - mean_scores, self.returns - mean_return
        n_episodes, n_params = x.shape
        damping = ridge * n_episodes
        if n_params <= n_episodes:
            direction = _solved(x.T @ x, damping, x.T @ y)
        else:
            direction = x.T @ _solved(x @ x.T, damping, y)
        return Regression(direction, (mean_return - mean_scores @ direction).item())


def _solved(gram: Tensor, damping: float, b: Tensor) -> Tensor:
    """(gram + damping I)^-1 b."""
    gram.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(gram)
    solution = torch.cholesky_solve(b[:, None], factor)[:, 0]
    if failed or not torch.isfinite(solution).all():
        raise NoStepError("the regression of returns on scores is singular; use a larger ridge")
    return solution
