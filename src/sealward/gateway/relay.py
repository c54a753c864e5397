"""The last stage of what control answers: an authenticated request goes there, credential and all, and the answer comes back.

Control trusts nothing of it: it verifies the same credential again, decides and records (contracts.md section 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealward.errors import Reason, Refused
from sealward.formats.b64 import b64url
from sealward.gateway import answers
from sealward.gateway.exchange import Exchange
from sealward.gateway.flight import Wait

if TYPE_CHECKING:
    from sealward.gateway.worker import Worker


async def forward(worker: Worker, exchange: Exchange) -> None:
    """Refused: upstream_unavailable, upstream_error, upstream_timeout."""
    if worker.control is None:
        raise Refused(Reason.UPSTREAM_UNAVAILABLE)
    sink = _Answer(worker.limits.reply_bytes)
    exchange.call = worker.control.send(_request(exchange), sink)
    await sink.finished
    answers.whole(exchange, sink.status, sink.content_type, b"".join(sink.pieces), sink.lines)


class _Answer:
    """An answer of control, gathered: it is ours, so its status and content stand."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self.finished: Wait[None] = Wait()
        self.pieces: list[bytes] = []
        self.status = 0
        self.content_type, self.lines = b"application/json", b""

    def answered(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        self.content_type = headers.get(b"content-type", self.content_type)
        self.lines = b"".join([b"%b: %b\r\n" % (name, headers[name]) for name in BACK if name in headers])

    def received(self, content: bytes) -> None:
        self._left -= len(content)
        if self._left < 0:
            self.finished.fail(Refused(Reason.UPSTREAM_ERROR))
        else:
            self.pieces.append(content)

    def ended(self, content: bytes) -> None:
        self.received(content)
        self.finished.set(None)

    def broken(self, reason: Reason) -> None:
        self.finished.fail(Refused(reason))


def _request(exchange: Exchange) -> bytes:
    asked, source = exchange.head, exchange.source
    lines = [b"%b: %b\r\n" % (name, asked.headers[name]) for name in ON if name in asked.headers]
    lines += [b"authorization: %b\r\n" % value for value in asked.authorization]
    if source.certificate is not None:
        chain = b",".join(b64url(der).encode() for der in source.certificate.chain)
        lines.append(b"x-sealward-certificate: %b\r\n" % chain)
    return REQUEST % (
        asked.method.encode(), asked.target, source.addr.encode(), source.port, exchange.id.encode(),
        b"".join(lines), len(exchange.input), exchange.input,
    )  # fmt: skip


REQUEST = (
    b"%b %b HTTP/1.1\r\nhost: control\r\nx-sealward-source: %b %d\r\nx-sealward-request: %b\r\n%bcontent-length: %d\r\n\r\n%b"
)
ON = (b"content-type", b"accept", b"idempotency-key", b"if-match", b"traceparent")
BACK = (b"etag", b"location", b"retry-after", b"www-authenticate")
