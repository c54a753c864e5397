"""The client's side of the door: bytes in, one request at a time, bytes out.

llhttp's callbacks only collect; what was collected is acted on when the parser has returned. llhttp is strict about framing but
counts nothing, so sizes, headers, chunk overhead and trailers are counted here. What follows a request before its answer is
complete (pipelining) ends the connection: answers could be mixed up, and nobody needs it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import TYPE_CHECKING, cast

import httptools

from sealward.errors import Reason, Refused
from sealward.gateway.exchange import Exchange, Head, Source
from sealward.gateway.flight import Flight, Wait
from sealward.gateway.ticker import NEVER

if TYPE_CHECKING:
    from sealward.gateway.serving import Server


class Connection(asyncio.Protocol):
    """One client connection. `worker` gives the clock, the limits and the pipeline."""

    __slots__ = (
        "_allowed_chunks", "_body", "_body_bytes", "_complete", "_doubled", "_exchange", "_fault", "_fed",
        "_first", "_head", "_headers", "_keep", "_limits", "_lost", "_parser", "_thrown_away", "_url", "_worker",
        "deadline", "paused", "source", "transport",
    )  # fmt: skip

    def __init__(self, worker: Server, source: Source) -> None:
        self._worker, self._limits, self.source = worker, worker.limits, source
        self._parser = httptools.HttpRequestParser(self)
        self._exchange: Exchange | None = None
        self._first, self._lost, self.paused = True, False, False
        self._thrown_away = -1  # ≥ 0: the answer is out, the rest of the request is read and thrown away
        self.deadline = worker.ticker.after(worker.limits.head_s)
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._doubled: list[tuple[bytes, bytes]] = []
        self._head: Head | None = None
        self._fault: Refused | None = None
        self._body: list[bytes] = []
        self._fed = self._body_bytes = self._allowed_chunks = 0
        self._complete = self._keep = False

    # -- what the pipeline calls --

    def write(self, data: bytes) -> None:
        if not self._lost:
            self.transport.write(data)

    @property
    def gone(self) -> bool:
        return self._lost or self.transport.is_closing()

    @property
    def keeps(self) -> bool:
        """Whether the answer may leave the connection open."""
        return self._complete and self._keep and not self._worker.draining

    @property
    def unsent(self) -> int:
        """Bytes of ours that the client's kernel has not taken."""
        return 0 if self.gone else self.transport.get_write_buffer_size()

    def over(self, exchange: Exchange) -> None:
        """The exchange has ended and its answer is written: on to the next request, or to the end."""
        if exchange is not self._exchange:
            return
        keeps = self.keeps
        self._worker.buffered -= self._body_bytes
        self._exchange = None
        exchange.let_go()
        if self.gone:
            return
        if keeps:
            self._reset()
            self.deadline = self._worker.ticker.after(self._limits.idle_s)
        elif self._complete:
            self.close()
        else:
            # Closing now would reset the connection under an upload, and the caller would never read why.
            self._thrown_away = 0
            self.deadline = self._worker.ticker.after(self._limits.linger_s)

    def close(self) -> None:
        """End it when what is written has gone out, at the latest when the linger time is over."""
        self._thrown_away = max(self._thrown_away, 0)
        self.deadline = self._worker.ticker.after(self._limits.linger_s)
        self.transport.close()

    def reset(self) -> None:
        """End it now, and take back what the kernel still holds: `abort` alone lets a slow reader have its buffer."""
        if not self._lost:
            raw = self.transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()

    def proceed(self) -> None:
        """The caller waits for `100 Continue` before it sends its body, and now he may."""
        if not self._complete and self._body_bytes == 0:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def stop_idle(self) -> None:
        """The worker drains: what is between two requests ends."""
        if self._exchange is None and not self._fed and self._thrown_away < 0:
            self.close()

    def expire(self, now: float) -> None:
        """The ticker's: the deadline has passed."""
        del now
        self.deadline = NEVER
        if self._thrown_away >= 0:
            self.transport.abort()
        elif self._exchange is not None:
            self._exchange.interrupt(Refused(Reason.CLIENT_GONE if self._complete else Reason.HTTP_TIMEOUT))
        elif self._fed or self._first:
            self._begin(Refused(Reason.HTTP_TIMEOUT))
        else:
            self.close()

    # -- asyncio --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=self._limits.write_high)
        self._worker.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._thrown_away >= 0:
            self._thrown_away += len(data)
            if self._thrown_away > MAX_THROWN_AWAY:
                self.transport.abort()
            return
        if self._complete:
            self._begin_after(Refused(Reason.HTTP_MALFORMED, "pipelining"))
            return
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # the second is not a kind of the first
            self._broken(self._fault or Refused(Reason.HTTP_MALFORMED))
            return
        if self._head is None:
            if self._fed > self._limits.head_bytes:
                self._broken(Refused(Reason.HTTP_TOO_LARGE))
        elif not self._complete and self._fed - self._body_bytes > self._allowed_chunks:
            self._broken(Refused(Reason.HTTP_MALFORMED, "chunk overhead"))
        elif self._exchange is None:
            self._begin(None)
        elif self._complete:
            self._exchange.body.set(self._content())

    def eof_received(self) -> bool:
        """A half-closed client is gone: nobody reads the answer. On purpose: its runtime slot is freed."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        undecipherable = isinstance(exc, ssl.SSLError)  # after a sound handshake: whoever sends that is no client
        self._lost, self.deadline = True, NEVER
        self._worker.forget(self)
        if self._exchange is not None:
            self._exchange.interrupt(Refused(Reason.CLIENT_GONE))
        elif self._thrown_away < 0 and (undecipherable or (self._fed and not self._complete)):
            self._begin(Refused(Reason.HTTP_MALFORMED if undecipherable else Reason.CLIENT_GONE))
        # It is tied to both in circles: buffers of half a megabyte would wait for the garbage collector, which looks seldom.
        del self._parser
        self.transport = ENDED

    def pause_writing(self) -> None:
        self.paused = True
        self.deadline = self._worker.ticker.after(self._limits.unread_s)
        if self._exchange is not None and self._exchange.call is not None:
            self._exchange.call.pause()

    def resume_writing(self) -> None:
        self.paused = False
        if self._exchange is None:
            return  # its answer has gone out, the idle time runs
        self.deadline = NEVER
        if self._exchange.call is not None:
            self._exchange.call.resume()

    # -- llhttp --

    def on_message_begin(self) -> None:
        if self._complete:
            raise self._refuse(Reason.HTTP_MALFORMED, "pipelining")
        self.deadline = self._worker.ticker.after(self._limits.head_s)

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self._limits.url_bytes:
            raise self._refuse(Reason.HTTP_MALFORMED, "target", URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        headers, name = self._headers, name.lower()
        if self._head is not None:  # a credential in a trailer came after everything was decided
            raise self._refuse(Reason.HTTP_MALFORMED, "trailer")
        if name not in headers:
            headers[name] = value
        else:
            self._doubled.append((name, value))
        if len(headers) + len(self._doubled) > self._limits.headers:
            raise self._refuse(Reason.HTTP_TOO_LARGE)

    def on_headers_complete(self) -> None:
        headers, limits = self._headers, self._limits
        self._allowed_chunks = self._fed + limits.framing_bytes
        if self._fed > limits.head_bytes or b"transfer-encoding" in headers:
            size = len(self._url) + sum(len(name) + len(value) + PER_LINE for name, value in [*headers.items(), *self._doubled])
            self._allowed_chunks = size + limits.framing_bytes
            if size > limits.head_bytes:
                raise self._refuse(Reason.HTTP_TOO_LARGE)
        parser = self._parser
        method = parser.get_method().decode("ascii")
        self._head = Head(method, self._url, parser.get_http_version(), headers, self._doubled)
        self.deadline = self._worker.ticker.after(limits.body_s)

    def on_chunk_header(self) -> None:
        # llhttp reads endless chunk extensions without a word: what is fed beyond the content is bounded (data_received).
        self._allowed_chunks += BYTES_PER_CHUNK

    def on_body(self, data: bytes) -> None:
        size, worker, limits = len(data), self._worker, self._limits
        self._body.append(data)
        self._body_bytes += size
        worker.buffered += size
        if self._body_bytes > limits.body_bytes:
            raise self._refuse(Reason.BODY_TOO_LARGE)
        if worker.buffered > limits.buffered_bytes:
            raise self._refuse(Reason.OVERLOADED)

    def on_message_complete(self) -> None:
        self._complete = True
        self._keep = self._parser.should_keep_alive()  # later it is False for ever
        self.deadline = NEVER

    # -- inside --

    def _begin(self, fault: Refused | None) -> None:
        """The head is complete (or what came cannot become one): from here on there is an exchange that must end."""
        head = self._head or Head("", self._url, "1.1", self._headers, self._doubled)
        body: Wait[bytes] = Wait()
        if self._complete:
            body.set(self._content())
        elif fault is not None and self._head is not None:
            body.fail(fault)  # what is wrong with a body is said to whoever may send one
            fault = None
        worker = self._worker
        now = worker.clock.now()
        exchange = self._exchange = Exchange(self, self.source, worker.mint(now), now, head, body, fault)
        self._first = False
        exchange.flight = Flight(worker.serve(exchange), worker.crashed, exchange)
        exchange.flight.go()

    def _begin_after(self, fault: Refused) -> None:
        """Bytes after a complete request: what runs ends, and so does the connection."""
        running = self._exchange
        if running is not None:
            self.reset()
            running.interrupt(Refused(Reason.CLIENT_GONE))
            self._worker.note(self.source, fault)

    def _broken(self, fault: Refused) -> None:
        self._keep = False
        if self._exchange is not None:
            self._exchange.interrupt(fault)
        elif self._thrown_away < 0:
            self._begin(fault)

    def _refuse(self, reason: Reason, detail: str = "", status: int = 0) -> Refused:
        """What a parser callback raises; llhttp's wrapper hides it, so it is kept."""
        self._fault = Refused(reason, detail, status=status)
        return self._fault

    def _content(self) -> bytes:
        return self._body[0] if len(self._body) == 1 else b"".join(self._body)

    def _reset(self) -> None:
        self._url, self._head, self._fault = b"", None, None
        self._headers, self._doubled, self._body = {}, [], []
        self._fed = self._body_bytes = self._allowed_chunks = 0
        self._complete = self._keep = False


ENDED = asyncio.Transport()  # of a connection that is no more
URI_TOO_LONG = 414
PER_LINE, BYTES_PER_CHUNK = 4, 32
MAX_THROWN_AWAY = 16 << 20
_NO_LINGER = struct.pack("ii", 1, 0)
