"""ACER's pieces for Discrete actions against DI-engine's, on the same random numbers.

Only its functions are needed, none of what it depends on, which includes numpy before 2.

Retrace, the critic's loss, the projection of given g and k, and the gradient of the policy with
its correction agree. Its statistics are the normalised log-probabilities, as PFRL's are: there
k = -pi_a, so that other samples are bounded than here (see test_acer_against_pfrl.py). It has no
continuous actions.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import ding as ding_package
import pytest
import torch

from sb3_natural.acer.loss import Estimates, critic_loss, discrete_estimates, policy_gradient
from sb3_natural.acer.retrace import retrace, trace
from sb3_natural.curvature.trust_region import linearised_projection
from tests.acer.test_update import make_model

T, B, K, GAMMA = 15, 7, 3, 0.97
EXACT = dict(rtol=1e-10, atol=1e-10)


@pytest.fixture(scope="module")
def ding():
    """``ding.rl_utils`` without its ``__init__``, which imports forty packages."""
    package = ModuleType("ding.rl_utils")
    package.__path__ = [str(Path(ding_package.__file__).parent / "rl_utils")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ding.rl_utils", package)
        for name in ("isw", "acer", "retrace"):
            setattr(package, name, importlib.import_module(f"ding.rl_utils.{name}"))
        yield package


class Segments:
    """B segments of T steps: networks' outputs, what was done, what came of it."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.logits, self.q_values = 1.5 * normal(T + 1, B, K), normal(T + 1, B, K)
        self.mu = normal(T, B, K)
        self.average = normal(T, B, K)
        self.rewards = normal(T, B)
        self.actions = torch.randint(0, K, (T, B), generator=generator)
        self.continues = (torch.rand(T, B, generator=generator) > 0.2).double()
        self.values = (self.logits.softmax(-1) * self.q_values).sum(-1)
        self.ratio = torch.exp(self.logits[:-1].log_softmax(-1) - self.mu.log_softmax(-1))

    def taken(self, per_action: torch.Tensor) -> torch.Tensor:
        return per_action.gather(-1, self.actions[..., None])[..., 0]

    def retrace(self) -> torch.Tensor:
        return retrace(
            self.rewards,
            self.continues * self.values[1:],
            self.taken(self.q_values[:-1]),
            trace(self.taken(self.ratio).log()),
            self.continues,
            GAMMA,
        )

    def estimates(self, c: float) -> Estimates:
        # Of a policy, discrete_estimates wants this alone.
        policy = SimpleNamespace(value_net=lambda latent: self.q_values[:-1].flatten(0, 1))
        phi = self.logits[:-1].flatten(0, 1)
        return discrete_estimates(
            policy, phi, phi, self.mu.flatten(0, 1), self.actions.flatten(), c
        )


def test_retrace_is_di_engines(ding):
    s = Segments()
    assert 0 < s.continues.mean() < 1
    theirs = ding.retrace.compute_q_retraces(
        s.q_values, s.values[..., None], s.rewards, s.actions, s.continues, s.ratio, GAMMA
    )
    torch.testing.assert_close(s.retrace(), theirs[:-1, :, 0], **EXACT)


def test_critic_loss_is_di_engines(ding):
    s = Segments()
    targets = s.retrace()
    theirs = ding.acer.acer_value_error(s.q_values[:-1], targets[..., None], s.actions)
    torch.testing.assert_close(critic_loss(s.estimates(10.0), targets.flatten()), theirs.mean())


@pytest.mark.parametrize("c", [0.5, 1.0, 3.0])
def test_gradient_with_correction_is_di_engines(ding, c):
    s = Segments()
    targets = s.retrace()
    leaf = s.logits[:-1].clone().requires_grad_()
    gain, correction = ding.acer.acer_policy_error(
        s.q_values[:-1],
        targets[..., None],
        s.values[:-1, :, None],
        leaf.log_softmax(-1),
        s.actions,
        s.ratio,
        c,
    )
    (theirs,) = torch.autograd.grad((gain + correction).sum(), leaf)

    estimates = s.estimates(c)
    assert 0 < (estimates.correction != 0).double().mean() <= 1
    ours = policy_gradient(
        make_model("categorical").policy,
        s.logits[:-1].flatten(0, 1),
        s.actions.flatten(),
        estimates,
        (targets - s.values[:-1]).flatten(),
        c,
        ent_coef=0.0,
    )
    # They add 1e-8 to rho before dividing by it.
    torch.testing.assert_close(ours, theirs.flatten(0, 1), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("delta", [0.01, 0.3, 100.0])
def test_projection_is_di_engines(ding, delta):
    s = Segments()
    average = s.average.log_softmax(-1)
    (theirs,) = ding.acer.acer_trust_region_update([s.q_values[:-1]], None, average, delta)
    g, k = s.q_values[:-1].flatten(0, 1), average.exp().flatten(0, 1)
    ours = linearised_projection(g, k, delta)
    assert ((ours != g).any(dim=1).double().mean() > 0) == (delta < 1)
    torch.testing.assert_close(ours, theirs.flatten(0, 1), **EXACT)
