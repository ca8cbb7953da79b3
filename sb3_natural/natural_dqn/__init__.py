"""Deep Q-learning with natural gradients."""

from sb3_natural.natural_dqn.natural_dqn import NaturalDQN

__all__ = ["NaturalDQN"]
