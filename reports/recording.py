"""A short film of a trained agent, beside the learning curve of its run."""

from __future__ import annotations

import io
import math
import os
import shlex
import sys
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image, ImageDraw, ImageFont
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from tqdm import tqdm

from benchmarks.algorithms import algorithm_class
from benchmarks.environments import env_spec
from benchmarks.errors import SpecError, clean_up, warnings_to_stderr
from benchmarks.evaluation import freeze
from benchmarks.names import plain
from benchmarks.numbers import return_text
from benchmarks.provenance import machine
from benchmarks.records import RunSpec
from benchmarks.results import BrokenRunError, read_evaluations
from benchmarks.run import make_env
from benchmarks.run_files import is_finished, read_run
from benchmarks.statistics import final_return, final_window
from benchmarks.storage import RECORD, whole_file
from benchmarks.zoo import model_arguments
from reports import figures
from reports.runs import ReportError
from reports.wording import machine_text

ENDINGS = (".gif", ".mp4")
_MODEL = "model.zip"
SECONDS = 10.0
# A GIF counts in hundredths of a second, so that 25 frames a second are exact and 30 are not.
FPS = 25
MAX_FPS = 50
# All are held in memory, about half a megabyte each.
MAX_FRAMES = 1_500
MAX_SEED = 2**31 - 1

# Pixels; even numbers, which H.264 needs.
HEIGHT = 360
CURVE_WIDTH = 440
CAPTION_HEIGHT = 28
_DPI = 100
_PALETTE_SAMPLES = 16


@dataclass(frozen=True)
class Frame:
    """One picture of the environment, and where the episode stood.

    ``image``: RGB. ``episode`` counts from 1. ``step``: the environment's steps since the episode
    began. ``episode_return``: the sum of its rewards so far, as a run's evaluations count them.
    """

    image: Image.Image
    episode: int
    step: int
    episode_return: float


def record(
    folder: Path,
    out: Path,
    seed: int | None = None,
    seconds: float = SECONDS,
    fps: int = FPS,
    trust: bool = False,
) -> None:
    """Write a film of a run's final agent, acting deterministically, beside its learning curve.

    The environment is the run's own, with its wrappers, frame stack and normalisation, and is
    played at its own speed (``render_fps``). When an episode ends, the next one begins.

    Loading a model **executes code**: ``model.zip`` and ``vecnormalize.pkl`` hold pickles, which do
    whatever their maker wanted, and the record names classes to import. So a run that says that it
    was made on another machine is loaded only where ``trust`` says so. What a record says can be
    forged: film no run of somebody whom you would not let run a program.

    :param folder: a finished run's
    :param out: ends in ``.gif`` or ``.mp4``; written whole or not at all
    :param seed: of the environment; None: that of the run's evaluations
    :param seconds: length of the film
    :param fps: frames a second
    :param trust: whether a run of another machine is loaded
    :raises ReportError: an argument out of range, no finished run, one that was archived without
        its model, one of another machine that is not trusted, MP4 without imageio-ffmpeg, or an
        environment that cannot be rendered here
    :raises BrokenRunError: the run's files cannot be read
    """
    n_frames = _check_arguments(out, seed, seconds, fps)
    spec = read_spec(folder)
    _refuse_without_model(folder, spec)
    if not trust:
        _refuse_of_others(folder)
    curve = draw_curve(spec, read_evaluations(folder))
    frames = play(folder, spec, spec.evaluation.seed if seed is None else seed, n_frames, fps)
    with closing(frames):
        pictures = [
            compose(curve, frame) for frame in tqdm(frames, "frames", n_frames, disable=None)
        ]
    with whole_file(out) as unfinished:
        if out.suffix == ".gif":
            unfinished.write_bytes(_gif(pictures, fps))
        else:
            _write_mp4(unfinished, pictures, fps)


def read_spec(folder: Path) -> RunSpec:
    """What a finished run was.

    :raises ReportError: not the folder of a finished run
    :raises BrokenRunError: its record cannot be read
    """
    if not is_finished(folder):
        raise ReportError(
            f"{folder}: is not the folder of a finished run, such as "
            f"runs/classic/npg/CartPole-v1/seed-0-1a2b3c4d: it has no {RECORD}"
        )
    return read_run(folder).spec


def _refuse_without_model(folder: Path, spec: RunSpec) -> None:
    """Before its other files are looked for, which an archive does not have either.

    :raises ReportError: saying how to get a model
    """
    if (folder / _MODEL).exists():
        return
    again = ["run", spec.suite, "--algos", spec.algo, "--envs", spec.env_id]
    again += ["--first-seed", str(spec.seed), "--out", "runs-to-film"]
    first = read_run(folder).command
    raise ReportError(
        f"{folder}: has no {_MODEL}: the run was archived without its model, and there is nothing "
        "to film. Run it again, into a folder that does not have it, and record that run:\n"
        f"  python -m benchmarks {shlex.join(again)}\n"
        f"The hyperparameters must be those of its run.json; it was made with:\n  {first}"
    )


def _refuse_of_others(folder: Path) -> None:
    """Before anything of the run is loaded.

    :raises ReportError: it was not made on this machine
    """
    there = read_run(folder).machine.model_dump(exclude_none=True)
    here = {name: value for name, value in machine().items() if value is not None}
    if there != here:
        raise ReportError(
            f"{folder}: was made on another machine ({machine_text(there) or 'not recorded'}), and "
            f"loading its {_MODEL} executes code that whoever made it has put there. If you trust "
            "them, say --trust"
        )


def play(
    folder: Path, spec: RunSpec, seed: int, n_frames: int, fps: int
) -> Generator[Frame, None, None]:
    """Render a run's final agent, ``fps`` times in a second of the environment's time.

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
            env.seed(seed)  # now: a model that is loaded seeds its environment with its own
            observation = env.reset()
            image = _first_image(env, spec)
        # Environments that do not say are as quick as the film.
        steps_per_frame = float(env.get_attr("metadata")[0].get("render_fps") or fps) / fps
        episode, step, total, episode_return = 1, 0, 0, 0.0
        for index in range(n_frames):
            rendered = total
            while total < round(index * steps_per_frame):
                action, _ = model.predict(observation, deterministic=True)  # type: ignore[arg-type]
                observation, _, _, infos = env.step(action)
                total, step = total + 1, step + 1
                if "episode" in infos[0]:
                    episode, step = episode + 1, 0
            if total > rendered:
                image = _image(env)
            # The monitor's own: the wrappers may clip rewards, or end episodes early.
            episode_return = float(sum(env.get_attr("rewards")[0]))
            yield Frame(image, episode, step, episode_return)


def draw_curve(spec: RunSpec, evaluations: pd.DataFrame) -> Image.Image:
    """The run's evaluations, the final return marked; ``CURVE_WIDTH`` by ``HEIGHT`` pixels."""
    steps, returns = evaluations["timesteps"], evaluations["return_mean"]
    look = figures.looks([spec.algo])[spec.algo]
    final = final_return(returns)
    window = steps.iloc[-final_window(len(steps)) :]
    figure = Figure(figsize=(CURVE_WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    ax = figure.subplots()
    title = plain(f"{spec.algo} on {spec.env_id}, seed {spec.seed}")
    ax.set_title(title, fontsize=10, weight="bold", parse_math=False)
    ax.plot(steps, returns, color=look.colour, linewidth=1.8)
    ax.plot(
        window,
        np.full(len(window), final),
        color=look.colour,
        marker=look.marker,
        markersize=7,
        markeredgecolor="white",
        linestyle="",
    )
    ax.axhline(final, color="#888888", linewidth=0.8, linestyle=(0, (4, 3)))
    # On the side of the line where the curve, which ends at it, mostly is not.
    above = bool(np.nanmean(returns) <= final)
    ax.annotate(
        f"final return {return_text(final)}",
        (1.0, final),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 5 if above else -5),
        textcoords="offset points",
        ha="right",
        va="bottom" if above else "top",
        fontsize=9,
    )
    ax.margins(x=0.03, y=0.12)
    ax.grid(color="#e4e4e4", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: figures.steps_text(value)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    ax.set_xlabel("environment steps")
    ax.set_ylabel("evaluation return")
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def compose(curve: Image.Image, frame: Frame) -> Image.Image:
    """The curve at the left, the environment with a line about the episode at the right."""
    height = HEIGHT - CAPTION_HEIGHT
    width = max(200, round(frame.image.width * height / frame.image.height / 2) * 2)
    # What is narrower than its caption keeps its shape, in the middle.
    scaled = frame.image.copy()
    scaled = scaled.resize((round(scaled.width * height / scaled.height), height))
    picture = Image.new("RGB", (curve.width + width, HEIGHT), "white")
    picture.paste(curve, (0, 0))
    picture.paste(scaled, (curve.width + (width - scaled.width) // 2, 0))
    so_far = return_text(frame.episode_return)
    text = f"episode {frame.episode}   step {frame.step:,}   return {so_far}"
    ImageDraw.Draw(picture).text(
        (curve.width + width // 2, height + CAPTION_HEIGHT // 2),
        text,
        fill="#222222",
        font=_font(13),
        anchor="mm",
    )
    return picture


def _check_arguments(out: Path, seed: int | None, seconds: float, fps: int) -> int:
    """The number of frames.

    :raises ReportError: naming the argument, its value and what is valid
    """
    if out.suffix not in ENDINGS:
        raise ReportError(f"--out: must end in {' or '.join(ENDINGS)}, got {str(out)!r}")
    if out.is_dir():
        raise ReportError(f"--out: must be a file, got the folder {str(out)!r}")
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise ReportError(f"--seed: must be an integer from 0 to {MAX_SEED}, got {seed}")
    if not math.isfinite(seconds) or seconds <= 0:
        raise ReportError(f"--seconds: must be a positive number, got {seconds:g}")
    if not 1 <= fps <= MAX_FPS:
        raise ReportError(f"--fps: must be an integer from 1 to {MAX_FPS}, got {fps}")
    n_frames = round(seconds * fps)
    if not 1 <= n_frames <= MAX_FRAMES:
        raise ReportError(
            f"--seconds: must give between 1 and {MAX_FRAMES:,} frames at --fps {fps}, got "
            f"{seconds:g} seconds, which are {n_frames:,}"
        )
    if out.suffix == ".mp4":
        try:
            import_module("imageio_ffmpeg").get_ffmpeg_exe()
        except (ImportError, RuntimeError) as error:
            raise ReportError(
                f"--out: {str(out)!r}: MP4 needs imageio-ffmpeg: pip install imageio-ffmpeg, or "
                f"choose a file that ends in .gif ({error})"
            ) from None
    return n_frames


def _choose_drivers() -> None:
    """Without a display, have SDL and MuJoCo render without one, unless the user has chosen."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("MUJOCO_GL", "egl")


def _make_env(folder: Path, spec: RunSpec, seed: int) -> VecEnv:
    """The run's environment, once, with pictures and with the statistics of the training's end."""
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
    path = folder / _MODEL
    try:
        return algorithm_class(spec.algo).load(path, env, device="cpu")
    except Exception as error:  # neither do zip files with pickles in them
        raise BrokenRunError(f"{path}: cannot be read: {error}") from error


def _first_image(env: VecEnv, spec: RunSpec) -> Image.Image:
    # Renderers raise anything: of pygame, of OpenGL's bindings, of MuJoCo.
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


def _font(size: int) -> ImageFont.FreeTypeFont:
    # Matplotlib's own, so that curve and caption look alike everywhere.
    return ImageFont.truetype(
        str(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size
    )


def _gif(pictures: list[Image.Image], fps: int) -> bytes:
    """All pictures with one palette, so that what stands still neither flickers nor takes space."""
    samples = pictures[:: -(-len(pictures) // _PALETTE_SAMPLES)]
    strip = Image.new("RGB", (samples[0].width, HEIGHT * len(samples)))
    for position, sample in enumerate(samples):
        strip.paste(sample, (0, HEIGHT * position))
    palette = strip.quantize(256, method=Image.Quantize.MEDIANCUT)
    first, *others = (
        picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures
    )
    # In whole hundredths of a second, such that they add up.
    ends = [round(100 * (index + 1) / fps) for index in range(len(pictures))]
    durations = [10 * (end - begin) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    file = io.BytesIO()
    first.save(
        file, "GIF", save_all=True, append_images=others, duration=durations, loop=0, optimize=False
    )
    return file.getvalue()


def _write_mp4(out: Path, pictures: list[Image.Image], fps: int) -> None:
    writer: Any = import_module("imageio_ffmpeg").write_frames(
        str(out), pictures[0].size, fps=fps, macro_block_size=2, ffmpeg_log_level="error"
    )
    with closing(writer):
        writer.send(None)
        for picture in pictures:
            writer.send(picture.tobytes())
