"""A continuous export: at least once, resumable by index, in a process that nobody waits for.

Rows are read ahead into a bounded queue; what the receiver has not taken is sent again, with growing pauses. The state file
says which entry is the next one, and is durable after each batch: a crash in between sends a batch twice, never none.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from sealward.errors import ConfigurationError, SealwardError, UnreachableError
from sealward.formats.fault import FormatError
from sealward.journal.durable import OsDisk
from sealward.journal.exports.receivers import Receiver
from sealward.journal.exports.record import Json


@dataclass(slots=True)
class State:
    """How far a receiver is: entries of `origin` before `next` are his. Without a path it lasts as long as we do."""

    origin: str
    next: int = 0
    path: Path | None = None

    @classmethod
    def load(cls, path: Path | None, origin: str, start: int) -> State:
        """What was saved, else `start`. ConfigurationError: it is of another log, or no state."""
        if path is None or not path.exists():
            return cls(origin, start, path)
        try:
            found = orjson.loads(path.read_bytes())
            version, of, following = found["v"], found["origin"], found["next"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{path} is not the state of an export") from error
        if version != 1 or type(following) is not int or of != origin:
            raise ConfigurationError(f"{path} is the state of an export of {of!r}, not of {origin!r}")
        return cls(origin, following, path)

    def advance(self, following: int) -> None:
        """Durable on return."""
        self.next = following
        if self.path is not None:
            data = orjson.dumps({"next": self.next, "origin": self.origin, "v": 1}) + b"\n"
            OsDisk(self.path.parent).replace([(self.path.name, data)])


@dataclass(frozen=True, slots=True)
class Shipping:
    """`rows(start)`: those from an index on, where asked for also those that come. `words`: for who looks after it."""

    rows: Callable[[int], Iterator[Json]]
    receiver: Receiver
    state: State
    words: Callable[[str], None]

    def once(self) -> None:
        """Until the rows end. UnreachableError: the receiver does not take them; the state says where to go on."""
        for batch in self._batches():
            self.receiver.take(batch)
            self.state.advance(batch[-1]["index"] + 1)

    def forever(self) -> None:
        """Over every fault of the way: of the receiver, and of the recorder."""
        failed = 0
        while True:
            try:
                for batch in self._batches():
                    self._insist(batch)
                    failed = 0
            except UnreachableError as error:
                if not failed:
                    self.words(f"waiting: {error.detail}")
                failed += 1
            time.sleep(PAUSES_S[min(failed, len(PAUSES_S) - 1)])

    def _insist(self, batch: list[Json]) -> None:
        for failed in itertools.count():
            try:
                self.receiver.take(batch)
            except UnreachableError as error:
                if not failed:
                    self.words(f"not taken, entries {batch[0]['index']} and on: {error.detail}; trying again")
                time.sleep(PAUSES_S[min(failed, len(PAUSES_S) - 1)])
            else:
                if failed:
                    self.words(f"taken again, up to entry {batch[-1]['index']}")
                self.state.advance(batch[-1]["index"] + 1)
                return

    def _batches(self) -> Iterator[list[Json]]:
        """What has been read, up to BATCH rows; the first of a batch waits `gather_s` for others."""
        source = _Ahead(self.rows(self.state.next))
        while first := source.get(None):
            batch, until = [first], time.monotonic() + self.receiver.gather_s
            while len(batch) < BATCH and (row := source.get(until - time.monotonic())):
                batch.append(row)
            yield batch


class _Ahead:
    """Reads rows in a thread of its own; the recorder is not asked for more than fits the queue."""

    def __init__(self, rows: Iterator[Json]) -> None:
        self._queue: queue.Queue[Json | SealwardError | None] = queue.Queue(AHEAD)
        threading.Thread(target=self._read, args=(rows,), daemon=True).start()
        self._ended = False
        self._fault: SealwardError | None = None

    def get(self, within: float | None) -> Json | None:
        """The next row; None at the end, or when none came in time.

        What reading raised is raised to who waits without an end: the rows before it are the receiver's all the same.
        """
        if self._fault is not None and within is None:
            raise self._fault
        if self._ended:
            return None
        try:
            found = self._queue.get(timeout=within) if within is None or within > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(found, SealwardError):
            self._ended, self._fault = True, found
            return self.get(within)
        self._ended = found is None
        return found

    def _read(self, rows: Iterator[Json]) -> None:
        try:
            for row in rows:
                self._queue.put(row)
            self._queue.put(None)
        except SealwardError as error:
            self._queue.put(error)
        except (OSError, FormatError) as error:
            self._queue.put(UnreachableError(str(error)))


BATCH = 1_000
AHEAD = 2_000
PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
