"""What has no result: what others have, and what sweeps were asked for."""

from __future__ import annotations

from reports.data import runs
from reports.data.missing import AllFailed, Gap, Missing, all_failed, missing_of
from reports.sections.missing import gap_text
from tests.reports.conftest import RunFolders


def missing(folders: RunFolders, **options: bool) -> Missing:
    return missing_of(runs.load(folders.root, **options))


def test_a_seed_that_every_algorithm_lacks_is_missing(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        folders.ask([algo], range(4, 7))
        for seed in (4, 6):
            folders.add(algo, seed=seed)
    found = missing(folders)
    assert found.gaps == [Gap("npg", ["CartPole-v1"], (5,)), Gap("ppo", ["CartPole-v1"], (5,))]
    assert (found.is_uneven, found.is_unmet, found.is_asked_known) == (False, True, True)


def test_several_sweeps_add_up(folders: RunFolders) -> None:
    folders.ask(["npg"], range(2))
    folders.ask(["npg"], range(2, 4))
    for seed in (0, 1, 3):
        folders.add("npg", seed=seed)
    assert missing(folders).gaps == [Gap("npg", ["CartPole-v1"], (2,))]


def test_what_a_sweep_was_asked_for_and_nothing_has_is_missing(folders: RunFolders) -> None:
    for algo in ("npg", "trpo"):
        for env_id in ("CartPole-v1", "Acrobot-v1"):
            folders.ask([algo], [0], [env_id])
    folders.add("npg")
    found = missing(folders)
    assert found.gaps == [
        Gap("npg", ["Acrobot-v1"], (0,)),
        Gap("trpo", ["Acrobot-v1", "CartPole-v1"], (0,)),
    ]
    assert (found.is_uneven, found.is_unmet) == (False, True)


def test_what_others_have_is_missing_though_nobody_asked_for_it(folders: RunFolders) -> None:
    for seed in range(3):
        folders.add("npg", seed=seed)
    folders.add("ppo")
    folders.add("ppo", "Hopper-v5")
    found = missing(folders)
    assert found.gaps == [Gap("ppo", ["CartPole-v1"], (1, 2)), Gap("npg", ["Hopper-v5"])]
    assert (found.is_uneven, found.is_unmet, found.is_asked_known) == (True, False, False)


def test_of_several_configurations_each_is_what_was_asked_of_it(folders: RunFolders) -> None:
    folders.ask(["npg"], range(3))
    folders.ask(["npg"], range(4), hyperparams={"critic": "adam"})
    for seed in range(3):
        folders.add("npg", seed=seed)
        folders.add("npg", seed=seed, hyperparams={"critic": "adam"})
    assert missing(folders).gaps == [Gap("npg (critic=adam)", ["CartPole-v1"], (3,))]


def test_a_configuration_without_a_run_is_not_taken_for_another(folders: RunFolders) -> None:
    folders.add("npg")
    folders.ask(["npg"], [0])
    folders.ask(["npg"], [0], hyperparams={"critic": "adam"})
    (gap,) = missing(folders).gaps
    assert gap.label.startswith("npg (config=")
    assert gap.seeds == (0,)


def test_with_everything_there_that_was_asked_for_nothing_is_missing(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        folders.ask([algo], [0])
        folders.add(algo)
    assert missing(folders) == Missing([], False, False, True)


def test_without_manifests_it_is_not_known_what_was_asked_for(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        folders.add(algo)
    assert missing(folders) == Missing([], False, False, False)


def test_algorithms_of_which_every_run_failed(folders: RunFolders) -> None:
    for env_id in ("CartPole-v1", "HalfCheetah-v5"):
        for algo in ("npg", "ppo"):
            for seed in range(2):
                folders.add(algo, env_id, seed, [20.0, 100.0 + seed])
        for seed in range(2):
            folders.add_failure("trpo", env_id, seed)
    folders.add("npg", "Hopper-v5")
    folders.add_failure("ppo", "Hopper-v5")
    folders.add_failure("ppo", "Hopper-v5", seed=1)
    folders.add_failure("ppo", "CartPole-v1", seed=2)
    assert all_failed(runs.load(folders.root)) == [
        AllFailed("ppo", "Hopper-v5", 2),
        AllFailed("trpo", None, 4),
    ]
    gaps = missing(folders).gaps
    assert Gap("trpo", ["CartPole-v1"], (0, 1, 2), (0, 1)) in gaps
    assert Gap("trpo", ["HalfCheetah-v5"], (0, 1), (0, 1)) in gaps


def test_of_many_seeds_the_first_are_listed(folders: RunFolders) -> None:
    folders.add("npg")
    folders.ask(["npg"], range(1000))
    (gap,) = missing(folders).gaps
    assert len(gap.seeds) == 999
    assert gap_text(gap).endswith("49, 50 and 949 more")


def test_seeds_are_missed_within_a_budget_alone(folders: RunFolders) -> None:
    for seed in range(3):
        folders.add("npg", seed=seed, n_timesteps=50_000)
    folders.add("ppo", seed=0, n_timesteps=100_000)
    folders.add("trpo", seed=0, n_timesteps=50_000)
    found = missing(folders, allow_mixed=True)
    assert found.gaps == [Gap("trpo (50,000 steps)", ["CartPole-v1"], (1, 2))]
