"""What is decided from a request's head alone: its form, its route, its caller; and then its body is read."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from sealward.errors import Reason, Refused
from sealward.gateway.exchange import Exchange
from sealward.identity.jwt import UnknownKey

if TYPE_CHECKING:
    from sealward.gateway.serving import Server
    from sealward.gateway.worker import Worker


def check(worker: Server, exchange: Exchange) -> None:
    """Framing and headers that have one reading. Refused: http_malformed (with its precise status), host_unknown."""
    if exchange.fault is not None:
        raise exchange.fault
    asked = exchange.head
    if asked.http != "1.1":
        raise Refused(Reason.HTTP_MALFORMED, "version", status=505)
    headers = asked.headers
    if asked.doubled and any(name not in LISTS for name, _ in asked.doubled):
        raise Refused(Reason.HTTP_MALFORMED, "a header twice")
    if not OVERRIDES.isdisjoint(headers):
        raise Refused(Reason.HTTP_MALFORMED, "method override")
    if b"content-encoding" in headers:
        raise Refused(Reason.HTTP_MALFORMED, "content coding", status=415)
    if headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        raise Refused(Reason.HTTP_MALFORMED, "transfer coding", status=501)
    if headers.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise Refused(Reason.HTTP_MALFORMED, "expectation", status=417)
    host = headers.get(b"host")
    if host is None:
        raise Refused(Reason.HTTP_MALFORMED, "no host")
    if asked.target not in PROBES and not worker.allows_host(host, exchange.source.sni):
        raise Refused(Reason.HOST_UNKNOWN)


def route(worker: Server, exchange: Exchange) -> None:
    """The one row of the table. Refused: http_malformed, route_unknown, route_method."""
    asked = exchange.head
    exchange.found = worker.table.find(asked.method, asked.target)
    has_length = b"content-length" in asked.headers
    if asked.method in BODYLESS:
        if (has_length and asked.headers[b"content-length"] != b"0") or b"transfer-encoding" in asked.headers:
            raise Refused(Reason.HTTP_MALFORMED, "a body where none belongs")
    elif not has_length and b"transfer-encoding" not in asked.headers:
        raise Refused(Reason.HTTP_MALFORMED, "no length", status=411)
    if exchange.found.route.media:
        media = asked.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media != exchange.found.route.media:
            raise Refused(Reason.HTTP_MALFORMED, "media type", status=415)


def authenticate(worker: Worker, exchange: Exchange) -> Awaitable[None] | None:
    """Refused: credential_*, token_*, no_heartbeat, no_snapshot, draining. A key that was rotated just now is waited for."""
    if worker.draining:
        raise Refused(Reason.DRAINING)
    asked = exchange.head
    if b"x-api-key" in asked.headers or b"swk_" in asked.headers.get(b"cookie", b"") or b"swk_" in asked.target:
        # A key where none belongs is known to more logs than ours, and which of two credentials counts is anybody's guess.
        raise Refused(Reason.CREDENTIAL_MULTIPLE)
    try:
        _prove(worker, exchange)
    except UnknownKey as unknown:
        if not unknown.issuer:
            raise
        return _after_rotation(worker, exchange, unknown)
    return None


async def _after_rotation(worker: Worker, exchange: Exchange, unknown: UnknownKey) -> None:
    if not await worker.rotation.fetched(unknown.issuer):
        raise unknown
    _prove(worker, exchange)


def _prove(worker: Worker, exchange: Exchange) -> None:
    source = exchange.source
    ground = exchange.ground = worker.standing.ground()
    exchange.principal = ground.access.authenticate(
        exchange.head.authorization,
        source_addr=source.addr,
        now_us=exchange.started_us,
        certificate=source.certificate,
        audience=worker.site.audience,
    )
    worker.cuts.add(exchange)


def read(worker: Server, exchange: Exchange) -> Awaitable[None] | None:
    """The whole body. Refused: body_too_large, http_timeout, http_malformed, overloaded (by the connection); a key in it."""
    headers = exchange.head.headers
    length = headers.get(b"content-length")
    if length is not None and (len(length) > MAX_DIGITS or int(length) > worker.limits.body_bytes):
        raise Refused(Reason.BODY_TOO_LARGE)
    if b"expect" in headers:
        exchange.connection.proceed()
    if not exchange.body.done:
        return _rest(exchange)
    _take(exchange, exchange.body.result())
    return None


async def _rest(exchange: Exchange) -> None:
    _take(exchange, await exchange.body)


def _take(exchange: Exchange, body: bytes) -> None:
    exchange.input = body
    if b"swk_" in body and KEY.search(body):
        # Pasted into a prompt or into a member that another gateway takes it from: it would go on to a model.
        raise Refused(Reason.CREDENTIAL_MULTIPLE)


LISTS = frozenset(
    {
        b"authorization",
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"via",
        b"forwarded",
        b"x-forwarded-for",
    }
)
OVERRIDES = frozenset({b"x-http-method-override", b"x-http-method", b"x-method-override"})
PROBES = frozenset({b"/livez", b"/readyz"})
BODYLESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"})
MAX_DIGITS = 15
KEY = re.compile(rb"swk_(?:live|test)_[0-9A-Za-z]{11}_[0-9A-Za-z]{49}")
