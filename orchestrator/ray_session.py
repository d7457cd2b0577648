"""A Ray cluster for the time of one study: started on this machine, or joined by address.

A local cluster listens as narrowly as Ray allows (this node's address is the loopback; token authentication
with a token file only its owner can read), keeps its files in a folder of its own, and writes that folder's
name beside the study, so that the next driver can end what a killed one left behind.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.paths import StudyPaths
from orchestrator.resources import Machine

logger = logging.getLogger(__name__)

PREFIX = "cdkd-ray-"
LOG = "ray.log"
STARTS = 3
OBJECT_STORE_BYTES = 128 * 2**20  # trials exchange texts of a few kilobytes
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0: not a word from Tune
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a trial without GPUs keeps CUDA_VISIBLE_DEVICES: no warning about it
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # orchestrator.stopping has it
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the reason goes to the ledger
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Tune's snapshot is never read
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "86400",
    # A Ray Train run ends seconds earlier than by its default of looking every two seconds.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


@contextmanager
def ray_session(
    paths: StudyPaths, machine: Machine, *, address: str | None = None, uses_train: bool = False
) -> Iterator[Machine]:
    """Start or join a cluster; yields what it has.

    Args:
        paths: the study's files.
        machine: what a local cluster may use.
        address: of a running cluster; None: start one here.
        uses_train: Ray Train runs inside trials; its clean-up of stopped trials needs Ray's dashboard process and
            the cluster's address in every worker.

    Raises:
        UserError: the cluster at `address` cannot be joined.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with _talk_to(paths.ray / LOG):
        try:
            if address is None:
                with _local(paths, machine, uses_train):
                    yield machine
            else:
                yield _join(address)
        finally:
            ray.shutdown()


@contextmanager
def _talk_to(path: Path) -> Iterator[None]:
    """Send standard output to a file: Ray prints a paragraph there for each worker that dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as log, redirect_stdout(log):
        yield


def _join(address: str) -> Machine:
    import ray

    env = {} if address == "auto" else {"env_vars": {"RAY_ADDRESS": address}}
    try:
        ray.init(address=address, runtime_env=env, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # Ray raises whatever its layers raise: ConnectionError, RuntimeError, ValueError ...
        raise UserError(f"--address {address}: cannot join this Ray cluster: {_first_line(error)}") from None
    there = ray.cluster_resources()
    return Machine(there.get("CPU", 0), there.get("GPU", 0))


@contextmanager
def _local(paths: StudyPaths, machine: Machine, uses_train: bool) -> Iterator[None]:
    import ray

    protect_token()
    try:
        for attempt in range(1, STARTS + 1):
            reap(paths)
            try:
                _start(paths, machine, uses_train)
                break
            except Exception as error:  # Ray gives its processes 30 seconds, which a busy machine may exceed
                ray.shutdown()
                logger.warning("Ray did not start (attempt %d of %d): %s", attempt, STARTS, _first_line(error))
        else:
            raise UserError(f"Ray did not start on this machine in {STARTS} attempts; `--in-process` does without it")
        yield
    finally:
        ray.shutdown()
        os.environ.pop("RAY_GCS_SERVER_PORT", None)
        reap(paths)  # a start that failed, and agents that outlive their cluster


def _start(paths: StudyPaths, machine: Machine, uses_train: bool) -> None:
    import ray

    folder = tempfile.mkdtemp(prefix=PREFIX)  # mode 0700; a short path, since it holds Unix sockets
    note = _note(paths)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(folder)
    port = _free_port()
    os.environ["RAY_GCS_SERVER_PORT"] = str(port)  # so that the address is known before the cluster is there
    ray.init(
        address="local",
        num_cpus=int(machine.cpus) + (1 if uses_train else 0),  # the Tune actors around Train take 0.01 each
        num_gpus=int(machine.gpus),
        include_dashboard=uses_train,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.CRITICAL,
        runtime_env={"env_vars": {"RAY_ADDRESS": f"127.0.0.1:{port}"}} if uses_train else {},
        _node_ip_address="127.0.0.1",
        _temp_dir=folder,
    )


def protect_token() -> None:
    """Make sure that Ray's token, which Ray itself writes for all to read, is its owner's alone."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    token = Path.home() / ".ray" / "auth_token"
    token.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, secrets.token_hex(32).encode())
        os.close(descriptor)
    token.chmod(0o600)


def reap(paths: StudyPaths) -> None:
    """End what is left of this study's last Ray cluster. The caller holds the study's lock."""
    note = _note(paths)
    with suppress(FileNotFoundError):
        folder = note.read_text().strip()
        if Path(folder).name.startswith(PREFIX):
            _kill_users(folder)
            shutil.rmtree(folder, ignore_errors=True)
        note.unlink()


def _kill_users(folder: str) -> None:
    """Kill our own processes of the cluster that lives in this folder."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_ours = entry.stat().st_uid == os.getuid() and int(entry.name) != os.getpid()
            if is_ours and _belongs(entry, folder):
                os.kill(int(entry.name), signal.SIGKILL)


def _belongs(process: Path, folder: str) -> bool:
    """Whether a process was started with the folder among its arguments, or is Ray's and has files open there."""
    arguments = (process / "cmdline").read_bytes()
    if folder.encode() in arguments:
        return True
    if not arguments.startswith(b"ray::"):  # Ray's agents and workers replace their arguments by a title
        return False
    return any(os.readlink(item).startswith(f"{folder}/") for item in (process / "fd").iterdir())


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]


def _note(paths: StudyPaths) -> Path:
    return paths.ray / "session"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
