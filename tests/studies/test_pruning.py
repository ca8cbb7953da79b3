"""What pruners would have saved: against studies that were carried out with them."""

from dataclasses import replace
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import FrozenTrial, TrialState
from typer.testing import CliRunner

from benchmarks.run_files import is_finished
from studies import pruning
from studies.__main__ import app
from studies.errors import StudyError
from studies.objective import Problem
from studies.search import Search
from studies.search_spaces import space_for
from studies.storage import connect
from studies.study import best_trial, create, values_of
from studies.workers import Task, work
from tests.studies.conftest import CarryOn

N_TRIALS = 6


@pytest.fixture
def with_seeds(problem: Problem) -> Problem:
    """With trials that differ, and as many seeds as the Wilcoxon test needs to tell them apart."""
    (learning_rate,) = space_for("ppo", ["learning_rate"])
    space = (replace(learning_rate, low=1e-4, high=0.3),)
    return replace(problem, seeds=tuple(range(1000, 1005)), space=space, n_timesteps=128)


def carried_out(problem: Problem, folder: Path, pruner: str) -> optuna.Study:
    """A study of random trials, the same ones whatever the pruner, under the same name."""
    folder.mkdir()
    study = create("mine", problem, connect("", folder))
    work(Task("mine", "", folder, Search("random", pruner, N_TRIALS), "the command"))
    return study


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials(deepcopy=False)]


def test_a_replay_is_what_a_study_with_the_pruner_would_have_been(
    with_seeds: Problem, tmp_path: Path
) -> None:
    whole = carried_out(with_seeds, tmp_path / "whole", "none")
    trials = pruning.replayable(whole, with_seeds, tmp_path / "whole")
    real = carried_out(with_seeds, tmp_path / "pruned", "hyperband")
    assert [t.params for t in real.trials] == [t.params for t in whole.trials]
    search = Search(pruner="hyperband")
    found = pruning.replay(whole, with_seeds, tmp_path / "whole", trials, search)
    pruned = [t.number for t in real.trials if t.state is TrialState.PRUNED]
    assert pruned
    assert found.pruned == pruned
    # Runs that were not finished were not made, or not to their end.
    runs = [
        spec for t in real.trials for spec in with_seeds.specs("mine", values_of(with_seeds, t))
    ]
    finished = [is_finished(spec.folder(tmp_path / "pruned" / "runs")) for spec in runs]
    not_finished = 1 - sum(finished) / len(finished)
    unfinished_parts = len(pruned) / len(runs)
    assert -1e-9 <= not_finished - found.steps_saved <= unfinished_parts + 1e-9
    best, best_left = best_trial(whole), best_trial(real)
    assert best is not None
    assert best_left is not None
    assert found.best_kept == (best.number not in pruned)
    assert found.lost == pytest.approx(best.values[0] - best_left.values[0])


def test_orders_begin_with_the_studys_own_and_with_the_defaults(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    study = carry_on(problem, 5, sampler="random")
    trials = pruning.replayable(study, problem, tmp_path / "mine")
    found = [[trial.number for trial in order] for order in pruning.orders(trials, 6)]
    assert found[0] == [0, 1, 2, 3, 4]
    assert all(order[0] == 0 and sorted(order) == found[0] for order in found)
    assert len({tuple(order) for order in found}) > 2
    assert found == [[t.number for t in order] for order in pruning.orders(trials, 6)]


class _PrunesOne(optuna.pruners.BasePruner):
    """Prunes the trial with these values, at this step."""

    def __init__(self, params: dict[str, float], step: int) -> None:
        self._params = params
        self._step = step

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return trial.params == self._params and trial.last_step == self._step


def test_a_best_trial_that_is_dropped_is_told_with_what_it_costs(
    problem: Problem, carry_on: CarryOn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = carry_on(problem, 3, sampler="random")
    trials = pruning.replayable(study, problem, tmp_path / "mine")
    first, second, _ = sorted(trials, key=lambda trial: trial.values[0], reverse=True)
    # Two runs of an evaluation before training and two after each half of it. Pruned at the fifth
    # evaluation, half a run of six is not made; pruned after the first run, one is not.
    for pruner, step, saved in (("median", 4, 0.5 / 6), ("wilcoxon", 0, 1 / 6)):
        monkeypatch.setattr(
            pruning, "make_pruner", lambda *_, step=step: _PrunesOne(first.params, step)
        )
        found = pruning.replay(study, problem, tmp_path / "mine", trials, Search(pruner=pruner))
        assert found.pruned == [first.number]
        assert not found.best_kept
        assert found.lost == first.values[0] - second.values[0]
        assert found.steps_saved == pytest.approx(saved)


def test_what_cannot_be_carried_out_again_is_refused(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    study = carry_on(problem, 1)
    with pytest.raises(StudyError, match="1 trials have completed; pruners compare two or more"):
        pruning.replayable(study, problem, tmp_path / "mine")
    with pytest.raises(StudyError, match="the study has two objectives"):
        pruning.replayable(
            study, replace(problem, objective="final-and-seconds"), tmp_path / "mine"
        )
    study = carry_on(problem, 2)
    with pytest.raises(StudyError, match=r"trial 0: its run .* is not in .*elsewhere"):
        pruning.replayable(study, problem, tmp_path / "elsewhere")


def test_the_command_says_what_each_pruner_saves(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    carry_on(problem, 4, sampler="random")
    before = sorted((tmp_path / "mine" / "runs").rglob("run.json"))
    result = CliRunner().invoke(
        app, ["pruning", "mine", "--root", str(tmp_path), "--orders", "3", "--out", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    frame = pd.read_csv(tmp_path / "pruning.csv")
    assert list(frame) == pruning.COLUMNS
    assert frame.groupby("pruner").size().to_dict() == {"wilcoxon": 3, "hyperband": 3, "median": 3}
    assert frame["steps_saved"].between(0, 1).all()
    assert (frame["trials"] == 4).all()
    assert (frame["lost"] == 0)[frame["best_kept"]].all()
    assert sorted((tmp_path / "mine" / "runs").rglob("run.json")) == before
    for words in ("steps saved", "best kept", "wilcoxon", "of 3"):
        assert words in result.output
