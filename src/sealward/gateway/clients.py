"""One client of the recorder: who it is by its socket, what it may write, and how much of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from sealward.events import Event, system_subject
from sealward.formats.event import validate
from sealward.formats.fault import FormatError
from sealward.formats.ids import parse_rfc3339, ulid
from sealward.gateway.admission import Door, Moment
from sealward.gateway.rights import CONTROLS_OWN, RIGHTS, Rights


@dataclass(slots=True, eq=False)
class Client:
    """One connection. `say` queues an answer, or whole frames of answers; `hang_up` ends the connection once the answers are out.

    `drained` waits until the client has read enough for more; ConnectionResetError when it is gone.
    """

    role: str
    say: Callable[[dict[str, Any] | bytes], None]
    hang_up: Callable[[], None]
    drained: Callable[[], Awaitable[None]]
    rights: Rights = field(init=False)
    door: Door = field(init=False)
    dropped: int = 0
    dropped_since: int = 0
    _allowance: float = 0.0
    _counted_at: float = 0.0

    def __post_init__(self) -> None:
        self.rights = RIGHTS[self.role]
        self.door = Door(self.rights.name)

    def event(self, given: Any, now: Moment, random: bytes) -> Event:
        """A reported event as it may be written: whole, within this client's rights, in its own name, of now.

        `random`: 10 bytes for an id where there is none. FormatError: event, malformed (not an object).
        """
        if not isinstance(given, dict):
            raise FormatError("malformed", "no event")
        own = {
            "v": 1,
            "id": ulid(now.us, random),
            "time": now.text,
            "tenant": "default",
            "subject": system_subject(self.rights.name),
        }
        event: Event = own | given
        event["instance"] = self.door.instance(event.get("instance"))
        if event.get("type") not in self.rights.types:
            raise FormatError("event", "a type that this client may not write")
        if self.role != "control" and not CONTROLS_OWN.isdisjoint(event):
            raise FormatError("event", "a member that only control may write")
        validate(event)
        if abs(now.us - parse_rfc3339(event["time"])) > self.rights.away_us:
            event["time"] = now.text
        return event

    def allowed(self, boot: float, now: Moment) -> bool:
        """Whether one more event that nobody waits for is written: so many a second, what is too much is counted."""
        self._allowance = min(BURST, self._allowance + (boot - self._counted_at) * PER_SECOND)
        self._counted_at = boot
        if self._allowance < 1:
            self.dropped += 1
            self.dropped_since = self.dropped_since or now.us
            return False
        self._allowance -= 1
        return True


PER_SECOND, BURST = 500.0, 1000.0
