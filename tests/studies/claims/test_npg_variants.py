"""NPG with full steps, and NPG that logs how the divergence of an update is spread."""

import copy

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch.distributions import kl_divergence

from sb3_natural import NPG
from studies.claims.npg_variants import SpreadNPG, UnshortenedNPG


class Logged(BaseCallback):
    """Keeps what the updates have logged, and the policy and the states before the last one."""

    def _init_callback(self):
        self.updates = []

    def _on_rollout_start(self):
        self.updates.append(dict(self.logger.name_to_value))

    def _on_rollout_end(self):
        self.before = copy.deepcopy(self.model.policy)
        observations = self.model.rollout_buffer.observations
        self.observations = torch.as_tensor(observations.reshape(-1, observations.shape[-1]))

    def _on_step(self):
        return True


def trained(cls, env_id="CartPole-v1", steps=512, **settings):
    model = cls("MlpPolicy", env_id, n_steps=256, seed=0, device="cpu", **settings)
    logged = Logged()
    model.learn(steps, callback=logged, log_interval=1_000)
    logged.updates.append(dict(model.logger.name_to_value))
    return model, logged


def test_a_full_step_is_never_shortened():
    full, shortened = (
        trained(cls, target_kl=3.0, steps=2_048)[1].updates[1:] for cls in (UnshortenedNPG, NPG)
    )
    assert len(full) == len(shortened) == 8
    assert sum(update["train/step_shortenings"] for update in shortened) > 0
    for update in full:
        assert update["train/step_shortenings"] == 0
        assert update["train/skipped_updates"] == 0
        assert update["train/kl_predicted"] == pytest.approx(update["train/target_kl"], rel=1e-3)
    assert max(update["train/kl"] / update["train/target_kl"] for update in full) > 1.5


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("constraint", ["mean", "max"])
def test_the_spread_is_that_of_the_states_divergences(env_id, constraint):
    settings = {"target_kl": 0.02, "kl_constraint": constraint, "normalize_observations": False}
    model, logged = trained(SpreadNPG, env_id, **settings)
    with torch.no_grad():
        old, new = (
            each.get_distribution(logged.observations).distribution
            for each in (logged.before, model.policy)
        )
        kls = kl_divergence(old, new)
    kls = (kls if kls.ndim == 1 else kls.sum(dim=1)).double()
    assert kls.mean().item() == pytest.approx(logged.updates[-1]["train/kl"], rel=1e-3)
    for quantile in SpreadNPG.QUANTILES:
        ratio = (kls.quantile(quantile) / kls.mean()).item()
        found = logged.updates[-1][f"train/kl_ratio_{quantile:g}"]
        assert found == pytest.approx(ratio, rel=1e-2, abs=1e-4)


def test_logging_the_spread_changes_no_training():
    ours, others = (trained(cls, target_kl=0.01)[0].policy for cls in (SpreadNPG, NPG))
    for ours_param, other in zip(ours.parameters(), others.parameters(), strict=True):
        assert torch.equal(ours_param, other)
