"""First-order updates written out: PPO's loss and gradient, Adam on one vector."""
