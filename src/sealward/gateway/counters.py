"""The counters behind the limits: a fold over the journal, so a restart forgets nobody's requests (contracts.md section 4).

Each admission counts for its subject, the user it was made for, its key, its groups and its model, whether or not a row
limits them today. A minute is a sliding window of 60 to 61 s in buckets of a second; a day is the UTC day. Tokens are
reserved at the admission and settled by the usage of the closing entry. A retry of a request is charged once.

The recorder counts when it decides, and the same event comes back by `apply` once it is durable: what was counted is known
by its event id, so it counts once either way. Seconds run by CLOCK_BOOTTIME from the wall time at which the process began:
a stepped wall clock neither opens nor closes a window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sealward.clock import Clock
from sealward.errors import Reason
from sealward.events import Event
from sealward.formats.entry import ADMITTED, CLOSING
from sealward.formats.ids import parse_rfc3339


class Bound(NamedTuple):
    """A row of the snapshot's `limits` that counts against counter `key`."""

    key: str
    name: str
    row: Mapping[str, int]


class Reached(NamedTuple):
    """A limit that a request would exceed: its row's name, what is used, what is allowed."""

    reason: Reason
    name: str
    used: int
    limit: int


class Charge(NamedTuple):
    """What an admission takes. `again`: it is the retry of a request that was charged before."""

    keys: tuple[str, ...]
    second: int
    tokens: int
    again: bool = False


class Counters:
    """All of them. `epoch` is the highest one that the journal knows."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.now() - round(clock.boot() * SECOND)  # µs from boot to wall time when this began
        self._windows: dict[str, _Window] = {}
        self._counted: set[str] = set()
        self.open: dict[str, Charge] = {}
        self.closed: dict[str, int] = {}  # request → second
        self.failed: dict[str, Charge] = {}  # of those closed: whose sidecar failed, and which may be admitted once more
        self._order: deque[tuple[int, str]] = deque()  # of `closed`, oldest first
        self.epoch = 0

    def reached(self, request: str, bounds: Iterable[Bound], tokens: int) -> Reached | None:
        """The first bound that admitting `request` with a reservation of `tokens` would exceed."""
        second, first = self.now(), self.failed.get(request)
        requests, standing = (1, 0) if first is None else (0, first.tokens)
        for key, name, row in bounds:
            window = self._windows.get(key) or _Window()
            window.expire(second)
            used = {
                "concurrent": (window.open, 1),
                "requests_per_minute": (window.requests, requests),
                "tokens_per_minute": (window.tokens, tokens - standing),
                "tokens_per_day": (window.of_day(second), tokens - standing),
            }
            for member, limit in row.items():
                now, more = used[member]
                if now + more > limit:
                    return Reached(REASONS[member], name, now, limit)
        return None

    def admit(self, event: Event, keys: tuple[str, ...]) -> None:
        """Counts an `inference.admitted` that is about to be durable; `keys` = `counters_of(event)`."""
        self._counted.add(event["id"])
        self._admit(event, self.now(), keys)

    def close(self, event: Event) -> None:
        """Counts a closing event that is about to be durable."""
        self._counted.add(event["id"])
        self._close(event, self.now())

    def undo(self, event: Event) -> None:
        """An admission that did not become an entry after all."""
        self._counted.discard(event["id"])
        charge = self.open.pop(event["link"]["request"], None)
        if charge is None:  # closed in the same batch, which failed as a whole
            return
        for key in charge.keys:
            self._windows[key].open -= 1
            self._windows[key].give(charge.second, 0 if charge.again else 1, charge.tokens)

    def apply(self, index: int, event: Event) -> None:
        """The fold: every durable event once, in order."""
        del index
        if event["id"] in self._counted:
            self._counted.discard(event["id"])
        elif event["type"] == ADMITTED:
            self._admit(event, self._second_of(event), counters_of(event))
        elif event["type"] in CLOSING:
            second = self._second_of(event)
            self._close(event, second)
            self._forget(second)  # or a long replay would remember all of it
        elif event["type"] == "snapshot.published":
            self.epoch = max(self.epoch, event["snapshot"]["epoch"])

    def forget(self) -> None:
        """Drops the requests closed more than 60 s ago. Call it about once a second."""
        self._forget(self.now())

    def now(self) -> int:
        """Unix seconds of a clock that nobody steps."""
        return (round(self._clock.boot() * SECOND) + self._offset) // SECOND

    def dump(self) -> dict[str, Any]:
        """What `load` takes. Not while something is counted that is not durable."""
        self.forget()
        second = self.now()
        for key in [key for key, window in self._windows.items() if window.idle(second)]:
            del self._windows[key]
        return {
            "epoch": self.epoch,
            "windows": {key: window.dump() for key, window in self._windows.items()},
            "open": {request: _dumped(charge) for request, charge in self.open.items()},
            "closed": list(self.closed.items()),
            "failed": {request: _dumped(charge) for request, charge in self.failed.items()},
        }

    def load(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self._windows = {key: _Window.load(value) for key, value in state["windows"].items()}
        self.open = {request: _loaded(value) for request, value in state["open"].items()}
        self.closed = dict(state["closed"])
        self._order = deque((second, request) for request, second in self.closed.items())
        self.failed = {request: _loaded(value) for request, value in state["failed"].items()}
        for charge in self.open.values():
            for key in charge.keys:
                self._windows[key].open += 1

    def erased(self, subject: str) -> None:
        key = ("user:" if "\0" in subject else "subject:") + subject
        window = self._windows.pop(key, None)
        if window is not None and window.open:
            self._windows[key] = _Window()
            self._windows[key].open = window.open

    def _admit(self, event: Event, second: int, keys: tuple[str, ...]) -> None:
        request, tokens = event["link"]["request"], event["request"].get("reserved_tokens", 0)
        first = self.failed.pop(request, None)
        if first is not None:
            for key in self._windows.keys() & set(first.keys):  # its reservation was left standing when it closed
                self._windows[key].give(first.second, 0, first.tokens)
        self.closed.pop(request, None)
        charge = self.open[request] = Charge(keys, second, tokens, first is not None)
        for key in charge.keys:
            window = self._windows.get(key)
            if window is None:
                window = self._windows[key] = _Window()
            window.take(second, 0 if charge.again else 1, tokens)
        self.epoch = max(self.epoch, event["decision"].get("epoch", 0))

    def _close(self, event: Event, second: int) -> None:
        request, outcome = event["link"]["request"], event["outcome"]
        charge = self.open.pop(request, None)
        if charge is None:
            return
        used = outcome.get("input_tokens", 0) + outcome["output_tokens"] if "output_tokens" in outcome else charge.tokens
        for key in charge.keys:
            window = self._windows[key]
            window.open -= 1
            if used != charge.tokens:
                window.give(charge.second, 0, charge.tokens - used)
        self.closed[request] = second
        self._order.append((second, request))
        if outcome.get("aborted_by") == "upstream" and not charge.again:
            self.failed[request] = charge._replace(tokens=used)

    def _forget(self, now: int) -> None:
        while self._order and self._order[0][0] < now - REMEMBERED_S:
            second, request = self._order.popleft()
            if self.closed.get(request) == second:
                del self.closed[request]
                self.failed.pop(request, None)

    def _second_of(self, event: Event) -> int:
        """When a replayed event was; never ahead of now."""
        return min(parse_rfc3339(event["time"]) // SECOND, self.now())


def counters_of(event: Event) -> tuple[str, ...]:
    """What an admission counts for."""
    subject = event["subject"]
    user, key = subject.get("on_behalf_of"), subject.get("key_id")
    return (
        "subject:" + subject["id"],
        *(("user:" + subject["id"] + "\0" + user["id"],) if user is not None else ()),
        *(("key:" + key,) if key is not None else ()),
        *["group:" + group for group in subject.get("groups", ())],
        "model:" + event["model"].get("id", ""),
    )


class _Window:
    """`buckets`: second → [requests, tokens], oldest first, with their sums; and the tokens of one UTC day."""

    __slots__ = ("buckets", "day", "day_tokens", "open", "requests", "tokens")

    def __init__(self) -> None:
        self.open = self.requests = self.tokens = self.day = self.day_tokens = 0
        self.buckets: dict[int, list[int]] = {}

    def take(self, second: int, requests: int, tokens: int) -> None:
        """Opens one request."""
        bucket = self.buckets.get(second)
        if bucket is None:
            self.expire(second)
            bucket = self.buckets[second] = [0, 0]
        bucket[0] += requests
        bucket[1] += tokens
        self.requests += requests
        self.tokens += tokens
        self.open += 1
        if second // DAY_S > self.day:
            self.day, self.day_tokens = second // DAY_S, 0
        if second // DAY_S == self.day:
            self.day_tokens += tokens

    def give(self, second: int, requests: int, tokens: int) -> None:
        """Takes back (or, negative, adds) what was taken in `second`, if that is still in the window and of this day."""
        bucket = self.buckets.get(second)
        if bucket is not None:
            bucket[0] -= requests
            bucket[1] -= tokens
            self.requests -= requests
            self.tokens -= tokens
        if second // DAY_S == self.day:
            self.day_tokens -= tokens

    def expire(self, second: int) -> None:
        """A bucket may hold a request from its last microsecond, so it stays for 61 s."""
        while self.buckets and (oldest := next(iter(self.buckets))) <= second - WINDOW_S:
            requests, tokens = self.buckets.pop(oldest)
            self.requests -= requests
            self.tokens -= tokens

    def of_day(self, second: int) -> int:
        return self.day_tokens if second // DAY_S == self.day else 0

    def idle(self, second: int) -> bool:
        """Whether forgetting it changes nothing."""
        self.expire(second)
        return not self.open and not self.buckets and not self.of_day(second)

    def dump(self) -> list[Any]:
        return [[[second, *bucket] for second, bucket in self.buckets.items()], self.day, self.day_tokens]

    @classmethod
    def load(cls, value: list[Any]) -> _Window:
        found = cls()
        buckets, found.day, found.day_tokens = value
        found.buckets = {second: [requests, tokens] for second, requests, tokens in buckets}
        found.requests = sum(bucket[0] for bucket in found.buckets.values())
        found.tokens = sum(bucket[1] for bucket in found.buckets.values())
        return found


def _dumped(charge: Charge) -> list[Any]:
    return [list(charge.keys), charge.second, charge.tokens, charge.again]


def _loaded(value: list[Any]) -> Charge:
    keys, second, tokens, again = value
    return Charge(tuple(keys), second, tokens, again)


REASONS = {
    "concurrent": Reason.LIMIT_CONCURRENT,
    "requests_per_minute": Reason.LIMIT_REQUESTS,
    "tokens_per_minute": Reason.LIMIT_TOKENS,
    "tokens_per_day": Reason.LIMIT_BUDGET,
}
SECOND = 1_000_000
WINDOW_S = 61
DAY_S = 86_400
REMEMBERED_S = 60  # how long a closed request is refused when it comes again
