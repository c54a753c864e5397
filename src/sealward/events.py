"""Where every layer puts what happened. Lower layers hold an `EventSink`; the recorder behind it makes entries of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Event = dict[str, Any]  # the native event of event-v1.schema.json; checked by formats.event before it becomes an entry


class EventSink(Protocol):
    """Takes events that nobody waits for (refusals, reads, the life of processes). It never blocks and never raises."""

    def record(self, event: Event) -> None:
        """Queue one event for the journal; a full queue is counted and becomes `journal.gap`."""


def system_subject(name: str) -> Mapping[str, str]:
    """The subject of what a process of ours does on its own account."""
    return {"id": name, "kind": "system", "authn": "internal"}
