"""What a refused caller reads: one face per API family, made from the table of reasons and from nothing else.

Reasons that share a row of `errors.REASONS` share every byte here: whoever asks for a model that does not exist, or that is not
his, reads the same (attack catalogue, class C). What a runtime said is replaced, never relayed: it holds paths and addresses.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import orjson

from sealward.errors import Reason, Refused

Headers = tuple[tuple[bytes, bytes], ...]


class Family(StrEnum):
    """Whose shape an answer has: decided by the route, also for 401 and 404."""

    OPENAI = "openai"
    PROBLEM = "problem"
    """RFC 9457, on the management door."""


class Face(NamedTuple):
    """A whole answer; the connection adds framing and `x-sealward-request`."""

    status: int
    headers: Headers
    body: bytes


def answer(family: Family, refused: Refused) -> Face:
    """The answer before a stream has begun. A reason of status 0 has none: its connection just ends."""
    headers: Headers = (
        (b"content-type", b"application/json" if family is Family.OPENAI else b"application/problem+json"),
        (b"cache-control", b"no-store"),
    )
    if refused.status == UNAUTHORIZED:
        missing = refused.reason in {Reason.CREDENTIAL_MISSING, Reason.PASS_MISSING}
        headers += ((b"www-authenticate", b"Bearer" if missing else b'Bearer error="invalid_token"'),)
    elif refused.status in {TOO_MANY, UNAVAILABLE}:
        headers += ((b"retry-after", RETRY_AFTER.get(refused.reason, b"1")),)
    return Face(refused.status, headers, _error(family, refused))


def in_stream(family: Family, refused: Refused) -> bytes:
    """The last thing in a stream that is cut: no `[DONE]` follows it. Families without streams have none."""
    return b"data: " + _error(family, refused) + b"\n\n" if family is Family.OPENAI else b""


def _error(family: Family, refused: Refused) -> bytes:
    row = refused.row
    field = refused.detail if refused.reason is Reason.BODY_FIELD else None  # a name of our own table
    if family is Family.OPENAI:
        return orjson.dumps({"error": {"message": row.message, "type": row.kind, "param": field, "code": row.code}})
    problem = {
        "type": "about:blank",
        "title": row.message,
        "status": refused.status,
        "code": PROBLEM_CODES.get(row.code, row.code),
    }
    return orjson.dumps(problem | {"field": field} if field else problem)


UNAUTHORIZED, TOO_MANY, UNAVAILABLE = 401, 429, 503
RETRY_AFTER = {Reason.LIMIT_REQUESTS: b"10", Reason.LIMIT_TOKENS: b"10", Reason.LIMIT_BUDGET: b"3600"}
PROBLEM_CODES = {"permission_denied": "access_denied", "invalid_api_key": "unauthenticated"}
