"""Native events as a door or sidecar writes them: complete, and with the caller's words made to fit.

No request is unrecordable because of what it says (event-v1.schema.json): names lose control characters and length, lists and
texts are cut to their maxima, and a word that is empty is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sealward.clock import Clock
from sealward.events import Event
from sealward.formats.event import clip, tidy_name, tidy_text
from sealward.formats.ids import rfc3339, ulid

ANONYMOUS = {"id": "anonymous", "kind": "anonymous", "authn": "none"}


class Author:
    """Writes the events of one process. `random(n)` gives n bytes."""

    def __init__(self, instance: str, clock: Clock, random: Callable[[int], bytes]) -> None:
        self.instance, self.clock, self._random = instance, clock, random

    def ulid(self) -> str:
        """A fresh id, for a request or an event."""
        return ulid(self.clock.now(), self._random(10))

    def event(self, kind: str, subject: Mapping[str, Any], **members: Any) -> Event:
        """A whole event of now. Members that are None are left out."""
        now = self.clock.now()
        event = {
            "v": 1, "id": ulid(now, self._random(10)), "type": kind, "time": rfc3339(now), "instance": self.instance,
            "tenant": "default", "subject": dict(subject),
        }  # fmt: skip
        event.update((name, value) for name, value in members.items() if value is not None)
        return tidy(event)


def tidy(event: Event) -> Event:
    """The event with what a caller may have put into it made to fit; changed where it must be, and given back."""
    for group, name, most in WORDS:
        part = event.get(group)
        if part is not None and name in part:
            words = part[name]
            fitting = tidy_name(words) if most == NAME else tidy_text(words)
            if not fitting:
                part = event[group] = {member: value for member, value in part.items() if member != name}
            elif fitting != words:
                event[group] = part | {name: fitting}
            if len(fitting) > most:
                event[group] = dict(event[group])
                clip(event, f"{group}.{name}", most)
    dropped = event.get("request", _NOTHING).get("dropped_fields", ())
    if len(dropped) > MOST_DROPPED:
        event["request"] = dict(event["request"])
        clip(event, "request.dropped_fields", MOST_DROPPED)
    return event


NAME = 128
WORDS = (
    ("source", "user_agent", 512),
    ("source", "sni", NAME),
    ("refusal", "host", NAME),
    ("refusal", "target", 512),
    ("model", "alias", NAME),
)
MOST_DROPPED = 32
_NOTHING: Mapping[str, Any] = {}
