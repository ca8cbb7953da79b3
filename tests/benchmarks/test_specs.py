"""What a run and a suite are."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.algorithms import check_algorithms
from benchmarks.errors import SpecError
from benchmarks.records import Evaluation, RunSpec
from benchmarks.specs import parse_overrides, plan
from benchmarks.suite import load_suite
from benchmarks.zoo import hyperparams_for


def test_the_config_depends_on_everything_but_seed_and_suite(make_spec) -> None:
    spec = make_spec()

    assert replace(spec, seed=9, suite="other").config == spec.config
    different = [
        replace(spec, algo="trpo"),
        replace(spec, env_id="Acrobot-v1"),
        replace(spec, n_timesteps=257),
        replace(spec, hyperparams={**spec.hyperparams, "gamma": 0.9}),
        replace(spec, evaluation=Evaluation(2, 3, 78)),
    ]
    assert len({spec.config, *(each.config for each in different)}) == 6
    assert len(spec.config) == 8


def test_a_spec_survives_the_way_through_json(make_spec) -> None:
    spec = make_spec()

    assert RunSpec.from_dict(spec.to_dict()) == spec


def test_the_folder_of_a_name_with_a_slash_is_one_level(make_spec) -> None:
    spec = make_spec(env_id="ALE/Pong-v5")

    assert spec.folder(Path("runs")) == Path(f"runs/tiny/ppo/ALE__Pong-v5/seed-0-{spec.config}")


def test_a_sweep_goes_seed_by_seed() -> None:
    suite = load_suite("smoke")

    specs = plan(suite, ["trpo", "ppo"], ["Pendulum-v1", "CartPole-v1"], [3, 4])

    assert [(spec.seed, spec.env_id, spec.algo) for spec in specs] == [
        (seed, env_id, algo)
        for seed in (3, 4)
        for env_id in ("Pendulum-v1", "CartPole-v1")
        for algo in ("trpo", "ppo")
    ]


def test_steps_come_from_the_option_then_the_suite_then_the_hyperparameters(
    entries, tmp_path: Path
) -> None:
    entries("ppo", "default: {n_timesteps: 1e5}\n")
    path = tmp_path / "mine.yaml"
    path.write_text("environments: {CartPole-v1: {n_timesteps: 500}, Acrobot-v1: }\n")
    suite = load_suite(str(path))

    def steps(env_id: str, option: int | None) -> int:
        (spec,) = plan(suite, ["ppo"], [env_id], [0], option)
        assert "n_timesteps" not in spec.hyperparams
        return spec.n_timesteps

    assert steps("CartPole-v1", 300) == 300
    assert steps("CartPole-v1", None) == 500
    assert steps("Acrobot-v1", None) == 100_000


def test_overrides_change_every_algorithm_and_the_config() -> None:
    suite = load_suite("smoke")
    plain = plan(suite, ["npg", "trpo"], ["CartPole-v1"], [0])

    overridden = plan(
        suite,
        ["npg", "trpo"],
        ["CartPole-v1"],
        [0],
        overrides=parse_overrides(["target_kl=1e-2", "policy_kwargs=dict(net_arch=[8])"]),
    )

    assert [spec.hyperparams["target_kl"] for spec in overridden] == [0.01, 0.01]
    assert overridden[0].hyperparams["policy_kwargs"] == "dict(net_arch=[8])"
    assert all(a.config != b.config for a, b in zip(plain, overridden, strict=True))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("gamma", "--set: must be key=value"),
        ("n_timesteps=3", "--set: n_timesteps: use --steps"),
        ("clip_range=0.1", "--set: clip_range: 0.1 .* npg does not have"),
        ("gamma=high", "--set: gamma: must be a number, got 'high'"),
    ],
)
def test_overrides_that_do_not_fit_are_refused(setting: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        plan(
            load_suite("smoke"),
            ["npg"],
            ["CartPole-v1"],
            [0],
            overrides=parse_overrides([setting]),
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("environments: {Hoper-v5: }", "environments: Hoper-v5: 'Hoper-v5' is not an environment"),
        ("environments: {'no.such:E-v0': }", "'no.such:E-v0' is not an environment .*No module"),
        ("environments: {'.x:E-v0': }", "'.x:E-v0' is not an environment .* relative to nothing"),
        ("environments: [CartPole-v1]", r"environments: must be a mapping .* \['CartPole-v1'\]"),
        ("environments: {}", "environments: must be a mapping"),
        ("envs: {CartPole-v1: }", "envs: .* allowed are environments, evaluation, n_timesteps"),
        (
            "environments: {CartPole-v1: {steps: 5}}",
            "CartPole-v1: steps: 5 is for an unknown key; allowed are n_timesteps",
        ),
        (
            "environments: {CartPole-v1: {n_timesteps: 0}}",
            "CartPole-v1: n_timesteps: must be a positive integer, got 0",
        ),
        (
            "environments: {CartPole-v1: , CartPole-v1: }",
            "'CartPole-v1' is given twice",
        ),
        (
            "{evaluation: {points: many}, environments: {CartPole-v1: }}",
            "evaluation: points: must be a positive integer, got 'many'",
        ),
        (
            "{evaluation: {episodes: 2.5}, environments: {CartPole-v1: }}",
            "evaluation: episodes: must be a positive integer, got 2.5",
        ),
        (
            "{evaluation: {episode: 5}, environments: {CartPole-v1: }}",
            "evaluation: episode: 5 .* allowed are points, episodes, seed",
        ),
        (
            "{evaluation: {seed: -1}, environments: {CartPole-v1: }}",
            "evaluation: seed: must be an integer of at least 0, got -1",
        ),
    ],
)
def test_a_suite_that_is_wrong_is_refused_with_file_key_and_value(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text + "\n")

    with pytest.raises(SpecError, match=f"(?s){message}") as refusal:
        load_suite(str(path))
    assert str(refusal.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["con", "a b", "a,b", "a.", "-a", "é" * 101])
def test_a_suite_whose_name_can_be_no_folders_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match=r"name, which is the suite's: must consist of .*; got '"):
        load_suite(f"somewhere/{name}.yaml")


def test_more_evaluations_than_steps_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{evaluation: {points: 9}, environments: {CartPole-v1: {n_timesteps: 8}}}\n")

    with pytest.raises(SpecError, match=r"points: must be at most the 8 steps .*, got 9"):
        plan(load_suite(str(path)), ["ppo"], ["CartPole-v1"], [0])


def test_a_whole_number_with_a_point_is_an_integer(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{evaluation: {points: 2.0, episodes: 3e0}, environments: {CartPole-v1: }}\n")

    protocol = load_suite(str(path)).evaluation

    assert protocol == Evaluation(2, 3)
    assert isinstance(protocol.points, int)
    assert isinstance(protocol.episodes, int)


def test_a_module_that_fails_when_it_is_imported_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_tasks.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_text("environments: {'broken_tasks:E-v0': }\n")

    with pytest.raises(SpecError, match="importing 'broken_tasks' raises ZeroDivisionError: div"):
        load_suite(str(path))
    path.write_text("{n_timesteps: 9, environments: {CartPole-v1: }, wrappers: [broken_tasks.W]}\n")
    with pytest.raises(SpecError, match=r"'broken_tasks\.W' cannot be imported: .*ZeroDivision"):
        load_suite(str(path))
    for algo in ("broken_tasks:A", ".x:A"):
        with pytest.raises(SpecError, match=f"--algos: '{algo}' cannot be imported: "):
            check_algorithms("--algos", [algo])


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"# caf\xe9\nenvironments: {CartPole-v1: }\n")

    message = f"{path}: must be UTF-8 text, got the byte 0xe9 at position 5"
    with pytest.raises(SpecError, match=message):
        load_suite(str(path))
    with pytest.raises(SpecError, match=message):
        hyperparams_for("ppo", "CartPole-v1", path)


def test_algorithms_with_different_budgets_are_refused(entries, tmp_path: Path) -> None:
    entries("ppo", "default: {n_timesteps: 1e5}\nAcrobot-v1: {n_timesteps: 2000}\n")
    entries("a2c", "default: {n_timesteps: 2000}\n")
    path = tmp_path / "mine.yaml"
    path.write_text("environments: {CartPole-v1: , Acrobot-v1: }\n")
    both = ["ppo", "a2c"]

    with pytest.raises(SpecError) as refusal:
        plan(load_suite(str(path)), both, ["CartPole-v1", "Acrobot-v1"], [0])

    assert "(CartPole-v1: ppo 100,000, a2c 2,000); give n_timesteps in the suite" in str(
        refusal.value
    )
    assert "or --steps" in str(refusal.value)
    # The same number by chance, one for all, or nobody to compare with.
    assert len(plan(load_suite(str(path)), both, ["Acrobot-v1"], [0])) == 2
    assert len(plan(load_suite(str(path)), both, ["CartPole-v1"], [0], 500)) == 2
    (alone,) = plan(load_suite(str(path)), ["a2c"], ["CartPole-v1"], [0])
    assert alone.n_timesteps == 2_000
    path.write_text("{n_timesteps: 300, environments: {CartPole-v1: }}\n")
    specs = plan(load_suite(str(path)), both, ["CartPole-v1"], [0])
    assert [spec.n_timesteps for spec in specs] == [300, 300]


TIME_LIMIT = "gymnasium.wrappers.TimeLimit"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{kwargs: {gravity: 9.81}}", "kwargs: {'gravity': 9.81}: .*unexpected keyword"),
        (
            "{kwargs: {max_episode_steps: many}}",
            "kwargs: {'max_episode_steps': 'many'}: .*to be an integer",
        ),
        ("{kwargs: {g: heavy}}", "kwargs: {'g': 'heavy'}: .* cannot be made so: "),
        (f"{{wrappers: [{TIME_LIMIT}]}}", f"wrappers: '{TIME_LIMIT}': .*max_episode_steps"),
        (
            f"{{wrappers: [{TIME_LIMIT}: {{steps: 3}}]}}",
            f"wrappers: {{'{TIME_LIMIT}': {{'steps': 3}}}}: .*unexpected keyword argument 'steps'",
        ),
    ],
)
def test_what_an_environment_cannot_take_is_said_before_anything_runs(
    tmp_path: Path, options: str, message: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"{{n_timesteps: 500, environments: {{Pendulum-v1: {options}, CartPole-v1: }}}}\n"
    )
    suite = load_suite(str(path))

    with pytest.raises(SpecError, match=f"(?s){message}") as refusal:
        plan(suite, ["ppo", "a2c"], ["CartPole-v1", "Pendulum-v1"], [0])

    assert str(refusal.value).startswith(f"{path}: environments: Pendulum-v1: ")
    assert len(plan(suite, ["ppo"], ["CartPole-v1"], [0])) == 1  # that one is not asked for


def test_so_are_wrappers_of_hyperparameters(entries, tmp_path: Path) -> None:
    file = entries("ppo", f"default: {{env_wrapper: [{TIME_LIMIT}: {{steps: 3}}]}}\n")
    path = tmp_path / "mine.yaml"
    path.write_text("{n_timesteps: 500, environments: {CartPole-v1: }}\n")

    with pytest.raises(SpecError, match="unexpected keyword argument 'steps'") as refusal:
        plan(load_suite(str(path)), ["ppo"], ["CartPole-v1"], [0])

    assert str(refusal.value).startswith(f"{file}: CartPole-v1: env_wrapper: {{'{TIME_LIMIT}'")
