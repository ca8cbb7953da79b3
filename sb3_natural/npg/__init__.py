"""Natural policy gradient."""

from sb3_natural.npg.npg import NPG
from sb3_natural.npg.policies import (
    CnnLstmPolicy,
    CnnPolicy,
    MlpLstmPolicy,
    MlpPolicy,
    MultiInputLstmPolicy,
    MultiInputPolicy,
)
from sb3_natural.npg.recurrent import RecurrentNPG

__all__ = [
    "NPG",
    "CnnLstmPolicy",
    "CnnPolicy",
    "MlpLstmPolicy",
    "MlpPolicy",
    "MultiInputLstmPolicy",
    "MultiInputPolicy",
    "RecurrentNPG",
]
