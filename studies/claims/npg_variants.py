"""NPG with a step, or a log, that only claims need."""

from typing import ClassVar

from sb3_natural import NPG
from sb3_natural.curvature.trust_region import PolicyLine, StepTaken, fixed_step

__all__ = ["SpreadNPG", "UnshortenedNPG"]


class UnshortenedNPG(NPG):
    """NPG that never shortens a step, however large the measured KL divergence.

    The step is as long as the quadratic model of the divergence allows; it is skipped only if the
    policy there is not finite.
    """

    def _step_along(
        self, line: PolicyLine, length: float, objective: float, target_kl: float
    ) -> StepTaken:
        return fixed_step(line, length)


class SpreadNPG(NPG):
    """NPG that logs how an update's KL divergence is spread over states.

    ``train/kl_ratio_Q``: the quantile Q of the states' divergences, divided by their mean.
    """

    QUANTILES: ClassVar[tuple[float, ...]] = (0.1, 0.5, 0.9, 0.99, 1.0)

    def _step_along(
        self, line: PolicyLine, length: float, objective: float, target_kl: float
    ) -> StepTaken:
        taken = super()._step_along(line, length, objective, target_kl)
        if (mean := line.kls.mean().item()) > 0:
            ratios = line.kls.double().quantile(line.kls.new_tensor(self.QUANTILES).double()) / mean
            for quantile, ratio in zip(self.QUANTILES, ratios.tolist(), strict=True):
                self.logger.record(f"train/kl_ratio_{quantile:g}", ratio)
        return taken
