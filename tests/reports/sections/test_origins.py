"""How runs were made: hyperparameters are compared with what constructors have as defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.data import runs
from reports.sections import origins
from reports.sections.origins import without_defaults
from tests.reports.conftest import RunFolders


@pytest.mark.parametrize(
    ("algo", "name", "value", "is_default"),
    [
        ("ppo", "n_steps", 2048, True),
        ("ppo", "n_steps", 1024, False),
        ("a2c", "n_steps", 5, True),
        ("ppo", "learning_rate", 3e-4, True),
        ("ppo", "learning_rate", "lin_0.0003", False),
        ("npg", "target_kl", None, True),
        ("npg", "target_kl", 0.01, False),
        ("npg", "policy_kwargs", "dict(log_std_init=-1)", False),
        ("npg", "policy_kwargs", None, True),
        ("ppo", "policy", "MlpPolicy", True),
        ("ppo", "policy", "CnnPolicy", False),
        ("ppo", "n_envs", 1, True),
        ("ppo", "n_envs", 8, False),
        ("ppo", "normalize", False, True),
        ("ppo", "normalize", True, False),
        ("ppo", "normalize", "dict(norm_obs=True, norm_reward=False)", False),
        ("ppo", "frame_stack", 4, False),
        ("ppo", "env_wrapper", None, True),
        ("ppo", "device", "auto", False),  # of the constructor; a run's own is the CPU
        ("ppo", "an_argument_of_another_version", 3, False),
    ],
)
def test_what_is_a_default_is_left_out(algo: str, name: str, value: Any, is_default: bool) -> None:
    assert without_defaults(algo, {name: value}) == ({} if is_default else {name: value})


@pytest.mark.parametrize("name", ["algo", "env_wrapper"])
def test_nothing_that_a_record_names_is_imported(
    name: str, folders: RunFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record may be a stranger's; of a class of others all that was set is listed, and why."""
    executed = tmp_path / "executed"
    (tmp_path / "named_by_a_record.py").write_text(f"open({str(executed)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    hyperparams = {"n_steps": 2048, "gamma": 0.99}
    algo = "named_by_a_record:Mine" if name == "algo" else "ppo"
    if name == "env_wrapper":
        hyperparams["env_wrapper"] = "named_by_a_record.Wrapper"
    folders.add(algo, hyperparams=hyperparams)
    made = origins.origins_of(runs.load(folders.root).runs)
    assert not executed.exists()
    (table,) = made.hyperparameters
    listed = {"`n_steps`", "`gamma`"} if name == "algo" else {"`env_wrapper`"}
    assert {row[0] for row in table.rows} == listed
    said = "What named_by_a_record:Mine has by default is not known"
    assert (said in made.listed) == (name == "algo")


def test_what_differs_in_defaults_alone_shares_a_column(folders: RunFolders) -> None:
    folders.add("npg", hyperparams={"gamma": 0.9})
    folders.add("npg", "Hopper-v5", hyperparams={"gamma": 0.9, "n_steps": 2048})
    made = origins.origins_of(runs.load(folders.root).runs)
    (table,) = made.hyperparameters
    assert table.headers == ["hyperparameter", "npg on CartPole-v1, Hopper-v5"]
    assert [list(row) for row in table.rows] == [["`gamma`", "`0.9`"]]
    assert "is not known" not in made.listed


def test_which_code_gave_which_number_is_listed(folders: RunFolders) -> None:
    first, second = "a" * 40, "b" * 40
    for seed in range(2):
        folders.add("npg", seed=seed, commit=first)
        folders.add("npg", "Hopper-v5", seed, commit=first, dirty=True)
    folders.add("npg", "Hopper-v5", 2, commit=second)
    folders.add("ppo", commit=second)
    folders.add("ppo", seed=1, commit=None, dirty=None)
    made = origins.origins_of(runs.load(folders.root).runs)
    assert made.by_commit is not None
    assert list(made.by_commit.headers) == [
        "algorithm", "commit", "runs", "with uncommitted changes", "environments (runs)"
    ]  # fmt: skip
    assert [list(row) for row in made.by_commit.rows] == [
        ["npg", f"`{first[:12]}`", "4", "2", "CartPole-v1 (2), Hopper-v5 (2)"],
        ["npg", f"`{second[:12]}`", "1", "0", "Hopper-v5 (1)"],
        ["ppo", f"`{second[:12]}`", "1", "0", "CartPole-v1 (1)"],
        ["ppo", "unknown", "1", "unknown", "CartPole-v1 (1)"],
    ]
    assert made.commits == (
        "2 commits, and of some runs it is not known, listed below for each algorithm; 2 of 7 runs "
        "were made from a work tree with uncommitted changes, so that the commit is not all of "
        "their code"
    )


def test_one_commit_needs_no_table(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        folders.add(algo)
    made = origins.origins_of(runs.load(folders.root).runs)
    assert made.by_commit is None
    assert made.commits == "`0123456789abcdef0123456789abcdef01234567` (clean)"
