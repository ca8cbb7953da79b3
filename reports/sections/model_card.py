"""A model card: a run in the words and the form of the Hugging Face hub."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import yaml

from benchmarks.algorithms import known_class
from benchmarks.names import plain
from benchmarks.records import RunRecord
from benchmarks.statistics import FEWEST_SEEDS, Estimate, final_window
from benchmarks.tables import (
    Code,
    Column,
    Estimates,
    Inline,
    Link,
    Number,
    Strong,
    Table,
    Text,
    duration,
    markdown_of,
    to_markdown,
    writer_for,
)
from reports.data.card import (
    MODEL,
    STATISTICS,
    CardData,
    final_episodes,
    last_episodes,
    score_estimates,
)
from reports.rendering import markdown
from reports.rendering.loading_code import class_path, loading_code
from reports.rendering.text import commit_text, counted, listing, machine_text, named, versions_text

_LIBRARY, _TASK = "stable-baselines3", "reinforcement-learning"
_LONGEST = 1_000  # characters of a command
_SB3 = Link("Stable-Baselines3", "https://github.com/DLR-RM/stable-baselines3")


def render(card: CardData, picture: str, films: Sequence[str]) -> str:
    """The card, in Markdown below a block of YAML, with a newline at its end.

    :param picture: the file with the learning curve, beside the card
    :param films: the files of films beside the card
    :raises benchmarks.errors.SpecError: the record names a class that Python could not import
    """
    spec = card.run.spec
    _, name = class_path(spec.algo)
    about: Inline = (Strong(name), " agent on ", Strong(spec.env_id))
    front = yaml.safe_dump(metadata(card), sort_keys=False, allow_unicode=True, width=math.inf)
    parts = [
        f"---\n{front}---",
        f"# {markdown_of(about)}",
        markdown_of(("A trained model for ", _SB3, ", made with sb3-natural.")),
        *(_film(file) for file in films),
        *_scores(card),
        f"!{_link('Learning curve', picture)}",
        markdown_of(_caption(card)),
        *_loading(card, name),
        *_training(card),
        *_settings(card),
    ]
    return "\n\n".join(parts) + "\n"


def metadata(card: CardData) -> dict[str, Any]:
    """What the hub reads: library, tags, and the final return as the metric ``mean_reward``.

    The metric is written as the hub's own tools write it, ``mean +/- standard deviation``, over the
    episodes of the evaluations that make the final return.
    """
    spec = card.run.spec
    episodes = final_episodes(card.evaluations)
    metric = {
        "type": "mean_reward",
        "value": f"{_short(episodes.mean)} +/- {_short(episodes.deviation)}",
        "name": "mean_reward",
        "verified": False,
    }
    result = {
        "task": {"type": _TASK, "name": _TASK},
        "dataset": {"name": spec.env_id, "type": spec.env_id},
        "metrics": [metric],
    }
    return {
        "library_name": _LIBRARY,
        "tags": [spec.env_id, "deep-reinforcement-learning", _TASK, _LIBRARY, "sb3-natural"],
        "model-index": [{"name": class_path(spec.algo)[1], "results": [result]}],
    }


def _short(value: float) -> str:
    """Two decimals, or three significant digits where these would show next to nothing."""
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.1 else f"{value:.3g}"


def _film(file: str) -> str:
    link = _link("Film of the agent", file)
    return f"!{link}" if file.endswith(".gif") else link


def _link(text: str, file: str) -> str:
    # "./", since a browser takes what stands before a colon for a protocol.
    return markdown_of(Link(text, f"./{file}"))


def _scores(card: CardData) -> list[str]:
    scores = score_estimates(card)
    columns: list[Column] = [
        Text("score", list(scores)),
        Number("this run", [own for own, _ in scores.values()]),
    ]
    estimates = [estimate for _, estimate in scores.values()]
    if len(card.curves) > 1:
        heading = f"mean of {len(card.curves)} seeds [95% interval]"
        columns.append(Estimates(heading, estimates))
    return [
        "## Scores",
        to_markdown(Table(columns)),
        _bullets(_definitions(card)),
        markdown_of(_protocol(card)),
        markdown_of(_about_seeds(card, estimates[0])),
        *([markdown_of(_about_failures(card))] if card.failed else []),
    ]


def _definitions(card: CardData) -> list[Inline]:
    """What each score is, with the spread of the episodes behind it."""
    curve = card.evaluations
    final, last = final_episodes(curve), last_episodes(curve)
    n_final = final_window(len(curve))
    which = (
        "the last evaluation" if n_final == 1 else f"the mean of the last {n_final:,} evaluations"
    )
    write = writer_for([final.deviation, last.mean, last.standard_error])
    said = (
        f": {which} of {len(curve):,}. Standard deviation over {counted(final.number, 'episode')}: "
    )
    said += f"{write(final.deviation)}."
    if last.number > 1:
        said += (
            f" Standard error of the last evaluation, {write(last.mean)}, over its "
            f"{counted(last.number, 'episode')}: "
            f"{write(last.standard_error)}."
        )
    return [
        (Strong("Final return"), said),
        (
            Strong("Best evaluation"),
            ": as the highest of noisy values, it lies above what its policy returns on average.",
        ),
        (Strong("Area under the curve"), ": the mean return over the whole training."),
    ]


def _protocol(card: CardData) -> str:
    last = card.evaluations.iloc[-1]
    return (
        f"An evaluation has {counted(int(last['episodes']), 'episode')} with deterministic actions "
        f"and begins them in the same states every time. The last one is at step "
        f"{int(last['timesteps']):,}; the model is the one after the last update, at step "
        f"{card.run.timesteps:,}."
    )


def _about_seeds(card: CardData, final: Estimate) -> str:
    if len(card.curves) == 1:
        return "This is one seed. How far other seeds end from it is not known."
    seeds = named([str(seed) for seed in card.curves], "seed")
    said = (
        f"The mean over seeds ({seeds}) is of this run and of all runs with the same algorithm, "
        "task and settings that lie beside it; the interval is a percentile bootstrap of it."
    )
    if not final.decides:
        said += f" Fewer than {FEWEST_SEEDS} seeds support no claim."
    return said


def _about_failures(card: CardData) -> Inline:
    """Of the seeds that no score counts: a mean over the others may be too high."""
    runs = f"{counted(len(card.failed), 'run')} with these settings"
    seeds = listing([str(seed) for seed in card.failed])
    have, noun = ("has", "seed") if len(card.failed) == 1 else ("have", "seeds")
    return (
        Strong(f"{runs} {have} failed"),
        f": {noun} {seeds}. The scores are of finished runs alone.",
    )


def _caption(card: CardData) -> str:
    if len(card.curves) == 1:
        return "Evaluation returns of this run, against environment steps."
    return (
        "Evaluation returns against environment steps: the mean over the seeds with its 95% "
        "interval, and this run."
    )


def _loading(card: CardData, name: str) -> list[str]:
    statistics = STATISTICS if card.is_normalised else None
    code = loading_code(card.run.spec, MODEL, statistics)
    files: Inline = (Code(MODEL), " and ", Code(STATISTICS)) if statistics else Code(MODEL)
    parts = [
        "## Load it",
        markdown_of(("In the folder that has ", files, ", with sb3-natural installed:")),
        markdown.code_block(code.splitlines(), "python"),
        markdown_of(_warning(statistics is not None)),
    ]
    if _loads_weights_only(card.run.spec.algo):
        parts.append(markdown_of(_weights_only(name, statistics is not None)))
    return parts


def _warning(is_normalised: bool) -> Inline:
    pickles: list[Inline] = [Code(MODEL), " holds pickles"]
    if is_normalised:
        pickles += [", and ", Code(STATISTICS), " is one"]
    return (
        Strong("Loading executes code."),
        " ",
        *pickles,
        ": loading them does whatever their maker has put there. Load them only if you trust "
        "whoever you have them from.",
    )


def _weights_only(name: str, is_normalised: bool) -> Inline:
    return (
        Code(f'{name}.load("{MODEL}", env=env, weights_only=True)'),
        " takes parameters and plain settings from the model and executes nothing of it. Settings "
        "that need code, such as classes in ",
        Code("policy_kwargs"),
        ", have to be given; the error names them.",
        *((" ", Code(STATISTICS), " is a pickle all the same.") if is_normalised else ()),
    )


def _loads_weights_only(algo: str) -> bool:
    cls = known_class(algo)
    return cls is not None and "weights_only" in inspect.signature(cls.load).parameters


def _training(card: CardData) -> list[str]:
    run = card.run
    facts: list[Inline] = [
        f"{run.timesteps:,} environment steps in {duration(run.wall_seconds)} of training, "
        f"seed {run.spec.seed}",
        ("commit: ", plain(commit_text(run.commit, run.dirty))),
        ("versions: ", plain(versions_text(_versions(run)))),
        ("machine: ", plain(machine_text(run.machine.model_dump(exclude_none=True)))),
    ]
    return [
        "## How it was trained",
        _bullets(facts),
        "By this command of sb3-natural's benchmark suite, perhaps beside other runs:",
        markdown.code_block([plain(run.command, _LONGEST)]),
    ]


def _versions(run: RunRecord) -> dict[str, str | None]:
    """Of the packages that decide a run's result, and of what the run has used beside them."""
    known = {name.replace("_", "-") for name in run.versions}
    return run.versions | {
        name: version for name, version in run.packages.items() if name not in known
    }


def _bullets(items: Sequence[Inline]) -> str:
    return "\n".join(f"- {markdown_of(item)}" for item in items)


def _settings(card: CardData) -> list[str]:
    spec = card.run.spec
    parts = ["## Hyperparameters"]
    if spec.hyperparams:
        parts += ["What is not named has the constructor's default.", _yaml(spec.hyperparams)]
    else:
        parts.append("All have the constructor's defaults.")
    if spec.environment:
        parts += ["The environment's settings:", _yaml(spec.environment)]
    return parts


def _yaml(settings: dict[str, Any]) -> str:
    return markdown.code_block(yaml.safe_dump(settings, sort_keys=False).splitlines(), "yaml")
