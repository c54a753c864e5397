"""Answers as bytes. Only what is written here leaves: no `server`, no cookie, nothing of an upstream's head."""

from __future__ import annotations

import re

from sealward.errors import Refused
from sealward.gateway.exchange import Exchange
from sealward.gateway.faces import answer, in_stream
from sealward.gateway.routes import family_of


class StreamTo:
    """Where an answer in chunks is written: the caller's connection.

    Its head, which no proxy on the way may keep or collect, goes out with the first content: until then a failure still has a
    status of its own.
    """

    __slots__ = ("_exchange", "content_type")

    def __init__(self, exchange: Exchange, content_type: bytes = b"text/event-stream") -> None:
        self._exchange, self.content_type = exchange, content_type

    def write(self, content: bytes) -> None:
        """One chunk; `content` is not empty."""
        self._out(b"%x\r\n%b\r\n" % (len(content), content))

    def end(self, content: bytes) -> None:
        """The last chunk, if there is one, and the end of them."""
        self._out(b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if content else b"0\r\n\r\n")

    def _out(self, chunks: bytes) -> None:
        exchange = self._exchange
        if not exchange.answered:
            exchange.answered = True
            chunks = _head(exchange, 200, self.content_type) + IN_CHUNKS + chunks
        exchange.connection.write(chunks)


def whole(exchange: Exchange, status: int, content_type: bytes, content: bytes, more: bytes = b"") -> None:
    """Write a whole answer. `more`: further header lines, each with its line end."""
    exchange.answered = True
    head = _head(exchange, status, content_type)
    exchange.connection.write(
        b"%bcontent-length: %d\r\ncache-control: no-store\r\n%b\r\n%b" % (head, len(content), more, content)
    )


def refuse(exchange: Exchange, refused: Refused) -> None:
    """Tell the caller: a whole answer where nothing was written yet, else the stream's own way of ending badly."""
    connection = exchange.connection
    if connection.gone:
        return
    family = exchange.found.route.family if exchange.found is not None else family_of(exchange.head.target)
    if exchange.answered:
        _break_off(exchange, in_stream(family, refused))
        return
    if refused.status == 0:
        connection.reset()
        return
    face = answer(family, refused, _metadata(exchange) if family != "admin" else "")
    lines = b"".join([b"%b: %b\r\n" % pair for pair in face.headers if pair[0] not in OWN])
    if refused.status == METHOD_NOT_ALLOWED:
        lines += b"allow: %b\r\n" % refused.remedy.encode()
    content_type = dict(face.headers)[b"content-type"]
    whole(exchange, face.status, content_type, face.body if exchange.head.method != "HEAD" else b"", lines)


def _metadata(exchange: Exchange) -> str:
    ours = exchange.ground.access.issuers.ours if exchange.ground is not None else None
    return f"{ours.audience}/.well-known/oauth-protected-resource" if ours is not None else ""


def _break_off(exchange: Exchange, event: bytes) -> None:
    """Within a stream: an event and the end, but no last chunk. A reader who is behind gets neither, nor what waits for him."""
    connection = exchange.connection
    if connection.unsent or not event:
        connection.reset()
    else:
        connection.write(b"%x\r\n%b\r\n" % (len(event), event))
        connection.close()


def _head(exchange: Exchange, status: int, content_type: bytes) -> bytes:
    request = exchange.id.encode()
    receipt = b"x-sealward-receipt: %b\r\n" % exchange.pass_.encode() if exchange.pass_ else b""
    close = b"" if exchange.connection.keeps else b"connection: close\r\n"
    return b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\nx-request-id: %b\r\nx-sealward-request: %b\r\n%b%b" % (
        status, PHRASES.get(status, b"Status"), content_type, request, request, receipt, close,
    )  # fmt: skip


PHRASES = {
    200: b"OK", 201: b"Created", 202: b"Accepted", 204: b"No Content", 400: b"Bad Request", 401: b"Unauthorized",
    403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed", 408: b"Request Timeout", 409: b"Conflict",
    413: b"Content Too Large", 415: b"Unsupported Media Type", 421: b"Misdirected Request", 422: b"Unprocessable Content",
    429: b"Too Many Requests", 431: b"Request Header Fields Too Large", 502: b"Bad Gateway", 503: b"Service Unavailable",
}  # fmt: skip
IN_CHUNKS = b"transfer-encoding: chunked\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n\r\n"
METHOD_NOT_ALLOWED = 405
OWN = frozenset({b"content-type", b"cache-control"})
SAFE_HEADER = re.compile(rb"[ -~]{0,1024}")
