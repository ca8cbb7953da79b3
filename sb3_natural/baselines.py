"""The peers, with fast rollouts: SB3's PPO and A2C and sb3-contrib's TRPO, otherwise unchanged.

Results are theirs; models saved by either load into the other.
"""

import sb3_contrib
import stable_baselines3

from sb3_natural.common.rollouts import FastRollouts

__all__ = ["A2C", "PPO", "TRPO"]


class PPO(FastRollouts, stable_baselines3.PPO):
    """``stable_baselines3.PPO`` with :class:`~sb3_natural.common.rollouts.FastRollouts`."""


class A2C(FastRollouts, stable_baselines3.A2C):
    """``stable_baselines3.A2C`` with :class:`~sb3_natural.common.rollouts.FastRollouts`."""


class TRPO(FastRollouts, sb3_contrib.TRPO):
    """``sb3_contrib.TRPO`` with :class:`~sb3_natural.common.rollouts.FastRollouts`."""
