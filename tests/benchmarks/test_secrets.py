"""Passwords in URLs."""

import json
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.secrets import command_line, mask


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
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


def test_no_file_of_a_run_has_the_password(
    tmp_path: Path, tiny_suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs"
    url = "http://alice:S3 CRET@tracker"
    arguments = ["run", str(tiny_suite), "--algos", "ppo", "--steps", "64", "--out", str(out)]
    arguments += ["--set", f"policy_kwargs.x={url}"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    assert "alice:***@tracker" in command_line("benchmarks")
    arguments[-1] = "n_steps=64"

    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 0, result.output
    (record,) = out.rglob("run.json")
    assert "http://alice:***@tracker" in json.loads(record.read_text())["command"]
    for path in out.rglob("*"):
        assert path.is_dir() or b"CRET" not in path.read_bytes()
