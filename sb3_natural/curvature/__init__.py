"""From a batch to a direction and a step."""
