"""RL Baselines3 Zoo with our algorithms: ``python -m sb3_natural.zoo train --algo npg --env ID``.

The Zoo's own command line, scripts and options (https://github.com/DLR-RM/rl-baselines3-zoo), which
know NPG and ACER here, with our hyperparameters unless a file is named with ``--conf-file``.

What the Zoo cannot do with them: search for hyperparameters (``-optimize``) and take those of a
trial of such a search (``--trial-id``), since it knows no ranges for them; ``python -m studies`` of
the clone searches instead.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_natural.acer import ACER
from sb3_natural.npg import NPG

__all__ = ["ALGORITHMS", "main", "register"]

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"npg": NPG, "acer": ACER}
HYPERPARAMS = Path(__file__).parent / "hyperparams"
# The Zoo's own, which takes other words for an error with a traceback.
SCRIPTS = ("train", "enjoy", "plot_train", "plot_from_file", "all_plots")
_SCHEDULES = ("target_kl", "step_size")


def register() -> None:
    """Make our algorithms known to RL Zoo, and the schedules that they have.

    :raises ImportError: RL Zoo is not installed
    """
    from rl_zoo3.exp_manager import ExperimentManager
    from rl_zoo3.utils import ALGOS, SimpleLinearSchedule

    if "npg" in ALGOS:
        return
    ALGOS.update(ALGORITHMS)
    known = ExperimentManager._preprocess_schedules

    def with_ours(hyperparams: dict[str, Any]) -> dict[str, Any]:
        # The Zoo makes schedules of its own algorithms' arguments only.
        for key in _SCHEDULES:
            if isinstance(hyperparams.get(key), str):
                hyperparams[key] = SimpleLinearSchedule(float(hyperparams[key].split("_")[1]))
        return known(hyperparams)

    setattr(ExperimentManager, "_preprocess_schedules", staticmethod(with_ours))  # noqa: B010


def with_our_hyperparameters(arguments: Sequence[str]) -> list[str]:
    """The Zoo's arguments, with our file added where one of our algorithms is trained without one.

    :param arguments: those of the command line, such as ``["train", "--algo", "npg"]``
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--algo")
    parser.add_argument("-conf", "--conf-file")
    given, _ = parser.parse_known_args(arguments)
    if list(arguments[:1]) != ["train"] or given.conf_file or given.algo not in ALGORITHMS:
        return list(arguments)
    return [*arguments, "--conf-file", str(HYPERPARAMS / f"{given.algo}.yml")]


def unsupported(arguments: Sequence[str]) -> str | None:
    """What of the Zoo's command line our algorithms cannot be used with, and what else can be done.

    :param arguments: those of the command line
    :return: None if there is nothing of that kind
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--algo")
    parser.add_argument("--trial-id")
    given, others = parser.parse_known_args(arguments)
    # The Zoo takes beginnings of its options, too.
    searches = any(each == "-optimize" or each.startswith("--optimize") for each in others)
    if given.algo not in ALGORITHMS or not (searches or given.trial_id):
        return None
    option = "--optimize-hyperparameters" if searches else "--trial-id"
    return (
        f"{option} is not supported for {given.algo}: RL Zoo knows no ranges for its "
        f"hyperparameters; search with python -m studies run --algo {given.algo}, in a clone"
    )


def main() -> None:
    """Hand over to the Zoo's command line."""
    usage = argparse.ArgumentParser(
        prog="python -m sb3_natural.zoo",
        description="RL Baselines3 Zoo's scripts, which know NPG and ACER here.",
        epilog="SCRIPT --help shows the options of one.",
    )
    usage.add_argument("script", metavar="SCRIPT", choices=SCRIPTS, help=", ".join(SCRIPTS))
    usage.parse_args(sys.argv[1:2])
    try:
        from rl_zoo3.cli import main as zoo

        register()
    except ImportError as error:
        sys.exit(f'error: RL Baselines3 Zoo is needed: pip install "sb3-natural[zoo]" ({error})')
    if reason := unsupported(sys.argv[1:]):
        sys.exit(f"error: {reason}")
    sys.argv[1:] = with_our_hyperparameters(sys.argv[1:])
    zoo()


if __name__ == "__main__":
    main()
