"""How runs were made: hyperparameters are compared with what constructors have as defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.tables import Code, text_of
from reports.data import runs
from reports.data.context import load
from reports.rendering.blocks import Section
from reports.sections import origins
from reports.sections.origins import without_defaults
from tests.reports.conftest import RunFolders
from tests.reports.values import column, headers, rows, tables, texts


def section(folders: RunFolders) -> Section:
    built = origins.build(load(folders.root))
    assert built is not None
    return built


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
    built = section(folders)
    assert not executed.exists()
    (table,) = tables(built.blocks)
    listed = ["gamma", "n_steps"] if name == "algo" else ["env_wrapper"]
    assert column(table, "hyperparameter") == [Code(name) for name in listed]
    is_said = "The defaults of named_by_a_record:Mine are not known" in " ".join(
        texts(built.blocks)
    )
    assert is_said == (name == "algo")


def test_what_differs_in_defaults_alone_shares_a_column(folders: RunFolders) -> None:
    folders.add("npg", hyperparams={"gamma": 0.9})
    folders.add("npg", "Hopper-v5", hyperparams={"gamma": 0.9, "n_steps": 2048})
    (table,) = tables(section(folders).blocks)
    assert headers(table) == ["hyperparameter", "npg on CartPole-v1, Hopper-v5"]
    assert rows(table) == [[Code("gamma"), Code("0.9")]]


def test_variants_have_columns_of_their_own(folders: RunFolders) -> None:
    for critic in ("adam", "gauss_newton"):
        folders.add("npg", hyperparams={"critic": critic, "gamma": 0.99})
    folders.add("ppo")
    npg, ppo = tables(section(folders).blocks)
    adam, gauss_newton = (f"npg (critic={critic})" for critic in ("adam", "gauss_newton"))
    # One of the two is what the constructor has by default.
    assert headers(npg)[1:] == [f"{adam} on CartPole-v1", f"{gauss_newton} on CartPole-v1"]
    assert column(npg, f"{adam} on CartPole-v1") == [Code("adam")]
    assert rows(ppo) == [["none", None]]  # all are the constructor's defaults


def test_which_code_gave_which_number_is_listed(folders: RunFolders) -> None:
    first, second = "a" * 40, "b" * 40
    for seed in range(2):
        folders.add("npg", seed=seed, commit=first)
        folders.add("npg", "Hopper-v5", seed, commit=first, dirty=True)
    folders.add("npg", "Hopper-v5", 2, commit=second)
    folders.add("ppo", commit=second)
    folders.add("ppo", seed=1, commit=None, dirty=None)
    table = runs.load(folders.root).runs
    by_commit = origins.commit_table(table)
    assert by_commit is not None
    assert headers(by_commit) == [
        "algorithm", "commit", "runs", "with uncommitted changes", "environments (runs)"
    ]  # fmt: skip
    assert rows(by_commit) == [
        ["npg", Code(first[:12]), 4, 2, "CartPole-v1 (2), Hopper-v5 (2)"],
        ["npg", Code(second[:12]), 1, 0, "Hopper-v5 (1)"],
        ["ppo", Code(second[:12]), 1, 0, "CartPole-v1 (1)"],
        ["ppo", "unknown", 1, "unknown", "CartPole-v1 (1)"],
    ]
    said = text_of(origins.commits_text(table))
    assert said.startswith("2 commits, and of some runs it is not known, listed below for each")
    assert "2 of 7 runs were made from a work tree with uncommitted changes" in said


def test_one_commit_needs_no_table(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        folders.add(algo)
    table = runs.load(folders.root).runs
    assert origins.commit_table(table) is None
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert origins.commits_text(table) == (Code(commit), " (clean)")
    said = texts(section(folders).blocks)
    assert said[:3] == [
        f"Commit: {commit} (clean)",
        "Versions: python 3.11.9, stable_baselines3 2.9.2, torch 2.13.0",
        "Machine: Linux, x86_64, 2 cores, 8 GiB memory",
    ]
