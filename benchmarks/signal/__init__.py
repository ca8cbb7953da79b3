"""``python -m benchmarks signal``: what an update gains, measured on samples that it has not seen.

A policy is frozen and samples are collected with it. One half is the *truth*, whose gradient g and
Fisher information F stand for the true ones. The other half is cut into batches, and the direction
x that a setting finds on each is judged by the truth: its *gain* is the improvement g^T x that it
buys per unit of its length sqrt(x^T F x), relative to that of the best direction, F^-1 g.
"""
