"""Over which range a number keeps a good return."""

import pandas as pd
import pytest

from studies.claims.claim import Verdict
from studies.claims.penalty import CLAIM


def data(bound_returns, price_returns):
    """Three seeds, whose returns differ by 2, with each of three numbers."""
    rows = []
    for kind, numbers, returns in (
        ("bound", (0.01, 0.1, 1.0), bound_returns),
        ("price", (1.0, 10.0, 100.0), price_returns),
    ):
        for number, centre in zip(numbers, returns, strict=True):
            rows.append(("A", kind, number, "kl", float("nan"), 100, 0.02))
            rows += [
                ("A", kind, number, "return", seed, 100, centre + seed - 1) for seed in range(3)
            ]
    columns = ["env_id", "kind", "number", "what", "seed", "timesteps", "value"]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize(
    ("bounds", "prices", "verdict", "factors"),
    [
        ((10, 100, 90), (20, 100, 30), Verdict.HOLDS, (10, 1)),
        ((10, 100, 90), (20, 50, 30), Verdict.FAILS, (10, 1)),  # they are not equivalent
        ((95, 100, 90), (20, 100, 30), Verdict.FAILS, (100, 1)),  # not sensitive to delta
        # 79.5 is below four fifths, but its interval reaches there.
        ((79.5, 100, 10), (100, 10, 10), Verdict.HOLDS, (10, 1)),
    ],
)
def test_the_rule_asks_for_equal_ends_and_for_numbers_that_matter(bounds, prices, verdict, factors):
    finding = CLAIM.judge(data(bounds, prices))
    assert finding.verdict == verdict
    wanted = "δ over a factor of {:.0f}, by C over one of {:.0f}.".format(*factors)
    assert wanted in finding.measured
