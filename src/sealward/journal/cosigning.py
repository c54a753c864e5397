"""The log's side of witnessing: every checkpoint is shown to every witness, and carries their cosignatures as they come.

One thread a witness, none of them the writing one: a witness that is slow or gone delays nobody, unless the settings demand
freshness. A witness that holds what this disk does not extend is believed when the log's own key signed it: then this disk is
behind, or somebody else has the key, and the log is not continued (contracts.md section 7).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Literal, Protocol

from sealward.clock import Clock
from sealward.errors import IntegrityError, UnreachableError
from sealward.formats.merkle import EMPTY_ROOT
from sealward.formats.note import Checkpoint, with_lines
from sealward.journal.reader import Reader
from sealward.journal.witness_client import Conflict, WitnessClient
from sealward.settings import Journal


class Log(Protocol):
    """A Writer is one."""

    @property
    def reader(self) -> Reader: ...

    def said(self) -> tuple[Checkpoint, bytes] | None: ...

    def cosigned(self, checkpoint: Checkpoint, note: bytes, *, enough: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Whom a log asks, and how many are enough. `freshness_s`: admission needs a quorum that is so young; None: it does not."""

    clients: tuple[WitnessClient, ...] = ()
    quorum: int = 0
    freshness_s: int | None = None

    @classmethod
    def of(cls, journal: Journal) -> Witnesses:
        """ConfigurationError: a CA file cannot be read."""
        return cls(tuple(map(WitnessClient.of, journal.witnesses)), journal.quorum, journal.witness_freshness)

    def without(self, names: frozenset[str]) -> Witnesses:
        """Less those that were dropped; the quorum is at most all that are left."""
        clients = tuple(client for client in self.clients if client.name not in names)
        return Witnesses(clients, min(self.quorum, len(clients)), self.freshness_s)


@dataclass(frozen=True, slots=True)
class Told:
    """What happened to one witness. `behind`: it holds, signed by the log's key, what this disk does not extend."""

    kind: Literal["lost", "restored", "behind"]
    name: str
    since_us: int = 0
    size: int = 0
    reason: str = ""


def refuse_if_behind(reader: Reader, clients: Sequence[WitnessClient]) -> list[str]:
    """Asks all at once, before anything is written: the names of those that did not answer within a few seconds.

    IntegrityError("journal_behind"): one of them holds what the published log does not extend.
    """
    if not clients:
        return []
    published = _published(reader)
    with ThreadPoolExecutor(len(clients), "witness") as threads:
        answers = [(client.name, threads.submit(meet, client, reader, published)) for client in clients]
    failures = [(name, answer.exception()) for name, answer in answers]
    for _, failure in failures:
        if failure is not None and not isinstance(failure, UnreachableError):
            raise failure
    return [name for name, failure in failures if failure is not None]


def meet(client: WitnessClient, reader: Reader, published: Checkpoint) -> int:
    """How many entries of this log the witness holds: the published log extends them. IntegrityError, UnreachableError."""
    held = client.latest(reader.log)
    if held is None:
        return 0
    if held.size > published.size:
        raise _behind(f"{client.name} holds a checkpoint of {held.size} entries, this disk has one of {published.size}")
    if held.root != reader.root(held.size, published):
        raise _behind(f"the {held.size} entries that {client.name} holds are not those of this disk")
    return held.size


class Cosigning:
    """Runs from `start` to `stop`. `take` gives what happened since the last call."""

    def __init__(self, log: Log, witnesses: Witnesses, clock: Clock) -> None:
        self._log, self._clock, self._all = log, clock, witnesses
        self._witnesses = witnesses
        every = witnesses.freshness_s
        self._refresh_s = min(REFRESH_S, every / 3) if every else REFRESH_S
        self._told: SimpleQueue[Told] = SimpleQueue()
        self._lock = threading.Lock()
        self._gathered: dict[int, _Gathered] = {}
        self._witnessed = 0
        self._closed = False
        self._asking = [_Asking(client, self) for client in witnesses.clients]

    def start(self) -> None:
        for each in self._asking:
            each.start()

    def stop(self, within: float = 2.0) -> None:
        """Each witness is shown the last checkpoint once more; what comes later than `within` seconds is not written."""
        for each in self._asking:
            each.ended.set()
        until = self._clock.boot() + within
        for each in filter(threading.Thread.is_alive, self._asking):
            each.join(max(0.0, until - self._clock.boot()))
        with self._lock:
            self._closed = True

    def drop(self, names: frozenset[str]) -> None:
        """These are not asked any more, nor counted."""
        self._witnesses = self._all.without(names)
        for each in self._asking:
            if each.client.name in names:
                each.dropped = True
                each.ended.set()

    def take(self) -> list[Told]:
        found = []
        while True:
            try:
                found.append(self._told.get_nowait())
            except Empty:
                return found

    @property
    def fresh(self) -> bool:
        """Whether a quorum has cosigned the log as it stood within the time that the settings demand."""
        limit, quorum = self._witnesses.freshness_s, self._witnesses.quorum
        if limit is None or quorum == 0:
            return True
        times = sorted((each.cosigned_at for each in self._asking if not each.dropped), reverse=True)
        return self._clock.boot() - times[quorum - 1] <= limit

    def status(self) -> list[dict[str, Any]]:
        """For `status`: `{name, state: new | ok | lost | behind, size, age_ms}`."""
        now = self._clock.boot()
        return [each.status(now) for each in self._asking if not each.dropped]

    # -- what the threads use --

    def poll(self, asking: _Asking) -> None:
        """One witness is asked if there is something to ask. Its thread's."""
        said, now = self._log.said(), self._clock.boot()
        if said is None or not asking.due(said[0], now):
            return
        checkpoint, note = said
        try:
            lines = self._cosignature(asking, checkpoint, note)
            self._gather(asking.client, checkpoint, note, lines)
        except (UnreachableError, Conflict, IntegrityError, OSError) as error:
            asking.known = None
            if isinstance(error, IntegrityError) and error.code in NEVER_CONTINUED:
                asking.over = True
                self._told.put(Told("behind", asking.client.name, self._clock.now(), checkpoint.size, error.detail))
            elif asking.failed(now, self._clock.now()):
                self._told.put(Told("lost", asking.client.name, asking.lost_us, asking.size, str(error)))
        else:
            if asking.succeeded(checkpoint, now, self._refresh_s):
                self._told.put(Told("restored", asking.client.name, 0, checkpoint.size))

    def crashed(self, asking: _Asking) -> None:
        """Its thread ended by itself."""
        asking.failed(0.0, self._clock.now())
        self._told.put(Told("lost", asking.client.name, asking.lost_us, asking.size, "the thread that asks it crashed"))

    def _cosignature(self, asking: _Asking, checkpoint: Checkpoint, note: bytes) -> list[str]:
        client, reader = asking.client, self._log.reader
        if asking.known is None:
            asking.known = meet(client, reader, checkpoint)
        try:
            return client.add(asking.known, reader.consistency(asking.known, checkpoint), checkpoint, note)
        except Conflict as conflict:  # it cannot show what it holds, or an earlier run of ours asked: its size alone says little
            asking.known = meet(client, reader, checkpoint) or conflict.size
            if asking.known > checkpoint.size:
                raise
        return client.add(asking.known, reader.consistency(asking.known, checkpoint), checkpoint, note)

    def _gather(self, client: WitnessClient, checkpoint: Checkpoint, note: bytes, lines: list[str]) -> None:
        with self._lock:
            if self._closed:
                return
            gathered = self._gathered.setdefault(checkpoint.size, _Gathered(note))
            gathered.note = with_lines(gathered.note, lines)
            gathered.names.add(client.name)
            enough = len(gathered.names) >= self._witnesses.quorum and checkpoint.size >= self._witnessed
            self._witnessed = checkpoint.size if enough else self._witnessed
            while len(self._gathered) > MAX_GATHERED:
                del self._gathered[min(self._gathered)]
            self._log.cosigned(checkpoint, gathered.note, enough=enough)


@dataclass(slots=True)
class _Gathered:
    note: bytes
    names: set[str] = field(default_factory=set)


class _Asking(threading.Thread):
    """One witness and its standing. Only its own thread writes here, but for `ended` and `dropped`."""

    def __init__(self, client: WitnessClient, cosigning: Cosigning) -> None:
        super().__init__(name=f"witness {client.name}", daemon=True)
        self.client, self._cosigning = client, cosigning
        self.ended = threading.Event()
        self.dropped = self.over = False
        self.known: int | None = None
        self.size, self.cosigned_at = 0, float("-inf")
        self.lost_us = 0
        self._done: Checkpoint | None = None
        self._again = self._failing_since = 0.0
        self._pause, self._lost = FIRST_PAUSE_S, False

    def run(self) -> None:
        try:
            while not self.ended.wait(POLL_S):
                self._cosigning.poll(self)
            if not self.dropped:
                self._cosigning.poll(self)
        finally:
            if not self.ended.is_set():
                self._cosigning.crashed(self)

    def due(self, checkpoint: Checkpoint, now: float) -> bool:
        return not self.over and (now >= self._again or (self._done is not None and checkpoint != self._done))

    def succeeded(self, checkpoint: Checkpoint, now: float, refresh_s: float) -> bool:
        """Whether it had been lost."""
        self._done, self._again, self.cosigned_at = checkpoint, now + refresh_s, now
        self.known = self.size = checkpoint.size
        was_lost, self._lost, self._failing_since, self._pause = self._lost, False, 0.0, FIRST_PAUSE_S
        return was_lost

    def failed(self, now: float, now_us: int) -> bool:
        """Whether it is lost from now on."""
        if not self._failing_since:
            self._failing_since, self.lost_us = now, now_us
        self._done, self._again = None, now + self._pause
        self._pause = min(self._pause * 2, LAST_PAUSE_S)
        if self._lost or now - self._failing_since < LOST_S:
            return False
        self._lost = True
        return True

    def status(self, now: float) -> dict[str, Any]:
        state = "behind" if self.over else "lost" if self._lost else "ok" if self.size or self._done else "new"
        age = {} if self.cosigned_at == float("-inf") else {"age_ms": int((now - self.cosigned_at) * 1000)}
        return {"name": self.client.name, "state": state, "size": self.size} | age


def _published(reader: Reader) -> Checkpoint:
    try:
        return reader.checkpoint()[0]
    except FileNotFoundError:
        return Checkpoint(reader.log.name, 0, EMPTY_ROOT)


def _behind(detail: str) -> IntegrityError:
    remedy = "never continue this disk: restore a newer one, or `sealward recover journal --successor --because …`"
    return IntegrityError("journal_behind", detail, remedy=remedy)


NOBODY = Witnesses()
NEVER_CONTINUED = ("journal_behind", "journal_damaged")
POLL_S = 0.1
REFRESH_S = 30.0
FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 5.0
LOST_S = 10.0
MAX_GATHERED = 16
