"""What was measured: for each claim a table, a figure drawn from it, and the verdict."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

from benchmarks import figure_files
from benchmarks.figure_theme import THEME
from benchmarks.storage import whole_file, write_whole
from studies.claims.claim import Claim
from studies.errors import StudyError

__all__ = ["figure_file", "judge", "keep", "load"]

_COLOURS = 256


def keep(folder: Path, claim: Claim, data: pd.DataFrame, quick: bool) -> dict[str, Any]:
    """Write ``NAME.csv``, a figure, and ``NAME.json``, which has the verdict.

    The figure is ``NAME.svg``, or ``NAME.png`` where that is smaller.

    :param quick: whether the data are of the quick version
    :return: what the last has
    """
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / f"{claim.name}.csv") as path:
        data.to_csv(path, index=False, float_format="%.6g")
    return judge(folder, claim, quick)


def judge(folder: Path, claim: Claim, quick: bool | None = None) -> dict[str, Any]:
    """Write figure and verdict of the data that are kept.

    :param quick: None: as it has been
    :return: as :func:`keep`
    :raises StudyError: there are no data
    """
    data = load(folder, claim)
    if quick is None:
        stored = json.loads((folder / f"{claim.name}.json").read_text(encoding="utf-8"))
        quick = bool(stored["quick"])
    _draw(folder, claim, data)
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


def figure_file(folder: Path, claim: Claim) -> Path:
    """The figure that there is of a claim."""
    svg = folder / f"{claim.name}.svg"
    return svg if svg.exists() else svg.with_suffix(".png")


def _draw(folder: Path, claim: Claim, data: pd.DataFrame) -> None:
    with mpl.rc_context(THEME):
        figure = claim.draw(data)
        written = {"svg": figure_files.svg(figure), "png": figure_files.png(figure, _COLOURS)}
    smaller, larger = sorted(written, key=lambda kind: len(written[kind]))
    with whole_file(folder / f"{claim.name}.{smaller}") as path:
        path.write_bytes(written[smaller])
    (folder / f"{claim.name}.{larger}").unlink(missing_ok=True)


def load(folder: Path, claim: Claim) -> pd.DataFrame:
    """The data of a claim.

    :raises StudyError: there are none
    """
    path = folder / f"{claim.name}.csv"
    if not path.exists():
        raise StudyError(f"{path} is missing: python -m studies claims run {claim.name} makes it")
    return pd.read_csv(path)
