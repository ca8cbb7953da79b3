"""RL Baselines3 Zoo with our algorithms: ``python -m sb3_natural.zoo train --algo npg --env ID``.

This is the Zoo's own command line, with its scripts and options
(https://github.com/DLR-RM/rl-baselines3-zoo), but it knows our own algorithms too. They are
trained with the hyperparameters in this package unless ``--conf-file`` names a file.

The Zoo cannot search for hyperparameters of these (``-optimize``), nor use a trial of such a
search (``--trial-id``), because it has no ranges for them. ``python -m studies`` in a clone of the
repository searches instead.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_natural.acer import ACER
from sb3_natural.acktr import ACKTR
from sb3_natural.nac import NAC
from sb3_natural.natural_dqn import NaturalDQN
from sb3_natural.npg import NPG, RecurrentNPG

__all__ = ["ALGORITHMS", "main", "register"]

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "npg": NPG,
    "recurrent_npg": RecurrentNPG,
    "acer": ACER,
    "acktr": ACKTR,
    "nac": NAC,
    "natural_dqn": NaturalDQN,
}
HYPERPARAMS = Path(__file__).parent / "hyperparams"
# The Zoo answers any other word with a traceback.
SCRIPTS = ("train", "enjoy", "plot_train", "plot_from_file", "all_plots")
_SCHEDULES = ("target_kl", "step_size")


def register() -> None:
    """Make our algorithms and their schedules known to RL Zoo.

    :raises ImportError: RL Zoo is not installed
    """
    from rl_zoo3.exp_manager import ExperimentManager
    from rl_zoo3.utils import ALGOS, SimpleLinearSchedule

    if "npg" in ALGOS:
        return
    ALGOS.update(ALGORITHMS)
    known = ExperimentManager._preprocess_schedules

    def with_ours(hyperparams: dict[str, Any]) -> dict[str, Any]:
        # The Zoo turns only the arguments of its own algorithms into schedules.
        for key in _SCHEDULES:
            if isinstance(hyperparams.get(key), str):
                hyperparams[key] = SimpleLinearSchedule(float(hyperparams[key].split("_")[1]))
        return known(hyperparams)

    setattr(ExperimentManager, "_preprocess_schedules", staticmethod(with_ours))  # noqa: B010


def with_our_hyperparameters(arguments: Sequence[str]) -> list[str]:
    """The Zoo's arguments, plus our file if they train one of our algorithms and name no file.

    :param arguments: those of the command line, such as ``["train", "--algo", "npg"]``
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--algo")
    # The Zoo takes abbreviations, too.
    names = [f"--{'conf-file'[:length]}" for length in range(3, 10)]
    parser.add_argument("-conf", *names, dest="conf_file")
    given, _ = parser.parse_known_args(arguments)
    if list(arguments[:1]) != ["train"] or given.conf_file or given.algo not in ALGORITHMS:
        return list(arguments)
    return [*arguments, "--conf-file", str(HYPERPARAMS / f"{given.algo}.yml")]


def unsupported(arguments: Sequence[str]) -> str | None:
    """Which option is not supported for our algorithms, and what can be done instead.

    :param arguments: those of the command line
    :return: None if all are supported
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--algo")
    parser.add_argument("--trial-id")
    given, others = parser.parse_known_args(arguments)
    # The Zoo takes abbreviations of its options, too.
    searches = any(each == "-optimize" or each.startswith("--optimize") for each in others)
    if given.algo not in ALGORITHMS or not (searches or given.trial_id):
        return None
    option = "--optimize-hyperparameters" if searches else "--trial-id"
    return (
        f"{option} is not supported for {given.algo}: RL Zoo has no ranges for its "
        f"hyperparameters; search with python -m studies run --algo {given.algo}, in a clone of "
        "the repository"
    )


def main() -> None:
    """Hand over to the Zoo's command line."""
    usage = argparse.ArgumentParser(
        prog="python -m sb3_natural.zoo",
        description=f"RL Baselines3 Zoo's scripts, with {', '.join(ALGORITHMS)}.",
        epilog="SCRIPT --help shows a script's options.",
    )
    usage.add_argument("script", metavar="SCRIPT", choices=SCRIPTS, help=", ".join(SCRIPTS))
    usage.parse_args(sys.argv[1:2])
    try:
        from rl_zoo3.cli import main as zoo

        register()
    except ImportError as error:
        sys.exit(
            f'error: RL Baselines3 Zoo is not installed: pip install "sb3-natural[zoo]" ({error})'
        )
    if reason := unsupported(sys.argv[1:]):
        sys.exit(f"error: {reason}")
    sys.argv[1:] = with_our_hyperparameters(sys.argv[1:])
    zoo()


if __name__ == "__main__":
    main()
