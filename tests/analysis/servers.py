"""Real servers for the tests of this folder, on loopback and for one test session."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 180.0  # a busy machine makes the tables of a new store for a minute


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """An `mlflow server` over a SQLite file in the folder, artifacts through it; its URI."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "served")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(WAIT_S)


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()) from None
            time.sleep(0.1)


def postgresql_programs() -> Path | None:
    """The folder of PostgreSQL's programs; Debian keeps them off the path."""
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    found += [Path(path) for path in [shutil.which("initdb")] if path]
    return found[0].parent if found else None


@contextmanager
def postgresql_server(programs: Path) -> Iterator[str]:
    """An empty database of an own cluster; its URI, with a password in it."""
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
    # Not below pytest's folders, which are closed to other users.
    with tempfile.TemporaryDirectory(prefix="cdkd-postgresql-") as name:
        folder, port = Path(name), free_port()
        if as_user:
            shutil.chown(folder, "postgres")
        (folder / "password").write_text("secret")

        def call(program: str, *arguments: str) -> None:
            # Its server keeps the output open: a pipe would never end.
            with (folder / "log").open("ab") as log:
                command = [*as_user, str(programs / program), "-D", str(folder / "cluster"), *arguments]
                subprocess.run(command, check=True, stdout=log, stderr=log, cwd=folder)

        call("initdb", "-U", "cdkd", "-A", "scram-sha-256", "--pwfile", str(folder / "password"),
             "--no-sync", "-E", "UTF8", "--locale", "C.UTF-8")  # fmt: skip
        call("pg_ctl", "-w", "-o", f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off", "start")
        try:
            yield f"postgresql://cdkd:secret@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-m", "immediate", "stop")
