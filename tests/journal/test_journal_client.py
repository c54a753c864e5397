"""The recorder's client: answers by number, events that wait for a connection, a count of what was too much."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from journals import StepClock
from sealward.errors import Reason, Refused, UnreachableError
from sealward.formats.frames import Frames, frame
from sealward.journal.client import MAX_WAITING, RecorderClient, read_rows

Message = dict[str, Any]


class Recorder:
    """Answers as the test says; keeps what it heard."""

    def __init__(self, answer: Callable[[Message], Message | None]) -> None:
        self._answer = answer
        self.heard: list[Message] = []
        self.changed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = Frames()
        with contextlib.closing(writer):
            while data := await reader.read(1 << 16):
                for message in frames.feed(data):
                    self.heard.append(message)
                    self.changed.set()
                    if (said := self._answer(message)) is not None:
                        writer.write(frame({"n": message.get("n")} | said))

    async def has(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.heard) < count:
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def running(client: RecorderClient) -> AsyncIterator[None]:
    """Its task, ended afterwards."""
    task = asyncio.create_task(client.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def connected(client: RecorderClient) -> None:
    """A question that is answered."""
    async with asyncio.timeout(5):
        while True:
            try:
                await client.ask({"op": "status"})
            except UnreachableError:
                await asyncio.sleep(0)
            else:
                return


def test_questions_are_answered_by_number(tmp_path: Path) -> None:
    """A durable write, a refusal by reason, an end in the middle of a question."""

    def answer(message: Message) -> Message | None:
        return {"status": {}, "record": {"index": 7}, "no": {"refused": "journal_full"}, "what": {"refused": "??"}}[message["op"]]

    async def scenario() -> None:
        recorder = Recorder(answer)
        server = await asyncio.start_unix_server(recorder.serve, tmp_path / "s")
        client = RecorderClient(tmp_path / "s", StepClock())
        with pytest.raises(UnreachableError):
            await client.ask({"op": "status"})
        async with running(client):
            await connected(client)
            assert (await client.write({"type": "auth.login"}))["index"] == 7
            for op, reason in (("no", Reason.JOURNAL_FULL), ("what", Reason.JOURNAL_IO)):
                with pytest.raises(Refused) as refused:
                    await client.ask({"op": op})
                assert refused.value.reason is reason
        server.close()

    asyncio.run(scenario())


def test_events_wait_for_the_recorder(tmp_path: Path) -> None:
    """Those from before the connection come first; what was too much is one `journal.gap`; `drain` waits for the answers."""

    async def scenario() -> None:
        client = RecorderClient(tmp_path / "s", StepClock(), acknowledged=True)
        for n in range(MAX_WAITING + 3):
            client.record({"id": n})
        recorder = Recorder(lambda _: {"index": 0})
        async with running(client):
            server = await asyncio.start_unix_server(recorder.serve, tmp_path / "s")
            await client.drain()
            assert len(recorder.heard) == MAX_WAITING + 1
            assert [message["event"].get("id") for message in recorder.heard[:3]] == [0, 1, 2]
            gap = recorder.heard[-1]["event"]
            assert (gap["type"], gap["ext"]) == ("journal.gap", {"dropped_events": 3})
            client.record({"id": "last"})
            await client.drain()
            assert recorder.heard[-1]["event"] == {"id": "last"}
        server.close()

    asyncio.run(scenario())


def test_a_recorder_that_goes_leaves_no_question_hanging(tmp_path: Path) -> None:
    """UnreachableError: nobody knows what it did; the client connects again."""

    async def scenario() -> None:
        first = Recorder(lambda message: {} if message["op"] == "status" else None)
        server = await asyncio.start_unix_server(first.serve, tmp_path / "s")
        client = RecorderClient(tmp_path / "s", StepClock())
        async with running(client):
            await connected(client)
            asked = asyncio.create_task(client.write({"id": 1}))
            await first.has(2)
            with pytest.raises(UnreachableError):
                await client.ask({"op": "x"}, within=0)
            client._writer.transport.abort() if client._writer else None
            with pytest.raises(UnreachableError):
                await asked
            await connected(client)
        server.close()

    asyncio.run(scenario())


def test_rows_are_read_from_a_running_recorder(tmp_path: Path) -> None:
    """None where nobody listens; a refusal by its reason."""

    async def scenario() -> None:
        def answer(message: Message) -> Message | None:
            return {"refused": "overloaded"} if message["query"] == {"last": 1} else {"row": {"index": 3}}

        recorder = Recorder(answer)
        server = await asyncio.start_unix_server(recorder.serve, tmp_path / "s")
        rows = await asyncio.to_thread(read_rows, tmp_path / "s", {})
        assert rows is not None
        assert await asyncio.to_thread(next, rows) == {"index": 3}
        refused = await asyncio.to_thread(read_rows, tmp_path / "s", {"last": 1})
        assert refused is not None
        with pytest.raises(Refused):
            await asyncio.to_thread(next, refused)
        rows.close()
        refused.close()
        server.close()

    assert read_rows(tmp_path / "nobody", {}) is None
    asyncio.run(scenario())
