"""The recorder as a process: real sockets, a real disk, real signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recorder_alone import EPOCH, KEY
from recorder_desk import closing
from recorder_process import Process, recorder
from sealward import settings
from sealward.formats.frames import frame
from sealward.formats.receipt import verify_receipt
from sealward.gateway.recorder import Recorder
from sealward.journal.durable import OsDisk
from sealward.journal.init import create
from sealward.journal.reader import Reader
from sealward.process import Start
from uids import attempt, connect, root_here

Message = dict[str, Any]


@pytest.fixture
def process() -> Iterator[Process]:
    """A recorder that runs; what is left of it is killed."""
    with recorder() as process:
        yield process


def kinds(events: list[Message]) -> list[str]:
    """Their types."""
    return [event["type"] for event in events]


def test_a_request_from_its_admission_to_its_receipt(process: Process) -> None:
    """Pass, closing entry, a receipt within a second of its checkpoint, and an end that the journal tells."""
    door = process.line("door")
    message = process.admitted(door)
    text = door.answer(door._n)["pass"]
    assert "leaf" in door.ask(closing(message["req"]))
    question = {"op": "receipt", "req": message["req"], "subject": "ann"}
    until = time.monotonic() + 20
    while "receipt" not in (found := door.ask(question)):
        assert found.get("pending"), found
        assert time.monotonic() < until
        time.sleep(0.02)  # until a checkpoint covers it
    receipt = verify_receipt(found["receipt"], log=process.log_key, pass_=text)
    assert receipt.statement["outcome"] == "completed"
    status = process.line("owner").ask({"op": "status"})
    assert (status["state"], status["epoch"], status["open"]) == ("serving", EPOCH, 0)
    assert process.end(signal.SIGTERM) == 0, process.log()
    events = process.events()
    assert kinds(events)[:2] == ["process.started", "journal.opened"]
    assert kinds(events)[-1] == "process.stopped"
    disk = OsDisk(process.folder / "journal")
    assert Reader(disk, process.log_key).checkpoint()[0].size == len(events)


def test_killed_at_once_it_closes_what_was_open_before_it_listens(process: Process) -> None:
    """Kill -9 with open requests: the next run closes each by recovery, and a second closing is refused."""
    door = process.line("door")
    requests = [process.admitted(door)["req"] for _ in range(3)]
    process.end(signal.SIGKILL)
    process.start()
    door = process.line("door")
    assert "refused" in door.ask(closing(requests[0]))
    aborted = [event for event in process.events() if event["type"] == "inference.aborted"]
    assert sorted(event["link"]["request"] for event in aborted) == sorted(requests)
    assert {event["outcome"]["aborted_by"] for event in aborted} == {"recovery"}


def test_a_door_that_dies_has_its_requests_closed(process: Process) -> None:
    """By the recorder, as soon as the connection ends."""
    door = process.line("door")
    request = process.admitted(door)["req"]
    door.close()
    owner = process.line("owner")
    until = time.monotonic() + 20
    while owner.ask({"op": "status"})["open"]:
        assert time.monotonic() < until
    (aborted,) = [event for event in process.events() if event["type"] == "inference.aborted"]
    assert (aborted["link"]["request"], aborted["outcome"]["aborted_by"]) == (request, "door")


def test_garbage_ends_its_connection_and_no_other(process: Process) -> None:
    """A hostile door is heard no further; the others are served."""
    good = process.line("door")
    process.admitted(good)
    for data in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x00\x10\x00\x00",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x01{",
        frame({"op": "intents", "n": 1}),
        frame({"op": "admit", "n": 1, "event": {"x": "y" * 200_000}}),
    ):
        assert process.line("door").raw(data) == b"", data[:20]
        process.admitted(good)


def test_a_client_that_does_not_read_is_not_waited_for(process: Process) -> None:
    """Its answers fill its own buffers, then nothing more is read from it; memory stays, others are served."""
    good, deaf = process.line("door"), process.line("door")
    process.admitted(good)
    deaf._socket.settimeout(1)
    question = frame({"op": "receipt", "n": 1, "req": "x", "subject": "ann"})
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 64 << 20:
            sent += deaf._socket.send(question * 1000)
    assert sent < 64 << 20
    process.admitted(good)
    resident = int(Path(f"/proc/{process.popen.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert resident < 256 << 20


def test_another_user_is_not_heard(process: Process) -> None:
    """Even where a socket's mode would let him in, the kernel says who he is."""
    if not root_here():
        return
    process.line("door")
    path = process.run / "recorder.door.sock"

    def talk() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(path))
            with contextlib.suppress(BrokenPipeError):
                client.sendall(frame({"op": "receipt", "n": 1, "req": "x", "subject": "ann"}))
            if client.recv(1) == b"":
                raise ConnectionResetError(104, "ended")

    assert attempt(61_234, connect(path)) == "ok"
    assert attempt(61_234, talk) == "ECONNRESET"


def test_a_fault_of_ours_ends_the_process(tmp_path: Path) -> None:
    """A recorder that goes on half done would be worse than none: the next run starts from what is durable."""
    create(tmp_path / "journal", "journal.test/fault")
    ours, theirs = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    ours.bind(str(tmp_path / "recorder.door.sock"))
    ours.listen()
    ours.setblocking(False)
    start = Start("recorder", tmp_path, {"recorder.door": ours}, {"door": os.geteuid()})

    async def scenario() -> None:
        recorder = Recorder(start, tmp_path / "journal", tmp_path, KEY.public_key(), settings.Refusals())
        recorder._recording._decide = faulty  # type: ignore[method-assign]
        theirs.connect(str(tmp_path / "recorder.door.sock"))
        theirs.sendall(frame({"op": "record", "event": {}}))
        async with asyncio.timeout(20):
            await recorder.serve()

    def faulty(asked: object) -> None:
        raise ZeroDivisionError

    with theirs, pytest.raises(ZeroDivisionError):
        asyncio.run(scenario())


def test_events_on_the_way_are_taken_before_the_end(process: Process) -> None:
    """What other processes reported before SIGTERM is in the journal, before the recorder's own end."""
    line = process.line("supervisor")
    for _ in range(50):
        line.send({"op": "record", "event": {"type": "process.stopped", "process": {"name": "door"}}})
    line.answer(50)
    assert process.end(signal.SIGTERM) == 0
    assert kinds(process.events())[-51:] == ["process.stopped"] * 51
