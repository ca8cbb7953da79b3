"""Fast rollout collection."""
