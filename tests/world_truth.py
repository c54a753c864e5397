"""What really happened in the simulated world, and the promises it is held to: served ⊆ admitted ⊆ authorised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NoReturn

from sealward.formats.change import Change
from sealward.formats.entry import ADMITTED, CLOSING, header_of
from sealward.formats.merkle import leaf_hash
from sealward.formats.passes import Pass
from sealward.formats.snapshot import GENESIS, Snapshot
from sealward.journal.reader import Row


class Violation(AssertionError):  # noqa: N818 - what happened, not a fault of ours
    """A promise was broken. `rule` is the promise's name."""

    def __init__(self, rule: str, detail: str = "") -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule


@dataclass(frozen=True)
class Served:
    """A request that reached a model."""

    found: Pass
    path: str
    body: bytes
    sidecar: str


@dataclass
class Truth:
    """Seen from outside by nobody in the world."""

    signed: dict[int, Snapshot] = field(default_factory=lambda: {0: GENESIS})
    signed_at: dict[int, float] = field(default_factory=lambda: {0: 0.0})
    intents: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    meant: dict[str, Change] = field(default_factory=dict)
    acked: dict[int, bytes] = field(default_factory=dict)
    durable_at: dict[int, float] = field(default_factory=dict)
    honest: dict[tuple[str, str], tuple[str, str, str]] = field(default_factory=dict)  # request, input → subject, key, model
    served: list[Served] = field(default_factory=list)
    completed: set[str] = field(default_factory=set)

    def saw_signed(self, snapshot: Snapshot, intent: Mapping[str, Any], now: float) -> None:
        """What the signer holds, durably, after it did something or at its start."""
        last = max(self.signed)
        if snapshot.epoch < last:
            broken("signed is kept" if snapshot.epoch in self.signed else "epochs", f"{snapshot.epoch} after {last}")
        if snapshot.epoch == last and snapshot.digest != self.signed[last].digest:
            broken("epochs", f"two snapshots of epoch {last}")
        if snapshot.epoch > last:
            self.signed[snapshot.epoch], self.signed_at[snapshot.epoch] = snapshot, now
            self.intents[snapshot.epoch] = dict(intent)

    def check_served_from(self, who: str, snapshot: Snapshot, now: float) -> None:
        """`who` decides from `snapshot` now: it is a signed one, and what came after it came less than a ttl ago."""
        known = self.signed.get(snapshot.epoch)
        if known is None or known.digest != snapshot.digest:
            broken("signed", f"{who} decides from a snapshot that nobody signed")
        later = [at for epoch, at in self.signed_at.items() if epoch > snapshot.epoch]
        if later and now - min(later) >= TTL_S:
            broken("fresh", f"{who} decides from epoch {snapshot.epoch}, superseded {now - min(later):.1f} s ago")

    def saw_served(self, one: Served, snapshot: Snapshot, unix_s: int) -> None:
        """A sidecar let a request through, following `snapshot`."""
        said = one.found.admission
        if not any(row["digest"] == said["model"] and row["stage"] in SERVED for row in snapshot.sections["models"].values()):
            broken("served is approved", f"request {said['req']}")
        if not said["exp"] - 35 <= unix_s < said["exp"] + 5:
            broken("served in time", f"request {said['req']}: {unix_s - said['exp']} s after its time")
        self.served.append(one)

    def check(self, rows: Iterable[Row]) -> None:
        """The whole journal, after the last recovery."""
        entries = list(rows)
        events = {row.index: row.event for row in entries if row.event is not None}
        for row in entries:
            if row.event is None:
                broken("readable", f"entry {row.index} has no key")
        for index, leaf in self.acked.items():
            if index >= len(entries) or leaf_hash(entries[index].entry) != leaf:
                broken("acknowledged is kept", f"entry {index}")
        admitted = {index: event for index, event in events.items() if event["type"] == ADMITTED}
        self._check_served(admitted)
        self._check_admitted(admitted)
        self._check_closed(events, admitted)
        self._check_limits(events)
        self._check_changes(entries)

    def _check_served(self, admitted: Mapping[int, Any]) -> None:
        for one in self.served:
            request = one.found.admission["req"]
            event = admitted.get(one.found.index)
            if event is None or event["link"]["request"] != request:
                broken("served is admitted", f"request {request}")
            said = event["admission"]
            if (said["body"], said["path"], said["sidecar"]) != (sha256(one.body).hexdigest(), one.path, one.sidecar):
                broken("served as admitted", f"request {request}")
        most = Counter(one.found.index for one in self.served).most_common(1)
        if most and most[0][1] > 1:
            broken("served once", f"entry {most[0][0]} was served {most[0][1]} times")

    def _check_admitted(self, admitted: Mapping[int, Any]) -> None:
        last, seen = 0, set()
        for index, event in admitted.items():
            epoch, subject, request = event["decision"]["epoch"], event["subject"], event["link"]["request"]
            if epoch < last:
                broken("epochs", f"entry {index} was admitted under {epoch} after {last}")
            last = epoch
            if epoch not in self.signed or epoch == 0:
                broken("admitted is authorised", f"entry {index} names epoch {epoch}, which nobody signed")
            rows = self.signed[epoch].sections
            self._check_authorised(rows, event, subject, request)
            place = (request, event["admission"]["sidecar"])
            if place in seen:
                broken("admitted once", f"request {request} twice for one sidecar")
            seen.add(place)
            if index in self.durable_at:
                self.check_served_from(f"the recorder, entry {index},", self.signed[epoch], self.durable_at[index])

    def _check_authorised(self, rows: Mapping[str, Any], event: Any, subject: Any, request: str) -> None:
        row = rows["subjects"].get(subject["id"])
        model = rows["models"].get(event["model"]["id"])
        if row is None or "disabled" in row:
            broken("admitted is authorised", f"request {request}: the subject")
        if model is None or model["stage"] not in SERVED or model["digest"] != event["model"]["digest"]:
            broken("admitted is authorised", f"request {request}: the model")
        if "key_id" in subject and rows["keys"].get(subject["key_id"], {}).get("owner") != subject["id"]:
            broken("admitted is authorised", f"request {request}: the key")
        asked = (request, event["admission"]["input"])
        if asked in self.honest and not allowed(rows, *self.honest[asked]):
            broken("admitted is authorised", f"request {request}: the grant")

    def _check_closed(self, events: Mapping[int, Any], admitted: Mapping[int, Any]) -> None:
        closed = Counter(event["link"]["of"] for event in events.values() if event["type"] in CLOSING)
        for index in admitted:
            if closed.pop(index, 0) != 1:
                broken("closed once", f"entry {index}")
        if closed:
            broken("closed once", f"{closed} were never admitted")
        for index, event in events.items():
            if event["type"] in CLOSING and not event["link"]["of"] < index:
                broken("closed once", f"entry {index} closes a later one")
        done = {event["link"]["request"] for event in events.values() if event["type"] == "inference.completed"}
        if not self.completed <= done:
            broken("acknowledged is kept", "a completed request has no entry that says so")

    def _check_limits(self, events: Mapping[int, Any]) -> None:
        """Concurrency is exact: at no entry are more requests of a subject open than its limit (it never changes here)."""
        standing: dict[str, set[int]] = {}
        for index, event in events.items():
            of = standing.setdefault(event["subject"]["id"], set())
            if event["type"] == ADMITTED:
                of.add(index)
                if len(of) > CONCURRENT:
                    broken("limits", f"entry {index}: {len(of)} open requests of {event['subject']['id']}")
            elif event["type"] in CLOSING:
                of.discard(event["link"]["of"])

    def _check_changes(self, entries: list[Row]) -> None:
        """No entry, no change: each signed epoch was meant by an entry that commits to exactly this change."""
        before = GENESIS.digest
        for epoch, intent in self.intents.items():
            entry = entries[intent["index"]].entry if intent["index"] < len(entries) else b""
            if not entry or header_of(entry)[0].get("cm") != intent["change"] or intent["leaf"] != leaf_hash(entry).hex():
                broken("no entry, no change", f"epoch {epoch}")
            if self.meant[intent["change"]].previous != before:
                broken("changes follow on", f"epoch {epoch}")
            before = self.signed[epoch].digest


def allowed(rows: Mapping[str, Any], subject: str, key: str, model: str) -> bool:
    """The honest door's rule, in five lines: the product's own is tested in tests/identity."""
    row, held = rows["subjects"].get(subject, {"disabled": True}), rows["keys"].get(key, {"suspended": True})
    known = "disabled" not in row and "suspended" not in held and held["owner"] == subject
    served = rows["models"].get(model, {}).get("stage") in SERVED
    granted = any(grant["to"] == f"subject:{subject}" and grant["model"] == model for grant in rows["grants"].values())
    return known and served and granted


def broken(rule: str, detail: str) -> NoReturn:
    """The end of a run."""
    raise Violation(rule, detail)


TTL_S = 10.0
SERVED = frozenset({"approved", "deployed"})
CONCURRENT = 3
