"""Attack: take the journal away: stop, kill or starve the recorder. No entry, no service (contracts.md sections 4 and 7)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from siege import Event, Siege
from siege_door import Recorder
from uids import open_folder, root_here


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def story(siege: Siege, request: str) -> list[Event]:
    """Every entry about a request."""
    return [event for _, event in siege.rows(0) if event.get("link", {}).get("request") == request]


def test_a_stalled_recorder_stops_service_within_a_second(broken: Siege) -> None:
    """503 `journal_stalled`, no byte at the model; whatever it admits late is closed, and nobody is served by it."""
    before = broken.model.bytes
    with stopped(broken.pid("recorder")):
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: broken.ask_raw(broken.chat()), range(8)))
        assert time.monotonic() - began < 8
        assert {answer.status for answer in answers} == {503}
        assert {answer.headers["retry-after"] for answer in answers} == {"1"}
        assert {answer.json["error"]["code"] for answer in answers} == {"service_unavailable"}
        assert broken.model.bytes == before
    broken.well()
    broken.until(lambda: open_requests(broken) == 0)
    for answer in answers:
        kinds = [event["type"] for event in story(broken, answer.headers["x-sealward-request"])]
        assert kinds in ([], ["inference.admitted", "inference.aborted"]), kinds


def test_the_end_of_an_answer_waits_for_its_entry(broken: Siege) -> None:
    """A stream that is complete at the model is not complete at its caller while the recorder stands still."""
    line = broken.line()
    line.send(broken.chat("hold", stream=True).raw)
    pieces = line.lines()
    data = next(pieces)
    while b'"content":"b"' not in data:
        data += next(pieces)
    with stopped(broken.pid("recorder")):
        broken.model.release.set()
        line.sock.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while b"[DONE]" not in data:
                data += next(pieces)
        broken.model.release.clear()
        assert b"[DONE]" not in data
    line.sock.settimeout(10)
    for piece in line.lines():
        data += piece
        if data.endswith(b"0\r\n\r\n"):
            break
    assert b"data: [DONE]" in data


def test_a_killed_recorder_ends_what_runs_and_closes_it(broken: Siege) -> None:
    """Streams are cut, their entries written by the next recorder, and the journal is whole."""
    line = broken.line()
    line.send(broken.chat("hold", stream=True).raw)
    head = next(line.lines())
    assert b" 200 " in head
    request = head.partition(b"x-sealward-request: ")[2][:26].decode()
    asked, pid = broken.model.asked[-1], broken.pid("recorder")
    os.kill(pid, signal.SIGKILL)
    data = b""
    with contextlib.suppress(ConnectionError):
        for piece in line.lines():
            data += piece
    assert b"[DONE]" not in data
    assert asked.gone.wait(10)
    broken.until(lambda: broken.pid("recorder") != pid)
    broken.well()
    events = story(broken, request)
    assert [event["type"] for event in events] == ["inference.admitted", "inference.aborted"]
    assert events[1]["outcome"]["aborted_by"] == "recovery"
    assert json.loads(broken.sealward("journal", "verify", "--json"))["ok"]


def test_a_killed_control_or_sidecar_is_no_way_around(broken: Siege) -> None:
    """Without control service goes on; without the sidecar it does not, and nobody else reaches the model."""
    control = broken.pid("control")
    os.kill(control, signal.SIGKILL)
    assert broken.ask_raw(broken.chat()).status == 200
    broken.until(lambda: broken.pid("control") != control and broken.report()["control"]["state"] == "ready")
    sidecar = broken.pid("sidecar")
    with stopped(sidecar):
        os.kill(sidecar, signal.SIGKILL)
    before = broken.model.bytes
    answer = broken.ask_raw(broken.chat())
    if answer.status != 200:
        assert answer.status in {502, 503}
        assert broken.model.bytes == before
    broken.well()


@pytest.fixture(scope="module")
def small() -> Iterator[Siege | None]:
    """A deployment whose journal lies on a disk of 96 MiB of its own; None, loudly, where none can be mounted."""
    with open_folder() as folder:
        siege = Siege(folder / "ai")
        if not mounted(siege.home / "journal"):
            print("LEFT OUT: a full and a read-only disk, which only root can mount here")
            yield None
            return
        try:
            siege.begin()
            yield siege
            siege.close()
        finally:
            subprocess.run(["umount", "-l", siege.home / "journal"], check=False)


def mounted(journal: Path) -> bool:
    """Moves a journal onto a small disk."""
    if not root_here():
        return False
    kept = journal.with_name("journal.kept")
    journal.rename(kept)
    journal.mkdir()
    shutil.copystat(kept, journal)
    options = f"size=96m,mode=0755,uid={kept.stat().st_uid},gid={kept.stat().st_gid}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "sealward-test", journal], check=False).returncode:
        journal.rmdir()
        kept.rename(journal)
        return False
    subprocess.run(["cp", "-a", f"{kept}/.", journal], check=True)
    shutil.rmtree(kept)
    return True


def test_a_full_disk_keeps_room_for_administration(small: Siege | None) -> None:
    """Under 64 MiB: callers are refused with `journal_full`, an administrator still revokes a key."""
    if small is None:
        return
    key = small.new_key("app")
    assert small.ask_raw(small.chat(key=key)).status == 200
    filler = small.home / "journal/filler"
    try:
        fill(filler, leave=40 << 20)
        small.until(lambda: small.ask_raw(small.chat()).status == 503)
        before = small.model.bytes
        assert {small.ask_raw(small.chat()).status for _ in range(5)} == {503}
        assert small.model.bytes == before
        small.admin("POST", f"apikeys/{key[9:20]}/revoke")
        assert small.ask_raw(small.chat(key=key)).status == 401
    finally:
        filler.unlink()
    small.well()
    small.check_log()


def test_a_disk_without_a_byte_stops_all_and_heals_by_itself(small: Siege | None) -> None:
    """Nothing is served, nothing administered; once there is room the next recorder goes on, and the log is whole."""
    if small is None:
        return
    filler = small.home / "journal/filler"
    try:
        fill(filler, leave=0)
        small.until(lambda: small.ask_raw(small.chat()).status == 503)
        before = small.model.bytes
        numbers = count(1)
        small.until(lambda: attempted(small, "users", {"id": f"unwritten-{next(numbers)}"}) >= 500)
        assert {small.ask_raw(small.chat()).status for _ in range(5)} == {503}
        assert small.model.bytes == before
    finally:
        filler.unlink()
    small.well()
    there = {row["id"] for row in small.admin("GET", "users") if row["id"].startswith("unwritten")}
    written = {event["change"]["target"] for _, event in small.rows(0) if event["type"] == "subject.created"}
    assert there <= written  # one that was answered with 503 may have got as far as its entry
    assert json.loads(small.sealward("journal", "verify", "--json"))["ok"]
    small.check_log()


def test_a_journal_that_cannot_be_written_is_no_journal(small: Siege | None) -> None:
    """Read-only under the running recorder: what it has open may still work, new files do not; then nothing is served."""
    if small is None:
        return
    journal = small.home / "journal"
    subprocess.run(["mount", "--bind", journal, journal], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", journal], check=True)
    try:
        small.until(lambda: small.ask_raw(small.chat()).status == 503)
        before = small.model.bytes
        assert {small.ask_raw(small.chat()).status for _ in range(5)} == {503}
        assert small.model.bytes == before
        assert attempted(small, "users", {"id": "never"}) >= 500
    finally:
        subprocess.run(["umount", "-l", journal], check=True)
    small.well()
    assert "never" not in {row["id"] for row in small.admin("GET", "users")}
    assert json.loads(small.sealward("journal", "verify", "--json"))["ok"]


def fill(path: Path, leave: int) -> None:
    """A file that leaves so many bytes on its disk."""
    about = os.statvfs(path.parent)
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        left = about.f_bavail * about.f_frsize - leave
        while left > 0:
            left -= file.write(bytes(min(left, 1 << 20)))
        while leave == 0:
            file.write(bytes(4096))


def attempted(siege: Siege, path: str, body: object) -> int:
    """The status of a change at the owner's socket that may fail."""
    try:
        siege.admin("POST", path, body)
    except AssertionError as error:
        return int(str(error).partition("status=")[2].partition(",")[0])
    return 200


def open_requests(siege: Siege) -> int:
    """As the recorder counts them."""
    with Recorder(siege, "owner") as owner:
        return int(owner.ask({"op": "status"})["open"])
