"""Films of trained agents, from real runs."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from PIL import Image
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from typer.testing import CliRunner

from benchmarks.archive import archive
from benchmarks.records import Evaluation, RunSpec
from benchmarks.run import run
from reports.__main__ import app
from reports.data.runs import ReportError
from reports.live.agent import follow, play
from reports.live.film import CAPTION_HEIGHT, CURVE_WIDTH, HEIGHT
from reports.live.record import read_spec
from sb3_natural import NPG

SMALL = {"n_envs": 2, "n_steps": 64, "policy_kwargs": "dict(net_arch=[8])"}


def spec_of(env_id: str = "CartPole-v1", **environment: object) -> RunSpec:
    hyperparams = SMALL | {"normalize": True}
    evaluation = Evaluation(points=4, episodes=3, seed=77)
    return RunSpec("tiny", "npg", env_id, 0, 512, hyperparams, evaluation, dict(environment))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a second."""
    return Path(str(run(spec_of(), tmp_path_factory.mktemp("runs"), "the command")))


def record(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["record", *map(str, arguments)])
    return result.exit_code, result.output


def colours_of(image: Image.Image, box: tuple[int, int, int, int]) -> int:
    return len(np.unique(np.asarray(image.convert("RGB").crop(box)).reshape(-1, 3), axis=0))


def test_a_film_has_its_frames_the_curve_that_stays_and_an_agent_that_moves(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "films" / "agent.gif"
    assert record(folder, "--out", out, "--seconds", "1.2", "--fps", "10") == (0, f"wrote {out}\n")
    assert [path.name for path in out.parent.iterdir()] == ["agent.gif"]
    frames, milliseconds = [], 0
    with Image.open(out) as film:
        for index in range(film.n_frames):
            film.seek(index)
            milliseconds += film.info["duration"]
            frames.append(film.convert("RGB"))
    assert len(frames) == 12
    assert milliseconds == 1200
    width, height = frames[0].size
    assert height == HEIGHT
    assert width > CURVE_WIDTH
    curve = (0, 0, CURVE_WIDTH, height)
    scene = (CURVE_WIDTH, 0, width, height - CAPTION_HEIGHT)
    assert colours_of(frames[0], curve) > 10
    first, last = (np.asarray(frames[i].crop(curve)) for i in (0, -1))
    assert np.array_equal(first, last)
    first, last = (np.asarray(frames[i].crop(scene)) for i in (0, 5))
    assert not np.array_equal(first, last)


def test_the_agent_is_that_of_the_run_with_its_statistics(folder: Path) -> None:
    seed = 5
    frames = play(folder, read_spec(folder), seed, n_frames=150, fps=50)
    frames = [frame for frame in frames if frame.episode == 1]

    model = NPG.load(folder / "model.zip", device="cpu")
    statistics = VecNormalize.load(
        str(folder / "vecnormalize.pkl"), DummyVecEnv([lambda: gym.make("CartPole-v1")])
    )
    env = gym.make("CartPole-v1")
    observation, _ = env.reset(seed=seed)
    rewards, done = 0.0, False
    while not done:
        action, _ = model.predict(statistics.normalize_obs(observation), deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        rewards, done = rewards + float(reward), terminated or truncated
    # The step that ends an episode shows the beginning of the next one.
    assert rewards < 150
    assert len(frames) == rewards
    assert [frame.step for frame in frames] == list(range(int(rewards)))
    assert frames[-1].episode_return == rewards - 1


def test_the_seed_decides_where_the_episode_begins(folder: Path) -> None:
    spec = read_spec(folder)

    def last(seed: int) -> np.ndarray:
        *_, frame = play(folder, spec, seed, n_frames=10, fps=50)
        return np.asarray(frame.image)

    assert np.array_equal(last(1), last(1))
    assert not np.array_equal(last(1), last(2))


def test_wrappers_and_frame_stack_are_those_of_the_run(tmp_path: Path) -> None:
    spec = spec_of(
        "Pendulum-v1",
        kwargs={"g": 5.0, "max_episode_steps": 20},
        wrappers=["gymnasium.wrappers.TimeAwareObservation"],
        frame_stack=2,
    )
    folder = Path(str(run(spec, tmp_path, "")))
    assert read_spec(folder) == spec
    # Pendulum's 30 steps a second: 15 of them in half a second.
    *_, last = play(folder, spec, 0, n_frames=16, fps=30)
    assert (last.episode, last.step) == (1, 15)
    assert last.episode_return < 0
    *_, last = play(folder, spec, 0, n_frames=26, fps=30)
    assert (last.episode, last.step) == (2, 5)


@pytest.mark.parametrize(
    "name", ["HalfCheetah", "Ant", "Swimmer", "Hopper", "Walker2d", "Humanoid"]
)
def test_the_camera_follows_an_agent_that_runs(name: str) -> None:
    env = DummyVecEnv([lambda: gym.make(f"{name}-v5", render_mode="rgb_array")])
    follow(env)
    renderer = env.envs[0].unwrapped.mujoco_renderer  # type: ignore[attr-defined]
    assert renderer.camera_id != -1  # which is free, and stays where it is
    mode = mujoco.mjtCamLight(renderer.model.cam_mode[renderer.camera_id])
    assert mode.name in ("mjCAMLIGHT_TRACK", "mjCAMLIGHT_TRACKCOM")
    env.close()


def test_the_environment_is_played_at_its_own_speed(folder: Path) -> None:
    frames = play(folder, read_spec(folder), 0, n_frames=4, fps=25)
    assert [frame.step for frame in frames] == [0, 2, 4, 6]  # CartPole has 50 steps a second


def test_mp4(folder: Path, tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    out = tmp_path / "agent.mp4"
    status, output = record(folder, "--out", out, "--seconds", "1", "--fps", "10")
    assert (status, output) == (0, f"wrote {out}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["agent.mp4"]
    frames = imageio_ffmpeg.read_frames(str(out))
    properties = next(frames)
    assert properties["fps"] == 10
    assert properties["size"][1] == HEIGHT
    pictures = list(frames)
    assert len(pictures) == 10
    assert pictures[0] != pictures[-1]


def test_mp4_without_ffmpeg_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)  # importing it fails
    status, output = record(folder, "--out", tmp_path / "agent.mp4")
    assert status == 2
    assert "pip install imageio-ffmpeg" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--out", "film.avi", "--out: must end in .gif or .mp4, got 'film.avi'"),
        ("--seconds", "0", "--seconds: must be a positive number, got 0"),
        ("--seconds", "nan", "--seconds: must be a positive number, got nan"),
        ("--seconds", "3600", "which are 90,000"),
        ("--fps", "51", "--fps: must be an integer from 1 to 50, got 51"),
        ("--seed", "-1", "--seed: must be an integer from 0 to 2147483647, got -1"),
    ],
)
def test_arguments_out_of_range_are_named(
    option: str, value: str, message: str, folder: Path, tmp_path: Path
) -> None:
    out = [] if option == "--out" else ["--out", tmp_path / "film.gif"]
    status, output = record(folder, *out, option, value)
    assert status == 2
    assert message in output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run_and_files_that_cannot_be_read(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "film.gif"
    status, output = record(tmp_path, "--out", out)
    assert status == 2
    assert f"{tmp_path}: is not the folder of a finished run" in output
    for name in ("run.json", "model.zip", "vecnormalize.pkl", "evaluations.csv"):
        broken = tmp_path / f"without-{name}"
        shutil.copytree(folder, broken)
        (broken / name).write_text("{")
        status, output = record(broken, "--out", out)
        assert status == 2
        assert f"error: {broken / name}: " in output
    assert not out.exists()


def test_an_archived_run_says_that_it_has_no_model_and_how_to_get_one(
    folder: Path, tmp_path: Path
) -> None:
    # root/tiny/npg/CartPole-v1/seed-0-…
    assert archive(folder.parents[3], tmp_path / "archive") == (1, 0)
    archived = tmp_path / "archive" / folder.relative_to(folder.parents[3])
    status, output = record(archived, "--out", tmp_path / "film.gif")
    assert status == 2
    assert f"error: {archived}: has no model.zip: the run was archived without its model" in output
    assert (
        "\n  python -m benchmarks run tiny --algos npg --envs CartPole-v1 --first-seed 0 "
        "--out runs-to-film\n" in output
    )
    assert output.endswith("it was made with:\n  the command\n")
    assert "vecnormalize" not in output
    assert not (tmp_path / "film.gif").exists()


def test_an_environment_without_pictures_is_named(folder: Path) -> None:
    spec = dataclasses.replace(read_spec(folder), environment={"kwargs": {"no_such_argument": 1}})
    with pytest.raises(ReportError, match="CartPole-v1: cannot be rendered here: TypeEr"):
        next(play(folder, spec, 0, n_frames=1, fps=10))


def test_an_environment_that_does_not_render_is_an_error_and_nothing_else(
    folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "seed-0"
    shutil.copytree(folder, copy)
    path = copy / "run.json"
    path.write_text(path.read_text().replace("CartPole-v1", "tests.benchmarks.envs:Unrendered-v0"))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        code, output = record(copy, "--out", tmp_path / "film.gif")

    assert code == 2
    assert output.startswith(
        "error: tests.benchmarks.envs:Unrendered-v0: cannot be rendered here: "
    )
    assert output.count("\n") == 1
    assert caught == []


class Touches:
    """What executes code when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return open, (str(self.path), "w")  # type: ignore[return-value]


def test_a_run_of_another_machine_executes_nothing_without_the_user_s_word(
    folder: Path, tmp_path: Path
) -> None:
    theirs, touched, out = tmp_path / "theirs", tmp_path / "touched", tmp_path / "a.gif"
    shutil.copytree(folder, theirs)
    (theirs / "vecnormalize.pkl").write_bytes(pickle.dumps(Touches(touched)))
    path = theirs / "run.json"
    made = json.loads(path.read_text())
    path.write_text(json.dumps(made | {"machine": {"system": "Other 1.0", "cores": 3}}))

    status, said = record(theirs, "--out", out)
    assert status == 2
    assert "was made on another machine (Other 1.0, 3 cores)" in said
    assert "executes code" in said
    assert "--trust" in said
    assert not touched.exists()

    status, said = record(theirs, "--out", out, "--trust")  # which now is no VecNormalize
    assert status == 2
    assert "vecnormalize.pkl: cannot be read" in said
    assert touched.exists()

    path.write_text(json.dumps(made | {"machine": {"system": "Other 1.0"}}))
    shutil.copyfile(folder / "vecnormalize.pkl", theirs / "vecnormalize.pkl")
    assert record(theirs, "--out", out, "--trust", "--seconds", "0.2")[0] == 0


def test_the_help_says_that_code_is_executed() -> None:
    said = " ".join(CliRunner().invoke(app, ["record", "--help"]).output.split())
    assert "Loading a model executes code" in said
