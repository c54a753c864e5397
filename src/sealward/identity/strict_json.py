"""JSON from outside with one reading: UTF-8, no member twice, no NaN, an object (attack rows 15, 16 and 90)."""

from __future__ import annotations

import json
from typing import Any

from sealward.formats.fault import FormatError


def parse_object(raw: bytes) -> dict[str, Any]:
    """FormatError("json") for anything that two readers could take for different things."""
    try:
        # `json.loads` given bytes guesses UTF-16 and UTF-32; 6 KB of "[" is a RecursionError.
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise FormatError("json", "not JSON with one reading") from None
    if type(value) is not dict:
        raise FormatError("json", "not an object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise ValueError
    return value
