"""Small problems on which everything that policy gradients are about is computed exactly."""
