"""The trained agent of a run, acting in its environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from benchmarks.algorithms import algorithm_class
from benchmarks.environments import env_spec
from benchmarks.errors import SpecError, clean_up, warnings_to_stderr
from benchmarks.evaluation import freeze, with_masks
from benchmarks.records import BrokenRunError, RunSpec
from benchmarks.run import make_env
from benchmarks.storage import RECORD
from benchmarks.zoo import model_arguments
from reports.data.runs import ReportError

MODEL = "model.zip"
"""The file of a run's folder with its final agent."""


@dataclass(frozen=True)
class Frame:
    """A picture of the environment, and how far its episode had come.

    ``image``: RGB. ``episode``: counted from 1. ``step``: steps of the environment since the
    episode began. ``episode_return``: the sum of its rewards so far, as evaluations count them.
    """

    image: Image.Image
    episode: int
    step: int
    episode_return: float


def play(
    folder: Path, spec: RunSpec, seed: int, n_frames: int, fps: int
) -> Generator[Frame, None, None]:
    """Render a run's final agent, ``fps`` times per second of the environment's time.

    :raises ReportError: the environment cannot be rendered here
    :raises BrokenRunError: the model or the normalisation's statistics cannot be read
    """
    _choose_drivers()
    with ExitStack() as opened:
        with warnings_to_stderr():
            env = _make_env(folder, spec, seed)
            opened.callback(clean_up, env.close)
            model = _load_model(folder, spec, env)
            env = model.get_env() or env  # as the algorithm wraps it: channels of images first
            acting = with_masks(model, env)
            env.seed(seed)  # now: a model that is loaded seeds its environment with its own
            observation = env.reset()
            follow(env)
            image = _first_image(env, spec)
        # An environment that does not say how fast it runs has a step in each frame.
        steps_per_frame = float(env.get_attr("metadata")[0].get("render_fps") or fps) / fps
        episode, step, total, episode_return = 1, 0, 0, 0.0
        for index in range(n_frames):
            rendered = total
            while total < round(index * steps_per_frame):
                action, _ = acting.predict(observation, deterministic=True)
                observation, _, _, infos = env.step(action)
                total, step = total + 1, step + 1
                if "episode" in infos[0]:
                    episode, step = episode + 1, 0
            if total > rendered:
                image = _image(env)
            # From the monitor, since wrappers may clip rewards or end episodes early.
            episode_return = float(sum(env.get_attr("rewards")[0]))
            yield Frame(image, episode, step, episode_return)


def _choose_drivers() -> None:
    """Let SDL and MuJoCo render without a display where there is none, unless the user chose."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("MUJOCO_GL", "egl")


def _make_env(folder: Path, spec: RunSpec, seed: int) -> VecEnv:
    """One copy of the run's environment, rendered, with the statistics of the end of training."""
    arguments = model_arguments(spec.algo, spec.hyperparams, str(folder / RECORD))
    kwargs = {**spec.environment.get("kwargs", {}), "render_mode": "rgb_array"}
    with_pictures = replace(spec, environment={**spec.environment, "kwargs": kwargs})
    without_statistics = replace(arguments, normalize=None)
    try:
        env = make_env(with_pictures, without_statistics, 1, seed)
    except SpecError:
        raise
    except Exception as error:
        raise _cannot_render(spec, error) from error
    if arguments.normalize is None:
        return env
    path = folder / "vecnormalize.pkl"
    try:
        return freeze(VecNormalize.load(str(path), env))
    except Exception as error:  # pickle promises nothing about what it raises
        env.close()
        raise BrokenRunError(f"{path}: cannot be read: {error}") from error


def _load_model(folder: Path, spec: RunSpec, env: VecEnv) -> BaseAlgorithm:
    path = folder / MODEL
    try:
        return algorithm_class(spec.algo).load(path, env, device="cpu")
    except Exception as error:  # neither do zip files with pickles in them
        raise BrokenRunError(f"{path}: cannot be read: {error}") from error


def follow(env: VecEnv) -> None:
    """Let MuJoCo's camera follow an agent that would run out of the picture.

    Gymnasium 1.4 has a free camera, which stays where it is, unless the user names one.
    """
    (inside,) = env.get_attr("unwrapped")
    renderer = getattr(inside, "mujoco_renderer", None)
    if renderer is None or renderer.camera_id != -1:
        return
    cameras = [renderer.model.camera(index).name for index in range(renderer.model.ncam)]
    if "track" in cameras:
        renderer.camera_id = cameras.index("track")


def _first_image(env: VecEnv, spec: RunSpec) -> Image.Image:
    # pygame, the bindings of OpenGL and MuJoCo raise errors of any type.
    try:
        return _image(env)
    except Exception as error:
        raise _cannot_render(spec, error) from error


def _image(env: VecEnv) -> Image.Image:
    (pixels,) = env.get_images()
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise ValueError("it has no render mode 'rgb_array'")
    return Image.fromarray(pixels.astype(np.uint8, copy=False))


def _cannot_render(spec: RunSpec, error: Exception) -> ReportError:
    message = f"{spec.env_id}: cannot be rendered here: {type(error).__name__}: {error}"
    if "mujoco" in str(env_spec(spec.env_id).entry_point).lower():
        message += (
            f"\nMuJoCo renders with what MUJOCO_GL names (now {os.environ.get('MUJOCO_GL')!r}): "
            "without a display, MUJOCO_GL=egl, which needs libEGL (apt install libegl1), or "
            "MUJOCO_GL=osmesa, which needs no GPU but libOSMesa (apt install libosmesa6)."
        )
    return ReportError(message)
