"""``python -m reports``: the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.results import BrokenRunError
from reports import document, thresholds
from reports.runs import ReportError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Turn run folders into a report."""


@app.command()
def build(
    root: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder with the run folders.")],
    out: Annotated[Path, typer.Option(help="Folder to write the report into.")] = Path("report"),
    title: Annotated[str, typer.Option(help="Heading.")] = document.DEFAULT_TITLE,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENV=RETURN",
            help="The return whose first reaching is reported for an environment, instead of the "
            "one registered with Gymnasium; repeatable.",
        ),
    ] = None,
) -> None:
    """Write report.md, scores.csv and the learning curves (PNG and SVG)."""
    try:
        report = document.build(root, out, title, thresholds.parse(threshold or []))
    except (ReportError, BrokenRunError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"wrote {report}")


if __name__ == "__main__":
    app(prog_name="python -m reports")
