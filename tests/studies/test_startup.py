"""What takes seconds to import is imported only by the commands that need it."""

import subprocess
import sys
from pathlib import Path

import pytest

from studies.objective import Problem
from tests.studies.conftest import CarryOn

REPOSITORY = Path(__file__).parents[2]

TRAINING = {"torch", "stable_baselines3", "gymnasium", "mujoco"}
ANALYSIS = {"rliable", "scipy", "pandas", "seaborn", "matplotlib", "sqlalchemy"}
CODE = """
import sys
from studies.__main__ import app
try:
    app({arguments!r})
except SystemExit as end:
    print()
    print(end.code, *({modules!r} & sys.modules.keys()))
"""


def imported(arguments: list[str], modules: set[str]) -> tuple[int, set[str]]:
    """The exit status of a command, and which of these modules it has imported."""
    code = CODE.format(arguments=arguments, modules=modules)
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    status, *found = result.stdout.splitlines()[-1].split()
    return int(status), set(found)


@pytest.mark.parametrize("command", [[], ["run"], ["show"], ["best"], ["sensitivity"]])
def test_help_imports_nothing_slow(command: list[str]) -> None:
    slow = {*TRAINING, *ANALYSIS, "optuna"}
    assert imported([*command, "--help"], slow) == (0, set())


def test_a_study_is_shown_without_what_trains(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    carry_on(problem, 1)

    for command in ("show", "best"):
        arguments = [command, "mine", "--root", str(tmp_path)]
        assert imported(arguments, TRAINING | ANALYSIS) == (0, set())
    assert imported(["show", "yours", "--root", str(tmp_path)], TRAINING) == (2, set())
