"""Actor-critic with K-FAC's trust region."""

from sb3_natural.acktr.acktr import ACKTR

__all__ = ["ACKTR"]
