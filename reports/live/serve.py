"""The page of a report in a browser of this machine, built again while runs come in."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import NoReturn

from benchmarks.storage import walk
from reports.data.runs import ReportError
from reports.live import EVERY
from reports.rendering.html import POLICY

ADDRESS = "127.0.0.1"
_FIRST_PORT, _N_PORTS = 8000, 100  # of those that are tried where none is asked for
_VERSION = "/version"
# What was switched off and how far the page was scrolled, the browser keeps.
_RELOADING = """<script>
"use strict";
setInterval(async () => {
  const answer = await fetch("%s").catch(() => null); // the server may have ended
  if (answer?.ok && await answer.text() !== "%s") location.reload();
}, 1500);
</script>
</body>"""


def serve(
    build: Callable[[], object],
    out: Path,
    runs: Sequence[Path],
    port: int | None = None,
    browse: bool = True,
    every: float = EVERY,
    say: Callable[[str], None] = print,
    complain: Callable[[Exception], None] = lambda error: print(error, file=sys.stderr),
) -> NoReturn:
    """Build a report and serve its page to this machine alone, until interrupted (Ctrl-C).

    Whenever the files of the runs have changed, the report is built again, and the page in the
    browser reloads itself. When that fails, the last page stays.

    :param build: builds the report
    :param out: the folder that it is built into
    :param runs: folders or files with the runs; none: nothing is built again
    :param port: None: the first one that is free from 8000 on
    :param browse: open a browser, where there is one that does not need the terminal
    :param every: seconds between two looks at the runs, or as long as it took to build if longer
    :param complain: called with why it could not be built again
    :raises ReportError: the port cannot be had, or ``out`` is a folder with runs
    """
    out, runs = out.resolve(), [path.resolve() for path in runs]
    if out in runs:
        raise ReportError(f"--out: must be another folder than RUNS with --serve, got {str(out)!r}")
    page = out / "report.html"
    with _listening(port) as server:
        seen = _files(runs, out)
        build()
        server.show(page)
        say(f"{page}: shown at {server.url} until Ctrl-C")
        if browse and _has_browser():
            webbrowser.open(server.url)
        pause = every
        while True:
            time.sleep(pause)
            now = _files(runs, out)
            if now == seen:
                continue
            seen, began = now, time.monotonic()
            try:
                build()
                server.show(page)
            except Exception as error:  # whatever a run that is being written makes of it
                complain(error)
            pause = max(every, time.monotonic() - began)


class _Server(ThreadingHTTPServer):
    """Serves one page, from memory."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__((ADDRESS, port), _Handler)
        self.url = f"http://{ADDRESS}:{port}/"
        # A site elsewhere can give its own name this machine's address, and so read what is served.
        self.hosts = {f"{name}:{port}" for name in (ADDRESS, "localhost")}
        self.contents: dict[str, tuple[str, bytes]] = {}

    def show(self, page: Path) -> None:
        """Serve this page from now on, with what reloads it when another one is shown."""
        text = page.read_text(encoding="utf-8")
        version = hashlib.sha256(text.encode()).hexdigest()
        start, _, end = text.rpartition("</body>")
        start = start.replace(POLICY, f"{POLICY}; connect-src &#39;self&#39;", 1)
        reloading = start + _RELOADING % (_VERSION, version) + end
        self.contents = {
            "/": ("text/html", reloading.encode()),
            _VERSION: ("text/plain", version.encode()),
        }


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """Answer with the report, or with its version."""
        if self.headers["Host"] not in self.server.hosts:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        elif self.path not in self.server.contents:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            media_type, content = self.server.contents[self.path]
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{media_type}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Not a line for each request, of which there are many."""


@contextmanager
def _listening(port: int | None) -> Iterator[_Server]:
    """A server in a thread of its own.

    :raises ReportError: the port cannot be had
    """
    ports = range(_FIRST_PORT, _FIRST_PORT + _N_PORTS) if port is None else [port]
    server = next(filter(None, map(_server_at, ports)), None)
    if server is None:
        reason = f"{port} is in use; leave it out for one that is free"
        none = f"none from {ports[0]} to {ports[-1]} is free; name another one"
        raise ReportError(f"--port: {none if port is None else reason}")
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def _server_at(port: int) -> _Server | None:
    """None where something else listens."""
    try:
        return _Server(port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return None
        raise ReportError(f"--port: {port} cannot be had: {error.strerror}") from error


def _has_browser() -> bool:
    """Whether a window can be opened: without one, a browser would take over the terminal."""
    windows = sys.platform in ("darwin", "win32")
    return windows or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _files(runs: Sequence[Path], out: Path) -> dict[Path, tuple[int, int]]:
    """The size of each file of the runs and when it was written.

    What is hidden is in progress, and what is in ``out`` is the report.
    """
    found: dict[Path, tuple[int, int]] = {}
    for path in chain.from_iterable(_below(root, out) for root in runs):
        with suppress(FileNotFoundError):  # it may have just been renamed
            stat = path.stat()
            found[path] = stat.st_size, stat.st_mtime_ns
    return found


def _below(root: Path, out: Path) -> Iterator[Path]:
    """The files in a folder of runs, or the one file."""
    if root.is_file():
        yield root
    for folder, names, files in walk(root):
        here = Path(str(folder))
        names[:] = [name for name in names if not name.startswith(".") and here / name != out]
        yield from (here / name for name in files if not name.startswith("."))
