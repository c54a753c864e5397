"""The owner's reads: in a process of their own, recorded first, never in the way of those who wait for a pass."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from journals import KEYS, Draft, event, opened
from recorder_desk import closing
from recorder_process import Line, Process, recorder
from sealward.errors import Reason, Refused
from sealward.formats.frames import Frames
from sealward.gateway.catalogue import END, PACKET, Catalogue
from sealward.journal.durable import OsDisk
from sealward.journal.writer import Writer

Message = dict[str, Any]


@pytest.fixture
def process() -> Iterator[Process]:
    """A recorder that runs; what is left of it is killed."""
    with recorder() as process:
        yield process


def served(process: Process, count: int) -> list[str]:
    """So many requests of Ann, each completed."""
    door = process.line("door")
    requests = [process.admitted(door)["req"] for _ in range(count)]
    for request in requests:
        assert "leaf" in door.ask(closing(request))
    return requests


def answer(owner: Line, op: str, query: Any) -> list[Message]:
    """Everything that is said to one question."""
    n = owner.send({"op": op, "query": query})
    said: list[Message] = []
    while not said or not {"done", "refused"} & said[-1].keys():
        said += owner._frames.feed(owner._received())
    assert {message["n"] for message in said} == {n}
    return said


def rows(owner: Line, op: str, query: Any) -> list[Message]:
    """The rows of an answer that came to its end."""
    *found, last = answer(owner, op, query)
    assert last.keys() == {"n", "done"}, last
    return [message["row"] for message in found]


def children(pid: int) -> list[int]:
    """Processes that it started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def reading(process: Process) -> tuple[int, int]:
    """The keeper and its reader."""
    pair: list[int] = []
    for parent in (process.popen.pid, 0):
        until(lambda: bool(children(parent or pair[0])), "it is forked")  # noqa: B023 - called here
        pair += children(parent or pair[0])
    return pair[0], pair[1]


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for it, 20 s at most."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)  # for a condition


def test_rows_and_answers_come_after_an_entry_that_says_so(process: Process) -> None:
    """Everything, a part, by what entries say, counted; each with one `journal.read` before it that holds the question."""
    requests = served(process, 3)
    owner = process.line("owner")
    everything = rows(owner, "read", {"from": 0})
    assert [row["index"] for row in everything] == list(range(len(everything)))
    assert [row["event"]["type"] for row in everything[-3:]] == ["inference.completed"] * 3
    leaves = rows(owner, "read", {"types": ["inference.admitted"], "leaf": True})
    assert len(leaves) == 3
    assert all(len(row["leaf"]) == 64 for row in leaves)
    found = rows(owner, "query", {"where": {"request": [requests[1]]}})
    assert [row["event"]["type"] for row in found] == ["inference.admitted", "inference.completed"]
    assert rows(owner, "query", {"where": {"principal": ["ann"]}, "by": ["type"]}) == [
        {"type": "inference.admitted", "count": 3},
        {"type": "inference.completed", "count": 3},
    ]
    reads = [event for event in process.events() if event["type"] == "journal.read"]
    assert [event["read"]["query"] for event in reads] == [
        '{"from":0}',
        '{"leaf":true,"types":["inference.admitted"]}',
        '{"where":{"request":["' + requests[1] + '"]}}',
        '{"by":["type"],"where":{"principal":["ann"]}}',
    ]


@pytest.mark.parametrize(
    ("op", "query"), [("query", {"where": {"A": ["b"]}}), ("query", None), ("read", {"from": -1}), ("read", 5)]
)
def test_what_is_no_question_is_refused(process: Process, op: str, query: Any) -> None:
    """With words, and the connection goes on."""
    owner = process.line("owner")
    (said,) = answer(owner, op, query)
    assert said["refused"] == "body_field"
    assert said["detail"]
    assert owner.ask({"op": "status"})["state"] == "serving"


def test_following_shows_what_comes_until_the_client_goes(process: Process) -> None:
    """Rows of later entries on the same connection; afterwards nothing is left of it."""
    owner = process.line("owner")
    owner.send({"op": "read", "query": {"last": 0, "follow": True, "types": ["inference.completed"]}})
    _, reader = reading(process)
    until(lambda: owner.ask({"op": "status"})["size"] >= 3, "the read is recorded")
    for _ in range(2):
        wanted, seen = served(process, 2), list[str]()
        while len(seen) < 2:
            got = owner._frames.feed(owner._received())
            seen += [message["row"]["event"]["link"]["request"] for message in got if "row" in message]
        assert seen == wanted
    threads = Path(f"/proc/{reader}/task")
    assert len([*threads.iterdir()]) == 3
    owner.close()
    until(lambda: len([*threads.iterdir()]) == 2, "the answer ends with its client")


def test_a_reader_that_dies_is_followed_by_another(process: Process) -> None:
    """The question in hand is refused, not answered in part; nobody else notices."""
    served(process, 2)
    owner = process.line("owner")
    asked = owner.send({"op": "read", "query": {"from": 0, "follow": True}})
    while not any("row" in message for message in owner._got):
        owner._got += owner._frames.feed(owner._received())
    _, reader = reading(process)
    os.kill(reader, signal.SIGKILL)
    while not any("refused" in message for message in owner._got):
        owner._got += owner._frames.feed(owner._received())
    assert owner._got[-1] == {"n": asked, "refused": "journal_io"}
    owner._got.clear()
    assert len(rows(owner, "query", {"where": {"type": ["inference.*"]}})) == 4
    served(process, 1)


def test_an_answer_nobody_takes_holds_up_nobody(process: Process) -> None:
    """An export whose client does not read fills its own buffers, while requests get their passes."""
    deaf, door = process.line("owner"), process.line("door")
    for _ in range(40):
        process.admitted(door)
    for _ in range(60):
        deaf.send({"op": "read", "query": {"from": 0}})
    served(process, 5)
    assert rows(process.line("owner"), "query", {"count": True, "where": {"type": ["inference.admitted"]}}) == [{"count": 45}]


def test_it_dies_with_the_recorder_and_holds_no_socket_of_it(process: Process) -> None:
    """After kill -9 too: no process that holds keys outlives it, and none could take its callers."""
    process.line("owner").ask({"op": "status"})
    keeper, reader = reading(process)
    table = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    listening = {f"socket:[{line[6]}]" for line in table if line[-1].startswith(f"{process.run}/recorder.")}
    held = {
        pid: {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()} for pid in (process.popen.pid, keeper, reader)
    }
    assert [bool(listening & each) for each in held.values()] == [True, False, False]
    process.end(signal.SIGKILL)
    until(lambda: not Path(f"/proc/{reader}").exists() and not Path(f"/proc/{keeper}").exists(), "both are gone")


def test_an_erased_subject_is_in_no_answer(process: Process) -> None:
    """From the next question on, and from the files of the index within the live clock."""
    served(process, 2)
    owner = process.line("owner")
    assert rows(owner, "query", {"where": {"principal": ["ann"]}, "count": True}) == [{"count": 4}]
    done = owner.ask({"op": "erase", "subject": "ann"})
    assert done["keys"] > 0
    owner = process.line("owner")
    assert rows(owner, "query", {"where": {"principal": ["ann"]}, "count": True}) == [{"count": 0}]
    assert sum(row.get("erased", False) for row in rows(owner, "read", {"from": 0})) == 4


def test_the_end_of_the_lease_is_no_erasure(tmp_path: Path) -> None:
    """A reader that asks for keys when they are forgotten gets no answer, and is ended; it must not take them for erased."""
    (tmp_path / "private").mkdir()
    with closing_all(opened(OsDisk(tmp_path)), Catalogue.start(tmp_path, KEYS.signer.verifier, KEYS.events, [])) as (
        writer,
        catalogue,
    ):
        writer.commit([Draft(event("auth.login"))] * 3)
        with catalogue.ask({"size": 3, "n": 1, "op": "read", "query": {"from": 0}, "at": 3}) as answer:
            assert until_readable(answer, catalogue, writer) is None
            frames = Frames().feed(answer.recv(PACKET))
            assert [frame["row"]["event"]["type"] for frame in frames[:-1]] == ["auth.login"] * 3
            assert answer.recv(PACKET) == END
        writer.commit([Draft(event("auth.login", subject={"id": "u-9", "kind": "human"}))])
        writer.forget()
        with catalogue.ask({"size": 4, "n": 1, "op": "read", "query": {"from": 3}, "at": 4}) as answer:
            refused = until_readable(answer, catalogue, writer)
            assert refused is Reason.KEY_UNAVAILABLE
            catalogue.end()
            answer.settimeout(20)
            assert answer.recv(PACKET) == b""
    assert not Path(f"/proc/{catalogue.pid}").exists()


@contextlib.contextmanager
def closing_all(writer: Writer, catalogue: Catalogue) -> Iterator[tuple[Writer, Catalogue]]:
    """Both, and their ends."""
    try:
        yield writer, catalogue
    finally:
        with contextlib.suppress(ChildProcessError):
            catalogue.end()
        writer.close()


def until_readable(answer: socket.socket, catalogue: Catalogue, writer: Writer) -> Reason | None:
    """Answers the reader's questions until something comes; why none is answered any more."""
    while True:
        ready = select.select([answer, catalogue.keys], [], [], 20)[0]
        assert ready
        if answer in ready:
            answer.settimeout(20)
            return None
        try:
            catalogue.answer_keys(writer.reader.key)
        except Refused as refused:
            return refused.reason
