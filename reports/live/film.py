"""The pictures of a film, a learning curve beside an agent that acts, and the film's file."""

from __future__ import annotations

import io
from contextlib import closing
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

from benchmarks.names import plain
from benchmarks.numbers import return_text
from benchmarks.records import RunSpec
from benchmarks.statistics import final_return, final_window
from benchmarks.storage import whole_file
from reports.live.agent import Frame
from reports.rendering import figures

# Pixels; even numbers, which H.264 needs.
HEIGHT = 360
CURVE_WIDTH = 440
CAPTION_HEIGHT = 28
_DPI = 100
_PALETTE_SAMPLES = 16


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
    # On the side of the line that has less of the curve, which ends at the line.
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
    # A picture that is narrower than its caption keeps its shape, in the middle.
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


def _font(size: int) -> ImageFont.FreeTypeFont:
    # Matplotlib's own, so that curve and caption look alike everywhere.
    return ImageFont.truetype(
        str(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size
    )


def write(out: Path, pictures: list[Image.Image], fps: int) -> None:
    """Write a film, whole or not at all.

    :param out: ends in ``.gif``, or in ``.mp4``, which needs imageio-ffmpeg
    :param fps: frames per second
    """
    with whole_file(out) as unfinished:
        if out.suffix == ".gif":
            unfinished.write_bytes(_gif(pictures, fps))
        else:
            _write_mp4(unfinished, pictures, fps)


def _gif(pictures: list[Image.Image], fps: int) -> bytes:
    """The pictures with one palette: what stands still neither flickers nor takes space."""
    samples = pictures[:: -(-len(pictures) // _PALETTE_SAMPLES)]
    strip = Image.new("RGB", (samples[0].width, HEIGHT * len(samples)))
    for position, sample in enumerate(samples):
        strip.paste(sample, (0, HEIGHT * position))
    palette = strip.quantize(256, method=Image.Quantize.MEDIANCUT)
    first, *others = (
        picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures
    )
    # Whole hundredths of a second that add up to the length of the film.
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
