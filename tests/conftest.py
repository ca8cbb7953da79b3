"""One torch thread in every test process: pytest-xdist gives each core a process already."""

import torch

torch.set_num_threads(1)
