"""Plain multilayer perceptrons, and parameters as vectors."""
