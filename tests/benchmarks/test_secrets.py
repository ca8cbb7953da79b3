"""Passwords in URLs."""

import json
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.command_line import given_command
from benchmarks.secrets import mask


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://alice:S3CRET@db.example:5432/studies",
        "postgresql+psycopg2://alice:S3:CRE/T@db/studies?sslmode=require",
        "redis://:S3CRET@cache:6379/0",
        "mysql://al.ice:S3%40CRET@10.0.0.1/none",
    ],
)
def test_a_password_is_hidden_as_sqlalchemy_hides_it(url: str) -> None:
    assert mask(url) == make_url(url).render_as_string(hide_password=True)
    said = f"OperationalError: no connection to {url}, twice: '{url}'"
    assert mask(said).count("***@") == 2
    assert "CRE" not in mask(said)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://u:a@b@host/x", "http://u:***@host/x"),  # an @ in the password
        ("sqlite:///study.db?token=S3CRET&x=1", "sqlite:///study.db?token=***&x=1"),
        ("s3://b?AWS_Secret_Access_Key=S3CRET;a=b", "s3://b?AWS_Secret_Access_Key=***;a=b"),
        ("https://x/y?se=2&sig=S3CRET", "https://x/y?se=2&sig=***"),
        ("connect(password='S3CRET', user='a')", "connect(password='***', user='a')"),
        ("https://ghp_S3CRET@github.com/a/b.git", "https://***@github.com/a/b.git"),
        ("postgresql://user@realm:S3CRET@h/db", "postgresql://user@realm:***@h/db"),
        ("postgresql://u:@bc@h/db", "postgresql://u:***@h/db"),
        (f"postgresql://u:{'x' * 600}@h", "postgresql://u:***@h"),
        ("{'password': 'S3CRET', 'user': 'a'}", "{'password': '***', 'user': 'a'}"),
        ('{"api-key":"S3 CRET"}', '{"api-key":"***"}'),
        ("password: S3CRET, host: b", "password: ***, host: b"),
        ("Authorization: Bearer S3CRET", "Authorization: Bearer ***"),
        ("api-key=S3CRET access_key=S3CRET", "api-key=*** access_key=***"),
        ("password='S3CRET with space'", "password='***'"),
        ("x:///?odbc_connect=UID%3Da%3BPWD%3DS3CRET", "x:///?odbc_connect=UID%3Da%3BPWD%3D***"),
    ],
)
def test_other_forms_of_secrets(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "ray://10.0.0.1:10001",
        "sqlite:////home/me/study.db",
        "http://host:5000/api, write to me@example.org",
        "postgresql://alice@db/studies",
        "--set sigma=0.1 n_tokens=5 max_grad_norm=0.5",
        "see https://a.b/c?page=2#part",
        "git@github.com:a/b.git",
        "token: must be a string",
        "the password is wrong",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


def test_no_file_of_a_run_has_the_password(
    tmp_path: Path, tiny_suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs"
    url = "http://alice:S3 HIDDEN@tracker"
    arguments = ["run", str(tiny_suite), "--algos", "ppo", "--steps", "64", "--out", str(out)]
    arguments += ["--set", f"policy_kwargs.x={url}"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    assert "alice:***@tracker" in given_command("benchmarks")
    arguments[-1] = "n_steps=64"

    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 0, result.output
    (record,) = out.rglob("run.json")
    assert "http://alice:***@tracker" in json.loads(record.read_text())["command"]
    for path in out.rglob("*"):
        assert path.is_dir() or b"HIDDEN" not in path.read_bytes()


def test_no_message_has_the_password_of_a_folder(tmp_path: Path) -> None:
    url = "nosuch://alice:S3CRET@host/runs"
    for arguments in (["status", url], ["archive", str(tmp_path), url]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2
        assert "nosuch://alice:***@host/runs" in result.output
        assert "S3CRET" not in result.output


def test_a_long_text_takes_no_time() -> None:
    start = time.monotonic()
    for text in ("://a:" * 20_000, "password='" * 20_000, "https://" * 20_000, "x" * 10**6):
        mask(text)
    assert time.monotonic() - start < 20
