"""recovery.log (contracts.md section 7): what the owner did without any daemon, as a chain that is never cut."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from sealward.formats import canonical
from sealward.formats.fault import FormatError
from sealward.formats.ids import HEX32, TIME

Line = dict[str, Any]


def parse_recovery_log(data: bytes, origin: str) -> list[Line]:
    """The acts in order. FormatError: "malformed" (a line), "n" (one is missing or twice), "prev" (one was changed)."""
    found: list[Line] = []
    prev = _first(origin)
    for raw in data.splitlines(keepends=True):
        line = canonical.parse(raw[:-1]) if raw.endswith(b"\n") else None
        if not isinstance(line, dict) or set(line) != MEMBERS or not _sound(line):
            raise FormatError("malformed", f"line {len(found)}")
        if line["n"] != len(found):
            raise FormatError("n", f"line {len(found)} says {line['n']}")
        if line["prev"] != prev:
            raise FormatError("prev", f"line {len(found)} does not follow")
        prev = sha256(raw).hexdigest()
        found.append(line)
    return found


def recovery_line(log: bytes, origin: str, act: Line) -> bytes:
    """The line that follows `log`; `act` has time, by, verb, state, because."""
    before = parse_recovery_log(log, origin)
    prev = sha256(log.splitlines(keepends=True)[-1]).hexdigest() if before else _first(origin)
    return canonical.dumps(act | {"v": 1, "n": len(before), "prev": prev}) + b"\n"


def _sound(line: Line) -> bool:
    texts = {name: value for name, value in line.items() if name not in {"v", "n"}}
    if line["v"] != 1 or type(line["v"]) is not int or type(line["n"]) is not int:
        return False
    if not all(isinstance(value, str) for value in texts.values()):
        return False
    return HEX32.fullmatch(line["prev"]) is not None and TIME.fullmatch(line["time"]) is not None


def _first(origin: str) -> str:
    return sha256(b"sealward recovery v1\0" + origin.encode()).hexdigest()


MEMBERS = {"v", "n", "prev", "time", "by", "verb", "state", "because"}
