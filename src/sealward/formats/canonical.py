"""Canonical JSON (contracts.md, first paragraph): one value has one spelling, so hashes and signatures mean values.

ASCII keys, sorted, no spaces, UTF-8, no floats, no null, integers below 2^53. Inside these limits sorted orjson output is
RFC 8785 byte for byte; outside them it is not (`1.0`, `-0.0`, keys beyond U+FFFF).
"""

from __future__ import annotations

from typing import Any

import orjson

from sealward.formats.fault import FormatError


def dumps(value: Any) -> bytes:
    """The bytes of a value of our own making; what comes from outside goes through `check` first."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def parse(data: bytes | str) -> Any:
    """The value of canonical bytes; any other spelling raises FormatError("malformed")."""
    try:
        value = orjson.loads(data)
        respelt = dumps(value)  # before `check`: it also bounds the depth
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise FormatError("malformed", "not JSON") from error
    check(value)
    if respelt != (data.encode() if isinstance(data, str) else data):
        raise FormatError("malformed", "not canonical")
    return value


def check(value: Any) -> None:
    """Raises FormatError("malformed") where a parsed JSON value has no canonical form."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if not all(isinstance(name, str) and name.isascii() for name in item):
                raise FormatError("malformed", "a key is not ASCII")
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        elif item is None or isinstance(item, float):
            raise FormatError("malformed", "null or a float")
        elif isinstance(item, int) and not -SAFE_INTEGER <= item <= SAFE_INTEGER:
            raise FormatError("malformed", "integer outside 2^53")


SAFE_INTEGER = 2**53 - 1
