"""What each client of the recorder may ask, and which events it may write. The socket it came by says who it is."""

from __future__ import annotations

from dataclasses import dataclass

from sealward.formats.event import SCHEMA
from sealward.journal.chronicle import KINDS as CHRONICLED
from sealward.journal.custody import OPS as CUSTODY


@dataclass(frozen=True, slots=True)
class Rights:
    """`name`: what its instances begin with; operations; the types of events that `record` takes."""

    name: str
    ops: frozenset[str]
    types: frozenset[str] = frozenset()
    away_us: int = 3_600_000_000
    """How far from now an event's own time may be: our own processes keep theirs while the recorder is away, doors do not."""


TYPES = frozenset(SCHEMA["properties"]["type"]["enum"])
PROCESS = frozenset({"process.started", "process.stopped", "process.failed", "journal.gap"})
RECORDERS_OWN = frozenset({
    "inference.admitted", "inference.completed", "inference.aborted", "journal.opened", "journal.recovered", "journal.full",
    "journal.successor", "journal.pruned", *CHRONICLED, "recovery.performed", "witness.added",
    "witness.lost", "witness.restored", "witness.dropped",
})  # fmt: skip
CONTROLS_OWN = frozenset({"change", "approval", "snapshot"})  # members that make an intent or an approval
DOORS_AWAY_US = 60_000_000

RIGHTS = {
    "door": Rights(
        "door",
        frozenset({"admit", "close", "record", "receipt", "body_key", "body"}),
        PROCESS | {"request.refused", "inference.denied", "access.read"},
        DOORS_AWAY_US,
    ),
    "admin": Rights("admin", frozenset({"record"}), PROCESS | {"request.refused", "admin.denied", "access.read"}, DOORS_AWAY_US),
    "control": Rights(
        "control", frozenset({"record", "intents", "status", "body_keys", "bodies", "body_part"}), TYPES - RECORDERS_OWN
    ),
    "runtime": Rights(
        "sidecar",
        frozenset({"record"}),
        PROCESS | {"request.refused", "model.presented", "model.loaded", "model.unloaded", "model.refused"},
    ),
    "supervisor": Rights("supervisor", frozenset({"record", "status"}), PROCESS),
    "owner": Rights("owner", frozenset({"status", "read", "query", "record", *CUSTODY}), frozenset({"rollout.task"})),
}
