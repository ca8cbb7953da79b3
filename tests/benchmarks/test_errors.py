"""What others say, without end."""

import json
import os
import signal
import time
import warnings
from pathlib import Path

import pytest

from benchmarks.engines.events import Failure, Success, attempt
from benchmarks.errors import sanitize
from benchmarks.processes import last_output, redirect_output


def test_long_text_keeps_its_beginning_and_its_end() -> None:
    assert sanitize("short\tü\n", 10) == "short\tü\n"
    assert sanitize("a" * 50 + "b" * 50, 10) == "aaaaa\n[90 characters left out]\nbbbbb"


def test_what_no_file_can_hold_and_what_a_terminal_obeys_is_written_out() -> None:
    assert sanitize("a\ud800b\x1b[31m\x00\r", 100) == "a\\ud800b\\x1b[31m\\x00\\r"


@pytest.mark.parametrize("position", range(0, 400, 7))
def test_no_part_of_a_password_is_left_where_text_is_cut(position: int) -> None:
    text = "x" * position + " http://alice:S3CRET@tracker " + "x" * (400 - position)
    assert "CRET" not in sanitize(text, 30)
    assert "S3CR" not in sanitize(text, 30)


def test_an_exception_of_50_mb_is_recorded_in_a_moment() -> None:
    def fail() -> None:
        raise ValueError("http://a:S3CRET@b \udcff" + "x" * 50_000_000)

    began = time.monotonic()
    failure = attempt(fail)

    assert isinstance(failure, Failure)
    assert time.monotonic() - began < 10
    assert failure.error.startswith("ValueError: http://a:***@b \\udcffxxx")
    assert len(failure.error) < 2_100
    assert len(failure.traceback) < 51_000
    json.dumps(vars(failure), ensure_ascii=False).encode()


def test_thousands_of_warnings_are_a_few() -> None:
    def warn() -> None:
        warnings.simplefilter("always")
        for i in range(5_000):
            warnings.warn(f"{i} " + "x" * 10_000, stacklevel=1)

    outcome = attempt(warn)

    assert isinstance(outcome, Success)
    assert len(outcome.warnings) == 21
    assert outcome.warnings[0].startswith("UserWarning: 0 xxx")
    assert outcome.warnings[-1] == "and 4,980 other warnings"
    assert max(map(len, outcome.warnings)) < 2_100


def test_a_warning_is_on_one_line_without_colours() -> None:
    outcome = attempt(lambda: warnings.warn("\x1b[33mWARN: one\n   and two\x1b[0m", stacklevel=1))

    assert outcome == Success(("UserWarning: WARN: one and two",))


def test_what_a_worker_prints_does_not_fill_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "output"
    path.touch()
    child = os.fork()
    if child == 0:  # as a worker does
        redirect_output(path)
        os.write(1, b"\n".join([b"x" * 1_000] * 5_000))
        while path.stat().st_size > 1_000_000:
            time.sleep(0.01)
        os.write(2, b"last words")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)

    assert path.stat().st_size < 200_000
    output = last_output(path)
    assert output.endswith("xxxlast words")
    assert len(output) <= 100_000


def test_time_is_up() -> None:
    failure = attempt(lambda: time.sleep(60), timeout=0.2)

    assert isinstance(failure, Failure)
    message = "TimeoutError: --run-timeout: the run has taken more than 0.2 seconds"
    assert failure.error == message
    assert "time.sleep(60)" in failure.traceback  # where it was
    assert isinstance(attempt(lambda: None, timeout=0.2), Success)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
