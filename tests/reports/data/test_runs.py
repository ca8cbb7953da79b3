"""Runs that cannot be compared are refused with the difference; variants get their own names."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.records import BrokenRunError
from reports.data import runs
from reports.data.runs import ReportError, with_protocol
from tests.reports.conftest import EVALUATION, RunFolders


def test_a_folder_that_does_not_exist_is_refused(folders: RunFolders) -> None:
    with pytest.raises(ReportError, match="nowhere: there is no such folder"):
        runs.load(folders.root / "nowhere")


def test_a_folder_without_runs_is_refused(folders: RunFolders) -> None:
    with pytest.raises(ReportError, match="no finished run folder"):
        runs.load(folders.root)


def test_a_folder_with_failed_runs_only_says_what_failed(folders: RunFolders) -> None:
    folders.add_failure("ppo", seed=3, error="ValueError: nan in observations")
    with pytest.raises(ReportError, match=r"1 run failed.*ppo.*seed 3.*nan in observations"):
        runs.load(folders.root)


def test_different_budgets_are_refused_with_the_difference(folders: RunFolders) -> None:
    folders.add("npg", n_timesteps=50_000)
    folders.add("ppo", n_timesteps=50_000)
    folders.add("ppo", seed=1, n_timesteps=100_000)
    with pytest.raises(ReportError) as error:
        runs.load(folders.root)
    assert str(error.value).splitlines() == [
        "CartPole-v1: the runs have different budgets and cannot be compared",
        "  n_timesteps=100,000: classic/ppo (1 run)",
        "  n_timesteps=50,000: classic/npg (1 run), classic/ppo (1 run)",
        "Build one report for each, or tell them apart in one with --allow-mixed.",
    ]


def test_different_evaluation_protocols_are_refused_with_the_difference(
    folders: RunFolders,
) -> None:
    folders.add("npg")
    folders.add("ppo", evaluation={**EVALUATION, "episodes": 5})
    with pytest.raises(ReportError) as error:
        runs.load(folders.root)
    assert "CartPole-v1: the runs have different evaluation protocols" in str(error.value)
    assert "episodes=10, points=20, seed=1000000: classic/npg (1 run)" in str(error.value)
    assert "episodes=5, points=20, seed=1000000: classic/ppo (1 run)" in str(error.value)


def test_environments_may_have_budgets_of_their_own(folders: RunFolders) -> None:
    folders.add("npg", "CartPole-v1", n_timesteps=50_000)
    folders.add("npg", "HalfCheetah-v5", n_timesteps=400_000)
    assert runs.load(folders.root).runs["n_timesteps"].tolist() == [50_000, 400_000]


def test_a_run_that_is_in_two_suites_is_not_counted_twice(folders: RunFolders) -> None:
    first = folders.add("npg", suite="classic")
    second = folders.add("npg", suite="mujoco")
    with pytest.raises(ReportError) as error:
        runs.load(folders.root)
    assert "npg on CartPole-v1, seed 0: the same run is there 2 times" in str(error.value)
    assert str(first) in str(error.value)
    assert str(second) in str(error.value)


def test_seeds_evaluated_at_different_steps_are_refused(folders: RunFolders) -> None:
    folders.add("npg", seed=0, returns=[1.0, 2.0, 3.0])
    folders.add("npg", seed=1, returns=[1.0, 2.0])
    with pytest.raises(ReportError, match=r"seed 0 was evaluated at 3 points.*seed 1 at 2 points"):
        runs.load(folders.root)


def test_an_evaluation_that_is_no_number_is_named(folders: RunFolders) -> None:
    folders.add("npg", seed=4, returns=[1.0, float("nan")])
    with pytest.raises(ReportError, match=r"npg on CartPole-v1.*seed 4.*step 50,000.*nan"):
        runs.load(folders.root)


def test_variants_are_named_by_what_differs(folders: RunFolders) -> None:
    for critic in ("adam", "gauss_newton"):
        folders.add("npg", hyperparams={"critic": critic, "gamma": 0.99})
    folders.add("ppo")
    data = runs.load(folders.root)
    names = ["npg (critic=adam)", "npg (critic=gauss_newton)", "ppo"]
    assert data.runs["label"].tolist() == names
    assert data.evaluations["label"].unique().tolist() == names


def test_a_variant_that_leaves_all_to_the_defaults_has_the_plain_name(folders: RunFolders) -> None:
    folders.add("npg", hyperparams={"gamma": 0.99})
    folders.add("npg", hyperparams={"gamma": 0.99, "step_size": None, "cg_tol": 1e-10})
    labels = runs.load(folders.root).runs["label"].tolist()
    assert labels == ["npg", "npg (cg_tol=1e-10, step_size=null)"]


def test_an_environment_with_one_variant_needs_no_name_for_it(folders: RunFolders) -> None:
    folders.add("npg", "CartPole-v1", hyperparams={"critic": "adam"})
    folders.add("npg", "HalfCheetah-v5", hyperparams={"critic": "gauss_newton"})
    assert runs.load(folders.root).runs["label"].tolist() == ["npg", "npg"]


def test_a_failed_run_bears_the_name_of_its_finished_siblings(folders: RunFolders) -> None:
    folders.add("npg", seed=0, hyperparams={"critic": "adam"})
    folders.add("ppo", seed=0)
    folders.add_failure("npg", seed=1)
    folders.add_failure("ppo", seed=1)
    labels = runs.load(folders.root).failures["label"].tolist()
    assert labels[0].startswith("npg (config=")  # another configuration than the one that finished
    assert labels[1] == "ppo"


def test_a_suite_may_be_a_link_to_a_folder_elsewhere(folders: RunFolders, tmp_path: Path) -> None:
    folders.add("npg", evaluation={"points": 1, "episodes": 10, "seed": 0})
    elsewhere = tmp_path / "disk" / "classic"
    elsewhere.parent.mkdir()
    (folders.root / "classic").rename(elsewhere)
    (folders.root / "classic").symlink_to(elsewhere)
    assert list(runs.load(folders.root).runs["algo"]) == ["npg"]


def labels(folders: RunFolders) -> list[tuple[str, str]]:
    frame = runs.load(folders.root, allow_mixed=True).runs
    return sorted(zip(frame["env_id"], frame["label"], strict=True))


def test_labels_say_what_differs_where_it_differs(folders: RunFolders) -> None:
    folders.add("npg", n_timesteps=50_000)
    folders.add("npg", n_timesteps=100_000)
    folders.add("ppo", n_timesteps=50_000)
    folders.add("npg", "Hopper-v5", n_timesteps=500_000)
    folders.add("npg", "Acrobot-v1", evaluation={**EVALUATION, "episodes": 5})
    folders.add("ppo", "Acrobot-v1")
    assert labels(folders) == [
        ("Acrobot-v1", "npg (5 episodes per evaluation)"),
        ("Acrobot-v1", "ppo (10 episodes per evaluation)"),
        ("CartPole-v1", "npg (100,000 steps)"),
        ("CartPole-v1", "npg (50,000 steps)"),
        ("CartPole-v1", "ppo (50,000 steps)"),
        ("Hopper-v5", "npg"),
    ]
    data = runs.load(folders.root, allow_mixed=True)
    assert data.mixed == ["Acrobot-v1", "CartPole-v1"]
    by_label = data.evaluations.groupby(["env_id", "label"])["protocol"].first()
    assert by_label["CartPole-v1", "ppo (50,000 steps)"] == "50,000 steps"
    assert by_label["Hopper-v5", "npg"] == ""


def test_variants_are_told_apart_within_a_budget(folders: RunFolders) -> None:
    for critic in ("adam", "gauss_newton"):
        folders.add("npg", n_timesteps=50_000, hyperparams={"critic": critic})
    folders.add("npg", n_timesteps=100_000, hyperparams={"critic": "adam"})
    assert [label for _, label in labels(folders)] == [
        "npg (100,000 steps)",
        "npg (critic=adam, 50,000 steps)",
        "npg (critic=gauss_newton, 50,000 steps)",
    ]


@pytest.mark.parametrize(
    ("label", "protocol", "expected"),
    [
        ("npg", "", "npg"),
        ("npg", "5 steps", "npg (5 steps)"),
        ("npg (critic=adam)", "5 steps", "npg (critic=adam, 5 steps)"),
    ],
)
def test_a_label_with_its_protocol(label: str, protocol: str, expected: str) -> None:
    assert with_protocol(label, protocol) == expected


def test_a_manifest_that_cannot_be_read_is_named(folders: RunFolders) -> None:
    folders.add("npg")
    path = folders.ask(["npg"], range(2))
    assert runs.load(folders.root).asked["seed"].tolist() == [0, 1]
    path.write_text("{")
    with pytest.raises(BrokenRunError, match=path.name):
        runs.load(folders.root)
    data = runs.load(folders.root, allow_broken=True)
    assert path.name in data.broken[0]
    assert data.asked.empty
