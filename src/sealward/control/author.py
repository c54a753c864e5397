"""The events control writes: intents of verbs, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sealward.clock import Clock
from sealward.events import Event, system_subject
from sealward.formats.change import Change
from sealward.formats.ids import rfc3339, ulid
from sealward.formats.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Author:
    """Dates and numbers events. `random(n)` gives n bytes."""

    clock: Clock
    random: Callable[[int], bytes]

    def ulid(self) -> str:
        """A fresh id, for a request, a grant or an event."""
        return ulid(self.clock.now(), self.random(10))

    def event(self, kind: str, subject: Mapping[str, Any], **members: Any) -> Event:
        """A whole event of now; members that are None are left out."""
        now = self.clock.now()
        head = {"v": 1, "id": ulid(now, self.random(10)), "type": kind, "time": rfc3339(now), "instance": INSTANCE}
        given = {name: value for name, value in members.items() if value is not None}
        return head | {"tenant": "default", "subject": dict(subject)} | given

    def anew(self, event: Event) -> Event:
        """The same event, now."""
        now = self.clock.now()
        return event | {"id": ulid(now, self.random(10)), "time": rfc3339(now)}

    def published(self, snapshot: Snapshot, intent: int, ops: int) -> Event:
        """`snapshot` carries out the intent at that index."""
        named = {"epoch": snapshot.epoch, "digest": snapshot.digest, "previous": snapshot.previous, "intent": intent, "ops": ops}
        return self.event("snapshot.published", system_subject(INSTANCE), snapshot=named)

    def failed(self, event: Event, digest: str, why: str) -> Event:
        """Closes the intent with that change digest (hex)."""
        told = {name: event["change"][name] for name in ("target", "action")}
        change = told | {"digest": f"sha256:{digest}", "reason": why}
        return self.event("change.failed", system_subject(INSTANCE), change=change)


def intent_of(event: Event, change: Change) -> Event:
    """The event of a verb as the intent that commits to its change."""
    return event | {"change": event["change"] | {"digest": f"sha256:{change.digest}", "salt": change.salt}}


INSTANCE = "control"
