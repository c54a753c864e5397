"""The worker's one connection to the recorder: admissions, closings, and events nobody waits for.

What a turn of the loop produces is one write; answers are matched by number. The link is bounded both ways: too many open
questions are `overloaded`, a recorder that does not read or does not answer within a second is `journal_stalled`. A pass that
comes after its question was given up is closed as aborted, so no admission stays open because an answer was late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson

from sealward.errors import Reason, Refused
from sealward.events import Event, system_subject
from sealward.formats.fault import FormatError
from sealward.formats.frames import Frames
from sealward.formats.ids import rfc3339
from sealward.gateway.entries import Author
from sealward.gateway.flight import Wait
from sealward.gateway.limits import Limits
from sealward.gateway.ticker import Ticker
from sealward.process import socket_address

Answer = dict[str, Any]


class _Question(NamedTuple):
    wait: Wait[Answer]
    deadline: float
    admits: str  # the request that a late answer would leave open


class RecorderLink(asyncio.Protocol):
    """Connects by itself, again and again.

    `on_broken` is called when what runs must end: the connection did, or the recorder says so (the lease of its keys is over).
    """

    def __init__(self, path: Path, author: Author, ticker: Ticker, limits: Limits, on_broken: Callable[[Reason], None]) -> None:
        self._path, self._author, self._ticker, self._limits, self._on_broken = path, author, ticker, limits, on_broken
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._frames = Frames()
        self._out: list[bytes] = []
        self._unsent = 0
        self._asked: dict[int, _Question] = {}
        self._late: dict[int, str] = {}
        self._n = 0
        self._dropped, self._dropped_since = 0, 0
        self._closed = False
        self.deadline = 0.0
        ticker.watch(self)
        self._loop.call_soon(self.expire, 0.0)

    @property
    def connected(self) -> bool:
        return self._transport is not None

    def admit(self, members: bytes, request: str) -> Wait[Answer]:
        """`{op: admit, …}` for `request` → the recorder's answer; fails with Refused(journal_stalled | overloaded).

        `members`: the message as JSON but for its last brace, before which its number comes.
        """
        return self._ask(members, self._limits.admit_s, request)

    def close(self, message: Answer) -> Wait[Answer]:
        """`{op: close, …}`: answered when the closing entry is durable; fails with Refused(journal_stalled)."""
        return self._ask(orjson.dumps(message)[:-1], self._limits.close_s, "")

    def ask(self, message: Answer) -> Wait[Answer]:
        """Any other question (receipt); fails as `admit` does."""
        return self._ask(orjson.dumps(message)[:-1], self._limits.admit_s, "")

    def record(self, event: Event) -> None:
        """Queue an event nobody waits for (`EventSink`). A full queue is counted, and `journal.gap` says so later."""
        if self._transport is None or self._full(self._transport):
            self._dropped_since = self._dropped_since or self._author.clock.now()
            self._dropped += 1
            return
        if self._dropped:
            self._send_gap()
        self._send(orjson.dumps({"op": "record", "event": event}))

    def tell(self, message: Answer) -> None:
        """A message whose answer nobody needs."""
        if self._transport is not None:
            self._n += 1
            self._send(orjson.dumps(message | {"n": self._n}))

    async def sent(self) -> None:
        """Until the kernel has all that was said, at most `close_s`: for the end of a process."""
        self._flush()
        until = self._ticker.after(self._limits.close_s)
        while self._transport is not None and self._transport.get_write_buffer_size() and self._loop.time() < until:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(LOOK_S)

    def stop(self) -> None:
        self._closed = True
        self._ticker.forget(self)
        self._flush()
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def expire(self, now: float) -> None:
        """The ticker's: connect if there is no connection, give up on questions that are too old."""
        self.deadline = self._ticker.after(0)
        if self._transport is None and (self._task is None or self._task.done()):
            self._task = self._loop.create_task(self._connect())
        for n, question in [each for each in self._asked.items() if each[1].deadline <= now]:
            del self._asked[n]
            if question.admits:
                self._late[n] = question.admits
            question.wait.fail(Refused(Reason.JOURNAL_STALLED, "no answer from the recorder"))

    # -- asyncio --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=1 << 16)
        self._frames = Frames()
        if self._dropped:
            self._send_gap()

    def data_received(self, data: bytes) -> None:
        try:
            answers = self._frames.feed(data)
        except FormatError:
            if self._transport is not None:
                self._transport.abort()
            return
        for answer in answers:
            n = answer.get("n")
            question = self._asked.pop(n, None) if type(n) is int else None
            if question is not None:
                question.wait.set(answer)
            elif type(n) is int and n in self._late:
                self._too_late(self._late.pop(n), answer)
            elif answer.get("push") == "cut":
                self._on_broken(Reason.KEY_UNAVAILABLE)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._out.clear()
        self._unsent = 0
        self._late.clear()  # the recorder closes what a lost door left open
        asked, self._asked = self._asked, {}
        for question in asked.values():
            question.wait.fail(Refused(Reason.JOURNAL_STALLED, "the recorder's connection ended"))
        if not self._closed:
            self.expire(0.0)
            self._on_broken(Reason.JOURNAL_STALLED)

    def pause_writing(self) -> None:
        """The recorder does not read. What is asked now waits in `_out`, bounded by `unsent`."""

    def resume_writing(self) -> None:
        if self._dropped and self._transport is not None:
            self._send_gap()

    # -- inside --

    def _ask(self, members: bytes, seconds: float, admits: str) -> Wait[Answer]:
        wait: Wait[Answer] = Wait()
        if self._transport is None or self._full(self._transport):
            wait.fail(Refused(Reason.JOURNAL_STALLED, "no recorder" if self._transport is None else "the recorder does not read"))
        elif admits and len(self._asked) >= self._limits.asked:
            wait.fail(Refused(Reason.OVERLOADED, "too many open questions"))
        else:
            n = self._n = self._n + 1
            self._asked[n] = _Question(wait, self._ticker.after(seconds), admits)
            self._send(b'%b,"n":%d}' % (members, n))
        return wait

    def _send(self, message: bytes) -> None:
        out = self._out
        if not out:
            self._loop.call_soon(self._flush)
        out.append(len(message).to_bytes(4, "big"))
        out.append(message)
        self._unsent += len(message)

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._unsent = self._transport.get_write_buffer_size()
        self._out.clear()

    def _too_late(self, request: str, answer: Answer) -> None:
        if "pass" in answer:
            event = {"outcome": {"status": 503, "aborted_by": "door"}, "decision": _STALLED}
            self.tell({"op": "close", "req": request, "outcome": "aborted", "event": event})

    def _full(self, transport: asyncio.Transport) -> bool:
        if self._unsent > self._limits.unsent:  # as far as is known; the recorder may have read since
            self._unsent = sum(map(len, self._out)) + transport.get_write_buffer_size()
        return self._unsent > self._limits.unsent

    def _send_gap(self) -> None:
        """What was dropped, as one event before the next one."""
        now = self._author.clock.now()
        gap = {"from_time": rfc3339(self._dropped_since), "to_time": rfc3339(now), "cause": "recorder_unreachable"}
        extra = {"dropped_events": self._dropped}
        self._dropped = self._dropped_since = 0
        self.record(self._author.event("journal.gap", system_subject(self._author.instance), gap=gap, ext=extra))

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._limits.connect_s):
                with socket_address(self._path) as path:
                    await self._loop.create_unix_connection(lambda: self, path)
        except OSError:
            self.deadline = self._ticker.after(0)


LOOK_S = 0.01
_STALLED = {"outcome": "error", "reason": Reason.JOURNAL_STALLED.value}
