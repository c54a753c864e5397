"""Refusals and reads that do not wait for the disk, and how many of them become entries (design/contracts.md section 5).

Somebody who is refused a million times must neither fill the journal nor go unseen: each source and reason, each proven caller
and reason, has a bucket; what it does not let through is counted, and ten seconds of it become one entry.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sealward import settings
from sealward.errors import Refused
from sealward.events import Event, EventSink
from sealward.formats.ids import rfc3339
from sealward.gateway.entries import ANONYMOUS, Author


class Refusals:
    """The buckets of one worker. `flush` is to be called about once a second, `close` at the end."""

    def __init__(self, limits: settings.Refusals, author: Author, sink: EventSink) -> None:
        self._author, self._sink = author, sink
        self._anonymous = _Buckets(limits, limits.anonymous_per_second)
        self._proven = _Buckets(limits, limits.proven_per_second)
        self._most = limits.sources
        self._rest: dict[tuple[str, ...], _Rest] = {}

    def refused(self, stage: str, refused: Refused, source: Mapping[str, Any], heard: Heard | None = None) -> None:
        """`request.refused`: nobody was proven. `stage` = tls | http | route | authn; `source` as in the event."""
        refusal = {"stage": stage} | (heard.members() if heard else {})
        if self._anonymous.allow((network(source.get("addr", "")), refused.reason), self._author.clock.boot()):
            members = {"source": dict(source), "decision": decision(refused), "refusal": refusal}
            self._sink.record(self._author.event("request.refused", ANONYMOUS, **members))
        else:
            members = {"decision": decision(refused), "refusal": {"stage": stage}}
            self._count(("request.refused", stage, refused.reason), ANONYMOUS, members)

    def denied(self, kind: str, refused: Refused, subject: Mapping[str, Any], members: Mapping[str, Any]) -> None:
        """`inference.denied` or `admin.denied` of a proven caller.

        `members`: `source`, `operation`, and what is known of `decision` (epoch, policies), `model`, `request`, `link`,
        `content`, `statement`.
        """
        whole = {**members, "decision": {**members.get("decision", {}), **decision(refused)}}
        if kind == "inference.denied":
            whole.setdefault("outcome", {"status": refused.status})
        self._of_proven(kind, refused.reason, subject, whole)

    def read(self, subject: Mapping[str, Any], members: Mapping[str, Any]) -> None:
        """`access.read`: a read the door answered itself. `members`: `operation`, `source`, what is known of `decision`."""
        whole = {**members, "decision": {**members.get("decision", {}), "outcome": "allow"}}
        self._of_proven("access.read", members["operation"]["name"], subject, whole)

    def flush(self) -> None:
        """Write what ten seconds have gathered."""
        now = self._author.clock.boot()
        for key in [key for key, rest in self._rest.items() if rest.until <= now]:
            self._write(key)

    def close(self) -> None:
        """Write all that is gathered."""
        for key in list(self._rest):
            self._write(key)

    def _of_proven(self, kind: str, reason: str, subject: Mapping[str, Any], members: Mapping[str, Any]) -> None:
        if self._proven.allow((subject["id"], reason), self._author.clock.boot()):
            self._sink.record(self._author.event(kind, subject, **members))
        else:
            kept = {name: members[name] for name in ("operation", "decision") if name in members}
            self._count((kind, subject["id"], reason), subject, kept | {"refusal": {}})

    def _count(self, key: tuple[str, ...], subject: Mapping[str, Any], members: dict[str, Any]) -> None:
        now = self._author.clock.now()
        rest = self._rest.get(key)
        if rest is None:
            if len(self._rest) >= self._most:
                self._write(next(iter(self._rest)))
            rest = self._rest[key] = _Rest(dict(subject), members, now, self._author.clock.boot() + WINDOW)
        rest.count += 1
        rest.last = now

    def _write(self, key: tuple[str, ...]) -> None:
        rest = self._rest.pop(key)
        counted = {"count": rest.count, "first": rfc3339(rest.first), "last": rfc3339(rest.last)}
        members = rest.members | {"refusal": rest.members["refusal"] | counted}
        self._sink.record(self._author.event(key[0], rest.subject, **members))


@dataclass(frozen=True, slots=True)
class Heard:
    """What a refused request said of itself; empty where it did not get so far."""

    method: str = ""
    host: str = ""
    target: str = ""

    def members(self) -> Event:
        """For `refusal`. Not the query: whoever sends a key there (attack 72) must not have it kept."""
        method = self.method if _METHOD.fullmatch(self.method) else ""
        found = {"method": method, "host": self.host, "target": self.target.partition("?")[0]}
        return {name: words for name, words in found.items() if words}


def decision(refused: Refused) -> Event:
    """What a refusal says in `decision`: a fault of ours is an error, all else a denial."""
    return {"outcome": "error" if refused.row.exit > 1 else "deny", "reason": refused.reason.value}


def network(address: str) -> str:
    """The /24 or /56 that shares a bucket; an address that is none is its own."""
    if ":" not in address:
        return address.rpartition(".")[0]
    try:
        return str(int(ipaddress.IPv6Address(address.partition("%")[0])) >> 72)
    except ValueError:
        return address


@dataclass(slots=True)
class _Rest:
    subject: Event
    members: dict[str, Any]
    first: int
    until: float
    count: int = 0
    last: int = 0


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float

    def take(self, now: float, size: float, per_second: float) -> bool:
        self.left, self.at = min(size, self.left + (now - self.at) * per_second), now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class _Buckets:
    """One bucket a key and one for all of them; at most `sources` keys, the one that was quiet longest goes first."""

    def __init__(self, limits: settings.Refusals, in_all: int) -> None:
        self._limits, self._in_all = limits, in_all
        self._all = _Bucket(in_all, 0.0)
        self._by_key: dict[tuple[str, str], _Bucket] = {}

    def allow(self, key: tuple[str, str], now: float) -> bool:
        bucket = self._by_key.pop(key, None) or _Bucket(self._limits.burst, now)
        self._by_key[key] = bucket
        if len(self._by_key) > self._limits.sources:
            del self._by_key[next(iter(self._by_key))]
        allowed = bucket.take(now, self._limits.burst, self._limits.per_second)
        return allowed and self._all.take(now, self._in_all, self._in_all)


WINDOW = 10.0  # seconds
_METHOD = re.compile(r"[A-Z]{1,16}")
