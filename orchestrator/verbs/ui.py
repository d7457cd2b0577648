"""`cdkd ui`: MLflow's pages on this store, for this machine only unless told otherwise."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from orchestrator.errors import UserError
from orchestrator.paths import results_folder
from orchestrator.verbs.stored import store_uri

ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = "Serve MLflow's pages on the store of a results folder, on the loopback address."
    parser.epilog = "Example: cdkd ui --results results --port 5001"
    parser.add_argument("--results", metavar="DIR", help="results folder (default: $CDKD_RESULTS, else ./results)")
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow store (default: mlflow.db in the results folder)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=5000, help="port to listen on (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Becomes the MLflow server; does not return.

    Raises:
        UserError: there is no store, it has a server already, or the port is taken.
    """
    uri = store_uri(args.results, args.tracking_uri)
    check(uri, args.host, args.port)
    sys.stderr.write(f"MLflow on {uri}: http://{args.host}:{args.port} (Ctrl-C ends it)\n")
    sys.stderr.flush()
    arguments = command(uri, str(results_folder(args.results) / "artifacts"), args.host, args.port)
    os.execve(sys.executable, arguments, os.environ | ENVIRONMENT)  # noqa: S606 - our own interpreter, no shell


def check(uri: str, host: str, port: int) -> None:
    """Whether the server could start.

    Raises:
        UserError: there is no store, it has a server already, or the port is taken.
    """
    if uri.startswith(("http://", "https://")):
        raise UserError(f"this store has a server already: {uri}")
    file = uri.removeprefix("sqlite:///")
    if file != uri and not os.path.exists(file):
        raise UserError(f"{file}: no MLflow store yet; `cdkd run` makes one")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"--host {host} --port {port}: {error.strerror}; choose another --port") from None


def command(uri: str, artifacts: str, host: str, port: int) -> list[str]:
    """The server's command line: one worker, since each takes 150 MB."""
    options = {
        "--backend-store-uri": uri,
        "--artifacts-destination": artifacts,
        "--host": host,
        "--port": str(port),
        "--workers": "1",
    }
    return [sys.executable, "-m", "mlflow", "server", *(word for pair in options.items() for word in pair)]
