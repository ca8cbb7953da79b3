"""What studies say: which value to take, how much it matters, what a wrong one costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from optuna.trial import TrialState

from benchmarks.names import shield
from benchmarks.results import load_readable
from benchmarks.secrets import mask
from reports import figures, tuning_figures, tuning_wording, wording
from reports.runs import ReportError
from reports.tables import Table, code
from reports.tuning_data import StudyResult, Sweep, read
from reports.tuning_wording import estimate_text, measure, value_text
from studies.estimates import Comparison
from studies.parameters import Parameter
from studies.study import in_state
from studies.wording import shown

_NONE = "–"


@dataclass(frozen=True)
class Studies:
    """Which studies a report shows.

    ``names``: in the order of the tables. ``root``: where their folders are, ``--root`` of
    ``python -m studies``. ``storage``: a database's URL; None: each study's journal is in its
    folder.
    """

    names: Sequence[str]
    root: Path
    storage: str | None = None


@dataclass(frozen=True)
class Origin:
    """How the runs of the studies were made.

    ``absent`` names the studies whose runs are not here, of which it says nothing.
    """

    absent: str
    commits: str
    versions: str
    machines: str
    commands: Sequence[str]


@dataclass(frozen=True)
class Tuning:
    """What the report says of studies; tables and figures that nothing is known for are absent.

    ``figures`` are by what they show (``sensitivity``, ``widths``, ``trials``): the file's name
    without its ending, and a caption.
    """

    findings: Sequence[str]
    studies: Table
    values: Table
    scores: Table
    sensitivity: Table | None
    importances: Table | None
    figures: Mapping[str, tuple[str, str]]
    notes: Mapping[str, Sequence[str]]
    origin: Origin | None
    broken: Sequence[str]  # a line for each study, or part of one, that was left out

    def named_tables(self) -> dict[str, Table]:
        """The tables by names that can be those of files."""
        tables = {
            "studies": self.studies,
            "studies-values": self.values,
            "studies-scores": self.scores,
            "studies-sensitivity": self.sensitivity,
            "studies-importances": self.importances,
        }
        return {name: table for name, table in tables.items() if table is not None}


def tuning_of(wanted: Studies, out: Path, warn: Callable[[str], None] = lambda _: None) -> Tuning:
    """The section on studies; its figures are written into ``out``. Nothing is trained.

    What cannot be read is left out, and the section says what and why.

    :param out: made if it does not exist; files of the same names are overwritten
    :param warn: called with a line for each study, or part of one, that is left out
    :raises reports.runs.ReportError: no study is named, or one that is not there, or none that can
        be read; it names the study and those that there are
    """
    if not wanted.names:
        raise ReportError("--studies: must name at least one study")
    broken: list[str] = []
    studies = read(wanted.names, wanted.root, wanted.storage, broken.append)
    titles = tuning_wording.titles_of(studies)
    out.mkdir(parents=True, exist_ok=True)
    drawn = _figures(studies, titles)
    for name, (figure, _) in drawn.items():
        figures.save(figure, out / f"studies_{name}")
    origin = _origin(studies, broken)
    for line in broken:
        warn(f"left out of the studies: {line}")
    return Tuning(
        findings=tuning_wording.findings(studies, titles),
        studies=studies_table(studies),
        values=values_table(studies),
        scores=scores_table(studies),
        sensitivity=sensitivity_table(studies),
        importances=importances_table(studies),
        figures={name: (f"studies_{name}", caption) for name, (_, caption) in drawn.items()},
        notes=tuning_wording.notes(studies),
        origin=origin,
        broken=[code(line) for line in broken],
    )


def _figures(
    studies: Sequence[StudyResult], titles: Mapping[str, str]
) -> dict[str, tuple[tuning_figures.Figure, str]]:
    styles = figures.looks([study.problem.algo for study in studies])
    drawn = {}
    if any(study.sweeps for study in studies):
        drawn["sensitivity"] = (
            tuning_figures.sensitivity(studies, titles, styles),
            "Score over each parameter's range, all else as in the best trial: interquartile mean "
            "over seeds, and as a band its 95% interval at each value (one seed has no band)",
        )
        drawn["widths"] = (
            tuning_figures.widths(studies, titles, styles),
            "How many decades of its range a parameter may be in with a score within 10% of the "
            "best; wider is easier to choose",
        )
    if any(tuning_wording.not_swept(study) for study in studies):
        drawn["trials"] = (
            tuning_figures.trials(studies, titles, styles),
            "Parameters whose range has not been swept: the completed trials alone, which may "
            "differ in other parameters, too; they say nothing of chance",
        )
    return drawn


def studies_table(studies: Sequence[StudyResult]) -> Table:
    """What was tuned, and how many trials ended how."""
    rows = []
    for study in studies:
        problem = study.problem
        ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        row = [study.name, problem.algo, ", ".join(problem.env_ids), f"{problem.n_timesteps:,}"]
        row += [str(len(problem.seeds)), measure(problem)]
        rows.append(row + [str(len(in_state(study.trials, state))) for state in ended])
    headers = ["study", "algorithm", "environments", "steps", "seeds", "score"]
    headers += ["trials completed", "pruned", "failed"]
    return Table(headers, rows, "lllrrlrrr")


def values_table(studies: Sequence[StudyResult]) -> Table:
    """A row for each parameter: its default and its best value."""
    rows = []
    for study in studies:
        for parameter in study.problem.space:
            best = _NONE if study.best is None else "not used"
            if study.best is not None and parameter.name in study.best.params:
                best = value_text(study.best.params[parameter.name])
            default = _default_text(study, parameter)
            rows.append([study.name, shield(str(parameter)), _range_text(parameter), default, best])
    return Table(["study", "parameter", "searched", "default", "best value"], rows, "lllrr")


def _range_text(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(map(value_text, parameter.choices))
    scale = ", log scale" if parameter.log else ""
    return f"{shown(parameter.low)} to {shown(parameter.high)}{scale}"


def _default_text(study: StudyResult, parameter: Parameter) -> str:
    """One value, or each environment's."""
    values = study.default_values(parameter)
    if not values:
        return "not used"
    if len(set(values.values())) == 1:
        return value_text(next(iter(values.values())))
    return ", ".join(f"{value_text(value)} ({env_id})" for env_id, value in values.items())


def scores_table(studies: Sequence[StudyResult]) -> Table:
    """For each study the defaults and the best values, on its own seeds and on fresh ones."""
    rows = []
    for study in studies:
        rows += [
            [study.name, *_comparison_cells("the search's", study.searched, _unsearched(study))],
            [study.name, *_comparison_cells("fresh", study.fresh, "not run yet")],
        ]
    headers = ["study", "seeds", "the defaults", "the best values", "difference"]
    return Table(headers, rows, "llrrr")


def _unsearched(study: StudyResult) -> str:
    return "no trial has completed" if study.best is None else "the defaults have not completed"


def _comparison_cells(whose: str, found: Comparison | None, without: str) -> list[str]:
    if found is None:
        return [f"{whose}: {without}", _NONE, _NONE, _NONE]
    first, last = found.seeds[0], found.seeds[-1]
    seeds = f"{first}" if first == last else f"{first} to {last}"
    gain = estimate_text(found.gain, sign=True)
    return [f"{whose}: {seeds}", estimate_text(found.defaults), estimate_text(found.best), gain]


def sensitivity_table(studies: Sequence[StudyResult]) -> Table | None:
    """A row for each sweep: how wide its good part is, and what is lost outside of it."""
    rows = [
        [study.name, shield(str(sweep.parameter)), str(sweep.width.seeds), *_sweep_cells(sweep)]
        for study in studies
        for sweep in study.sweeps.values()
    ]
    headers = [
        "study",
        "parameter",
        "seeds",
        "best in the sweep",
        "good from",
        "to",
        "decades wide",
    ]
    headers += ["lost at the default", "at a third of the best", "at three times the best"]
    return Table(headers, rows, "llrrrrrrrr") if rows else None


def _sweep_cells(sweep: Sweep) -> list[str]:
    good = sweep.width
    width = estimate_text(good.estimate, digits=2)
    return [
        shown(good.best),
        shown(good.low),
        shown(good.high),
        f"at least {width}" if good.is_open else width,
        _NONE if sweep.default_loss is None else estimate_text(sweep.default_loss),
        *("beyond the range" if loss is None else estimate_text(loss) for loss in sweep.losses),
    ]


def importances_table(studies: Sequence[StudyResult]) -> Table | None:
    """A row for each parameter of the studies that have several and trials enough."""
    rows = []
    for study in studies:
        names = {each.name: str(each) for each in study.problem.space}
        # A choice between parameters that exclude each other is one, too.
        rows += [
            [study.name, shield(names.get(name, name)), f"{share:.0%}"]
            for name, share in study.importances.items()
        ]
    return Table(["study", "parameter", "importance"], rows, "llr") if rows else None


def _origin(studies: Sequence[StudyResult], broken: list[str]) -> Origin | None:
    """None where the runs are not here, but on the machines that made them.

    :param broken: takes a line for each run that cannot be read
    """
    loaded = {}
    for study in studies:
        found = load_readable(study.folder / "runs")
        loaded[study.name] = found.runs
        broken += map(str, found.broken)
    here = [runs for runs in loaded.values() if not runs.empty]
    if not here:
        return None
    runs = pd.concat(here, ignore_index=True)
    return Origin(
        absent=", ".join(name for name, made in loaded.items() if made.empty),
        commits=wording.commit_lines(runs),
        versions=wording.tally_text(runs["versions"].map(wording.versions_text)),
        machines=wording.tally_text(runs["machine"].map(wording.machine_text)),
        commands=sorted({mask(str(command)) for command in runs["command"]}),
    )
