"""``python -m studies claims``: what is said of natural gradients, put to the test."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from benchmarks.command_line import JOBS, fail, fail_on, resumable, say
from studies.errors import StudyError

if TYPE_CHECKING:
    from studies.claims.claim import Claim

app = typer.Typer(rich_markup_mode="markdown", no_args_is_help=True, pretty_exceptions_enable=False)

_OUT = typer.Option(
    None,
    file_okay=False,
    help="Where data and figures go; else docs/claims, or claims-quick with --quick.",
    show_default=False,
)
_RUNS = typer.Option(
    Path("runs"),
    file_okay=False,
    help="Where trainings are kept; those that are there are not made again.",
)


@app.callback()
def claims() -> None:
    """Claims about natural gradients and trust regions, put to the test."""


@app.command("list")
def list_claims() -> None:
    """Every claim by its name."""
    from studies.claims.registry import CLAIMS

    width = max(map(len, CLAIMS))
    for name, claim in CLAIMS.items():
        say(f"{name:{width}}  {claim.text}")


@app.command()
def draw(
    names: list[str] = typer.Argument(None, help="Of claims; else all.", show_default=False),
    out: Path = typer.Option(Path("docs/claims"), file_okay=False, help="Where the data are."),
) -> None:
    """Judge and draw once more what has been measured, after a change of a rule or a figure."""
    from studies.claims.store import judge

    for claim in _chosen(names):
        if names or (out / f"{claim.name}.csv").exists():
            with fail_on(StudyError, status=1):
                say(f"{claim.name}: {judge(out, claim)['verdict']}")


@app.command()
def run(
    names: list[str] = typer.Argument(None, help="Of claims; else all.", show_default=False),
    quick: bool = typer.Option(False, "--quick", help="Fewer problems and steps."),
    out: Path | None = _OUT,
    runs: Path = _RUNS,
    jobs: int = JOBS,
) -> None:
    """Measure, judge and draw. For each claim there will be a table, a figure and a verdict."""
    from benchmarks.storage import check_writable
    from benchmarks.sweep import SweepError
    from studies.claims.claim import Effort
    from studies.claims.store import keep

    chosen = _chosen(names)
    out = out or Path("claims-quick" if quick else "docs/claims")
    for option, folder in (("--out", out), ("--runs", runs)):
        try:
            check_writable(folder)
        except OSError as error:
            fail(f"{option}: {folder}: {error.strerror}")
    effort = Effort(quick, runs, jobs, shown=True)
    with fail_on(StudyError, SweepError, status=1), resumable():
        for claim in chosen:
            start = time.monotonic()
            kept = keep(out, claim, claim.measure(effort), quick)
            seconds = time.monotonic() - start
            say(f"{claim.name} ({seconds:.0f} s): {kept['verdict']}\n  {kept['measured']}")


def _chosen(names: list[str] | None) -> list[Claim]:
    """The claims of these names, else all; a name that there is not ends the command."""
    from studies.claims.registry import CLAIMS

    if unknown := [name for name in names or () if name not in CLAIMS]:
        fail(f"no such claim: {', '.join(unknown)}; there are {', '.join(CLAIMS)}")
    return [CLAIMS[name] for name in names or CLAIMS]
