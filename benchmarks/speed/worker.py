"""``python -m benchmarks.speed.worker``: measures the plugin, SB3 and sb3-contrib."""

import warnings

import torch

from benchmarks.speed import acer, stepping, training, updates
from benchmarks.speed.protocol import Task, serve

TASKS: dict[str, Task] = {
    "train": training.train,
    "train_by_phase": training.train_by_phase,
    "train_for_memory": training.train_for_memory,
    "simulate": training.simulate,
    "simulate_pool": training.simulate_pool,
    "step": stepping.step,
    "compare_updates": updates.compare_updates,
    "compare_products": updates.compare_products,
    "compare_solvers": updates.compare_solvers,
    "update_for_memory": updates.update_for_memory,
    "train_acer": acer.train_acer,
    "train_acer_by_part": acer.train_acer_by_part,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    serve(TASKS)
