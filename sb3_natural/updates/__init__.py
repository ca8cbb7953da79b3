"""First-order updates written out: losses with their gradients, optimisers on one vector."""
