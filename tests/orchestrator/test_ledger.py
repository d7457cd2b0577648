"""The ledger: what was acknowledged is on disk, whatever happens next."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from orchestrator.errors import Refused
from orchestrator.failpoints import EXIT_CODE
from orchestrator.ledger import Ledger, LedgerError, holder, read_from

REPOSITORY = Path(__file__).parents[2]
DATA = {"trial_id": "full-seed0-ab12", "metrics": {"val/pckh@0.5": 0.25, "naïve \u2028": 1}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study" / "ledger.jsonl"


def write(path: Path, count: int) -> list[bytes]:
    with Ledger.open(path, writer=True) as ledger:
        for number in range(count):
            ledger.append("epoch", {**DATA, "epoch": number})
    return path.read_bytes().splitlines(keepends=True)


def python(code: str, *arguments: object, crash_at: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CDKD_CRASH_AT": crash_at}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60, cwd=REPOSITORY
    )


def test_what_is_appended_is_read_back_in_order_by_writer_and_reader(path: Path) -> None:
    with Ledger.open(path, writer=True) as ledger:
        written = [ledger.append("epoch", {**DATA, "epoch": number}) for number in range(5)]
        assert ledger.records() == written
    assert Ledger.open(path, writer=False).records() == written
    assert [record.seq for record in written] == [0, 1, 2, 3, 4]
    assert written[3].data == {**DATA, "epoch": 3}


def test_a_reopened_ledger_goes_on_where_it_stopped(path: Path) -> None:
    write(path, 3)
    with Ledger.open(path, writer=True) as ledger:
        assert ledger.append("ended", {}).seq == 3
        assert ledger.dropped_bytes == 0
    assert len(read_from(path)[0]) == 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1 + 0.2, 1.7976931348623157e308])
def test_every_float_reads_back_as_it_was(path: Path, value: float) -> None:
    with Ledger.open(path, writer=True) as ledger:
        returned = ledger.append("epoch", {"value": value}).data["value"]
    (record,) = read_from(path)[0]
    for other in (returned, record.data["value"]):
        assert math.copysign(1, other) == math.copysign(1, value) if not math.isnan(value) else math.isnan(other)
        assert math.isnan(value) or other == value


def test_a_record_reads_in_memory_as_it_will_from_disk(path: Path) -> None:
    with Ledger.open(path, writer=True) as ledger:
        assert ledger.append("epoch", {"sizes": (1, 2)}).data == {"sizes": [1, 2]}


def test_data_that_is_not_plain_is_refused_before_anything_is_written(path: Path) -> None:
    with Ledger.open(path, writer=True) as ledger:
        with pytest.raises(TypeError):
            ledger.append("epoch", {"path": path})
        assert path.stat().st_size == 0
        assert ledger.append("epoch", {}).seq == 0


def test_a_last_record_cut_at_any_byte_is_dropped_on_opening_and_reported(path: Path, caplog) -> None:
    lines = write(path, 3)
    whole, last = b"".join(lines[:2]), lines[2]
    for cut in range(len(last)):
        path.write_bytes(whole + last[:cut])
        assert [record.seq for record in read_from(path)[0]] == [0, 1], "a reader tolerates the torn tail"
        assert path.stat().st_size == len(whole) + cut, "and leaves the file alone"
        caplog.clear()
        with Ledger.open(path, writer=True) as ledger:
            assert ledger.dropped_bytes == cut
            assert ("torn last record" in caplog.text) == (cut > 0)
            assert ledger.append("ended", {}).seq == 2
        assert [record.event for record in read_from(path)[0]] == ["epoch", "epoch", "ended"]


@pytest.mark.parametrize("tail", [b"\0" * 40, b"\0" * 40 + b"\n", b"deadbeef {}\n", b"garbage"])
def test_a_last_write_whose_pages_never_arrived_is_dropped_too(path: Path, tail: bytes) -> None:
    lines = write(path, 2)
    path.write_bytes(b"".join(lines) + tail)
    with Ledger.open(path, writer=True) as ledger:
        assert ledger.dropped_bytes == len(tail)
        assert len(ledger.records()) == 2


@pytest.mark.parametrize("writer", [True, False])
def test_one_changed_byte_in_the_middle_is_an_error_naming_file_and_line(path: Path, writer: bool) -> None:
    lines = write(path, 4)
    lines[2] = lines[2].replace(b"0.25", b"0.26")
    path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerError) as caught:
        Ledger.open(path, writer=writer).records()
    assert caught.value.lines == [f"{path}:3: damaged record: the checksum does not match"]
    with pytest.raises(LedgerError, match=":3: damaged"):
        read_from(path, len(lines[0]))


def test_a_missing_record_is_an_error_naming_the_line(path: Path) -> None:
    lines = write(path, 4)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))
    with pytest.raises(LedgerError, match=r"ledger\.jsonl:2: damaged record: record 2 where 1 should be"):
        read_from(path)


def test_after_an_error_the_lock_is_free(path: Path) -> None:
    lines = write(path, 3)
    path.write_bytes(b"x" + b"".join(lines))
    with pytest.raises(LedgerError):
        Ledger.open(path, writer=True)
    assert holder(path) is None


HOLD = """
import sys, time
from pathlib import Path
from orchestrator.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]), writer=True)
ledger.append("invoked", {})
print("holding", flush=True)
time.sleep(60)
"""


def test_a_second_writer_is_refused_naming_the_holder_until_the_holder_dies(path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        assert holder(path) is not None
        began = time.monotonic()
        with pytest.raises(Refused, match=rf"pid {process.pid} on {os.uname().nodename}") as refused:
            Ledger.open(path, writer=True)
        assert time.monotonic() - began < 2
        assert refused.value.exit_code == 3
        assert len(Ledger.open(path, writer=False).records()) == 1, "readers are not refused"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert holder(path) is None
    with Ledger.open(path, writer=True) as ledger:
        assert ledger.append("invoked", {}).seq == 1


FORK = """
import os, sys, time
from pathlib import Path
from orchestrator.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]), writer=True)
child = os.fork()
if child == 0:
    os.close(1), os.close(2)
    time.sleep(60)
print(child, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_worker_that_outlives_the_driver_does_not_hold_its_lock(path: Path) -> None:
    child = int(python(FORK, path).stdout)
    try:
        Ledger.open(path, writer=True).close()
    finally:
        os.kill(child, signal.SIGKILL)


def test_asking_who_holds_a_study_creates_nothing(tmp_path: Path) -> None:
    assert holder(tmp_path / "none" / "ledger.jsonl") is None
    assert Ledger.open(tmp_path / "none" / "ledger.jsonl", writer=False).records() == []
    assert list(tmp_path.iterdir()) == []


def test_a_reader_cannot_append(path: Path) -> None:
    with pytest.raises(ValueError, match="not open for writing"):
        Ledger.open(path, writer=False).append("epoch", {})


def test_a_follower_reads_each_record_once_and_none_half_written(path: Path) -> None:
    lines = write(path, 3)
    content = b"".join(lines)
    seen: list[int] = []
    offset = 0
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        records, offset = read_from(path, offset)
        seen += [record.seq for record in records]
        assert len(seen) == content[:size].count(b"\n")
    assert seen == [0, 1, 2]


def test_a_follower_sees_every_record_of_concurrent_writers_threads(path: Path) -> None:
    with Ledger.open(path, writer=True) as ledger:

        def work() -> None:
            for number in range(25):
                ledger.append("epoch", {"epoch": number, "filler": "x" * 5000})

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        seen: list[int] = []
        offset = 0
        while len(seen) < 100:
            records, offset = read_from(path, offset)
            seen += [record.seq for record in records]
        for thread in threads:
            thread.join()
    assert seen == list(range(100))


def test_a_full_disk_leaves_the_ledger_as_it_was(path: Path, monkeypatch) -> None:
    with Ledger.open(path, writer=True) as ledger:
        ledger.append("epoch", {})
        before = path.read_bytes()
        write_bytes = os.write
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda descriptor, line: write_bytes(descriptor, line[:7]))
            with pytest.raises(OSError, match="wrote 7 of"):
                ledger.append("epoch", {})
        assert path.read_bytes() == before
        assert ledger.append("epoch", {}).seq == 1
    assert len(read_from(path)[0]) == 2


CRASH = """
import sys
from pathlib import Path
from orchestrator.ledger import Ledger
with Ledger.open(Path(sys.argv[1]), writer=True) as ledger:
    for number in range(3):
        print(ledger.append("epoch", {"epoch": number}).seq, flush=True)
"""


@pytest.mark.parametrize(("point", "on_disk"), [("before_append", 1), ("after_write", 2), ("after_append", 2)])
def test_a_crash_at_each_durable_step_loses_nothing_acknowledged(path: Path, point: str, on_disk: int) -> None:
    finished = python(CRASH, path, crash_at=f"{point}:2")
    assert finished.returncode == EXIT_CODE
    assert finished.stdout.split() == ["0"]
    with Ledger.open(path, writer=True) as ledger:
        assert ledger.dropped_bytes == 0
        assert [record.seq for record in ledger.records()] == list(range(on_disk))


def test_a_record_is_synced_before_append_returns(path: Path, monkeypatch) -> None:
    synced: list[int] = []
    with Ledger.open(path, writer=True) as ledger:
        monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
        ledger.append("epoch", {})
        assert synced == [path.stat().st_size]


def test_a_line_is_a_checksum_and_a_json_object(path: Path) -> None:
    (line,) = write(path, 1)
    fields = json.loads(line[9:])
    assert list(fields) == ["seq", "time", "event", "data"]
    assert line[:9].endswith(b" ")
    assert line.isascii()
