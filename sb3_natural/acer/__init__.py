"""ACER: actor-critic with experience replay (Wang et al. 2017)."""

from sb3_natural.acer.acer import ACER
from sb3_natural.acer.policies import ACERPolicy, CnnPolicy, MlpPolicy, MultiInputPolicy

__all__ = ["ACER", "ACERPolicy", "CnnPolicy", "MlpPolicy", "MultiInputPolicy"]
