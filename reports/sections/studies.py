"""What studies say: which values to take, how much they matter, what a wrong one costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from benchmarks.names import plain
from benchmarks.secrets import mask
from benchmarks.statistics import Estimate
from benchmarks.tables import Code, Estimates, Inline, Number, Strong, Table, Text
from reports.data.context import Context
from reports.data.studies import StudyResult, Sweep, read
from reports.rendering import figures, study_figures
from reports.rendering.blocks import Block, Bullets, CodeBlock, Figure, Paragraph, Section
from reports.rendering.study_figures import Panel
from reports.rendering.text import (
    commits_text,
    counted,
    listing,
    machine_text,
    tally_text,
    versions_text,
)
from studies.estimates import Comparison, verdict, writer_for
from studies.objective import OBJECTIVES, Problem
from studies.parameters import Parameter, Scalar
from studies.plots import parameter_label
from studies.study import in_state
from studies.wording import few_seeds, parameters, shown

_MOST_NAMED = 2  # environments in a title
_LONGEST_COMMAND = 20_000  # characters

Looks = Mapping[str, figures.Look]


def build(context: Context) -> Section | None:
    """The studies that the report is asked to show; nothing is trained.

    :raises reports.data.runs.ReportError: as for :func:`reports.data.studies.read`
    """
    if context.studies is None:
        return None
    wanted, broken = context.studies, list[str]()
    studies = read(wanted.names, wanted.root, wanted.storage, broken.append)
    for line in broken:
        context.warn(f"left out of the studies: {line}")
    looks = figures.looks([study.problem.algo for study in studies])
    importances = any(study.importances for study in studies)
    parts: dict[str, list[Block]] = {
        "What was tuned": [studies_table(studies)],
        "Best values": [values_table(studies), scores_table(studies)],
        "Sensitivity": _sensitivity(studies, looks),
        "Trials": _trials(studies, looks),
        "Importances": [importances_table(studies)] if importances else [],
        "How the studies were made": _origin(studies),
    }
    left_out = Bullets([_left_out(line) for line in broken])
    sections = [Section(title, blocks) for title, blocks in parts.items() if blocks]
    return Section("Studies", [findings_table(studies), *([left_out] if broken else []), *sections])


def findings_table(studies: Sequence[StudyResult]) -> Table:
    """One row per study: its best values, and what may be said of them.

    A gain is bold where it is beyond chance.
    """
    gains = [study.fresh.gain if study.fresh else None for study in studies]
    columns = [
        Text("study", [study.name for study in studies]),
        Text("best values", [_best_values(study) for study in studies]),
        _estimates("gain over the defaults, on fresh seeds", gains, sign=True, mark=True),
        Text("verdict", [_verdict(study) for study in studies]),
    ]
    return Table(columns, name="studies-findings")


def _best_values(study: StudyResult) -> str | None:
    return None if study.best is None else plain(parameters(study.problem, study.best))


def _verdict(study: StudyResult) -> str:
    if study.best is None:
        return "no trial has completed"
    if study.best_is_default:
        return "no better values than the defaults were found"
    if study.fresh is None:
        return "not tried on fresh seeds"
    return verdict(study.fresh.gain)


def studies_table(studies: Sequence[StudyResult]) -> Table:
    """What was tuned, and how many trials ended how."""
    problems = [study.problem for study in studies]

    def trials(header: str, *states: TrialState) -> Number:
        return Number(header, [len(in_state(study.trials, *states)) for study in studies])

    not_ended = trials("not ended", TrialState.RUNNING, TrialState.WAITING)
    columns = [
        Text("study", [study.name for study in studies]),
        Text("algorithm", [problem.algo for problem in problems]),
        Text("environments", [", ".join(problem.env_ids) for problem in problems]),
        Number("steps", [problem.n_timesteps for problem in problems]),
        Number("seeds", [len(problem.seeds) for problem in problems]),
        Text("score", [score_name(problem) for problem in problems]),
        trials("trials completed", TrialState.COMPLETE),
        trials("pruned", TrialState.PRUNED),
        trials("failed", TrialState.FAIL),
        *([not_ended] if any(not_ended.values) else []),
    ]
    return Table(columns, name="studies")


def values_table(studies: Sequence[StudyResult]) -> Table:
    """One row per parameter: its range, its default and its best value."""
    pairs = [(study, parameter) for study in studies for parameter in study.problem.space]
    columns = [
        Text("study", [study.name for study, _ in pairs]),
        Text("parameter", [plain(str(parameter)) for _, parameter in pairs]),
        Text("searched", [_range_text(parameter) for _, parameter in pairs]),
        Number("default", [_default(*pair) for pair in pairs], shown),
        Number("best value", [_best_value(*pair) for pair in pairs], shown),
    ]
    return Table(columns, name="studies-values")


def _best_value(study: StudyResult, parameter: Parameter) -> float | str | None:
    if study.best is None:
        return None
    if parameter.name not in study.best.params:
        return "not used"
    return _value(study.best.params[parameter.name])


def _default(study: StudyResult, parameter: Parameter) -> float | str:
    """One value, or each environment's."""
    values = study.default_values(parameter)
    if not values:
        return "not used"
    if len(set(values.values())) == 1:
        return _value(next(iter(values.values())))
    return ", ".join(f"{_value_text(value)} ({env_id})" for env_id, value in values.items())


def _range_text(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(map(_value_text, parameter.choices))
    scale = ", log scale" if parameter.log else ""
    return f"{shown(parameter.low)} to {shown(parameter.high)}{scale}"


def _value(value: Scalar) -> float | str:
    """The value as a number, if it is one."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return value
    return _value_text(value)


def _value_text(value: Scalar) -> str:
    return plain(shown(value))


def scores_table(studies: Sequence[StudyResult]) -> Table:
    """For each study the defaults and the best values, on its own seeds and on fresh ones."""
    labels: list[str] = []
    found: list[Comparison | None] = []
    for study in studies:
        why = "no trial has completed" if study.best is None else "the defaults have not completed"
        labels += [_seeds("the search's", study.searched, why)]
        labels += [_seeds("fresh", study.fresh, "not run yet")]
        found += [study.searched, study.fresh]
    columns = [
        Text("study", [study.name for study in studies for _ in range(2)]),
        Text("seeds", labels),
        _estimates("the defaults", [each.defaults if each else None for each in found]),
        _estimates("the best values", [each.best if each else None for each in found]),
        _estimates("difference", [each.gain if each else None for each in found], sign=True),
    ]
    return Table(columns, name="studies-scores")


def _seeds(whose: str, found: Comparison | None, without: str) -> str:
    if found is None:
        return f"{whose}: {without}"
    first, last = found.seeds[0], found.seeds[-1]
    return f"{whose}: {first}" if first == last else f"{whose}: {first} to {last}"


def sensitivity_table(studies: Sequence[StudyResult]) -> Table:
    """One row per sweep: how wide its good part is, and what is lost outside of it.

    A loss is bold where it is beyond chance.
    """
    pairs = [(study, sweep) for study in studies for sweep in study.sweeps.values()]
    sweeps = [sweep for _, sweep in pairs]
    widths = [sweep.width for sweep in sweeps]
    below, above = (
        ["beyond the range" if (loss := sweep.losses[i]) is None else loss for sweep in sweeps]
        for i in range(2)
    )
    columns = [
        Text("study", [study.name for study, _ in pairs]),
        Text("parameter", [plain(str(sweep.parameter)) for sweep in sweeps]),
        Number("seeds", [width.seeds for width in widths]),
        Number("best in the sweep", [width.best for width in widths], shown),
        Number("good from", [width.low for width in widths], shown),
        Number("to", [width.high for width in widths], shown),
        Estimates(
            "decades wide",
            [width.estimate for width in widths],
            [writer_for(width.estimate, digits=2) for width in widths],
            prefixes=["at least " if width.is_open else "" for width in widths],
        ),
        _estimates("lost at the default", [each.default_loss for each in sweeps], mark=True),
        _estimates("at a third of the best", below, mark=True),
        _estimates("at three times the best", above, mark=True),
    ]
    return Table(columns, name="studies-sensitivity")


def importances_table(studies: Sequence[StudyResult]) -> Table:
    """One row per parameter of the studies that have several, and enough trials."""
    rows = [
        # A choice between parameters that exclude each other has an importance, too.
        (study.name, {each.name: str(each) for each in study.problem.space}.get(name, name), share)
        for study in studies
        for name, share in study.importances.items()
    ]
    columns = [
        Text("study", [study for study, _, _ in rows]),
        Text("parameter", [plain(name) for _, name, _ in rows]),
        Number("importance", [share for _, _, share in rows], "{:.0%}".format),
    ]
    return Table(columns, name="studies-importances")


def _sensitivity(studies: Sequence[StudyResult], looks: Looks) -> list[Block]:
    swept = [(study, sweep) for study in studies for sweep in study.sweeps.values()]
    if not swept:
        return []
    titles = titles_of(studies)
    panels = [sweep_panel(study, sweep, titles[study.name]) for study, sweep in swept]
    widths = pd.DataFrame([width_row(study, sweep, titles[study.name]) for study, sweep in swept])
    earlier = [
        f"{plain(sweep.parameter.name)} of {study.name} (trial {sweep.base})"
        for study, sweep in swept
        if not sweep.is_of_best
    ]
    note = f"Swept around a trial that is no longer the best one: {listing(earlier)}."
    return [
        sensitivity_table(studies),
        *([Paragraph(note)] if earlier else []),
        Figure(
            "studies_sensitivity",
            "Score over each parameter's range",
            "Score over each parameter's range, all else as in the best trial: interquartile mean "
            "over seeds, and as a band its 95% interval at each value (one seed has no band).",
            partial(study_figures.sensitivity, panels, looks),
        ),
        Figure(
            "studies_widths",
            "How many decades of its range a parameter may be in",
            "How many decades of its range a parameter may be in with a score within 10% of the "
            "best; wider is easier to choose.",
            partial(study_figures.widths, widths, looks),
        ),
    ]


def _trials(studies: Sequence[StudyResult], looks: Looks) -> list[Block]:
    titles = titles_of(studies)
    panels = [
        trials_panel(study, parameter, titles[study.name])
        for study in studies
        for parameter in study.not_swept
    ]
    figure = Figure(
        "studies_trials",
        "Trials of the parameters whose range has not been swept",
        "Parameters whose range has not been swept: the completed trials alone, which may differ "
        "in other parameters, too; they say nothing of chance.",
        partial(study_figures.trials, panels, looks),
    )
    return [figure] if panels else []


def _origin(studies: Sequence[StudyResult]) -> list[Block]:
    """How the runs were made; nothing where they are not here, but on other machines."""
    if all(study.runs.empty for study in studies):
        return []
    runs = pd.concat([study.runs for study in studies if len(study.runs)], ignore_index=True)
    absent = [study.name for study in studies if study.runs.empty]
    commits = zip(runs["commit"], runs["dirty"], strict=True)
    lines: list[Inline] = [
        f"Commit: {commits_text(commits)}",
        f"Versions: {tally_text(runs['versions'].map(versions_text))}",
        f"Machine: {tally_text(runs['machine'].map(machine_text))}",
    ]
    if absent:
        lines.insert(0, f"Of the runs that are here; those of {listing(absent)} are not.")
    commands = sorted({mask(str(command)) for command in runs["command"]})
    shortened = [plain(command, _LONGEST_COMMAND) for command in commands]
    return [Bullets(lines), Paragraph("Commands:"), CodeBlock(shortened)]


def titles_of(studies: Sequence[StudyResult]) -> dict[str, str]:
    """A study's name to its subject, such as ``npg on Hopper-v5``; no two are the same."""
    subjects = {}
    for study in studies:
        env_ids = study.problem.env_ids
        many = counted(len(env_ids), "environment")
        where = listing(env_ids) if len(env_ids) <= _MOST_NAMED else many
        subjects[study.name] = f"{study.problem.algo} on {where}"
    counts = Counter(subjects.values())
    return {
        name: subject if counts[subject] == 1 else f"{subject} ({name})"
        for name, subject in subjects.items()
    }


def score_name(problem: Problem) -> str:
    """What a score is: ``final return, normalised``."""
    what = OBJECTIVES[problem.objective].partition(" (")[0]
    return f"{what}, normalised" if problem.is_normalised else what


def sweep_panel(study: StudyResult, sweep: Sweep, title: str) -> Panel:
    """A sweep's panel in the figure of all sweeps."""
    parameter, width = sweep.parameter, sweep.width
    panel = _panel(study, parameter, title, sweep.points)
    return replace(panel, range=(parameter.low, parameter.high), good=(width.low, width.high))


def trials_panel(study: StudyResult, parameter: Parameter, title: str) -> Panel:
    """A parameter's panel in the figure of completed trials."""

    def place(trial: FrozenTrial) -> tuple[float, float]:
        return _position(parameter, trial.params[parameter.name]), trial.values[0]

    tried = study.tried(parameter)
    points = pd.DataFrame(map(place, tried), columns=["value", "score"])
    best = place(study.best) if study.best is not None and study.best in tried else None
    return replace(_panel(study, parameter, title, points), best=best)


def _panel(study: StudyResult, parameter: Parameter, title: str, points: pd.DataFrame) -> Panel:
    problem, defaults = study.problem, study.default_values(parameter).values()
    is_log = parameter.log and not parameter.choices
    return Panel(
        title=title,
        parameter=parameter_label(problem, parameter),
        score=score_name(problem),
        algo=problem.algo,
        points=points,
        defaults=sorted({_position(parameter, value) for value in defaults}),
        scale=(problem.env_ids, problem.objective, problem.is_normalised),
        range=(parameter.low, parameter.high) if is_log else None,
        choices=[_value_text(each) for each in parameter.choices],
    )


def _position(parameter: Parameter, value: Scalar) -> float:
    if parameter.choices:
        return float(parameter.choices.index(value))
    assert isinstance(value, float | int)
    return float(value)


def width_row(study: StudyResult, sweep: Sweep, title: str) -> dict[str, object]:
    """A row of the figure of widths."""
    width, values = sweep.width, sweep.points["value"]
    return {
        "label": f"{title}: {plain(sweep.parameter.name)}{few_seeds(width.seeds)}",
        "algo": study.problem.algo,
        "decades": width.decades,
        "low": width.decades_low,
        "high": width.decades_high,
        "range": float(np.log10(values.max() / values.min())),
        "is_open": width.is_open,
    }


def _estimates(
    header: str,
    values: Sequence[Estimate | str | None],
    sign: bool = False,
    mark: bool = False,
) -> Estimates:
    """A column of scores or of differences between them.

    :param sign: write ``+`` before a number above zero
    :param mark: those that are beyond chance are bold
    """
    found = [each if isinstance(each, Estimate) else None for each in values]
    writers = [writer_for(each, sign=sign) if each else str for each in found]
    bold = [mark and bool(each and (each.is_positive or each.is_negative)) for each in found]
    return Estimates(header, values, writers, bold)


def _left_out(line: str) -> Inline:
    return (Strong("Left out"), ", since it cannot be read: ", Code(line), ".")
