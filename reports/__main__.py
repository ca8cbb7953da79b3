"""``python -m reports``: the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.errors import SpecError
from benchmarks.names import plain, restored
from benchmarks.results import BrokenRunError
from benchmarks.secrets import mask
from benchmarks.storage import write_whole
from reports import comparison, document, published, recording, thresholds, watching
from reports.progress import progress
from reports.runs import ReportError
from reports.tuning import Studies
from studies.storage import STORAGE_VARIABLE

_LONGEST_LINE = 20_000  # characters
_STUDIES = Path("studies-out")

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Turn run folders into a report."""


@app.command()
def build(
    root: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUNS]", help="Folder with the run folders; none for studies alone."
        ),
    ] = None,
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
    baseline: Annotated[
        str | None,
        typer.Option(help="The algorithm that the others are compared with; else the second."),
    ] = None,
    with_published: Annotated[
        bool, typer.Option("--published", help="Put results from the literature beside ours.")
    ] = False,
    published_file: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="More of them, a CSV like reports/published.csv."),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="md alone, or md,html: also one self-contained file.")
    ] = ",".join(document.FORMATS),
    studies: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Studies to report as well, separated by commas; repeatable."
        ),
    ] = None,
    studies_root: Annotated[
        Path | None, typer.Option(help=f"Where the studies' folders are; else {_STUDIES}.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL", envvar=STORAGE_VARIABLE, help="The database with the studies, if any."
        ),
    ] = None,
    allow_mixed: Annotated[
        bool,
        typer.Option(
            "--allow-mixed",
            help="Report runs of different budgets or evaluation protocols, told apart by name.",
        ),
    ] = False,
    normalisation: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="A CSV with what a random policy and a reference have on environments of your "
            "own, for aggregates over them: see python -m benchmarks random.",
        ),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Each table as CSV, too.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Each table as LaTeX, too.")] = False,
) -> None:
    """Write report.md, report.html, two CSV files and the figures (PNG and SVG)."""
    try:
        wanted = [name.strip() for name in formats.split(",")]
        unknown = [name for name in wanted if name not in document.FORMATS]
        if unknown:
            allowed = ", ".join(document.FORMATS)
            raise ReportError(f"--format: {unknown[0]!r} is not one of {allowed}")
        wanted += ["csv"] * csv + ["latex"] * latex
        about_runs = {
            "--baseline": baseline,
            "--normalisation": normalisation,
            "--threshold": threshold,
            "--published": with_published,
            "--published-file": published_file,
            "--allow-mixed": allow_mixed,
        }
        # A variable that says where studies are is not a wish for one.
        asked = None if storage == os.environ.get(STORAGE_VARIABLE) else storage
        about_studies = {"--studies-root": studies_root, "--storage": asked}
        if root or studies:
            _refuse_without("RUNS", root, "runs", about_runs)
            _refuse_without("--studies", studies, "studies", about_studies)
        rows = published.load(published_file) if with_published or published_file else None
        given = thresholds.parse(threshold or [])
        of_studies = (
            Studies(_names(studies), studies_root or _STUDIES, storage) if studies else None
        )
        if root is not None:
            with progress() as shown:
                report = document.build(
                    root,
                    out,
                    title,
                    given_thresholds=given,
                    baseline=baseline,
                    published_rows=rows,
                    formats=wanted,
                    allow_mixed=allow_mixed,
                    warn=_warn,
                    progress=shown,
                    studies=of_studies,
                    normalisation=normalisation,
                )
        elif of_studies is not None:
            report = document.build_of_studies(of_studies, out, title, wanted, _warn)
        else:
            raise ReportError("RUNS: must be given, or --studies")
    except (ReportError, BrokenRunError, SpecError, OSError) as error:
        raise _refused(error) from None
    typer.echo(f"wrote {report}")


def _refuse_without(needed: str, value: object, what: str, options: Mapping[str, object]) -> None:
    """Refuse options that would be ignored.

    :param needed: what they are for, whose value is ``value`` and which is about ``what``
    :raises ReportError: naming the first of them that is given, where the value is not
    """
    given = [name for name, option in options.items() if option]
    if given and not value:
        raise ReportError(f"{given[0]}: is about {what}; give {needed}, too")


def _names(options: list[str]) -> list[str]:
    """What an option names that may be repeated, and may hold several separated by commas."""
    names = [name.strip() for option in options for name in option.split(",")]
    return [name for name in names if name]


def _warn(text: str) -> None:
    typer.echo(f"warning: {_shown(text)}", err=True)


def _refused(error: Exception) -> typer.Exit:
    """The end of a command, after its reason has been said."""
    typer.echo(f"error: {_shown(mask(str(error)))}", err=True)
    return typer.Exit(2)


def _shown(text: str) -> str:
    """For a terminal, which must not obey what is in a text."""
    return "\n".join(
        " " * (len(line) - len(line.lstrip())) + restored(plain(line, _LONGEST_LINE))
        for line in text.splitlines()
    )


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Folder with the runs before.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Folder with the runs after.")],
    metric: Annotated[
        comparison.Metric, typer.Option(help="Final return or best evaluation decides.")
    ] = comparison.Metric.final,
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="A mean lower by at most this share of A's mean is not worse."
        ),
    ] = 0.0,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="B need not have all algorithms and environments."),
    ] = False,
    form: Annotated[
        comparison.Format, typer.Option("--format", help="Text is for a terminal.")
    ] = comparison.Format.text,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write there instead of to the terminal.")
    ] = None,
) -> None:
    """Say what changed beyond noise from A to B; exit with 1 if something is worse or missing.

    Missing is what has finished runs in A and none in B. The exit status is 0 where nothing is
    worse or missing, and 2 where A and B cannot be compared. With few seeds some of many
    comparisons are worse by chance; the output says how many.
    """
    try:
        compared = comparison.compare(a, b, metric, tolerance, allow_missing)
        rendered = comparison.render(compared, form)
        if out:
            write_whole(out, rendered)
    except (ReportError, BrokenRunError, OSError) as error:
        raise _refused(error) from None
    said = _shown(comparison.summary(compared))
    typer.echo(f"{said}\nwrote {out}" if out else rendered.rstrip("\n"))
    raise typer.Exit(compared.exit_status)


@app.command()
def watch(
    root: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder with the run folders.")],
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="ENV", help="An environment to show, instead of all; repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="PNG file to write the curves to as well.")] = (
        None
    ),
    once: Annotated[bool, typer.Option("--once", help="Draw once and exit.")] = False,
    every: Annotated[
        float | None, typer.Option(help=f"Seconds between two looks; else {watching.EVERY:g}.")
    ] = None,
) -> None:
    """Show learning curves while a sweep is running, until Ctrl-C."""
    try:
        if once and every is not None:
            raise ReportError("--every: is of no use with --once; leave one of them out")
        watching.watch(root, env or [], out, once, watching.EVERY if every is None else every)
    except (ReportError, OSError) as error:
        raise _refused(error) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@app.command()
def record(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="The film, .gif or .mp4.")],
    seed: Annotated[
        int | None, typer.Option(help="Seed of the environment; else that of the evaluations.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of the film.")] = recording.SECONDS,
    fps: Annotated[int, typer.Option(help="Frames a second.")] = recording.FPS,
    trust: Annotated[
        bool, typer.Option("--trust", help="Load a run of another machine, which executes code.")
    ] = False,
) -> None:
    """Film the trained agent of a run, beside its learning curve.

    Loading a model executes code: whoever made the folder can have put anything into it. A run
    that was made on another machine is loaded only with --trust; what a folder says of its machine
    can be forged.
    """
    try:
        recording.record(folder, out, seed, seconds, fps, trust)
    except (ReportError, BrokenRunError, SpecError, OSError) as error:
        raise _refused(error) from None
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    app(prog_name="python -m reports")
