"""Plain multilayer perceptrons: activations, passes, and parameters as vectors."""
