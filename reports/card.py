"""Writes a model card beside the model of a run, and never over what somebody else has written."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmarks import figure_files
from benchmarks.storage import whole_file, write_whole
from reports.data import scores
from reports.data.card import CardData
from reports.data.runs import ReportError
from reports.rendering import figures
from reports.sections.model_card import render

CARD = "README.md"
PICTURE = "learning_curve.png"
_FILMS = (".gif", ".mp4")
# The last line of a card: by it the command knows what it has written.
_MARK = "<!-- python -m reports card: text {}, picture {} -->\n"
_MARKED = re.compile(_MARK.format("(?P<text>[0-9a-f]{64})", "(?P<picture>[0-9a-f]{64})"))


def write(card: CardData, out: Path, force: bool = False) -> None:
    """Write the card and its learning curve, each whole or not at all.

    Films that lie beside the card are shown in it.

    :param out: the card; the learning curve lies beside it, named after it unless the card is
        ``README.md``, so that no two cards share one
    :param force: overwrite a card or a picture that the command has not written, or that has been
        changed since
    :raises ReportError: such a file is there, without ``force``; or ``out`` is not a Markdown file
    :raises benchmarks.errors.SpecError: the record names a class that Python could not import
    """
    if out.suffix != ".md" or out.is_dir():
        raise ReportError(f"--out: must be a file that ends in .md, got {str(out)!r}")
    picture = out.with_name(PICTURE if out.name == CARD else f"{out.stem}_{PICTURE}")
    if not force:
        _refuse_to_overwrite(out, picture)
    text = render(card, picture.name, _films(out.parent))
    drawn = figure_files.png(_curve(card))
    with whole_file(picture) as unfinished:
        unfinished.write_bytes(drawn)
    write_whole(out, text + _MARK.format(_digest(text.encode()), _digest(drawn)))


def _films(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.suffix in _FILMS)


def _refuse_to_overwrite(out: Path, picture: Path) -> None:
    """Refuse files that are not as the command has written them.

    :raises ReportError: naming the first of them
    """
    found = out.read_bytes() if out.exists() else b""
    text, last = found[: found.rfind(b"\n", 0, -1) + 1], found[found.rfind(b"\n", 0, -1) + 1 :]
    mark = _MARKED.fullmatch(last.decode(errors="replace"))
    for path, content, part in ((out, text, "text"), (picture, None, "picture")):
        if not path.exists():
            continue
        digest = _digest(path.read_bytes() if content is None else content)
        if mark is None or mark[part] != digest:
            raise ReportError(
                f"{path}: is there, and not as this command has written it; --force overwrites it"
            )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _curve(card: CardData) -> Figure:
    """The learning curve: of the seeds and of this run, or of this run where it is the only one."""
    spec = card.run.spec
    tidy = {"env_id": spec.env_id, "protocol": ""}
    runs = [curve.assign(**tidy, label=spec.algo, seed=seed) for seed, curve in card.curves.items()]
    if len(runs) > 1:
        runs.append(card.evaluations.assign(**tidy, label="this run", seed=spec.seed))
    means = scores.learning_curves(pd.concat(runs, ignore_index=True))
    return figures.learning_curves(means, figures.looks(means["label"].unique().tolist()))
