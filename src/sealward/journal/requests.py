"""The open requests of a journal, and whatever else is computed over its events. Pure: what is durable goes in, in order.

Each admitted request gets exactly one closing entry, which names the admission's index and has its caller from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sealward.events import Event
from sealward.formats.entry import ADMITTED, CLOSING
from sealward.formats.fault import FormatError
from sealward.formats.ids import parse_rfc3339
from sealward.journal.chronicle import KINDS as CHRONICLED
from sealward.journal.chronicle import Chronicle
from sealward.journal.folds import Copy, Fold, kinds_of


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """An admission that no entry has closed."""

    index: int
    event: Event


class Requests:
    """`link` and `note` build a batch, `accept` makes it part of the state, `begin` forgets one that failed."""

    def __init__(self, folds: Sequence[Fold]) -> None:
        self._folds, self.chronicle = folds, Chronicle()
        self.open: dict[str, OpenRequest] = {}
        self.done: dict[str, tuple[int, int]] = {}  # request → (index, time in µs) of what ended it, oldest first
        self.begin()

    def begin(self) -> None:
        """A new batch."""
        self._opened: dict[str, OpenRequest] = {}
        self._closed: set[str] = set()

    def link(self, event: Event) -> Event:
        """The event as it is sealed; FormatError("event") where it admits an open request or closes one that is not."""
        kind = event["type"]
        if kind == ADMITTED:
            request = event["link"]["request"]
            if request in self._opened or (request in self.open and request not in self._closed):
                raise FormatError("event", "the request is open already")
            if "admission" not in event:
                raise FormatError("event", "admitted without its admission")
        elif kind in CLOSING:
            request = event["link"]["request"]
            found = self._opened.get(request) or (None if request in self._closed else self.open.get(request))
            if found is None:
                raise FormatError("event", "closes a request that is not open")
            known = {name: found.event[name] for name in ADMISSION_KNOWS if name in found.event}
            return {**event, **known, "link": {**event["link"], "of": found.index}}
        return event

    def note(self, index: int, event: Event) -> None:
        """A linked event got its place in the batch."""
        kind = event["type"]
        if kind == ADMITTED:
            self._opened[event["link"]["request"]] = OpenRequest(index, event)
        elif kind in CLOSING:
            self._opened.pop(event["link"]["request"], None)
            self._closed.add(event["link"]["request"])

    def accept(self, first: int, events: Sequence[Event], now: int) -> None:
        """The batch from index `first` on is durable; `now` in µs."""
        for index, event in enumerate(events, first):
            self._apply(index, event, now)
        self.begin()

    def replay(self, index: int, event: Event) -> None:
        """One event of an earlier run."""
        self._apply(index, event, parse_rfc3339(event["time"]))

    def closed(self, request: str, now: int) -> int | None:
        """Index of the entry that ended `request` within the last 60 s."""
        index, when = self.done.get(request, (0, now - CLOSED_US))
        return index if now - when < CLOSED_US else None

    def dump(self, at: int) -> Copy:
        """The state after `at` entries."""
        opened = {request: found.index for request, found in self.open.items()}
        done = [(request, *found) for request, found in self.done.items()]
        folds = [fold.dump() for fold in self._folds]
        return Copy(at, opened, done, kinds_of(self._folds), folds, self.chronicle.dump())

    def load(self, copy: Copy, event_at: Callable[[int], Event | None]) -> None:
        """What `dump` gave; admissions whose subject was erased cannot be read and are left out."""
        for fold, state in zip(self._folds, copy.folds, strict=False):
            fold.load(state)
        self.chronicle.load(copy.chronicle)
        found = {request: (index, event_at(index)) for request, index in copy.open.items()}
        self.open = {request: OpenRequest(index, event) for request, (index, event) in found.items() if event is not None}
        self.done = {request: (index, when) for request, index, when in copy.done}

    def erased(self, subject: str) -> None:
        """The keys of a subject (or `service 00 user`) are gone: nothing computed over its events names it any more."""
        for fold in self._folds:
            fold.erased(subject)

    def _apply(self, index: int, event: Event, when: int) -> None:
        kind = event["type"]
        if kind == ADMITTED:
            self.open[event["link"]["request"]] = OpenRequest(index, event)
        elif kind in ENDING and "refusal" not in event:
            request = event["link"]["request"]
            if kind in CLOSING:
                self.open.pop(request, None)
            self.done.pop(request, None)
            self.done[request] = (index, when)
            while len(self.done) > KEPT_DONE and when - next(iter(self.done.values()))[1] >= CLOSED_US:
                del self.done[next(iter(self.done))]
        elif kind in CHRONICLED:
            self.chronicle.apply(event)
        for fold in self._folds:
            fold.apply(index, event)


ADMISSION_KNOWS = ("subject", "source", "model")  # a closing entry has them from its admission
ENDING = CLOSING | {"inference.denied"}
CLOSED_US = 60_000_000
KEPT_DONE = 8_192
