"""One coarse clock for all deadlines of a worker: a timer for each request would cost more than the request's JSON.

Whoever waits has a `deadline` (seconds of the loop's clock, `NEVER` while nothing is due) and is asked a few times a second.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Protocol


class Watched(Protocol):
    """Something with a deadline. `expire` is called once the deadline has passed, again at each tick until it moves."""

    deadline: float

    def expire(self, now: float) -> None: ...


class Ticker:
    """Ticks every `every` seconds; `now` is the time of the last tick (never ahead of the loop's)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, every: float = 0.2) -> None:
        self._loop, self._every = loop, every
        self._watched: set[Watched] = set()
        self.now = loop.time()
        self._timer = loop.call_later(every, self._tick)

    def watch(self, watched: Watched) -> None:
        self._watched.add(watched)

    def forget(self, watched: Watched) -> None:
        self._watched.discard(watched)

    def after(self, seconds: float) -> float:
        """A deadline at least `seconds` ahead (at most one tick more)."""
        return self.now + self._every + seconds

    def stop(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._every, self._tick)
        now = self.now = self._loop.time()
        for watched in [each for each in self._watched if each.deadline <= now]:
            watched.expire(now)


NEVER = inf
