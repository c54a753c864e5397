"""JSON with one reading only: no member twice, no NaN, no bytes behind the end (attack rows 88 and 90)."""

from __future__ import annotations

import json
from typing import Any

import orjson

from sealward.errors import Reason, Refused


def check_json(body: bytes) -> None:
    """Refused(body_malformed | body_duplicate_key) for what two parsers could read differently; an empty body is fine."""
    if not body:
        return
    try:
        orjson.loads(body)
        json.loads(body.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Refused(Reason.BODY_MALFORMED) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused(Reason.BODY_DUPLICATE_KEY)
    return found
