"""How a log begins that goes on from another which must not be continued (predecessor.py says what it commits to)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sealward.clock import Clock
from sealward.errors import IntegrityError
from sealward.events import Event
from sealward.formats.entry import ADMITTED, CLOSING, header_of
from sealward.formats.event import clip, validate
from sealward.formats.ids import rfc3339, ulid
from sealward.journal.durable import Disk
from sealward.journal.predecessor import KIND, PREDECESSOR, Predecessor
from sealward.journal.reader import Reader
from sealward.journal.writer import Ack, Draft, Writer


def open_admissions(reader: Reader) -> list[int]:
    """Indices of the admissions that nothing closes, as far as the log can be read."""
    found: dict[str, int] = {}
    try:
        for row in reader.rows():
            if row.event is None:
                continue
            if row.event["type"] == ADMITTED:
                found[row.event["link"]["request"]] = row.index
            elif row.event["type"] in CLOSING:
                found.pop(row.event["link"]["request"], None)
    except IntegrityError:
        pass  # what lies behind the damage nobody can tell
    return sorted(found.values())


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the first entry says beside its commitment. `by`: a subject, as in events."""

    open: Sequence[int]
    because: str
    by: Mapping[str, Any]


def begin(writer: Writer, disk: Disk, before: Predecessor, said: Beginning, clock: Clock, random: Callable[[int], bytes]) -> None:
    """Writes entry 0 of an empty log, publishes, and then the file `predecessor`. IntegrityError; ValueError: it is not empty."""
    if writer.size:
        raise ValueError("a successor commits in its first entry")
    event = _event(before, said, clock.now(), random)
    validate(event)
    (ack,) = writer.commit([Draft(event, user=APART)])
    if not isinstance(ack, Ack):
        raise IntegrityError("journal_full", ack.detail)
    writer.publish()
    kid = header_of(writer.reader.entry(0))[0]["kid"]
    key = writer.reader.key(kid)
    if key is None:
        raise IntegrityError("key_store", "the key of the first entry is gone")
    disk.replace([(PREDECESSOR, before.text(kid, key.key))])


def _event(before: Predecessor, said: Beginning, now: int, random: Callable[[int], bytes]) -> Event:
    event: Event = {
        "v": 1,
        "id": ulid(now, random(10)),
        "type": KIND,
        "time": rfc3339(now),
        "instance": "recorder",
        "tenant": "default",
        "subject": dict(said.by),
        "successor": before.told() | {"open": list(said.open), "reason": said.because},
    }
    clip(event, "successor.open", MOST_OPEN)
    return event


APART = "journal.successor"  # a user that nobody can be: a key for this entry alone
MOST_OPEN = 1024
