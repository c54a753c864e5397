"""What a door may have admitted and closed: the recorder's decisions, without a disk (contracts.md section 4).

A door says what it wants; epoch, model digest, approval, groups, limits and time are the recorder's own. What is decided
here is counted at once (`Counters`) and becomes an entry in the same batch; an entry that fails stops the recorder, so
what is counted and what is durable cannot part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jsonschema_rs

from sealward.errors import Reason, Refused
from sealward.events import Event
from sealward.formats.entry import ADMITTED
from sealward.formats.event import SCHEMA, holds_float
from sealward.formats.fault import FormatError
from sealward.formats.ids import ulid, ulid_time_ms
from sealward.formats.snapshot import GENESIS, Snapshot
from sealward.gateway.capture import BODY, level
from sealward.gateway.counters import Bound, Counters, counters_of


class Denied(Exception):  # noqa: N818 - a decision, not a fault
    """A decided refusal of an admission; `event` is what the door sent, with what the recorder knows better."""

    def __init__(self, refused: Refused, event: Event) -> None:
        super().__init__(refused.reason.value)
        self.refused, self.event = refused, event

    def members(self) -> Event:
        """What the `inference.denied` says besides its subject."""
        members = {name: self.event[name] for name in OF_DENIED if name in self.event}
        members["request"] = _without_reservation(self.event)
        members["statement"] = {"input_sha256": self.event["admission"]["input"]}
        return members


class Ahead(Exception):  # noqa: N818 - a state, not a fault
    """The door has a newer snapshot than the recorder: fetch it, then ask again."""


@dataclass(slots=True, eq=False)
class Stored:
    """A body that a door has handed over; `ref` is empty until it is durable. `used`: an entry names it."""

    kid: str
    month: str
    ref: str
    since: float
    used: bool = False


@dataclass(slots=True, eq=False)
class Door:
    """One connection of a door's worker, whose instances are called `name` and a suffix.

    `open`: its requests that no entry has closed, with their admissions; `stored`: bodies by request and side.
    """

    name: str
    open: dict[str, Event] = field(default_factory=dict)
    stored: dict[tuple[str, str], Stored] = field(default_factory=dict)

    def instance(self, said: object) -> str:
        """A process names itself within its role: nobody signs as another."""
        return said if isinstance(said, str) and said.startswith(self.name) else self.name


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, in microseconds and as text: one for all that is decided in a turn."""

    us: int
    text: str


class Admission:
    """Decides. `random(n)` gives n bytes."""

    def __init__(self, counters: Counters, random: Callable[[int], bytes]) -> None:
        self._counters, self._random = counters, random
        self._rules = _Rules(GENESIS)
        self._failed: dict[str, tuple[Door, Event]] = {}  # admissions that ended at their sidecar and may be retried

    def admit(self, door: Door, message: Mapping[str, Any], snapshot: Snapshot, now: Moment) -> Event:
        """The `inference.admitted` of `{op: admit, …}`, counted.

        Raises Ahead, Denied, Refused where nothing is to be written (stale_epoch, overloaded, token_replayed), and
        FormatError where the message or its event is not what a door may send.
        """
        if not self._asks(message):
            raise FormatError("malformed", "admit")
        self._check_epoch(message["epoch"], snapshot)
        if len(door.open) >= MAX_OPEN:
            raise Refused(Reason.OVERLOADED, "too many open requests of this door")
        event = self._heard(door, message, now)
        first = self._first(door, event)
        keys = self._judge(door, event, message, now)
        self._counters.admit(event, keys)
        if first:
            del self._failed[event["link"]["request"]]
        door.open[event["link"]["request"]] = event
        return event

    def close(self, door: Door, message: Mapping[str, Any], now: Moment) -> Event:
        """The closing event of `{op: close, …}`, counted. LookupError: not an open request of this door."""
        if message.keys() != CLOSE or not isinstance(message["req"], str):
            raise FormatError("malformed", "close")
        given: Event = message["event"]
        check_closing(given, message["outcome"])
        admitted = door.open[message["req"]]
        event = self._closing(admitted, f"inference.{message['outcome']}", now)
        event |= given
        if "decision" in given:
            said = {name: value for name, value in given["decision"].items() if name in DOORS_DECISION}
            event["decision"] = admitted["decision"] | said
        wanted, output = admitted["content"]["input"]["capture"], given.get("content", _NOTHING).get("output")
        if output is not None and (output["capture"] != wanted or wanted == BODY):
            given["content"]["output"] = captured(door, output, message["req"], "output", wanted)
        elif output is None and wanted == BODY and message["outcome"] == "completed":
            raise FormatError("event", "an answer whose body is missing")
        if "content" in given:
            event["content"] = given["content"] | admitted["content"]
        if "truncated" in given:
            event["truncated"] = admitted.get("truncated", {}) | given["truncated"]
        event["statement"] = given.get("statement", {}) | {"input_sha256": admitted["admission"]["input"]}
        self._close(door, event)
        if event["outcome"].get("aborted_by") == "upstream":
            self._failed[message["req"]] = door, admitted
        return event

    def abandon(self, door: Door, aborted_by: str, now: Moment) -> list[Event]:
        """Closes all that is open at `door`: it died, or the lease ended."""
        events = []
        for admitted in list(door.open.values()):
            event = self._closing(admitted, "inference.aborted", now)
            event |= {"instance": "recorder", "outcome": {"status": 0, "aborted_by": aborted_by}}
            event["statement"] = {"input_sha256": admitted["admission"]["input"]}
            self._close(door, event)
            events.append(event)
        return events

    def undo(self, door: Door, event: Event) -> None:
        """An admission that did not become an entry after all."""
        door.open.pop(event["link"]["request"], None)
        self._counters.undo(event)

    def knows(self, request: str) -> bool:
        """Whether a request is open, or was closed in the last 60 s."""
        return request in self._counters.open or request in self._counters.closed

    @property
    def epoch(self) -> int:
        """The highest that this recorder knows."""
        return max(self._counters.epoch, self._rules.snapshot.epoch)

    def forget(self) -> None:
        """Drops what is too old to matter. Call it about once a second."""
        self._counters.forget()
        for request in [request for request in self._failed if request not in self._counters.failed]:
            del self._failed[request]

    @staticmethod
    def _asks(message: Mapping[str, Any]) -> bool:
        tokens, epoch = message.get("tokens"), message.get("epoch")
        return (
            message.keys() == ADMIT
            and isinstance(message["event"], dict)
            and type(tokens) is int
            and 0 <= tokens <= MAX_TOKENS
            and type(epoch) is int
        )

    def _check_epoch(self, doors: int, snapshot: Snapshot) -> None:
        if snapshot.epoch < self._counters.epoch:
            raise Ahead
        if doors != snapshot.epoch:
            raise Ahead if doors > snapshot.epoch else Refused(Reason.STALE_EPOCH, "the door's snapshot is older")
        if self._rules.snapshot is not snapshot:
            self._rules = _Rules(snapshot)

    def _heard(self, door: Door, message: Mapping[str, Any], now: Moment) -> Event:
        """The door's event as an admission of now; from here on its members have the types of the schema."""
        event: Event = message["event"]
        event |= {
            "type": ADMITTED,
            "time": now.text,
            "instance": door.instance(event.get("instance")),
            "admission": {name: message[name] for name in ("body", "input", "path", "sidecar")},
        }
        if not _ADMISSION.is_valid(event) or event["link"]["request"] != message["req"]:  # `seal` finds floats
            raise FormatError("event", "not the admission of this request")
        return event

    def _first(self, door: Door, event: Event) -> bool:
        """Whether it is the retry of a failed admission: same door, caller, model and content, another sidecar."""
        request = event["link"]["request"]
        if not self.knows(request):
            return False
        first_door, first = self._failed.get(request, (None, event))
        same = all(first[group].get("id") == event[group].get("id") for group in ("subject", "model"))
        same = same and first["admission"]["input"] == event["admission"]["input"]
        same = same and request in self._counters.failed
        if first_door is not door or not same or first["admission"]["sidecar"] == event["admission"]["sidecar"]:
            raise Refused(Reason.TOKEN_REPLAYED, "this request was admitted before")
        return True

    def _judge(self, door: Door, event: Event, message: Mapping[str, Any], now: Moment) -> tuple[str, ...]:
        """Overwrites what the recorder knows better, then asks age, caller, model and limits; the counters to charge."""
        rules, tokens = self._rules, message["tokens"]
        event["decision"] |= rules.decision
        age = now.us // 1000 - ulid_time_ms(message["req"])
        if not -MAX_AHEAD_MS <= age <= MAX_AGE_MS:
            raise Denied(Refused(Reason.HTTP_TIMEOUT, "the request is not of now"), event)
        known = rules.known(event)
        event["subject"] |= known.subject
        event["model"] = {"alias": event["model"]["alias"], **known.model}
        event["request"]["reserved_tokens"] = tokens
        content = event["content"].get("input", _NOTHING)
        if content.get("capture") != known.capture or known.capture == BODY:
            event["content"]["input"] = captured(door, content, message["req"], "input", known.capture)
        reached = self._counters.reached(message["req"], known.bounds, tokens)
        if reached is not None:
            event["decision"]["quota"] = {"name": reached.name, "used": reached.used, "limit": reached.limit}
            raise Denied(Refused(reached.reason, reached.name), event)
        return known.keys

    def _closing(self, admitted: Event, kind: str, now: Moment) -> Event:
        event = {name: admitted[name] for name in OF_ADMITTED}
        if "truncated" in admitted:
            event["truncated"] = admitted["truncated"]
        event["request"] = _without_reservation(admitted)
        event["id"], event["type"], event["time"] = ulid(now.us, self._random(10)), kind, now.text
        return event

    def _close(self, door: Door, event: Event) -> None:
        del door.open[event["link"]["request"]]
        if door.stored:
            for side in ("input", "output"):
                door.stored.pop((event["link"]["request"], side), None)
        self._counters.close(event)


def captured(door: Door, part: Event, request: str, side: str, level: str) -> Event:
    """What an event says of content: captured as policy wants, a body being the object that the door has stored before.

    FormatError("event"): it is not, or there is one that policy does not capture.
    """
    if level != BODY:
        if "ref" in part:
            raise FormatError("event", "a body that is not to be captured")
        return {**part, "bytes": part.get("bytes", 0), "capture": level}
    stored = door.stored.get((request, side))
    if stored is None or not stored.ref or (part.get("capture"), part.get("ref")) != (BODY, stored.ref):
        raise FormatError("event", "a body that was not stored")
    stored.used = True
    return part


def check_closing(given: Any, outcome: Any) -> None:
    """What a door may say when it closes is as strict as the event's schema. FormatError("malformed" | "event")."""
    if outcome not in ("completed", "aborted"):
        raise FormatError("malformed", "close")
    if not _CLOSING.is_valid(given) or holds_float(given) or (outcome == "aborted") != ("aborted_by" in given["outcome"]):
        raise FormatError("event", "close")


class _Known(NamedTuple):
    """What one snapshot says about a caller and a model: members of the event, and the counters with their bounds."""

    subject: Event
    model: Event
    keys: tuple[str, ...]
    bounds: list[Bound]
    capture: str


class _Rules:
    """What the recorder decides by, from its own snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.decision = {"outcome": "allow", "epoch": snapshot.epoch, "policy_digest": snapshot.policy_digest}
        part = snapshot.sections
        self._subjects, self._keys, self._models, self._limits = part["subjects"], part["keys"], part["models"], part["limits"]
        self._known: dict[tuple[str | None, ...], _Known] = {}

    def known(self, event: Event) -> _Known:
        """Raises Denied: credential_unknown, revoked, model_*."""
        subject, model = event["subject"], event["model"].get("id")
        user = subject["on_behalf_of"]["id"] if "on_behalf_of" in subject else None
        asked = (subject["id"], subject.get("key_id"), user, model)
        found = self._known.get(asked)
        if found is None:
            members = self._subject(event), self._model(event)
            keys = counters_of({"subject": subject | members[0], "model": members[1]})
            capture = level(self.snapshot.sections, self._models[model], subject["id"])
            found = _Known(*members, keys, self._bounds(keys), capture)
            if len(self._known) < MAX_KNOWN:
                self._known[asked] = found
        return found

    def _subject(self, event: Event) -> Event:
        """Kind and groups as they are here. A key must be one of this subject's."""
        said: Event = event["subject"]
        row, key = self._subjects.get(said["id"]), said.get("key_id")
        if row is None or (key is not None and self._keys.get(key, {}).get("owner") != said["id"]):
            raise Denied(Refused(Reason.CREDENTIAL_UNKNOWN, "no such subject or key"), event)
        if "disabled" in row:
            raise Denied(Refused(Reason.REVOKED, "the subject is disabled"), event)
        groups = row["groups"]
        if len(groups) > MAX_GROUPS:  # those that are limited count
            groups = sorted(groups, key=lambda group: "group:" + group not in self._limits)[:MAX_GROUPS]
        return {"kind": row["kind"], "groups": groups}

    def _model(self, event: Event) -> Event:
        """Id, and the digest and signature that are approved here."""
        name = event["model"].get("id", "")
        row = self._models.get(name)
        if row is None:
            raise Denied(Refused(Reason.MODEL_NOT_GRANTED, "no such model"), event)
        if row["stage"] not in SERVED:
            withdrawn = row["stage"] == "retired"
            raise Denied(Refused(Reason.MODEL_WITHDRAWN if withdrawn else Reason.MODEL_UNAPPROVED, name), event)
        return {"id": name} | {member: row[member] for member in ("digest", "signature_id") if member in row}

    def _bounds(self, keys: tuple[str, ...]) -> list[Bound]:
        """The limits on these counters; `default` is for every subject or user without a row of his own."""
        default = self._limits.get("default")
        found = []
        for key in keys:
            if key in self._limits:
                found.append(Bound(key, key, self._limits[key]))
            elif default is not None and key.startswith(("subject:", "user:")):
                found.append(Bound(key, "default", default))
        return found


def _without_reservation(event: Event) -> Event:
    found: Event = event["request"].copy()
    found.pop("reserved_tokens", None)
    return found


def _part_of_schema(members: Iterable[str], required: Iterable[str], **narrower: Event) -> jsonschema_rs.Draft202012Validator:
    """The event's own schema for these members only: as strict, and without the conditions for a hundred other types."""
    parts = {name: SCHEMA["properties"][name] for name in members}
    parts |= {name: {"allOf": [parts[name], rule]} for name, rule in narrower.items()}
    shape = {"type": "object", "additionalProperties": False, "required": [*dict.fromkeys(required)], "properties": parts}
    return jsonschema_rs.Draft202012Validator({"$schema": SCHEMA["$schema"], "$defs": SCHEMA["$defs"]} | shape)


ADMIT = frozenset({"n", "op", "event", "req", "input", "body", "path", "sidecar", "tokens", "epoch"})
CLOSE = frozenset({"n", "op", "req", "outcome", "event"})
DOORS_CLOSING = ("outcome", "statement", "content", "decision", "detectors", "tool_calls", "truncated")
DOORS_DECISION = frozenset({"outcome", "reason", "observed", "obligations"})
OF_DENIED = ("source", "operation", "decision", "model", "content", "detectors", "link")
OF_ADMITTED = ("v", "instance", "tenant", "subject", "source", "decision", "operation", "model", "content", "link")
_NOTHING: Event = {}
SERVED = frozenset({"approved", "deployed"})
MAX_OPEN = 4096  # requests of one worker
MAX_TOKENS = 2**53 - 1
MAX_AGE_MS, MAX_AHEAD_MS = 60_000, 5_000
MAX_GROUPS = 64  # that an event has room for
MAX_KNOWN = 10_000
_CLOSING = _part_of_schema(DOORS_CLOSING, ["outcome"])
_ADMISSION = _part_of_schema(
    [*SCHEMA["required"], *OF_ADMITTED, "request", "admission", "clock", "detectors", "ext", "truncated"],
    [*SCHEMA["required"], *OF_ADMITTED, "request", "admission"],
    link={"required": ["request"], "properties": {"of": False}},
)
