"""The recorder without its sockets: messages of known clients in, answers out, one commit for all of a turn.

`take` collects; `turn` decides, makes durable and answers. What cannot be decided yet waits (the recorder has to fetch a
door's newer snapshot first), for a second at most. While nothing is admitted `stopped` says why: draining, key_unavailable
(the lease is over: closings for ten seconds), or what is wrong with the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from sealward import settings
from sealward.clock import Clock
from sealward.errors import IntegrityError, Reason, Refused
from sealward.events import Event, system_subject
from sealward.formats import canonical
from sealward.formats.b64 import b64url
from sealward.formats.entry import ADMITTED
from sealward.formats.event import tidy_text
from sealward.formats.fault import FormatError
from sealward.formats.ids import rfc3339
from sealward.formats.snapshot import Snapshot
from sealward.gateway.admission import Admission, Ahead, Denied, Moment
from sealward.gateway.capturing import OPS as BODIES
from sealward.gateway.capturing import Aside, Capturing
from sealward.gateway.clients import Client
from sealward.gateway.counters import Counters
from sealward.gateway.entries import Author
from sealward.gateway.intents import Intents
from sealward.gateway.refusals import Refusals
from sealward.journal.custody import OPS as CUSTODY
from sealward.journal.custody import OWNER, Custody
from sealward.journal.quota import Kind
from sealward.journal.writer import Ack, Draft, Writer
from sealward.keyring.provider import Lease, Standing

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class World:
    """What is not the recorder's own. `serving`: its snapshot now; `behind`: told when a door is ahead of it.

    `fresh`: whether the witnesses have seen this log lately, as far as the settings demand it; `witnesses`: how each stands.

    `receipt` and `read` answer a question that the journal's files are read for, once the entries before it are durable.
    """

    serving: Callable[[], Snapshot]
    lease: Lease
    clock: Clock
    random: Callable[[int], bytes]
    behind: Callable[[], None]
    receipt: Callable[[Client, Message], None]
    read: Callable[[Client, Message], None]
    aside: Aside = lambda client, message, work: client.say({"n": message["n"]} | work())
    """Does slow work elsewhere, then answers."""
    fresh: Callable[[], bool] = lambda: True
    witnesses: Callable[[], list[dict[str, Any]]] = list


class Recording:
    """Owns the writer, whose folds are `counters` and `intents`."""

    def __init__(self, writer: Writer, counters: Counters, intents: Intents, world: World, limits: settings.Refusals) -> None:
        self._writer, self._intents, self._world, self._clock = writer, intents, world, world.clock
        self._admission = Admission(counters, world.random)
        self._author = Author("recorder", world.clock, world.random)
        self._refusals = Refusals(limits, self._author, self)
        self._custody = Custody(writer, world.clock, world.random)
        self._capturing = Capturing(writer, world.clock, world.aside)
        self._clients: set[Client] = set()
        self._inbox: list[_Asked] = []
        self._parked: list[_Asked] = []
        self._wanted: list[_Wanted] = []
        self._now = Moment(0, "")
        self._lease_over = 0.0
        self.stopped: Reason | None = None
        self._ops: dict[str, Callable[[_Asked], None]] = {
            "admit": self._admit,
            "close": self._close,
            "record": self._record,
            "receipt": self._receipt,
            "intents": self._list_intents,
            "status": self._status,
            "read": self._read,
            "query": self._read,
            **dict.fromkeys(BODIES, self._capture),
            **dict.fromkeys(CUSTODY, self._act),
        }

    @property
    def open(self) -> int:
        """Requests that no entry has closed."""
        return len(self._writer.open_requests)

    def begin(self, pid: int, first: Sequence[Event] = ()) -> None:
        """The first entries of this run; `first` before all others."""
        for event in first:
            self.record(event)
        self._own("process.started", process={"name": "recorder", "pid": pid})
        self._own("journal.opened")
        self.turn()

    def connect(self, client: Client) -> None:
        self._clients.add(client)
        self._capturing.connect(client)

    def take(self, client: Client, message: Message) -> None:
        """One message for the next turn."""
        self._inbox.append(_Asked(client, message))

    def turn(self) -> None:
        """Everything taken since the last turn is decided and becomes durable, then it is answered."""
        inbox, self._inbox = self._inbox, []
        with self._writer.lock:
            self._now = self._moment()
            for asked in inbox:
                self._decide(asked)
                if len(self._wanted) >= MAX_BATCH:
                    self._commit()
            self._commit()

    def record(self, event: Event) -> None:
        """An event of the recorder's own, for the next commit (EventSink)."""
        self._wanted.append(_Wanted(_draft(event)))

    def gone(self, client: Client) -> None:
        """A connection ended: what its door left open is closed."""
        self._clients.discard(client)
        self._capturing.gone(client)
        self._inbox = [asked for asked in self._inbox if asked.client is not client]
        self._parked = [asked for asked in self._parked if asked.client is not client]
        self._abandon(client, "door")
        self.turn()

    def moved(self) -> None:
        """The recorder's snapshot is another one: what waited for it is decided again."""
        self._inbox += self._parked
        self._parked = []
        self.turn()

    def tick(self) -> None:
        """About ten times a second: what has waited too long, aggregates, gaps, the lease."""
        boot = self._clock.boot()
        for asked in [asked for asked in self._parked if asked.until <= boot]:
            self._parked.remove(asked)
            asked.client.say({"n": asked.message["n"], "refused": Reason.STALE_EPOCH})
        self._admission.forget()
        self._capturing.tick()
        self._refusals.flush()
        for client in self._clients:
            if client.dropped and self._clock.now() - client.dropped_since >= GAP_US:
                self._gap(client)
        self._check_lease(boot)
        self.moved()

    def drain(self) -> None:
        """Nothing new is admitted; what is open may still be closed."""
        self.stopped = self.stopped or Reason.DRAINING

    def stop(self, reason: Reason) -> None:
        """Nothing is admitted or written any more until a new process starts: what is on disk must not be continued."""
        self.turn()
        self.stopped = reason
        self._writer.halt(reason)

    def end(self) -> None:
        """Closes what is still open, and writes the recorder's own end as the last entry."""
        self.turn()
        for client in self._clients:
            self._abandon(client, "recovery")
        self._refusals.close()
        self._own("process.stopped", process={"name": "recorder"})
        self.turn()

    # -- a turn --

    def _decide(self, asked: _Asked) -> None:
        client, message = asked.client, asked.message
        op = message.get("op")
        try:
            if not isinstance(op, str) or op not in client.rights.ops or (op != "record" and type(message.get("n")) is not int):
                raise FormatError("malformed", "not an operation of this client")  # noqa: TRY301 - one way out for all that is bad
            self._ops[op](asked)
        except FormatError as error:
            LOG.warning("refused a message", client=client.role, cause=error.detail)
            if error.reason != "event":
                client.hang_up()
            elif "n" in message:
                client.say({"n": message["n"], "refused": Reason.JOURNAL_IO})

    def _commit(self) -> None:
        wanted, self._wanted = self._wanted, []
        if not wanted:
            return
        results: Sequence[Ack | Refused]
        try:
            results = self._writer.commit([each.draft for each in wanted])
        except Refused as refused:
            results = [refused] * len(wanted)
        except IntegrityError as error:
            results = [Refused(self._stop(error))] * len(wanted)
        for each, result in zip(wanted, results, strict=True):
            if isinstance(result, Refused):
                self._failed(each, result)
            elif each.client is not None:
                self._answer(each.client, each, result)

    def _answer(self, client: Client, wanted: _Wanted, ack: Ack) -> None:
        n = wanted.message["n"]
        if wanted.message["op"] in READS:
            self._world.read(client, wanted.message | {"at": ack.index})
        elif wanted.denied is not None:
            client.say({"n": n, "refused": wanted.denied, "index": ack.index})
        elif ack.pass_ is not None:
            client.say({"n": n, "index": ack.index, "pass": ack.pass_})
        else:
            promise = {"promise": b64url(ack.promise)} if ack.promise else {}
            client.say({"n": n, "index": ack.index, "leaf": ack.leaf.hex()} | promise)

    def _failed(self, wanted: _Wanted, refused: Refused) -> None:
        if wanted.client is not None:
            if wanted.draft.event["type"] == ADMITTED:
                self._admission.undo(wanted.client.door, wanted.draft.event)
            wanted.client.say({"n": wanted.message["n"], "refused": wanted.denied or refused.reason})

    # -- operations --

    def _admit(self, asked: _Asked) -> None:
        client, message = asked.client, asked.message
        refusing = self._refusing()
        if refusing is not None:
            client.say({"n": message["n"], "refused": refusing})
            return
        try:
            event = self._admission.admit(client.door, message, self._world.serving(), self._now)
        except Ahead:
            self._park(asked)
        except Denied as denied:
            self._deny(client, message, denied)
        except Refused as refused:
            client.say({"n": message["n"], "refused": refused.reason})
        else:
            self._wanted.append(_Wanted(_draft(event), client, message))

    def _close(self, asked: _Asked) -> None:
        try:
            event = self._admission.close(asked.client.door, asked.message, self._now)
        except LookupError:
            asked.client.say({"n": asked.message["n"], "refused": Reason.TOKEN_REPLAYED})
        else:
            self._wanted.append(_Wanted(_draft(event), asked.client, asked.message))

    def _record(self, asked: _Asked) -> None:
        client, message = asked.client, asked.message
        event = client.event(message.get("event"), self._now, self._world.random(10))
        if event["type"] == "inference.denied" and "refusal" not in event and self._admission.knows(event["link"]["request"]):
            raise FormatError("event", "of a request that was admitted")
        waits = type(message.get("n")) is int
        if waits or client.allowed(self._clock.boot(), self._now):
            self._wanted.append(_Wanted(_draft(event), client if waits else None, message))

    def _receipt(self, asked: _Asked) -> None:
        self._world.receipt(asked.client, asked.message)

    def _list_intents(self, asked: _Asked) -> None:
        self._commit()
        asked.client.say({"n": asked.message["n"], "intents": self._intents.listed()})

    def _status(self, asked: _Asked) -> None:
        facts: Message = {"state": self._refusing() or "serving", "witnesses": self._world.witnesses()}
        facts |= {"epoch": self._admission.epoch, "open": self.open} | self._writer.status()
        asked.client.say({"n": asked.message["n"]} | facts)

    def _read(self, asked: _Asked) -> None:
        """Who reads is recorded before he reads."""
        query = tidy_text(canonical.dumps(asked.message.get("query")).decode())
        event = self._author.event("journal.read", OWNER, read={"query": query[:MAX_QUERY]})
        self._wanted.append(_Wanted(_draft(event), asked.client, asked.message))

    def _capture(self, asked: _Asked) -> None:
        """Captured bodies, and the keys that they are sealed to."""
        try:
            self._capturing.take(asked.client, asked.message, lambda: self._world.serving().sections["subjects"])
        except Refused as refused:
            asked.client.say({"n": asked.message["n"], "refused": refused.reason})
        except IntegrityError as error:
            asked.client.say({"n": asked.message["n"], "refused": self._stop(error)})

    def _act(self, asked: _Asked) -> None:
        """What the owner does to the journal as a whole."""
        self._commit()
        try:
            answer = self._custody.perform(asked.message)
        except Refused as refused:
            answer = {"refused": refused.reason, "detail": refused.detail}
        except IntegrityError as error:
            answer = {"refused": self._stop(error), "detail": error.detail}
        if "kids" in answer:
            for client in self._clients:
                client.say({"push": "erased", "kids": answer["kids"]})
        asked.client.say({"n": asked.message["n"]} | answer)

    # -- inside --

    def _stop(self, error: IntegrityError) -> Reason:
        self.stopped = Reason(error.code) if error.code in JOURNAL else Reason.JOURNAL_IO
        LOG.error("the journal stopped", cause=str(error))
        return self.stopped

    def _refusing(self) -> Reason | None:
        """Why nothing is admitted. What no witness sees is not recorded well enough, where the settings say so."""
        return self.stopped or (None if self._world.fresh() else Reason.JOURNAL_STALLED)

    def _park(self, asked: _Asked) -> None:
        if not asked.until:
            if sum(each.client is asked.client for each in self._parked) >= MAX_PARKED:
                asked.client.say({"n": asked.message["n"], "refused": Reason.OVERLOADED})
                return
            asked.until = self._clock.boot() + PARKED_S
            self._world.behind()
        self._parked.append(asked)

    def _deny(self, client: Client, message: Message, denied: Denied) -> None:
        """Recorded from the event in hand, unless the bucket of this caller and reason is empty: then it is counted."""
        before = len(self._wanted)
        self._refusals.denied("inference.denied", denied.refused, denied.event["subject"], denied.members())
        last = self._wanted[-1] if len(self._wanted) > before else None
        if last is not None and last.draft.event.get("link") == denied.event["link"]:
            last.client, last.message, last.denied = client, message, denied.refused.reason
        else:
            client.say({"n": message["n"], "refused": denied.refused.reason})

    def _gap(self, client: Client) -> None:
        gap = {"from_time": rfc3339(client.dropped_since), "to_time": rfc3339(self._clock.now()), "cause": "too many events"}
        self._own("journal.gap", gap=gap, ext={"client": client.role, "dropped_events": client.dropped})
        client.dropped = client.dropped_since = 0

    def _abandon(self, client: Client, aborted_by: str) -> None:
        with self._writer.lock:
            for event in self._admission.abandon(client.door, aborted_by, self._moment()):
                self.record(event)
                if len(self._wanted) >= MAX_BATCH:
                    self._commit()
            self._commit()

    def _check_lease(self, boot: float) -> None:
        """The kill switch: admission stops, doors cut their streams, and what they do not close is closed for them."""
        lease = self._world.lease
        if lease.due(boot):
            lease.renew(boot)
        if lease.standing(boot) is Standing.HELD:
            return
        if self.stopped is not Reason.KEY_UNAVAILABLE:
            self.stopped, self._lease_over = Reason.KEY_UNAVAILABLE, boot
            for client in self._clients:
                client.say({"push": "cut", "reason": Reason.KEY_UNAVAILABLE})
        if boot >= self._lease_over + LEASE_CLOSING_S:
            for client in [client for client in self._clients if client.role == "door"]:
                self._abandon(client, "lease")
                client.hang_up()
        if lease.standing(boot) is Standing.ENDED:
            self._writer.forget()

    def _own(self, kind: str, **members: Any) -> None:
        self.record(self._author.event(kind, system_subject("recorder"), **members))

    def _moment(self) -> Moment:
        now = self._clock.now()
        return Moment(now, rfc3339(now))


@dataclass(slots=True, eq=False)
class _Asked:
    """A client's message. `until`: it waits for a snapshot, by Clock.boot()."""

    client: Client
    message: Message
    until: float = 0.0


@dataclass(slots=True)
class _Wanted:
    """A draft, and who waits for it: nobody, who asked by `message`, or a caller who was `denied`."""

    draft: Draft
    client: Client | None = None
    message: Message = field(default_factory=dict)
    denied: Reason | None = None


def _draft(event: Event) -> Draft:
    user = event["subject"].get("on_behalf_of")
    return Draft(event, user["id"] if user is not None else None, KINDS.get(event["type"], Kind.ADMIN))


LOG = structlog.get_logger()
KINDS = {
    "inference.admitted": Kind.TRAFFIC,
    "inference.denied": Kind.TRAFFIC,
    "access.read": Kind.TRAFFIC,
    "request.refused": Kind.ANONYMOUS,
}
JOURNAL = ("journal_full", "journal_io", "journal_stalled", "journal_damaged")
READS = ("read", "query")
MAX_BATCH = 256
MAX_PARKED = 256  # admissions of one door that wait for a snapshot
MAX_QUERY = 4096
PARKED_S = 1.0
GAP_US = 10_000_000
LEASE_CLOSING_S = 8.0  # of the 10 s that the keys are still held
