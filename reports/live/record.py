"""A short film of a trained agent, beside the learning curve of its run.

What draws and loads models is imported once the arguments are known to be good, since it takes
seconds to import.
"""

from __future__ import annotations

import math
import shlex
from contextlib import closing
from importlib import import_module
from pathlib import Path

from tqdm import tqdm

from benchmarks import results
from benchmarks.provenance import machine
from benchmarks.records import RunSpec
from benchmarks.run_files import read_run
from reports.data.runs import ReportError, read_finished
from reports.live import FPS, SECONDS
from reports.rendering.text import machine_text

ENDINGS = (".gif", ".mp4")
MAX_FPS = 50
# All are held in memory, about half a megabyte each.
MAX_FRAMES = 1_500
MAX_SEED = 2**31 - 1


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
    whatever their maker wanted, and the record names classes to import. So a run that was made on
    another machine, by its record, is loaded only with ``trust``. A record can be forged: do not
    film the runs of anybody whose programs you would not run.

    :param folder: of a finished run
    :param out: ends in ``.gif`` or ``.mp4``; written whole or not at all
    :param seed: of the environment; None: that of the run's evaluations
    :param seconds: length of the film
    :param fps: frames per second
    :param trust: load a run of another machine, too
    :raises ReportError: an argument out of range, no finished run, one that was archived without
        its model, one of another machine that is not trusted, MP4 without imageio-ffmpeg, or an
        environment that cannot be rendered here
    :raises benchmarks.results.BrokenRunError: the run's files cannot be read
    """
    n_frames = _check_arguments(out, seed, seconds, fps)
    spec = read_spec(folder)

    from reports.live.agent import MODEL, play
    from reports.live.film import compose, draw_curve, write

    if not (folder / MODEL).exists():
        raise _no_model(folder, spec, MODEL)
    if not trust:
        _refuse_of_others(folder)
    curve = draw_curve(spec, results.read_evaluations(folder))
    frames = play(folder, spec, spec.evaluation.seed if seed is None else seed, n_frames, fps)
    with closing(frames):
        pictures = [
            compose(curve, frame) for frame in tqdm(frames, "frames", n_frames, disable=None)
        ]
    write(out, pictures, fps)


def read_spec(folder: Path) -> RunSpec:
    """The spec of a finished run.

    :raises ReportError: this is not the folder of a finished run
    :raises BrokenRunError: its record cannot be read
    """
    return read_finished(folder).spec


def _no_model(folder: Path, spec: RunSpec, file: str) -> ReportError:
    """That a run has no model, and how to get one.

    This comes before its other files are looked for, which an archive does not have either.
    """
    again = ["run", spec.suite, "--algos", spec.algo, "--envs", spec.env_id]
    again += ["--first-seed", str(spec.seed), "--out", "runs-to-film"]
    first = read_run(folder).command
    return ReportError(
        f"{folder}: has no {file}: the run was archived without its model, and there is nothing "
        "to film. Run it again, into a folder that does not have it, and record that run:\n"
        f"  python -m benchmarks {shlex.join(again)}\n"
        f"The hyperparameters must be those of its run.json; it was made with:\n  {first}"
    )


def _refuse_of_others(folder: Path) -> None:
    """Refuse a run of another machine, before anything of it is loaded.

    :raises ReportError: saying where it was made
    """
    there = read_run(folder).machine.model_dump(exclude_none=True)
    here = {name: value for name, value in machine().items() if value is not None}
    if there != here:
        raise ReportError(
            f"{folder}: was made on another machine ({machine_text(there) or 'not recorded'}), and "
            f"loading its model executes code that whoever made it has put there. If you trust "
            "them, say --trust"
        )


def _check_arguments(out: Path, seed: int | None, seconds: float, fps: int) -> int:
    """Check what was given for a film; the number of its frames.

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
