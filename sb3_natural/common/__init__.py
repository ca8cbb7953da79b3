"""The pieces that natural-gradient algorithms share: curvature, solvers, step lengths, critics."""
