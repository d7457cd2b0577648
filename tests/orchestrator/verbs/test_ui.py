from __future__ import annotations

import socket
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.verbs.ui import check, command


def test_the_server_has_one_worker_on_the_loopback() -> None:
    words = command("sqlite:////r/mlflow.db", "/r/artifacts", "127.0.0.1", 5000)
    assert words[1:4] == ["-m", "mlflow", "server"]
    options = dict(zip(words[4::2], words[5::2], strict=True))
    assert options == {
        "--backend-store-uri": "sqlite:////r/mlflow.db",
        "--artifacts-destination": "/r/artifacts",
        "--host": "127.0.0.1",
        "--port": "5000",
        "--workers": "1",
    }


def test_what_cannot_be_served_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has a server already"):
        check("http://localhost:5000", "127.0.0.1", 5000)
    with pytest.raises(UserError, match="no MLflow store yet"):
        check(f"sqlite:///{tmp_path}/mlflow.db", "127.0.0.1", 5000)
    store = tmp_path / "mlflow.db"
    store.touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: Address already in use; choose another --port"):
            check(f"sqlite:///{store}", "127.0.0.1", port)
