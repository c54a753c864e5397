"""What every format starts from: an event without what must not leave the log, its place, and how grave it is.

A salt outside the log would outlive an erasure: with it, whoever kept a short prompt's digest could still prove the guess. So
no export holds `statement`, `admission` or `change.salt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sealward.events import Event

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """One entry that is readable. `leaf`: its hash in the tree, hex."""

    index: int
    origin: str
    leaf: str
    event: Event

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Record | None:
        """A row of `journal export` with its leaf; None where the subject was erased."""
        if "event" not in row:
            return None
        return cls(row["index"], row["event"]["origin"], row.get("leaf", ""), stripped(row["event"]))

    @property
    def level(self) -> Level:
        """How grave it is: an alert says so itself, else by type, else by the decision."""
        kind = self.event["type"]
        if "alert" in self.event:
            return LEVELS[self.event["alert"]["severity"]]
        named = next((name for name, kinds in GRAVE.items() if kind in kinds), None)
        return LEVELS[named or ("medium" if self.failed else "info")]

    @property
    def failed(self) -> bool:
        """Whether what was tried did not happen."""
        outcome, kind = self.event.get("decision", {}).get("outcome", "allow"), str(self.event["type"])
        return outcome != "allow" or kind.endswith((".refused", ".failed", ".denied", ".aborted"))

    @property
    def target(self) -> str:
        """What it was done to, in one word; empty where that is the subject itself."""
        for group, member in TARGETS:
            found = self.event.get(group, {}).get(member)
            if found:
                return str(found)
        return ""


class Level(NamedTuple):
    """The same gravity in each format's numbers."""

    ocsf: int
    cef: int
    otlp: int
    text: str
    syslog: int


def stripped(event: Event) -> Event:
    """Without what is never exported."""
    left = {name: value for name, value in event.items() if name not in {"statement", "admission"}}
    if "change" in left:
        left["change"] = {name: value for name, value in left["change"].items() if name != "salt"}
    return left


def present(**members: Any) -> Json:
    """Those that say something."""
    return {name: value for name, value in members.items() if value is not None and value not in ({}, [], "")}


LEVELS = {
    "info": Level(1, 2, 9, "INFO", 6),
    "low": Level(2, 4, 10, "INFO2", 5),
    "medium": Level(3, 6, 13, "WARN", 4),
    "high": Level(4, 8, 17, "ERROR", 3),
    "critical": Level(5, 10, 21, "FATAL", 2),
}
GRAVE = {
    "low": {"inference.aborted", "journal.recovered", "journal.erased", "recovery.performed", "session.revoked"},
    "medium": {"model.withdrawn", "network.drift", "backup.restored", "journal.gap", "breakglass.closed", "witness.dropped"},
    "high": {
        "process.failed", "journal.full", "snapshot.stale", "witness.lost", "key.unavailable", "model.refused",
        "breakglass.opened", "snapshot.refused", "journal.successor",
    },
    "critical": {"network.breach"},
}  # fmt: skip
TARGETS = (
    ("change", "target"),
    ("approval", "target"),
    ("response", "target"),
    ("key", "id"),
    ("process", "name"),
    ("archive", "target"),
    ("witness", "name"),
    ("erasure", "subject"),
    ("limit", "name"),
    ("task", "name"),
    ("check", "control"),
    ("successor", "origin"),
    ("recovery", "verb"),
    ("model", "id"),
    ("model", "alias"),
)
MAPPED = frozenset({
    "v", "id", "type", "time", "instance", "tenant", "origin", "seq", "clock", "subject", "source", "decision", "operation",
    "model", "request", "content", "outcome", "tool_calls", "detectors", "link",
})  # fmt: skip
"""Members that a format maps, or leaves to the log; the others are carried over under our own names."""
