"""Natural-gradient and trust-region reinforcement learning for Stable-Baselines3."""
