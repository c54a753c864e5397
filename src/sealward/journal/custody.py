"""What the owner of a journal does to it as a whole: erase a person, hold entries, release them, part with old ones.

Each act is an entry first and takes effect then; a crash in between is made good by the next start (`Writer.open`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sealward.clock import Clock
from sealward.errors import IntegrityError, Reason, Refused
from sealward.events import Event, system_subject
from sealward.formats.event import tidy_text, validate
from sealward.formats.fault import FormatError
from sealward.formats.ids import rfc3339, ulid
from sealward.formats.tiles import WIDTH
from sealward.journal.chronicle import Hold
from sealward.journal.key_copies import KEPT_US
from sealward.journal.writer import Draft, Writer

Message = Mapping[str, Any]
Answer = dict[str, Any]


class Custody:
    """One writer's. `by`: the subject of who asks, as in events."""

    def __init__(self, writer: Writer, clock: Clock, random: Callable[[int], bytes], by: Mapping[str, Any] | None = None) -> None:
        self._writer, self._clock, self._random = writer, clock, random
        self._by = OWNER if by is None else by

    def perform(self, asked: Message) -> Answer:
        """What came of `{op, …}`, see `OPS`. FormatError("malformed"); Refused(policy_denied): a hold is in the way.

        IntegrityError: the journal stopped.
        """
        acts: dict[object, Callable[[Message], Answer]]
        acts = {"erase": self._erase, "hold": self._hold, "release": self._release}
        acts |= {"archivable": self._archivable, "archived": self._archived}
        op, members = asked.get("op"), {name for name in asked if name not in {"op", "n"}}
        if not isinstance(op, str) or op not in acts or not OPS[op][0] <= members <= OPS[op][0] | OPS[op][1]:
            raise FormatError("malformed", "not an act on a journal")
        return acts[op](asked)

    def _erase(self, asked: Message) -> Answer:
        """`{subject, user?, reason?, case?}` → `{case, keys, kids, index, live_us, everywhere_by}`."""
        subject, user = _text(asked["subject"]), _text(asked["user"]) if "user" in asked else None
        if self._writer.chronicle.held:
            raise Refused(Reason.POLICY_DENIED, f"a legal hold is on {', '.join(map(str, self._writer.chronicle.held))}")
        if user is None and subject in OURS:
            raise Refused(Reason.POLICY_DENIED, f"{subject} is a process of sealward, not a person")
        began = self._clock.boot()
        kids = self._writer.kids_of(subject, user)
        everywhere = rfc3339(self._clock.now() + KEPT_US)
        case = asked.get("case", f"case-{ulid(self._clock.now(), self._random(10))}")
        members = {"subject": case, "keys": len(kids), "requested_by": self._by["id"], "everywhere_by": everywhere}
        members |= {"reason": _words(asked["reason"])} if "reason" in asked else {}
        parts = [kids[at : at + MOST_KIDS] for at in range(0, len(kids), MOST_KIDS)] or [[]]
        index = self._write(*[self._event("journal.erased", RECORDER, erasure=members | {"kids": part}) for part in parts])
        self._writer.drop_keys(kids)
        live_us = round((self._clock.boot() - began) * 1_000_000)
        return {"case": case, "keys": len(kids), "kids": kids, "index": index, "live_us": live_us, "everywhere_by": everywhere}

    def _hold(self, asked: Message) -> Answer:
        """`{because, from?, to?}` → `{target, index}`; without from and to all entries, also those that come."""
        return self._mark("journal.held", "hold", _target(asked), asked)

    def _release(self, asked: Message) -> Answer:
        """`{because, from?, to?}`, as it was held → `{target, index}`."""
        target = _target(asked)
        if target not in self._writer.chronicle.held:
            held = ", ".join(map(str, self._writer.chronicle.held)) or "nothing"
            raise Refused(Reason.BODY_FIELD, f"{target} is not held; {held} is")
        return self._mark("journal.released", "release", target, asked)

    def _archivable(self, asked: Message) -> Answer:
        """`{}` → `{from, to}`: entries `from` to before `to` may be archived now. A hold ends it."""
        del asked
        first, end = min(self._writer.reader.archived(), self._writer.chronicle.archived), self._writer.may_part()
        end = min([end, *(hold.first // WIDTH * WIDTH for hold in self._writer.chronicle.held if hold.covers(first, end))])
        return {"from": first, "to": max(first, end)}

    def _archived(self, asked: Message) -> Answer:
        """`{to, root, manifest, target, bytes}` → `{from, to, index}`: a verified copy is at `target`, so they leave."""
        may, end = self._archivable({}), asked["to"]
        if type(end) is not int or end % WIDTH or not may["from"] < end <= may["to"]:
            raise Refused(Reason.POLICY_DENIED, f"entries {may['from']} to {may['to'] - 1} may be archived, not to before {end}")
        reader = self._writer.reader
        if asked["root"] != f"sha256:{reader.root(end, reader.checkpoint()[0]).hex()}":
            raise Refused(Reason.POLICY_DENIED, "the copy is not of these entries")
        archive = {"from_seq": may["from"], "to_seq": end - 1, "root": asked["root"], "manifest": asked["manifest"]}
        archive |= {"target": tidy_text(str(asked["target"]))[:MAX_TARGET], "bytes": asked["bytes"]}
        index = self._write(self._event("journal.archived", self._by, archive=archive))
        self._writer.part(end)
        return {"from": may["from"], "to": end, "index": index}

    def _mark(self, kind: str, action: str, target: Hold, asked: Message) -> Answer:
        change = {"target": str(target), "action": action, "reason": _words(asked["because"])}
        return {"target": str(target), "index": self._write(self._event(kind, self._by, change=change))}

    def _write(self, *events: Event) -> int:
        """The index of the last one. They are durable on return, each in room that is kept for administration."""
        for event in events:
            validate(event)
        index = 0
        for result in self._writer.commit([Draft(event) for event in events]):
            if isinstance(result, Refused):
                raise IntegrityError("journal_full", result.detail)
            index = result.index
        return index

    def _event(self, kind: str, subject: Mapping[str, Any], **members: Any) -> Event:
        now = self._clock.now()
        head = {"v": 1, "id": ulid(now, self._random(10)), "type": kind, "time": rfc3339(now), "instance": "recorder"}
        return head | {"tenant": "default", "subject": dict(subject)} | members


def _target(asked: Message) -> Hold:
    if ("from" in asked) != ("to" in asked):
        raise FormatError("malformed", "a range has both ends")
    if "from" not in asked:
        return Hold()
    first, last = asked["from"], asked["to"]
    if type(first) is not int or type(last) is not int or not 0 <= first <= last < MAX_INDEX:
        raise FormatError("malformed", "not a range of indices")
    return Hold(first, last)


def _text(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME or "\0" in value:
        raise FormatError("malformed", "not the name of a subject")
    return value


def _words(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise FormatError("malformed", "a reason is missing")
    return tidy_text(value)[:MAX_REASON]


OPS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {  # members: needed, and allowed beside them
    "erase": (frozenset({"subject"}), frozenset({"user", "reason", "case"})),
    "hold": (frozenset({"because"}), frozenset({"from", "to"})),
    "release": (frozenset({"because"}), frozenset({"from", "to"})),
    "archivable": (frozenset(), frozenset()),
    "archived": (frozenset({"to", "root", "manifest", "target", "bytes"}), frozenset()),
}
OWNER = {"id": "owner", "kind": "human", "authn": "local"}
RECORDER = system_subject("recorder")  # what tells an erased entry from a lost one must not itself be erased with a person
OURS = frozenset({"recorder", "control", "supervisor", "signer", "sidecar", "door", "admin", "monitor", "init", "anonymous"})
MOST_KIDS = 64
MAX_NAME, MAX_REASON, MAX_TARGET, MAX_INDEX = 256, 1024, 512, 1 << 53
