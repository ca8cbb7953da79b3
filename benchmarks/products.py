"""How many Fisher products conjugate gradient needs, and what would save some of them.

``python -m benchmarks products`` trains NPG, and solves every linear system of its updates, the
policy's and the critic's, in several ways. Two numbers say how good an approximate solution x of
A x = g is: the relative residual, and the *efficiency*

    (g^T x / sqrt(x^T A x)) / (g^T x* / sqrt(x*^T A x*)),

the gain of x per unit of its length in the metric A, relative to that of the exact solution x*. The
training itself uses the plain solution after ten steps.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from benchmarks.numbers import Form
from benchmarks.run import make_env, make_model
from benchmarks.specs import plan
from benchmarks.storage import write_whole
from benchmarks.suite import load_suite
from benchmarks.tables import Number, Table, Text
from benchmarks.zoo import model_arguments
from sb3_natural import NPG
from sb3_natural.common.critic import GaussNewtonCritic
from sb3_natural.common.fisher import CurvatureOperator, FisherOperator
from sb3_natural.common.solvers import FisherSolver, Solution, conjugate_gradient

STEPS = (2, 3, 5, 7, 10, 15, 20)
EXACT_STEPS = 80
USUAL_STEPS = 10


def compare(env_id: str, n_timesteps: int, seed: int = 0) -> pd.DataFrame:
    """Train NPG with its hyperparameters for an environment; one row for each approximation.

    :return: columns system, update, variant, products, residual, efficiency
    """
    (spec,) = plan(load_suite("mujoco"), ["npg"], [env_id], [seed], n_timesteps, {})
    arguments = model_arguments(spec.algo, spec.hyperparams, "hyperparams")
    model = make_model(spec, arguments, make_env(spec, arguments, arguments.n_envs, seed))
    assert isinstance(model, NPG)
    rows: list[dict[str, Any]] = []
    model.fisher_solver = _PolicySystems(rows)
    model.critic = _CriticSystems(rows, n_steps=2, damping=model.critic_damping)
    model.learn(n_timesteps)
    return pd.DataFrame(rows)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians over the updates of residual and efficiency, by system, variant and products."""
    keys = ["system", "variant", "products"]
    return rows.groupby(keys, sort=False)[["residual", "efficiency"]].median().reset_index()


def efficiency_table(rows: pd.DataFrame) -> Table:
    """The median efficiency of each variant of each system, a column for each number of products.

    :param rows: as :func:`compare` returns them
    """
    by_products = summarise(rows).pivot(
        index=["system", "variant"], columns="products", values="efficiency"
    )
    systems, variants = zip(*by_products.index, strict=True)
    return Table(
        [
            Text("system", systems),
            Text("variant", variants),
            *(
                Number(str(products), values.tolist(), write=Form(3).text)
                for products, values in by_products.items()
            ),
        ]
    )


def save(frames: dict[str, pd.DataFrame], out: Path) -> None:
    """Write the summaries as ``products.csv``, with ``env_id`` as the first column."""
    parts = [summarise(frame).assign(env_id=env_id) for env_id, frame in frames.items()]
    table = pd.concat(parts)
    table.insert(0, "env_id", table.pop("env_id"))
    write_whole(out / "products.csv", table.to_csv(index=False, float_format="%.4g"))


class _Comparison:
    """Solves a system in all ways, and keeps a row for each."""

    def __init__(self, rows: list[dict[str, Any]], system: str) -> None:
        self._rows = rows
        self._system = system
        self._update = 0
        self._last: dict[int, Tensor] = {}

    def solve(
        self, operator: CurvatureOperator, gradient: Tensor, diagonal: Tensor | None
    ) -> Solution:
        """The plain solution; this one and the others get their rows."""
        exact = conjugate_gradient(operator, gradient, EXACT_STEPS, tol=1e-6)
        best = gain(operator, gradient, exact.direction)
        for steps in STEPS:
            for variant, solution in self._variants(operator, gradient, diagonal, steps):
                self._rows.append(
                    {
                        "system": self._system,
                        "update": self._update,
                        "variant": variant,
                        "products": steps,
                        "residual": solution.residual,
                        "efficiency": gain(operator, gradient, solution.direction) / best,
                    }
                )
                if variant == "plain" and steps == USUAL_STEPS:
                    usual = solution
        self._update += 1
        return usual

    def _variants(
        self, operator: CurvatureOperator, gradient: Tensor, diagonal: Tensor | None, steps: int
    ) -> list[tuple[str, Solution]]:
        found = [("plain", conjugate_gradient(operator, gradient, steps, tol=0))]
        last = self._last.get(steps)
        if last is not None:  # a warm start takes one of the products
            warm = conjugate_gradient(operator, gradient, steps - 1, tol=0, x0=last)
            found.append(("warm start", warm))
            self._last[steps] = warm.direction
        else:
            self._last[steps] = found[0][1].direction
        if diagonal is not None:
            scaled: Callable[[Tensor], Tensor] = lambda r: r / diagonal  # noqa: E731
            preconditioned = conjugate_gradient(
                operator, gradient, steps, tol=0, precondition=scaled
            )
            found.append(("diagonal", preconditioned))
        return found


class _PolicySystems(FisherSolver):
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._comparison = _Comparison(rows, "policy")

    def solve(self, fisher: FisherOperator, gradient: Tensor) -> Solution:
        return self._comparison.solve(fisher, gradient, fisher.diagonal())


class _CriticSystems(GaussNewtonCritic):
    """The first and the second step of an update are systems of their own."""

    def __init__(self, rows: list[dict[str, Any]], n_steps: int, damping: float) -> None:
        super().__init__(n_steps, USUAL_STEPS, damping)
        self._comparisons = [_Comparison(rows, f"critic, step {i + 1}") for i in range(n_steps)]
        self._next = 0

    def solve(self, curvature: CurvatureOperator, gradient: Tensor) -> Solution:
        comparison = self._comparisons[self._next % self.n_steps]
        self._next += 1
        return comparison.solve(curvature, gradient, None)


def gain(operator: CurvatureOperator, gradient: Tensor, x: Tensor) -> float:
    """g^T x / sqrt(x^T A x)."""
    x64 = x.double()
    return ((gradient.double() @ x64) / (x64 @ (operator @ x).double()).sqrt()).item()
