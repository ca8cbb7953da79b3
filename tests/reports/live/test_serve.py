"""A report that is served to this machine, and built again while runs come in."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import statistics
from reports.__main__ import app
from reports.data.runs import ReportError
from reports.live import serve as serving
from reports.rendering import figure_style, html
from tests.browser import Page, browse, browser_tests, with_script
from tests.reports.conftest import RunFolders, build_report


def get(port: int, path: str = "/", host: str | None = None) -> tuple[int, str]:
    """The status and the text of an answer; the path and the host reach the server as they are."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", f"127.0.0.1:{port}" if host is None else host)
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def port_of(line: str) -> int:
    (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)/", line)
    return int(port)


@contextmanager
def served(page: Path) -> Iterator[tuple[serving._Server, int]]:
    with serving._listening(None) as server:
        server.show(page)
        yield server, port_of(server.url)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page with nothing but the head and the end of one of a report."""
    path = tmp_path / "report" / "report.html"
    path.parent.mkdir()
    path.write_text(html.page("First", [], path.parent), encoding="utf-8")
    (path.parent / "notes.txt").write_text("mine")
    (tmp_path / "secret.txt").write_text("secret")
    return path


def test_the_page_is_served_to_this_machine_alone(page: Path) -> None:
    with served(page) as (server, port):
        status, text = get(port)
        assert status == 200
        assert "<h1" in text
        assert server.server_address[0] == "127.0.0.1"
        assert get(port, host=f"localhost:{port}")[0] == 200
        for host in (
            "",
            "example.org",
            f"example.org:{port}",
            "127.0.0.1",
            f"127.0.0.1:{port}.org",
        ):
            assert get(port, host=host)[0] == 421
    with pytest.raises(ConnectionRefusedError):
        get(port)


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "//etc/passwd",
        "/..",
        "/notes.txt",
        "/report",
        "../secret.txt",
        "/?/../secret.txt",
        "http://example.org/",
    ],
)
def test_nothing_but_the_page_is_served(page: Path, path: str) -> None:
    with served(page) as (_, port):
        status, text = get(port, path)
    assert status == 404
    assert "secret" not in text.replace("secret.txt", "")
    assert "mine" not in text


def test_the_version_changes_with_the_page(page: Path) -> None:
    with served(page) as (server, port):
        _, first = get(port, "/version")
        assert first in get(port)[1]
        server.show(page)
        assert get(port, "/version") == (200, first)
        page.write_text(page.read_text().replace("First", "Second"))
        server.show(page)
        status, second = get(port, "/version")
        assert status == 200
        assert second != first
        assert second in get(port)[1]
        assert "Second" in get(port)[1]


def test_a_port_that_is_in_use_is_named_or_passed_over(page: Path) -> None:
    with served(page) as (_, port), served(page) as (_, other):
        assert other > port >= 8000
        with (
            pytest.raises(ReportError, match=f"--port: {port} is in use"),
            serving._listening(port),
        ):
            pass


def test_a_report_is_built_again_when_the_runs_have_changed(
    folders: RunFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for what is in progress, nor for itself; a build that fails leaves the page."""
    monkeypatch.setattr(statistics, "REPETITIONS", 10)
    monkeypatch.setitem(figure_style.THEME, "savefig.dpi", 20)
    out = folders.root / "report"
    folders.add("npg")
    pages: list[list[str]] = []
    said: list[str] = []
    complaints: list[Exception] = []

    def build() -> None:
        if said:  # what is shown until it has been built again
            pages.append(re.findall(r"</svg>(\w+), 1 seed</li>", get(port_of(said[0]))[1]))
        if len(pages) == 3:
            raise KeyboardInterrupt
        if len(pages) == 1:
            add_soon("acer")
            raise ValueError("half a run")
        build_report(folders.root, out, ["md", "html"])
        add_soon("trpo" if pages else "ppo")

    def add_soon(algo: str) -> None:
        unfinished = folders.add("a2c", seed=len(pages))
        unfinished.rename(unfinished.with_name(f".tmp-{unfinished.name}-1"))
        threading.Timer(0.5, folders.add, [algo]).start()

    with pytest.raises(KeyboardInterrupt):
        serving.serve(build, out, [folders.root], None, False, 0.2, said.append, complaints.append)
    assert len(said) == 1
    assert str(out / "report.html") in said[0]
    assert list(map(str, complaints)) == ["half a run"]
    # One environment, of which there are two figures.
    assert [sorted(set(labels)) for labels in pages] == [["npg"], ["npg"], ["acer", "npg", "ppo"]]


def command(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["build", *map(str, arguments)])
    return result.exit_code, result.stderr


def test_what_cannot_be_served_is_refused(folders: RunFolders, tmp_path: Path) -> None:
    root = folders.add("npg") and folders.root
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, said in [
            (["--port", "8000"], "--port: is of no use without --serve"),
            (["--no-browser"], "--no-browser: is of no use without --serve"),
            (["--serve", "--format", "md"], "--serve: shows the page; --format must have html"),
            (["--serve", "--port", port], f"--port: {port} is in use"),
            (["--serve", "--port", "0"], "--port"),
        ]:
            status, output = command(root, "--out", tmp_path / "report", *arguments)
            assert status == 2
            assert said in output
        status, output = command(root, "--serve", "--out", root)
        assert status == 2
        assert "--out: must be another folder than RUNS with --serve" in output
    assert not (tmp_path / "report").exists()


def test_ctrl_c_ends_it(folders: RunFolders, tmp_path: Path) -> None:
    folders.add("npg")
    arguments = ["build", str(folders.root), "--out", str(tmp_path / "report"), "--serve"]
    process = subprocess.Popen(
        [sys.executable, "-m", "reports", *arguments, "--no-browser"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        # A shell's job in the background ignores it, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        port = port_of(process.stdout.readline())
        assert "npg" in get(port)[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "report" / "report.md").exists()


@browser_tests
def test_the_page_in_the_browser_reloads_itself_and_keeps_its_place(
    chromium: str, study: RunFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report"
    build_report(study.root, out, ["md", "html"])
    first = out / "report.html"
    text = first.read_text()
    # At first, npg is switched off and the page is scrolled.
    script = """
    if (!history.state.off.length) {
      document.querySelector('.legend [data-label="0"] button').click();
      scrollTo(0, 700);
    }
    setInterval(() => { document.title = `${history.state.off} ${Math.round(scrollY)}`; }, 50);
    """
    first.write_text(with_script(text, script))
    second = tmp_path / "second.html"
    second.write_text(with_script(text.replace("Benchmark report</h1>", "Again</h1>"), script))
    requests: list[str] = []

    def look(self: serving._Handler, *_: object) -> None:
        requests.append(self.path)
        if requests.count("/version") == 2:
            self.server.show(second)

    monkeypatch.setattr(serving._Handler, "log_message", look)
    options = ("--virtual-time-budget=12000", "--dump-dom")
    with served(first) as (_, port):
        url = f"http://127.0.0.1:{port}/"
        shown = Page(browse(chromium, tmp_path / "profile", url, *options))
    assert requests.count("/") == 2
    assert [each["text"] for each in shown.all("h1")] == ["Again"]
    assert [each["text"] for each in shown.all("title")] == ["npg 700"]
    pressed = [each["aria-pressed"] for each in shown.all("button", inside="figure")]
    assert pressed[:3] == ["false", "true", "true"]
