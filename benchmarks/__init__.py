"""The benchmark suite: runs, sweeps of runs, and run folders as tidy tables."""
