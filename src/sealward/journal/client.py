"""The recorder, seen from control, the sidecar and the supervisor: one connection that comes back.

Doors have a link of their own (gateway/recorder_link.py): admissions are hot and leave something open.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sealward.clock import Clock
from sealward.errors import Reason, Refused, UnreachableError
from sealward.events import Event
from sealward.formats.fault import FormatError
from sealward.formats.frames import Frames, frame
from sealward.formats.ids import rfc3339
from sealward.process import socket_address

Answer = dict[str, Any]


class RecorderClient:
    """Run `run` as a task. `record` never waits; `write` and `ask` do, with a deadline.

    While there is no connection up to 1,024 events wait; what is too much is counted and becomes `journal.gap`. With
    `acknowledged` each recorded event is answered by the recorder, so that `drain` can wait for it.
    """

    def __init__(self, path: Path, clock: Clock, *, acknowledged: bool = False) -> None:
        self._path, self._clock, self._acknowledged = path, clock, acknowledged
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: deque[Event] = deque()
        self._asked: dict[int, asyncio.Future[Answer] | None] = {}  # None: an event whose answer only `drain` awaits
        self._n = 0
        self.on_push: Callable[[Answer], None] = lambda _: None
        """What the recorder tells without being asked."""
        self._dropped, self._dropped_since = 0, 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Connects and reads, until it is cancelled; a lost connection is tried again after 20 ms to 1 s."""
        failed = 0
        while True:
            with contextlib.suppress(OSError, FormatError):
                await self._session()
                failed = 0
            await asyncio.sleep(PAUSES_S[min(failed, len(PAUSES_S) - 1)])
            failed += 1

    def record(self, event: Event) -> None:
        """An event nobody waits for (`EventSink`)."""
        if self._writer is not None and self._writer.transport.get_write_buffer_size() < MAX_UNSENT:
            self._send_event(event)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append(event)
            self._idle.clear()
        else:
            self._dropped_since = self._dropped_since or self._clock.now()
            self._dropped += 1

    async def write(self, event: Event) -> Answer:
        """`{index, leaf, promise?}` of the event's entry, durable. Raises as `ask`."""
        return await self.ask({"op": "record", "event": event})

    async def ask(self, message: Answer, within: float = 5.0) -> Answer:
        """The answer. Refused(reason) when the recorder says no; UnreachableError when nobody knows what it did."""
        if self._writer is None:
            raise _silent("is not connected")
        self._n += 1
        n, answer = self._n, asyncio.get_running_loop().create_future()
        self._asked[n] = answer
        try:
            self._writer.write(frame(message | {"n": n}))
            async with asyncio.timeout(within):
                said: Answer = await answer
        except TimeoutError as error:
            raise _silent("does not answer") from error
        finally:
            self._asked.pop(n, None)
            self._check_idle()
        if "refused" in said:
            raise _refused(said)
        return said

    async def drain(self, within: float = 5.0) -> None:
        """Returns when every event so far is with the recorder, or after `within` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._idle.wait()
                if self._writer is not None:
                    await self._writer.drain()

    async def _session(self) -> None:
        with socket_address(self._path) as address:
            reader, self._writer = await asyncio.open_unix_connection(address)
        frames = Frames()
        try:
            self._catch_up()
            while data := await reader.read(1 << 16):
                for message in frames.feed(data):
                    self._received(message)
        finally:
            self._writer.close()
            self._writer = None
            asked, self._asked = self._asked, {}
            for answer in asked.values():
                if answer is not None and not answer.done():
                    answer.set_exception(_silent("ended the connection"))
            self._check_idle()

    def _catch_up(self) -> None:
        while self._waiting:
            self._send_event(self._waiting.popleft())
        if self._dropped:
            now = self._clock.now()
            gap = {"from_time": rfc3339(self._dropped_since), "to_time": rfc3339(now), "cause": "recorder_unreachable"}
            self._send_event({"type": "journal.gap", "time": rfc3339(now), "gap": gap, "ext": {"dropped_events": self._dropped}})
            self._dropped = self._dropped_since = 0
        self._check_idle()

    def _send_event(self, event: Event) -> None:
        message: Answer = {"op": "record", "event": event}
        if self._acknowledged:
            self._n += 1
            message["n"] = self._n
            self._asked[self._n] = None
            self._idle.clear()
        if self._writer is not None:
            self._writer.write(frame(message))

    def _received(self, message: Answer) -> None:
        n = message.get("n")
        if type(n) is not int:
            self.on_push(message)
            return
        answer = self._asked.get(n)
        if answer is None:
            self._asked.pop(n, None)
            self._check_idle()
        elif not answer.done():
            answer.set_result(message)

    def _check_idle(self) -> None:
        if not self._waiting and not self._asked:
            self._idle.set()


def read_rows(path: Path, query: Answer, op: str = "read") -> Iterator[Answer] | None:
    """Rows as `journal export` prints them, from a running recorder's owner socket; None where nobody listens there.

    Blocks. The recorder records the read first; `query` as in query.py, for `op` read or query. Refused; UnreachableError.
    """
    connection = _connected(path)
    return None if connection is None else _rows(connection, {"n": 1, "op": op, "query": query})


def ask_owner(path: Path, message: Answer) -> Answer | None:
    """The answer to one question at a running recorder's owner socket; None where nobody listens there.

    Blocks, for a minute at most. Refused; UnreachableError: nobody knows what it did.
    """
    connection = _connected(path)
    if connection is None:
        return None
    frames = Frames()
    with connection:
        connection.settimeout(60)
        try:
            connection.sendall(frame(message | {"n": 1}))
            while data := connection.recv(1 << 18):
                for said in frames.feed(data):
                    if "refused" in said:
                        raise _refused(said)
                    if said.get("n") == 1:
                        return said
        except OSError as error:
            raise _silent("does not answer") from error
    raise _silent("ended the connection")


def _connected(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        with socket_address(path) as address:
            connection.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise _silent(f"does not let us in: {error.strerror}") from error
    return connection


def _rows(connection: socket.socket, question: Answer) -> Iterator[Answer]:
    frames = Frames()
    with connection:
        connection.sendall(frame(question))
        while data := connection.recv(1 << 18):
            for message in frames.feed(data):
                if "refused" in message:
                    raise _refused(message)
                if "done" in message:
                    return
                if "row" in message:
                    yield message["row"]
    raise _silent("ended the connection")


def _refused(said: Answer) -> Refused:
    reason = said["refused"]
    return Refused(Reason(reason) if reason in REASONS else Reason.JOURNAL_IO, str(said.get("detail", reason)))


def _silent(what: str) -> UnreachableError:
    return UnreachableError(f"the recorder {what}", remedy="`sealward status` shows the processes")


PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
MAX_WAITING = 1_024
MAX_UNSENT = 1 << 20
REASONS = frozenset(Reason)
