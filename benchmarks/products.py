"""How many Fisher products conjugate gradient needs, and what would save some.

``python -m benchmarks products`` trains NPG and solves every system that comes up in it, the
policy's and the critic's, in several ways. Two numbers tell how good an approximate solution x of
A x = g is: the relative residual, and the *efficiency*

    (g^T x / sqrt(x^T A x)) / (g^T x* / sqrt(x*^T A x*)),

what x gains per unit of its length in the metric A, relative to the exact solution x*. Training
goes on with the plain solution after ten steps, whatever the others say.
"""

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
from sb3_natural.curvature.operators import Operator
from sb3_natural.curvature.solvers import Solution, Solver, conjugate_gradient
from sb3_natural.curvature.value_fit import GaussNewtonFit

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
    model.fisher_solver = _Comparison(rows, ["policy"], with_diagonal=True)
    # The first and the second step of an update are systems of their own.
    critic = _Comparison(rows, ["critic, step 1", "critic, step 2"])
    model.critic = GaussNewtonFit(2, critic, model.critic_damping)
    model.learn(n_timesteps)
    return pd.DataFrame(rows)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians over the updates: residual and efficiency by system, variant and products."""
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
    """Write ``products.csv``: the summaries, a column ``env_id`` in front."""
    parts = [summarise(frame).assign(env_id=env_id) for env_id, frame in frames.items()]
    table = pd.concat(parts)
    table.insert(0, "env_id", table.pop("env_id"))
    write_whole(out / "products.csv", table.to_csv(index=False, float_format="%.4g"))


class _Comparison(Solver):
    """Solves every system in all ways and keeps a row for each; returns the plain solution.

    :param systems: the names of those that come up in each update, in their order
    :param with_diagonal: whether to try the diagonal as a preconditioner
    """

    def __init__(
        self, rows: list[dict[str, Any]], systems: list[str], with_diagonal: bool = False
    ) -> None:
        self._rows = rows
        self._systems = systems
        self._with_diagonal = with_diagonal
        self._n_solved = 0
        self._last: dict[tuple[str, int], Tensor] = {}

    def solve(self, operator: Operator, b: Tensor) -> Solution:
        """Note how well each variant solves the system, and return the plain solution."""
        update, index = divmod(self._n_solved, len(self._systems))
        system = self._systems[index]
        diagonal = operator.diagonal() if self._with_diagonal else None
        exact = conjugate_gradient(operator, b, EXACT_STEPS, tol=1e-6)
        best = gain(operator, b, exact.direction)
        for steps in STEPS:
            last = self._last.get((system, steps))
            solutions = _variants(operator, b, steps, last, diagonal)
            newest = solutions.get("warm start", solutions["plain"])
            self._last[system, steps] = newest.direction
            for variant, solution in solutions.items():
                self._rows.append(
                    {
                        "system": system,
                        "update": update,
                        "variant": variant,
                        "products": steps,
                        "residual": solution.residual,
                        "efficiency": gain(operator, b, solution.direction) / best,
                    }
                )
            if steps == USUAL_STEPS:
                usual = solutions["plain"]
        self._n_solved += 1
        return usual


def _variants(
    operator: Operator, b: Tensor, steps: int, last: Tensor | None, diagonal: Tensor | None
) -> dict[str, Solution]:
    """The solutions after so many products, by what was done to save some.

    :param last: where a warm start begins
    :param diagonal: of the operator, to be preconditioned with
    """
    found = {"plain": conjugate_gradient(operator, b, steps, tol=0)}
    if last is not None:
        found["warm start"] = _from(last, operator, b, steps)
    if diagonal is not None:
        found["diagonal"] = conjugate_gradient(
            operator, b, steps, tol=0, preconditioner=lambda r: r / diagonal
        )
    return found


def _from(start: Tensor, operator: Operator, b: Tensor, steps: int) -> Solution:
    """Conjugate gradient from a start, which costs one of the products."""
    remainder = b - operator @ start
    rest = conjugate_gradient(operator, remainder, steps - 1, tol=0)
    assert rest.residual is not None
    residual = rest.residual * (remainder.norm() / b.norm()).item()
    return Solution(start + rest.direction, steps, residual)


def gain(operator: Operator, gradient: Tensor, x: Tensor) -> float:
    """g^T x / sqrt(x^T A x)."""
    x64 = x.double()
    return ((gradient.double() @ x64) / (x64 @ (operator @ x).double()).sqrt()).item()
