"""From a batch to a direction and a step length: families, operators, solvers, trust region."""
