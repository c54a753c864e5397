"""Names and moments: ids, ULIDs, RFC 3339 times (contracts.md, first paragraph).

Every pattern is used with `fullmatch`: `$` also matches before a last line end.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from sealward.formats.fault import FormatError


def is_id(value: object) -> bool:
    """Whether `value` may name something of ours."""
    return isinstance(value, str) and ID.fullmatch(value) is not None


def ulid(now_us: int, random: bytes) -> str:
    """A time-ordered unique id of 26 characters, from microseconds and 10 random bytes (github.com/ulid/spec)."""
    time_ms, high, low = now_us // 1000, int.from_bytes(random[:5], "big"), int.from_bytes(random[5:], "big")
    two = _PAIRS  # ten bits at a time: a request needs one, and a loop over 26 characters costs three times as much
    return (
        f"{two[time_ms >> 40]}{two[time_ms >> 30 & 1023]}{two[time_ms >> 20 & 1023]}"
        f"{two[time_ms >> 10 & 1023]}{two[time_ms & 1023]}"
        f"{two[high >> 30]}{two[high >> 20 & 1023]}{two[high >> 10 & 1023]}{two[high & 1023]}"
        f"{two[low >> 30]}{two[low >> 20 & 1023]}{two[low >> 10 & 1023]}{two[low & 1023]}"
    )


def ulid_time_ms(text: str) -> int:
    """Milliseconds since 1970 of a ULID; FormatError("malformed") for anything else."""
    if ULID.fullmatch(text) is None:
        raise FormatError("malformed", "not a ULID")
    return int(text[:10].translate(_DIGITS), 32)


def rfc3339(us: int) -> str:
    """Microseconds since 1970 → `2026-11-23T09:14:07.104512Z`."""
    seconds, micros = divmod(us, 1_000_000)
    t = time.gmtime(seconds)
    return f"{t.tm_year:04d}-{t.tm_mon:02d}-{t.tm_mday:02d}T{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}.{micros:06d}Z"


def parse_rfc3339(text: str) -> int:
    """Microseconds since 1970 of a time with exactly six decimals and `Z`; FormatError("malformed") for anything else."""
    if TIME.fullmatch(text) is None:
        raise FormatError("malformed", "not a time")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise FormatError("malformed", "no such moment") from error
    return (moment - _EPOCH) // _MICROSECOND


def hour(moment: str) -> str:
    """A time cut to its hour: all that the clear header of an entry says."""
    return moment[:13] + ":00:00Z"


ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,127}")
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z", re.ASCII)
HEX32 = re.compile(r"[0-9a-f]{64}")  # 32 bytes
KID = re.compile(r"[0-9a-f]{18}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_DIGITS = str.maketrans(CROCKFORD, "0123456789ABCDEFGHIJKLMNOPQRSTUV")  # those of Python's int
_PAIRS = [first + second for first in CROCKFORD for second in CROCKFORD]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = datetime.resolution
