"""Natural-gradient and trust-region reinforcement learning for Stable-Baselines3."""

from sb3_natural.acer import ACER
from sb3_natural.acktr import ACKTR
from sb3_natural.baselines import A2C, PPO, TRPO
from sb3_natural.curvature.operators import FisherOperator
from sb3_natural.environments.envpool import make_vec_env
from sb3_natural.nac import NAC
from sb3_natural.natural_dqn import NaturalDQN
from sb3_natural.npg import NPG, RecurrentNPG
from sb3_natural.signal import SignalCallback, signal_share

__version__ = "0.1.0"

__all__ = [
    "A2C",
    "ACER",
    "ACKTR",
    "NAC",
    "NPG",
    "PPO",
    "TRPO",
    "FisherOperator",
    "NaturalDQN",
    "RecurrentNPG",
    "SignalCallback",
    "__version__",
    "make_vec_env",
    "signal_share",
]
