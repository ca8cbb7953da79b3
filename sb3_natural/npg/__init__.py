"""Natural policy gradient."""

from sb3_natural.npg.npg import NPG
from sb3_natural.npg.policies import CnnPolicy, MlpPolicy, MultiInputPolicy

__all__ = ["NPG", "CnnPolicy", "MlpPolicy", "MultiInputPolicy"]
