"""Requests to a server of ours (sidecar, control, a runtime) over pooled HTTP/1.1 connections.

Callbacks, no awaiting: a `Call` is given a `Sink`, and the sink is told each part of the answer as it is read. A connection
serves one call at a time and is used again only after an answer that was complete and said so; bytes on an idle connection end
it, they are never handed to the next call.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from pathlib import Path
from typing import Protocol, cast

import httptools

from sealward.errors import Reason
from sealward.gateway.limits import Limits
from sealward.gateway.ticker import NEVER, Ticker
from sealward.process import socket_address

Address = Path | tuple[str, int]


class Sink(Protocol):
    """Who is told about an answer: `answered` once, `received` for each read but the last, then `ended`; or `broken` any time."""

    def answered(self, status: int, headers: dict[bytes, bytes]) -> None:
        """The head of the answer; names in lower case, of a doubled header the last value."""

    def received(self, content: bytes) -> None:
        """A piece of the content, transfer coding removed."""

    def ended(self, content: bytes) -> None:
        """The answer is complete; `content` is the rest of it, read at once with its end, or nothing."""

    def broken(self, reason: Reason) -> None:
        """There will be no (more) answer: upstream_unavailable | upstream_error | upstream_timeout. The last call."""


class Pool:
    """All connections of one worker to one server. `on_lost` hears of each that ends by itself, idle ones too."""

    def __init__(self, address: Address, ticker: Ticker, limits: Limits) -> None:
        self.address, self.ticker, self.limits = address, ticker, limits
        self._loop = asyncio.get_running_loop()
        self._idle: deque[Connection] = deque()
        self._all: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self.opened = 0
        self.on_lost: list[Lost] = []

    def send(self, request: bytes, sink: Sink) -> Call:
        """Send a whole request. The sink is never called before this returns."""
        call = Call(request, sink, self)
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                connection.begin(call)
                return call
        task = self._loop.create_task(self._connect(call))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return call

    def close(self) -> None:
        """End every connection; calls under way are `upstream_unavailable`."""
        for task in self._connecting:
            task.cancel()
        for connection in list(self._all):
            connection.end()

    def keep(self, connection: Connection) -> None:
        """Back from a complete answer."""
        if len(self._idle) >= self.limits.pooled:
            connection.drop()
            return
        connection.deadline = self.ticker.after(self.limits.pool_idle_s)
        self._idle.append(connection)

    def lost(self, connection: Connection, *, by_itself: bool) -> None:
        """A connection that is no more; `by_itself`: its server or the network ended it."""
        self._all.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        if by_itself:
            for listener in self.on_lost:
                listener.lost(self)

    async def _connect(self, call: Call) -> None:
        try:
            async with asyncio.timeout(self.limits.connect_s):
                connection = await self._open()
        except OSError:  # TimeoutError is one
            call.fail(Reason.UPSTREAM_UNAVAILABLE)
            return
        self.opened += 1
        self._all.add(connection)
        if call.over:
            self.keep(connection)
        else:
            connection.begin(call)

    async def _open(self) -> Connection:
        if isinstance(self.address, Path):
            with socket_address(self.address) as path:
                return (await self._loop.create_unix_connection(lambda: Connection(self), path))[1]
        host, port = self.address
        connection = (await self._loop.create_connection(lambda: Connection(self), host, port))[1]
        connection.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


class Lost(Protocol):
    """Hears that a server ended a connection."""

    def lost(self, pool: Pool) -> None: ...


class Call:
    """One request in flight."""

    __slots__ = ("_connection", "_pool", "_request", "over", "paused", "sink", "started")

    def __init__(self, request: bytes, sink: Sink, pool: Pool) -> None:
        self._request, self.sink, self._pool = request, sink, pool
        self._connection: Connection | None = None
        self.over = self.paused = False
        self.started = False  # a byte of the answer was seen

    def abort(self) -> None:
        """Nobody wants the answer any more: end the connection, which is what frees the runtime's slot. No further callback."""
        if not self.over:
            self.over = True
            if self._connection is not None:
                self._connection.drop()

    def pause(self) -> None:
        """The caller does not read: neither do we."""
        self.paused = True
        if self._connection is not None and not self.over:
            self._connection.pause()

    def resume(self) -> None:
        self.paused = False
        if self._connection is not None and not self.over:
            self._connection.resume()

    def fail(self, reason: Reason) -> None:
        if not self.over:
            self.over = True
            self.sink.broken(reason)

    def on(self, connection: Connection) -> bytes:
        """The request, now that there is a connection for it."""
        self._connection = connection
        request, self._request = self._request, b""
        return request


class Connection(asyncio.Protocol):
    """One connection. The `on_…` methods are llhttp's and only collect: sinks are called when the parser has returned."""

    __slots__ = (
        "_call", "_complete", "_headers", "_headers_bytes", "_ours", "_parser", "_pieces", "_pool", "_reusable", "_status",
        "_told", "deadline", "transport",
    )  # fmt: skip

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._call: Call | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.deadline = NEVER
        self._ours = False  # we ended it
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._status = self._headers_bytes = 0
        self._complete = self._reusable = self._told = False

    def begin(self, call: Call) -> None:
        self._call = call
        self.deadline = self._pool.ticker.after(self._pool.limits.first_byte_s)
        self.transport.write(call.on(self))
        if call.paused:
            self.transport.pause_reading()

    def drop(self) -> None:
        """End it without a word to the call."""
        self._call = None
        self._end()

    def end(self) -> None:
        """The pool is closed."""
        self._fail(Reason.UPSTREAM_UNAVAILABLE)

    def pause(self) -> None:
        self.deadline = NEVER
        self.transport.pause_reading()

    def resume(self) -> None:
        self.deadline = self._pool.ticker.after(self._pool.limits.between_s)
        self.transport.resume_reading()

    def expire(self, now: float) -> None:
        """The ticker's: the deadline has passed."""
        del now
        self.deadline = NEVER
        self._fail(Reason.UPSTREAM_TIMEOUT)

    # -- asyncio --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._pool.ticker.watch(self)

    def data_received(self, data: bytes) -> None:
        call = self._call
        if call is None:
            self._end()
            return
        call.started = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(Reason.UPSTREAM_ERROR)
            return
        if self._status:
            self._tell(call)
        elif self._headers_bytes > self._pool.limits.head_bytes:
            self._fail(Reason.UPSTREAM_ERROR)

    def _tell(self, call: Call) -> None:
        if not self._told:
            self._told = True
            call.sink.answered(self._status, self._headers)
            if call.over:
                return
        pieces = self._pieces
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if not self._complete:
            if content:
                pieces.clear()
                call.sink.received(content)
            if not call.over:
                self.deadline = self._pool.ticker.after(self._pool.limits.between_s) if not call.paused else NEVER
            return
        call.over, self._call = True, None
        if self._reusable:
            self._reset()
            if call.paused:
                self.transport.resume_reading()
            self._pool.keep(self)
        else:
            self._end()
        call.sink.ended(content)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._pool.ticker.forget(self)
        call, self._call = self._call, None
        self._pool.lost(self, by_itself=not self._ours)
        if call is not None:
            # Before a byte of the answer the server may have gone between two requests: the caller may try another one.
            call.fail(Reason.UPSTREAM_ERROR if call.started else Reason.UPSTREAM_UNAVAILABLE)
        del self._parser  # circles, as in connection.py
        self.transport = ENDED

    # -- llhttp --

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers_bytes += len(name) + len(value)
        if self._headers_bytes > self._pool.limits.head_bytes:
            raise ValueError("head")  # to the caller of feed_data a HttpParserError
        if not self._status:  # else a trailer: nobody here reads those
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:  # noqa: PLR2004 - below it are interim answers
            self._status = status

    def on_body(self, content: bytes) -> None:
        self._pieces.append(content)

    def on_message_complete(self) -> None:
        if not self._status:  # 1xx
            self._headers.clear()
            return
        self._complete = True
        # Ask here: when the callback has returned the parser has moved on and answers False, each request then opens
        # a connection (85 instead of 34 µs; knowledge/gateway.md section 7).
        self._reusable = self._parser.should_keep_alive()

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("an answer to nothing")

    def _fail(self, reason: Reason) -> None:
        call, self._call = self._call, None
        self._end()
        if call is not None:
            call.fail(reason)

    def _end(self) -> None:
        self._ours = True
        self.transport.abort()

    def _reset(self) -> None:
        self._headers, self._pieces = {}, []
        self._status = self._headers_bytes = 0
        self._complete = self._reusable = self._told = False


ENDED = asyncio.Transport()  # of a connection that is no more
