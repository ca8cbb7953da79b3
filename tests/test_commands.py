"""Every command of the suite, called without what it needs: the usage, and no traceback."""

import pytest
import typer
from typer.testing import CliRunner

import benchmarks.__main__
import reports.__main__
import studies.__main__

APPS = [benchmarks.__main__.app, studies.__main__.app, reports.__main__.app]


@pytest.mark.parametrize("app", APPS, ids=["benchmarks", "studies", "reports"])
def test_what_is_missing_is_said(app: typer.Typer) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    needy = [name for name, each in commands.items() if any(p.required for p in each.params)]
    assert len(needy) >= 3
    for arguments, code, said in (
        ([], 2, "Commands"),
        (["--help"], 0, "Commands"),
        (["dance"], 2, "No such command 'dance'"),
        *(([name], 2, "Missing") for name in needy),
    ):
        result = CliRunner().invoke(app, arguments)
        assert (result.exit_code, "Traceback" in result.output) == (code, False), arguments
        assert said in result.output
        assert "Usage:" in result.output
