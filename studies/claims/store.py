"""What was measured: for each claim a table, a figure drawn from it, and the verdict."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

from benchmarks.figure_theme import THEME
from benchmarks.storage import whole_file, write_whole
from studies.claims.claim import Claim
from studies.errors import StudyError

__all__ = ["keep", "load"]


def keep(folder: Path, claim: Claim, data: pd.DataFrame, quick: bool) -> dict[str, Any]:
    """Write ``NAME.csv``, ``NAME.svg`` and ``NAME.json``, the last of which has the verdict.

    :param quick: whether the data are of the quick version
    :return: what the last has
    """
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / f"{claim.name}.csv") as path:
        data.to_csv(path, index=False, float_format="%.6g")
    data = load(folder, claim)  # so that figure and verdict are those of what is kept
    with mpl.rc_context(THEME), whole_file(folder / f"{claim.name}.svg") as path:
        claim.draw(data).savefig(path, metadata={"Date": None})
    finding = claim.judge(data)
    verdict = {
        "claim": claim.text,
        "rule": claim.rule,
        "verdict": str(finding),
        "measured": finding.measured,
        "quick": quick,
    }
    write_whole(
        folder / f"{claim.name}.json", json.dumps(verdict, indent=2, ensure_ascii=False) + "\n"
    )
    return verdict


def load(folder: Path, claim: Claim) -> pd.DataFrame:
    """The data of a claim.

    :raises StudyError: there are none
    """
    path = folder / f"{claim.name}.csv"
    if not path.exists():
        raise StudyError(f"{path} is missing: python -m studies claims run {claim.name} makes it")
    return pd.read_csv(path)
