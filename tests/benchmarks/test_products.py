"""What approximate solutions of real systems are worth."""

import numpy as np
import pytest
import torch

from benchmarks.products import STEPS, compare, efficiency_table, gain, save, summarise
from benchmarks.tables import to_text
from sb3_natural.curvature.solvers import conjugate_gradient


class Matrix:
    def __init__(self, matrix):
        self.matrix = matrix

    def __matmul__(self, vector):
        return self.matrix.to(vector.dtype) @ vector


def test_no_direction_gains_more_than_the_exact_solution():
    torch.manual_seed(0)
    root = torch.randn(6, 6, dtype=torch.float64)
    operator, b = Matrix(root @ root.T + 0.1 * torch.eye(6).double()), torch.randn(6).double()
    exact = torch.linalg.solve(operator.matrix, b)
    assert gain(operator, b, exact) == pytest.approx((b @ exact).sqrt().item())
    for _ in range(20):
        assert gain(operator, b, exact + 0.1 * torch.randn(6)) < gain(operator, b, exact)
    for steps in (1, 2, 3):  # conjugate gradient's efficiency only grows
        fewer = conjugate_gradient(operator, b, steps, tol=0).direction
        more = conjugate_gradient(operator, b, steps + 1, tol=0).direction
        assert gain(operator, b, fewer) < gain(operator, b, more) * (1 + 1e-12)


def test_every_system_of_a_training_is_compared(tmp_path):
    rows = compare("HalfCheetah-v5", 4096)
    n_updates = 2  # of 2,048 steps
    assert set(rows["system"]) == {"policy", "critic, step 1", "critic, step 2"}
    assert set(rows["products"]) == set(STEPS)
    plain = rows[rows["variant"] == "plain"]
    assert len(plain) == n_updates * 3 * len(STEPS)
    # A warm start needs an update to start from, and the diagonal is the policy's only.
    assert len(rows[rows["variant"] == "warm start"]) == (n_updates - 1) * 3 * len(STEPS)
    assert len(rows[rows["variant"] == "diagonal"]) == n_updates * len(STEPS)
    assert rows["efficiency"].between(0, 1.001).all()
    by_products = plain.groupby(["system", "update"])["efficiency"]
    assert by_products.apply(lambda values: np.all(np.diff(values) > -1e-3)).all()

    save({"HalfCheetah-v5": rows}, tmp_path)
    lines = (tmp_path / "products.csv").read_text().splitlines()
    assert lines[0] == "env_id,system,variant,products,residual,efficiency"
    assert len(lines) == 1 + len(summarise(rows))

    header, *shown = to_text(efficiency_table(rows)).splitlines()
    assert header.split() == ["system", "variant", *map(str, STEPS)]
    (policy,) = (line for line in shown if line.split()[:2] == ["policy", "plain"])
    summary = summarise(rows).set_index(["system", "variant"]).loc[("policy", "plain")]
    assert policy.split()[2:] == [f"{value:.3f}" for value in summary["efficiency"]]
