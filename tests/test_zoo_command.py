"""``python -m sb3_natural.zoo``: RL Baselines3 Zoo with our algorithms."""

import subprocess
import sys
from pathlib import Path

import pytest

from sb3_natural import ACER, ACKTR, NAC, NPG, NaturalDQN, RecurrentNPG
from sb3_natural.zoo import SCRIPTS, main, unsupported, with_our_hyperparameters

pytest.importorskip("rl_zoo3", reason="RL Baselines3 Zoo is not installed")


def zoo(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sb3_natural.zoo", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("algo", "cls", "env_id"),
    [
        ("npg", NPG, "InvertedPendulum-v5"),
        ("recurrent_npg", RecurrentNPG, "CartPole-v1"),
        ("acer", ACER, "CartPole-v1"),
        ("acktr", ACKTR, "CartPole-v1"),
        ("natural_dqn", NaturalDQN, "CartPole-v1"),
        ("nac", NAC, "CartPole-v1"),
    ],
)
def test_the_zoo_trains_and_shows_our_algorithms(algo, cls, env_id, tmp_path: Path) -> None:
    common = ("--algo", algo, "--env", env_id, "-f", tmp_path, "--seed", "1")

    # Not a number of whole rollouts.
    output = zoo("train", *common, "-n", "1000", "--eval-freq", "-1", "--num-threads", "1")

    assert f"{algo}.yml" in output  # our hyperparameters
    model = cls.load(tmp_path / algo / f"{env_id}_1" / f"{env_id}.zip")
    assert model.num_timesteps > 1000
    if algo == "npg":
        assert model.target_kl(1.0) == pytest.approx(2 * model.target_kl(0.5))  # lin_...
    assert "Episode Reward" in zoo("enjoy", *common, "-n", "600", "--no-render")


def test_our_file_is_added_where_none_is_given() -> None:
    def added(*arguments: str) -> list[str]:
        return with_our_hyperparameters(arguments)[len(arguments) :]

    (option, file) = added("train", "--algo", "npg", "--env", "CartPole-v1")
    assert option == "--conf-file"
    assert Path(file).name == "npg.yml"
    assert Path(file).exists()
    assert added("train", "--algo", "npg", "-conf", "mine.yml") == []
    assert added("train", "--algo", "npg", "--conf", "mine.yml") == []
    assert added("train", "--algo", "ppo") == []
    assert added("train", "--algo=acer")[1].endswith("acer.yml")
    assert added("train", "--algo=nac")[1].endswith("nac.yml")
    assert added("train") == []
    assert added("enjoy", "--algo", "npg") == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "the following arguments are required: SCRIPT"),
        (["dance"], 2, "invalid choice: 'dance'"),
        (["--algo", "npg"], 2, "SCRIPT"),
        (["--help"], 0, "train, enjoy, plot_train, plot_from_file, all_plots"),
        *((["plot_train", *option], code, "--algo") for option, code in (([], 2), (["-h"], 0))),
        *(([script, "--help"], 0, "usage:") for script in SCRIPTS),
    ],
)
def test_what_can_be_asked_for_is_said(arguments, code, said, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["zoo", *arguments])

    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == code
    output = "".join(capsys.readouterr())
    assert "usage:" in output
    assert said in output


def test_a_search_is_refused_with_what_does_it_instead() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sb3_natural.zoo", "train", "--algo", "npg", "-optimize"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )

    assert done.returncode == 1
    assert "error: --optimize-hyperparameters is not supported for npg" in done.stderr
    assert "python -m studies run --algo npg" in done.stderr
    assert "Traceback" not in done.stderr


def test_only_what_the_zoo_cannot_do_with_our_algorithms_is_refused() -> None:
    def refused(*arguments: str) -> bool:
        return unsupported(["train", *arguments]) is not None

    assert refused("--algo=acer", "--optimize-hyperparameters")
    assert refused("--algo", "acer", "--optimize", "--env", "CartPole-v1")
    assert refused("--trial-id", "3", "--algo", "npg")
    assert not refused("--algo", "ppo", "-optimize")
    assert not refused("--algo", "npg", "--optimization-log-path", "logs")
    assert not refused("--algo", "npg")
    assert not refused()
