"""LSTD-Q(lambda): state values and compatible advantages from one linear system.

Source: Peters & Schaal 2008, Natural actor-critic, Neurocomputing 71, table 1.
"""

from typing import Any

import torch
from torch import Tensor

from sb3_natural.curvature.solvers import NoStepError
from sb3_natural.shapes import check_shape

__all__ = ["Lstd", "exact_dtype"]


def exact_dtype(device: torch.device) -> torch.dtype:
    """float64, except on Apple's GPUs, which have none."""
    return torch.float32 if device.type == "mps" else torch.float64


class Lstd:
    """The sums A and b of LSTD-Q(lambda), and the eligibility traces z of each environment.

    With phi_hat = [psi(s), score], phi_tilde = [psi(s'), 0], a step does

        z <- gamma lambda z + phi_hat,   A <- A + z (phi_hat - gamma phi_tilde)^T,   b <- b + z r

    and [v, w] = A^-1 b: V(s) = v^T psi(s), and the compatible advantage w^T score. The traces of an
    environment start from zero with each episode.

    Shapes: n_steps T, n_envs E, D features phi_hat, of which the first K are psi; psi starts with
    a constant.

    :param device: where the sums are, in float64
    :ivar options: dtype and device of all tensors
    :ivar a: A, (D, D)
    :ivar b: (D,)
    :ivar traces: z, (E, D)
    :ivar count: how many steps the sums are worth, ()
    """

    VARIABLES = ("a", "b", "traces", "count")

    def __init__(self, device: torch.device) -> None:
        self.options: dict[str, Any] = {"dtype": exact_dtype(device), "device": device}
        self.start_anew(0, 0)

    def start_anew(self, n_features: int, n_envs: int) -> None:
        """Forget everything."""
        self.a = torch.zeros(n_features, n_features, **self.options)
        self.b = torch.zeros(n_features, **self.options)
        self.traces = torch.zeros(n_envs, n_features, **self.options)
        self.count = torch.zeros((), **self.options)

    def prepare(self, n_features: int, n_envs: int) -> None:
        """Start anew if the features are others, and break the traces if the environments are."""
        shapes = (n_features, n_features), (n_features,), ()
        if (self.a.shape, self.b.shape, self.count.shape) != shapes:
            self.start_anew(n_features, n_envs)
        if self.traces.shape != (n_envs, n_features):
            self.traces = torch.zeros(n_envs, n_features, **self.options)

    def break_traces(self) -> None:
        """What comes next does not follow from what came before."""
        self.traces = torch.zeros_like(self.traces)

    def add(
        self,
        features: Tensor,
        next_psi: Tensor,
        rewards: Tensor,
        starts: Tensor,
        gamma: float,
        trace: float,
    ) -> None:
        """Add consecutive steps of all environments.

        :param features: phi_hat, (T, E, D)
        :param next_psi: psi of the states that the steps led to, (T, E, K): zero if an episode
            terminated, psi of its last state if a time limit ended it
        :param rewards: (T, E)
        :param starts: whether a step is the first of its episode, (T, E)
        :param gamma: discount factor
        :param trace: lambda
        :raises ValueError: an array has another shape; names it
        """
        n_steps, n_envs, n_features = features.shape
        check_shape((n_envs, n_features), traces=self.traces)
        check_shape((n_steps, n_envs), rewards=rewards, starts=starts)
        check_shape((n_steps, n_envs, next_psi.shape[-1]), next_psi=next_psi)
        features = features.to(**self.options)
        decay = gamma * trace * (1 - starts.to(**self.options))
        traces = torch.empty_like(features)
        now = self.traces
        for t in range(n_steps):
            now = torch.addcmul(features[t], decay[t, :, None], now, out=traces[t])
        self.traces = now.clone()
        differences = features.clone()
        differences[..., : next_psi.shape[-1]] -= gamma * next_psi.to(**self.options)
        rows = traces.reshape(-1, n_features)
        self.a.addmm_(rows.T, differences.reshape(-1, n_features))
        self.b.addmv_(rows.T, rewards.to(**self.options).reshape(-1))
        self.count += n_steps * n_envs

    def solve(self, ridge: float) -> Tensor:
        """[v, w] of (A / count + ridge I) [v, w] = b / count, shape (D,).

        The constant is not penalised, so that a constant reward is all state value.

        :raises NoStepError: the system is singular or not finite
        """
        matrix = self.a / self.count
        matrix.diagonal()[1:] += ridge
        solution, failed = torch.linalg.solve_ex(matrix, self.b / self.count)
        if failed or not torch.isfinite(solution).all():
            if not (torch.isfinite(self.a).all() and torch.isfinite(self.b).all()):
                self.start_anew(len(self.b), len(self.traces))  # it would stay so for good
            raise NoStepError("the system of LSTD is singular or not finite; use a larger ridge")
        return solution

    def forget(self, factor: float) -> None:
        """Multiply A, b and z by beta: what came before the policy's last step counts less."""
        for name in self.VARIABLES:
            getattr(self, name).mul_(factor)
