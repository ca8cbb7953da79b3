"""Fast rollout collection: actors, recorders, checks."""
