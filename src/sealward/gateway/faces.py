"""What a refused caller reads: one face per API family, made from the table of reasons and from nothing else.

Reasons that share a row of `errors.REASONS` share every byte here: whoever asks for a model that does not exist, or that is not
his, reads the same (attack catalogue, class C). What a runtime said is replaced, never relayed: it holds paths and addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from sealward.errors import Reason, Refused

Headers = tuple[tuple[bytes, bytes], ...]


class Face(NamedTuple):
    """A whole answer; the connection adds framing and `x-sealward-request`."""

    status: int
    headers: Headers
    body: bytes


def answer(family: str, refused: Refused, metadata: str = "") -> Face:
    """The answer before a stream has begun; `family` is the route's. A reason of status 0 has none: its connection just ends.

    `metadata`: where a caller without a token reads who gives him one (RFC 9728 section 5.1).
    """
    shape = FAMILIES[family]
    headers: Headers = ((b"content-type", shape.content_type), (b"cache-control", b"no-store"))
    if refused.status == UNAUTHORIZED:
        missing = refused.reason in {Reason.CREDENTIAL_MISSING, Reason.PASS_MISSING}
        said = ([] if missing else ['error="invalid_token"']) + ([f'resource_metadata="{metadata}"'] if metadata else [])
        headers += ((b"www-authenticate", b"Bearer" + (" " + ", ".join(said) if said else "").encode()),)
    elif refused.status in {TOO_MANY, UNAVAILABLE}:
        headers += ((b"retry-after", RETRY_AFTER.get(refused.reason, b"1")),)
    return Face(refused.status, headers, orjson.dumps(shape.error(refused)))


def in_stream(family: str, refused: Refused) -> bytes:
    """The last thing in a stream that is cut: no `[DONE]` follows it. Empty for families without streams."""
    shape = FAMILIES[family]
    return shape.event % orjson.dumps(shape.error(refused)) if shape.event else b""


@dataclass(frozen=True, slots=True)
class Shape:
    """How one family tells an error. `event` frames it inside a stream."""

    content_type: bytes
    error: Callable[[Refused], dict[str, Any]]
    event: bytes = b""


def _openai(refused: Refused) -> dict[str, Any]:
    row = refused.row
    return {"error": {"message": row.message, "type": row.kind, "param": _field(refused), "code": row.code}}


def _problem(refused: Refused) -> dict[str, Any]:
    """RFC 9457."""
    code = {"permission_denied": "access_denied", "invalid_api_key": "unauthenticated"}.get(refused.row.code, refused.row.code)
    return {"type": "about:blank", "title": refused.row.message, "status": refused.status, "code": code}


def _oauth(refused: Refused) -> dict[str, Any]:
    """RFC 6749 section 5.2."""
    other = "invalid_request" if refused.status < FIRST_OF_OURS else "temporarily_unavailable"
    return {"error": OAUTH.get(refused.status, other)}


def _field(refused: Refused) -> str | None:
    """A name of our own field tables: the only detail that leaves the house."""
    return refused.detail if refused.reason is Reason.BODY_FIELD else None


FAMILIES: Mapping[str, Shape] = {
    "openai": Shape(b"application/json", _openai, b"data: %b\n\n"),
    "oauth": Shape(b"application/json", _oauth),
    "admin": Shape(b"application/problem+json", _problem),
}
OAUTH = {401: "invalid_token", 403: "access_denied"}
FIRST_OF_OURS = 500
UNAUTHORIZED, TOO_MANY, UNAVAILABLE = 401, 429, 503
RETRY_AFTER = {Reason.LIMIT_REQUESTS: b"10", Reason.LIMIT_TOKENS: b"10", Reason.LIMIT_BUDGET: b"3600"}
