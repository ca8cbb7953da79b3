"""Studies beyond one process and one file: a PostgreSQL server, a Ray cluster."""

import json
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from typer.testing import CliRunner

from studies.__main__ import app
from studies.study import WORKER, counted

REPOSITORY = Path(__file__).parents[2]


def run_study(
    root: Path, *options: Any, n_trials: int = 3, **variables: str
) -> subprocess.Popen[str]:
    command = ["run", "--algo", "ppo", "--env", "CartPole-v1", "--trials", n_trials, "--seeds", 1]
    command += ["--steps", 1024, "--name", "mine", "--root", root, *options]
    return subprocess.Popen(
        [sys.executable, "-m", "studies", *map(str, command)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"RAY_worker_niceness": "0"} | variables,
    )


def end(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, f"{output}\n{errors}"
    return output


def check_complete(study: optuna.Study, said: str, n_trials: int = 3) -> None:
    trials = counted(study)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * n_trials, said
    assert trials[0].params == {"clip_range": 0.2}, said
    assert len({trial.params["clip_range"] for trial in trials}) == n_trials, said


def binaries() -> Path:
    """Where PostgreSQL's programs are; installs them where that is possible."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        quietly = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", "postgresql"]):
            environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(["apt-get", "-q", *arguments], env=environment, check=False, **quietly)  # type: ignore[call-overload]
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed and cannot be (apt-get install postgresql)")
    return found[-1].parent


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty database on a server of its own."""
    programs = binaries()
    # The server refuses to be root, and another user must be able to reach its folder.
    folder = Path("/tmp") / f"postgresql-of-tests-{os.getpid()}"
    folder.mkdir()
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        user = {"user": owner.pw_uid, "group": owner.pw_gid}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, "-D", folder / "data", *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            **user,
        )

    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    try:
        call("initdb", "-U", "tests", "-A", "trust")
        call("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgresql://tests@127.0.0.1:{port}/postgres"
        call("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(600)
def test_two_machines_share_a_study_in_postgresql(postgresql: str, tmp_path: Path) -> None:
    """Each with folders of its own: what they know of each other is in the database.

    The server takes any password; it is told to one by an option, to the other by the environment.
    """
    roots = [tmp_path / "here", tmp_path / "there"]
    secret = postgresql.replace("tests@", "tests:S3CRET@")
    processes = [
        run_study(roots[0], "--storage", secret),
        run_study(roots[1], STUDIES_STORAGE=secret),
    ]

    outputs = [end(process) for process in processes]

    study = optuna.load_study(study_name="mine", storage=RDBStorage(postgresql))
    check_complete(study, "\n".join(outputs))
    # Either may have carried out all three before the other began. One is left to another machine.
    outputs.append(end(run_study(tmp_path / "elsewhere", "--storage", secret, n_trials=4)))
    check_complete(study, "\n".join(outputs), 4)
    *earlier, last = [trial.user_attrs[WORKER] for trial in counted(study)]
    assert last not in earlier
    assert all("on fresh seeds: score" in output for output in outputs)
    shown = CliRunner().invoke(app, ["show", "mine", "--storage", postgresql])
    assert "best trial:" in shown.stdout
    assert optuna.get_all_study_names(postgresql) == ["mine"]
    commands = {json.loads(path.read_text())["command"] for path in tmp_path.rglob("run.json")}
    masked = postgresql.replace("tests@", "tests:***@")
    assert any(f"--storage {shlex.quote(masked)}" in command for command in commands)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if b"S3CRET" in path.read_bytes()]
    assert not [output for output in outputs if "S3CRET" in output]


@pytest.mark.xdist_group("ray")
def test_workers_on_a_ray_cluster(tmp_path: Path) -> None:
    pytest.importorskip("ray")

    output = end(run_study(tmp_path, "--engine", "ray", "--jobs", 2))

    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "mine" / "journal.log"))
    storage = optuna.storages.JournalStorage(journal)
    check_complete(optuna.load_study(study_name="mine", storage=storage), output)
    assert "on fresh seeds: score" in output
    assert len(list((tmp_path / "mine" / "runs").rglob("run.json"))) in (4, 5)
