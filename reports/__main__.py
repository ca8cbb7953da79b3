"""``python -m reports``: the command line.

What a command needs is imported when it runs: the libraries that draw, compute and load models take
seconds to import, and neither ``--help`` nor a refusal has to wait for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, TypeAlias

import typer

from benchmarks.command_line import fail, split_names
from reports import FORMATS, TITLE
from reports.live import EVERY, FPS, SECONDS
from studies.storage import STORAGE_VARIABLE

if TYPE_CHECKING:
    from reports.rendering.progress import Silent

_LONGEST_LINE = 20_000  # characters
_STUDIES = Path("studies-out")
_ALL_FORMATS = ",".join(FORMATS)

app = typer.Typer(
    rich_markup_mode="markdown",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def main() -> None:
    """Turn run folders into a report."""


_Runs: TypeAlias = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[RUNS]...",
        help="Folders with run folders or with logs of other programs, or single logs; none for "
        "studies alone.",
    ),
]
_FormatOf: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH=FORMAT",
        help="The format of the logs of a path, sb3, zoo, cleanrl or table, instead of what they "
        "are recognised as; repeatable.",
    ),
]
_Name: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="PATH=LABEL", help="What to call the runs of a path; repeatable."),
]
_Pattern: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Where the paths of runs say what their logs do not, such as {algo}/{env_id}_{seed}."
    ),
]
_Columns: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD=COLUMN,...",
        help="Which column of a table is what: algo, env_id, seed, timesteps, return, ...; or a "
        "YAML file that says it.",
    ),
]
_Where: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="CONDITIONS",
        help="Only runs of which these hold, such as 'env_id=Hopper-v5 and hyperparams.n_envs=4'.",
    ),
]
_GroupBy: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD",
        help="Compare the values of a setting, such as hyperparams.target_kl, not algorithms.",
    ),
]
_Metric: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="What is compared: evaluation, training, success_rate or the name of a column; else "
        "evaluation if all runs have it, else training."
    ),
]
_LowerIsBetter: TypeAlias = Annotated[
    bool, typer.Option("--lower-is-better", help="Of the metric, the lowest value is the best.")
]
_CutToShortest: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--cut-to-shortest",
        help="Cut runs of an environment that are not equally long to the shortest.",
    ),
]
_Thresholds: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ENV=RETURN",
        help="The return whose first reaching is reported for an environment, instead of the one "
        "registered with Gymnasium; repeatable.",
    ),
]
_Baseline: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="The algorithm that the others are compared with; else the second best over all "
        "environments."
    ),
]
_Published: TypeAlias = Annotated[
    bool, typer.Option("--published", help="Put results from the literature beside ours.")
]
_PublishedFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="More of them, a CSV like reports/data/published.csv."),
]
_Formats: TypeAlias = Annotated[
    str, typer.Option("--format", help="md alone, or md,html: also one self-contained file.")
]
_Studies: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Studies to report, separated by commas; repeatable."),
]
_StudiesRoot: TypeAlias = Annotated[
    Path | None, typer.Option(help=f"Where the studies' folders are; else {_STUDIES}.")
]
_Storage: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="URL", envvar=STORAGE_VARIABLE, help="The database with the studies, if any."
    ),
]
_AllowMixed: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-mixed",
        help="Report runs of different budgets or evaluation protocols, told apart by name.",
    ),
]
_Normalisation: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        dir_okay=False,
        help="A CSV with the returns of a random policy and of a reference on environments of "
        "your own, for aggregates over them: see python -m benchmarks random.",
    ),
]
_Serve: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--serve",
        help="Show the report in a browser of this machine, and build it again whenever the runs "
        "have changed, until Ctrl-C.",
    ),
]
_Port: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, max=65535, help="With --serve; else the first free one from 8000 on."),
]
_NoBrowser: TypeAlias = Annotated[
    bool, typer.Option("--no-browser", help="With --serve: open no browser.")
]
_Paired: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--paired",
        help="Test the differences between runs of the same seed, where algorithms share seeds.",
    ),
]
_ShowSeeds: TypeAlias = Annotated[
    bool, typer.Option("--show-seeds", help="Draw each run of learning curves as a thin line, too.")
]
_Smooth: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Draw curves as centred moving means over N evaluations, an odd number; scores are "
        "never smoothed.",
    ),
]
_Style: TypeAlias = Annotated[
    Literal["page", "paper"],
    typer.Option(
        help="paper: also write each figure as PDF, one or two columns wide, in a serif font."
    ),
]


@app.command()
def build(
    places: _Runs = None,
    out: Annotated[Path, typer.Option(help="Folder to write the report into.")] = Path("report"),
    title: Annotated[str, typer.Option(help="Heading.")] = TITLE,
    threshold: _Thresholds = None,
    baseline: _Baseline = None,
    with_published: _Published = False,
    published_file: _PublishedFile = None,
    formats: _Formats = _ALL_FORMATS,
    studies: _Studies = None,
    studies_root: _StudiesRoot = None,
    storage: _Storage = None,
    allow_mixed: _AllowMixed = False,
    normalisation: _Normalisation = None,
    format_of: _FormatOf = None,
    name: _Name = None,
    pattern: _Pattern = None,
    columns: _Columns = None,
    where: _Where = "",
    group_by: _GroupBy = None,
    metric: _Metric = None,
    lower_is_better: _LowerIsBetter = False,
    cut_to_shortest: _CutToShortest = False,
    csv: Annotated[bool, typer.Option("--csv", help="Also write each table as CSV.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Also write each table as LaTeX.")] = False,
    serve: _Serve = False,
    port: _Port = None,
    no_browser: _NoBrowser = False,
    paired: _Paired = False,
    show_seeds: _ShowSeeds = False,
    smooth: _Smooth = None,
    style: _Style = "page",
) -> None:
    """Write report.md, report.html, the scores and tests as CSV, and the figures (PNG and SVG)."""
    with _refusing():
        wanted = [*_wanted_formats(formats), *["csv"] * csv, *["latex"] * latex]
        about_runs = {
            "--baseline": baseline,
            "--normalisation": normalisation,
            "--threshold": threshold,
            "--published": with_published,
            "--published-file": published_file,
            "--allow-mixed": allow_mixed,
            "--format-of": format_of,
            "--name": name,
            "--pattern": pattern,
            "--columns": columns,
            "--where": where,
            "--group-by": group_by,
            "--metric": metric,
            "--lower-is-better": lower_is_better,
            "--cut-to-shortest": cut_to_shortest,
            "--paired": paired,
            "--show-seeds": show_seeds,
            "--smooth": smooth,
        }
        _refuse_useless(places, studies, about_runs, _about_studies(studies_root, storage))
        _refuse_unserved(serve, wanted, {"--port": port, "--no-browser": no_browser})

        from reports.data import context as contexts
        from reports.data.asked import Wanted, columns_of, sources_of
        from reports.rendering.progress import progress

        wanted_runs = Wanted(
            where,
            group_by,
            metric,
            lower_is_better,
            cut_to_shortest,
            pattern,
            columns_of(columns),
        )

        def make(shown: Silent) -> Path:
            """Read the runs and write the report, once or whenever they have changed."""
            names = [name for option in studies or [] for name in split_names(option)]
            context = contexts.load(
                sources_of(places, format_of or [], name or []) if places else None,
                contexts.Studies(names, studies_root or _STUDIES, storage) if studies else None,
                wanted=wanted_runs,
                thresholds=threshold or [],
                baseline=baseline,
                with_published=with_published,
                published_file=published_file,
                normalisation=normalisation,
                allow_mixed=allow_mixed,
                paired=paired,
                show_seeds=show_seeds,
                smooth=1 if smooth is None else smooth,
                warn=_warn,
                reading=lambda folders: shown.going_through(folders, "Reading"),
            )
            from reports import document

            return document.build(context, out, title, wanted, shown, style == "paper")

        if serve:
            _serve(make, out, places or [], port, not no_browser)
        with progress() as shown:
            report = make(shown)
    typer.echo(f"wrote {report}")


def _serve(
    make: Callable[[Silent], Path], out: Path, runs: Sequence[Path], port: int | None, browse: bool
) -> NoReturn:
    """Build a report and serve it until Ctrl-C, which ends the command with status 0."""
    from reports.live.serve import serve
    from reports.rendering.progress import progress

    def build_again() -> None:
        with progress() as shown:
            make(shown)

    try:
        serve(build_again, out, runs, port, browse, say=typer.echo, complain=_complain)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _wanted_formats(text: str) -> list[str]:
    """The formats that ``--format`` names.

    :raises ReportError: one that there is not
    """
    from reports.data.runs import ReportError

    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in FORMATS:
            raise ReportError(f"--format: {name!r} is not one of {', '.join(FORMATS)}")
    return names


def _about_studies(studies_root: Path | None, storage: str | None) -> dict[str, object]:
    """The options about studies that were given.

    A variable that says where studies are does not ask for one.
    """
    asked = None if storage == os.environ.get(STORAGE_VARIABLE) else storage
    return {"--studies-root": studies_root, "--storage": asked}


def _refuse_useless(
    places: list[Path] | None,
    studies: list[str] | None,
    about_runs: Mapping[str, object],
    about_studies: Mapping[str, object],
) -> None:
    """Refuse options that would be ignored.

    :raises ReportError: naming the first of them, or that nothing is to be reported
    """
    from reports.data.runs import ReportError

    if not places and not studies:
        raise ReportError("RUNS: must be given, or --studies")
    for needed, value, what, options in [
        ("RUNS", places, "runs", about_runs),
        ("--studies", studies, "studies", about_studies),
    ]:
        given = [name for name, option in options.items() if option]
        if given and not value:
            raise ReportError(f"{given[0]}: is about {what}; give {needed}, too")


def _refuse_unserved(serve: bool, formats: Sequence[str], options: Mapping[str, object]) -> None:
    """Refuse to serve a page that is not made, and options that need one that is served.

    :raises ReportError: naming the first of them
    """
    from reports.data.runs import ReportError

    if serve and "html" not in formats:
        raise ReportError("--serve: shows the page; --format must have html")
    if given := [name for name, option in options.items() if option and not serve]:
        raise ReportError(f"{given[0]}: is of no use without --serve")


@contextmanager
def _refusing() -> Iterator[None]:
    """End the command with status 2 where its input is refused, after saying why."""
    from benchmarks.errors import SpecError
    from benchmarks.records import BrokenRunError
    from reports.data.runs import ReportError

    try:
        yield
    except (ReportError, BrokenRunError, SpecError, OSError) as error:
        fail(_said(error))


def _complain(error: Exception) -> None:
    typer.echo(f"error: {_said(error)}", err=True)


def _said(error: Exception) -> str:
    from benchmarks.secrets import mask

    # Masked before it is cut, since a part of a URL is not known for one.
    return _shown(mask(str(error)))


def _warn(text: str) -> None:
    typer.echo(f"warning: {_shown(text)}", err=True)


def _shown(text: str) -> str:
    """Text without what a terminal would obey; its lines stay indented."""
    from benchmarks.names import plain

    return "\n".join(
        " " * (len(line) - len(line.lstrip())) + plain(line, _LONGEST_LINE)
        for line in text.splitlines()
    )


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Folder with the runs before.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Folder with the runs after.")],
    metric: Annotated[
        Literal["final", "best"], typer.Option(help="Final return or best evaluation decides.")
    ] = "final",
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
        Literal["text", "md", "csv"], typer.Option("--format", help="Text is for a terminal.")
    ] = "text",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write there instead of to the terminal.")
    ] = None,
) -> None:
    """Say what changed beyond noise from A to B; exit with 1 if something is worse or missing.

    Missing is what has finished runs in A and none in B. The exit status is 0 where nothing is
    worse or missing, and 2 where A and B cannot be compared. With few seeds some of many
    comparisons are worse by chance; the output says how many.
    """
    with _refusing():
        from benchmarks.storage import write_whole
        from reports.data.comparison import compare as compare_runs

        compared = compare_runs(a, b, metric, tolerance, allow_missing)
        from reports.sections import comparison

        rendered = comparison.render(compared, form)
        if out:
            write_whole(out, rendered)
            typer.echo(f"{comparison.summary(compared)}\nwrote {out}")
        else:
            typer.echo(rendered.rstrip("\n"))
    raise typer.Exit(compared.exit_status)


@app.command()
def inspect(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUNS...", help="Folders with runs or logs of other programs, or single logs."
        ),
    ],
    format_of: _FormatOf = None,
    pattern: _Pattern = None,
    columns: _Columns = None,
) -> None:
    """Say what is recognised as a run, what is known of it, and what a report could not use.

    The exit status is 0 where something can be reported, else 1.
    """
    with _refusing():
        from reports.data.asked import Wanted, columns_of, sources_of
        from reports.data.inspection import inspect as inspect_runs
        from reports.rendering.progress import progress

        wanted = Wanted(pattern=pattern, columns=columns_of(columns))
        with progress() as shown:
            found = inspect_runs(
                sources_of(places, format_of or []),
                wanted,
                reading=lambda paths: shown.going_through(paths, "Reading"),
            )
        from reports.rendering import terminal
        from reports.sections import inspection

        typer.echo(terminal.document(inspection.blocks(found)).rstrip("\n"))
    raise typer.Exit(0 if found.reportable else 1)


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
        float | None, typer.Option(help=f"Seconds between two looks; else {EVERY:g}.")
    ] = None,
) -> None:
    """Show learning curves while a sweep is running, until Ctrl-C."""
    with _refusing():
        from reports.data.runs import ReportError

        if once and every is not None:
            raise ReportError("--every: is of no use with --once; leave one of them out")
        if not root.is_dir():
            raise ReportError(f"{root}: there is no such folder")

        from reports.live.watch import watch as watch_runs

        try:
            watch_runs(root, env or [], out, once, EVERY if every is None else every)
        except KeyboardInterrupt:
            raise typer.Exit(0) from None


@app.command()
def record(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="The film, .gif or .mp4.")],
    seed: Annotated[
        int | None, typer.Option(help="Seed of the environment; else that of the evaluations.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of the film.")] = SECONDS,
    fps: Annotated[int, typer.Option(help="Frames a second.")] = FPS,
    trust: Annotated[
        bool, typer.Option("--trust", help="Load a run of another machine, which executes code.")
    ] = False,
) -> None:
    """Film the trained agent of a run, beside its learning curve.

    Loading a model executes code: whoever made the folder can have put anything into it. A run
    that was made on another machine is loaded only with --trust; what a folder says of its machine
    can be forged.
    """
    with _refusing():
        from reports.live.record import record as record_run

        record_run(folder, out, seed, seconds, fps, trust)
    typer.echo(f"wrote {out}")


@app.command()
def card(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The card, .md; else README.md in RUN.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Overwrite a card or a picture that this has not written."),
    ] = False,
) -> None:
    """Write a model card for the Hugging Face hub: scores, how to load the model, how it was made.

    The learning curve is written beside it. Runs of the same settings that lie beside RUN give the
    intervals over seeds. Nothing is loaded or executed.
    """
    with _refusing():
        from reports.data.card import read

        described = read(folder)
        for line in described.left_out:
            _warn(f"left out: {line}")
        from reports.card import CARD, write

        out = folder / CARD if out is None else out
        write(described, out, force)
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    app(prog_name="python -m reports")
