"""The worker's link to the recorder: bounded, matched by number, and never a late answer lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from doors import Clock, run, until
from sealward.errors import Reason, Refused
from sealward.formats.frames import Frames, frame
from sealward.gateway.entries import Author
from sealward.gateway.limits import Limits
from sealward.gateway.recorder_link import RecorderLink
from sealward.gateway.ticker import Ticker

ADMIT = b'{"op":"admit"'


@dataclass
class Desk:
    """A link and what is at its other end."""

    link: RecorderLink
    heard: list[dict[str, Any]] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    broken: list[Reason] = field(default_factory=list)
    reading: asyncio.Event = field(default_factory=asyncio.Event)

    def answer(self, **message: Any) -> None:
        self.writers[-1].write(frame(message))


@contextlib.asynccontextmanager
async def desk(folder: Path, limits: Limits | None = None, *, up: bool = True) -> AsyncIterator[Desk]:
    """A link, connected; the other end reads while `reading` is set."""
    limits, ticker, broken = limits or Limits(), Ticker(asyncio.get_running_loop(), 0.02), list[Reason]()
    found = Desk(
        RecorderLink(folder / "recorder.sock", Author("door-1", Clock(), os.urandom), ticker, limits, broken.append),
        broken=broken,
    )
    found.reading.set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.writers.append(writer)
        frames = Frames()
        with contextlib.suppress(ConnectionError):
            while await found.reading.wait() and (data := await reader.read(1 << 16)):
                messages = frames.feed(data)
                found.reads.append(len(messages))
                found.heard += messages
        writer.close()

    server = await asyncio.start_unix_server(serve, folder / "recorder.sock") if up else None
    if up:
        await until(lambda: found.link.connected and found.writers)
    try:
        yield found
    finally:
        found.link.stop()
        ticker.stop()
        found.reading.set()
        if server is not None:
            server.close()
        for writer in found.writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def refused(wait: Any) -> Reason:
    """Why a question failed; the loop's own tasks cannot await a `Wait`."""
    await until(lambda: wait.done)
    with pytest.raises(Refused) as caught:
        wait.__await__().send(None)
    return caught.value.reason


def test_what_a_turn_of_the_loop_asks_is_one_write(tmp_path: Path) -> None:
    """64 requests that arrive together cost one call to the kernel."""

    async def scenario() -> None:
        async with desk(tmp_path) as at:
            for n in range(10):
                at.link.ask({"op": "receipt", "req": str(n)})
            await until(lambda: len(at.heard) == 10)
            assert at.reads == [10]

    run(scenario)


def test_answers_find_their_question_in_any_order(tmp_path: Path) -> None:
    """By number; what answers nothing is ignored."""

    async def scenario() -> None:
        async with desk(tmp_path) as at:
            waits = [at.link.ask({"op": "receipt", "req": str(n)}) for n in range(3)]
            await until(lambda: len(at.heard) == 3)
            at.answer(n=4711, receipt="nobody's")
            for message in reversed(at.heard):
                at.answer(n=message["n"], receipt=message["req"])
            await until(lambda: all(wait.done for wait in waits))
            found = []
            for wait in waits:
                with pytest.raises(StopIteration) as over:
                    wait.__await__().send(None)
                found.append(over.value.value["receipt"])
            assert found == ["0", "1", "2"]

    run(scenario)


def test_a_question_without_a_recorder_is_refused_at_once(tmp_path: Path) -> None:
    """And the link keeps looking for one."""

    async def scenario() -> None:
        async with desk(tmp_path, up=False) as at:
            wait = at.link.ask({"op": "receipt"})
            assert wait.done
            assert await refused(wait) is Reason.JOURNAL_STALLED
            server = await asyncio.start_unix_server(lambda _, writer: writer.close(), tmp_path / "recorder.sock")
            await until(lambda: at.broken)
            server.close()

    run(scenario)


def test_too_many_open_admissions_are_overload(tmp_path: Path) -> None:
    """Closings have their place whatever is open."""

    async def scenario() -> None:
        async with desk(tmp_path, Limits(asked=2)) as at:
            for n in range(2):
                assert not at.link.admit(ADMIT, str(n)).done
            assert await refused(at.link.admit(ADMIT, "3")) is Reason.OVERLOADED
            assert not at.link.close({"op": "close"}).done

    run(scenario)


def test_an_answer_that_does_not_come_is_a_stall_and_a_late_pass_is_closed(tmp_path: Path) -> None:
    """Only a pass: a refusal left nothing open."""

    async def scenario() -> None:
        async with desk(tmp_path, Limits(admit_s=0.05)) as at:
            late, other = at.link.admit(ADMIT, "req-1"), at.link.admit(ADMIT, "req-2")
            assert await refused(late) is Reason.JOURNAL_STALLED
            assert await refused(other) is Reason.JOURNAL_STALLED
            at.answer(n=at.heard[0]["n"], index=4, **{"pass": "v1"})
            at.answer(n=at.heard[1]["n"], refused="limit_requests")
            await until(lambda: len(at.heard) == 3)
            closing = at.heard[2]
            assert (closing["op"], closing["req"], closing["outcome"]) == ("close", "req-1", "aborted")
            assert closing["event"]["outcome"] == {"status": 503, "aborted_by": "door"}

    run(scenario)


def test_the_end_of_the_connection_fails_every_question(tmp_path: Path) -> None:
    """What runs is told, and the link comes back by itself."""

    async def scenario() -> None:
        async with desk(tmp_path) as at:
            wait = at.link.ask({"op": "receipt"})
            await until(lambda: at.heard)
            at.writers[0].transport.abort()
            assert await refused(wait) is Reason.JOURNAL_STALLED
            assert at.broken == [Reason.JOURNAL_STALLED]
            await until(lambda: at.link.connected and len(at.writers) == 2)

    run(scenario)


def test_a_recorder_that_talks_nonsense_is_left(tmp_path: Path) -> None:
    """A frame that is none ends the connection."""

    async def scenario() -> None:
        async with desk(tmp_path) as at:
            at.writers[0].write(b"\xff" * 64)
            await until(lambda: at.broken)

    run(scenario)


def test_a_recorder_that_does_not_read_bounds_what_waits(tmp_path: Path) -> None:
    """Questions are a stall, events are dropped and counted; when it reads again a `journal.gap` says how many."""

    async def scenario() -> None:
        async with desk(tmp_path, Limits(unsent=10_000)) as at:
            at.reading.clear()
            event = {"type": "access.read", "ext": {"pad": "x" * 2_000}}
            for _ in range(2_000):
                at.link.record(event)
                await asyncio.sleep(0)
            assert await refused(at.link.admit(ADMIT, "req")) is Reason.JOURNAL_STALLED
            at.reading.set()
            await until(lambda: not at.link._full(at.link._transport))
            at.link.record(event)
            await until(lambda: any(each.get("event", {}).get("type") == "journal.gap" for each in at.heard))
            gap = next(each["event"] for each in at.heard if each["event"]["type"] == "journal.gap")
            written = sum(each["event"]["type"] == "access.read" for each in at.heard)
            assert written + gap["ext"]["dropped_events"] == 2_001

    run(scenario)
