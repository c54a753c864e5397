"""Captured bodies on the recorder's side: to which key a door seals, and the objects that it hands over.

    door     {n, op: body_key, subject, user?} → {n, kid, public}
             {n, op: body, req, side, kid, at, data, last?} → {n}, and to the last part {n, ref}
    control  push {push: body_keys, wanted: [{of, subject, month}]}; {n, op: body_keys, rows: [{kid, of, public, wrapped}]} → {n}
             {n, op: bodies, req} → {n, origin, index, objects: {side: {ref, kid, wrapped}}}
             {n, op: body_part, kid, ref, at} → {n, data, size}

The door seals, so that nobody but the door ever holds content; control makes the key pairs, so that the recorder cannot open
them; the recorder keeps both, so that one erasure ends both. While control is away a subject without a key of this month is
refused (`key_unavailable`) where its bodies are to be captured; the next month's keys are asked for ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sealward.clock import Clock
from sealward.errors import Reason, Refused
from sealward.formats.b64 import b64url, unb64url
from sealward.formats.fault import FormatError
from sealward.formats.ids import DIGEST, ULID, rfc3339
from sealward.formats.subject_key import SubjectKey
from sealward.gateway.admission import Door, Stored
from sealward.gateway.clients import Client
from sealward.journal.body_keys import BodyKey
from sealward.journal.quota import Kind
from sealward.journal.writer import Writer

Message = dict[str, Any]
Aside = Callable[[Client, Message, Callable[[], Message]], None]
"""Does slow work elsewhere and says its answer to the client; what the work raises is said for it."""


class Capturing:
    """One recorder's. Its clients' messages come here from `Recording`, in its thread."""

    def __init__(self, writer: Writer, clock: Clock, aside: Aside) -> None:
        self._writer, self._clock, self._aside = writer, clock, aside
        self._parked: list[_Parked] = []
        self._wanted: dict[str, SubjectKey] = {}  # kid of the event key → the key
        self._parts: dict[tuple[Client, str, str], _Parts] = {}
        self._stored: deque[tuple[Door, tuple[str, str]]] = deque()  # oldest first
        self._controls: set[Client] = set()
        writer.on_erased.append(self._erased)

    def connect(self, client: Client) -> None:
        """Control is told what is wanted."""
        if client.role == "control":
            self._controls.add(client)
            self._push(client, list(self._wanted.values()))

    def take(self, client: Client, message: Message, subjects: Callable[[], Mapping[str, Any]]) -> None:
        """One of `OPS`. `subjects`: those of the snapshot. FormatError, Refused, IntegrityError."""
        match message["op"]:
            case "body_key":
                self._key(client, message, subjects())
            case "body_keys":
                self._made(client, message)
            case "body":
                self._part(client, message)
            case "bodies":
                self._find(client, message)
            case "body_part":
                self._read(client, message)

    def _key(self, client: Client, message: Message, subjects: Mapping[str, Any]) -> None:
        """A subject that the snapshot does not know gets none: a door cannot fill the store with inventions."""
        subject, user = message.get("subject"), message.get("user")
        if not isinstance(subject, str) or not (user is None or (isinstance(user, str) and 0 < len(user) <= MAX_USER)):
            raise FormatError("malformed", "body_key")
        if subject not in subjects:
            raise Refused(Reason.CREDENTIAL_UNKNOWN)
        key, ahead = self._writer.event_key(subject, user, rfc3339(self._clock.now()))
        self._want([found for found in (key, ahead) if found is not None])
        found = self._writer.bodies.of(key.kid)
        if found is not None:
            client.say({"n": message["n"], "kid": found.kid, "public": found.public})
        elif len(self._parked) >= MAX_PARKED:
            raise Refused(Reason.OVERLOADED)
        else:
            self._parked.append(_Parked(client, message["n"], key.kid, self._clock.boot() + PARKED_S))

    def _made(self, client: Client, message: Message) -> None:
        """What was not asked for is not taken."""
        rows = message.get("rows")
        if not isinstance(rows, list):
            raise FormatError("malformed", "body_keys")
        keys = [key for key in map(BodyKey.parse, rows) if key.of in self._wanted]
        self._writer.add_body_keys(keys)
        for key in keys:
            del self._wanted[key.of]
        client.say({"n": message["n"]})
        parked, self._parked = self._parked, []
        for waiting in parked:
            found = self._writer.bodies.of(waiting.of)
            if found is None:
                self._parked.append(waiting)
            else:
                waiting.client.say({"n": waiting.n, "kid": found.kid, "public": found.public})

    def _part(self, client: Client, message: Message) -> None:
        """Parts come in order; with the last one the object is made durable elsewhere."""
        request, side, kid = (message.get(name) for name in ("req", "side", "kid"))
        if not (isinstance(request, str) and ULID.fullmatch(request) and side in SIDES and isinstance(kid, str)):
            raise FormatError("malformed", "body")
        text = message.get("data")
        data = unb64url(text) if isinstance(text, str) else b""
        place = client, request, str(side)
        parts = self._parts.setdefault(place, _Parts(kid, self._clock.boot()))
        if message.get("at") != parts.size or kid != parts.kid or not data:
            del self._parts[place]
            raise FormatError("malformed", "body: a part is missing")
        parts.data.append(data)
        parts.size += len(data)
        if parts.size > MAX_OBJECT or sum(each.size for (of, *_), each in self._parts.items() if of is client) > MAX_HELD:
            del self._parts[place]
            raise Refused(Reason.OVERLOADED)
        if message.get("last") is not True:
            client.say({"n": message["n"]})
            return
        del self._parts[place]
        self._store(client, message, b"".join(parts.data))

    def gone(self, client: Client) -> None:
        """Nobody will send the rest, or wait for a key."""
        self._controls.discard(client)
        for place in [place for place in self._parts if place[0] is client]:
            del self._parts[place]
        self._parked = [waiting for waiting in self._parked if waiting.client is not client]

    def tick(self) -> None:
        """What waits too long is refused; objects that no entry came to name are removed."""
        boot = self._clock.boot()
        for waiting in [waiting for waiting in self._parked if waiting.until <= boot]:
            self._parked.remove(waiting)
            waiting.client.say({"n": waiting.n, "refused": Reason.KEY_UNAVAILABLE})
        for place in [place for place, parts in self._parts.items() if parts.since + UNUSED_S <= boot]:
            del self._parts[place]
        while self._stored and (door := self._stored[0][0]).stored.get(self._stored[0][1], OVER).since + UNUSED_S <= boot:
            found = door.stored.pop(self._stored.popleft()[1], None)
            if found is not None and not found.used:
                self._writer.objects.remove(found.month, found.kid, found.ref)

    def _store(self, client: Client, message: Message, data: bytes) -> None:
        key = self._writer.bodies.named(message["kid"])
        month = self._writer.reader.key(key.of) if key is not None else None
        if key is None or month is None:
            raise Refused(Reason.KEY_UNAVAILABLE)
        if not self._writer.has_room(Kind.TRAFFIC, len(data)):
            raise Refused(Reason.JOURNAL_FULL)
        stored = Stored(key.kid, month.month, "", self._clock.boot())
        place = message["req"], message["side"]
        client.door.stored[place] = stored
        self._stored.append((client.door, place))

        def work() -> Message:
            stored.ref = self._writer.objects.put(stored.month, stored.kid, data)
            return {"ref": stored.ref}

        self._aside(client, message, work)

    def _find(self, client: Client, message: Message) -> None:
        """`{req}` → what was captured of it, and the rows of the keys that open it: not_found also for who was erased."""
        request = message.get("req")
        if not isinstance(request, str) or not ULID.fullmatch(request):
            raise FormatError("malformed", "bodies")
        self._aside(client, message, lambda: self._found(request))

    def _found(self, request: str) -> Message:
        reader = self._writer.reader
        row = reader.find(request)
        if row is None or row.event is None:
            return {"refused": "not_found"}
        admitted = list(reader.at([row.event["link"]["of"]])) if "of" in row.event["link"] else []
        kids = [found.header["kid"] for found in [*admitted, row]]
        answer: Message = {"origin": reader.log.name, "index": row.index, "objects": {}}
        for side in sorted(SIDES):
            ref = row.event.get("content", {}).get(side, {}).get("ref")
            for key in filter(None, map(self._writer.bodies.of, kids) if ref else ()):
                month = reader.key(key.of)
                if month is not None and self._writer.objects.has(month.month, key.kid, ref):
                    answer["objects"][side] = {"ref": ref, "kid": key.kid, "wrapped": key.wrapped}
        return answer if answer["objects"] else {"refused": "not_found"}

    def _read(self, client: Client, message: Message) -> None:
        """`{kid, ref, at}` → `{data, size}`: a part of the object."""
        kid, ref, at = message.get("kid"), message.get("ref"), message.get("at")
        key = self._writer.bodies.named(kid) if isinstance(kid, str) else None
        month = self._writer.reader.key(key.of) if key is not None else None
        if not isinstance(ref, str) or not DIGEST.fullmatch(ref) or type(at) is not int or at < 0:
            raise FormatError("malformed", "body_part")
        if key is None or month is None:
            client.say({"n": message["n"], "refused": "not_found"})
            return
        kept, place = self._writer.objects, (month.month, key.kid, ref)

        def work() -> Message:
            data = kept.read(*place)
            return {"data": b64url(data[at : at + PART]), "size": len(data)}

        self._aside(client, message, work)

    def _want(self, keys: Collection[SubjectKey]) -> None:
        fresh = [key for key in keys if key.kid not in self._wanted and self._writer.bodies.of(key.kid) is None]
        if fresh:
            self._wanted |= {key.kid: key for key in fresh}
            for control in self._controls:
                self._push(control, fresh)

    @staticmethod
    def _push(client: Client, keys: list[SubjectKey]) -> None:
        for start in range(0, len(keys), AT_ONCE):
            wanted = [{"of": key.kid, "subject": key.subject, "month": key.month} for key in keys[start : start + AT_ONCE]]
            client.say({"push": "body_keys", "wanted": wanted})

    def _erased(self, kids: Collection[str]) -> None:
        for kid in kids:
            self._wanted.pop(kid, None)
        for door, place in self._stored:
            if place in door.stored and door.stored[place].kid in kids:
                door.stored[place].ref = ""  # no entry may name it any more


@dataclass(slots=True, eq=False)
class _Parked:
    client: Client
    n: int
    of: str
    until: float


@dataclass(slots=True, eq=False)
class _Parts:
    kid: str
    since: float
    data: list[bytes] = field(default_factory=list)
    size: int = 0


OPS = frozenset({"body_key", "body_keys", "body", "bodies", "body_part"})
SIDES = frozenset({"input", "output"})
MAX_OBJECT = 40 << 20  # an answer of 32 MiB and what sealing adds
MAX_HELD = 128 << 20  # parts of one door
MAX_PARKED, MAX_USER, AT_ONCE = 1024, 128, 256
PART = 1 << 19
PARKED_S, UNUSED_S = 0.9, 60.0
OVER = Stored("", "", "", float("-inf"))
