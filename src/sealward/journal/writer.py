"""The one writer of a journal: seals events, hands out promises, answers for durability.

Everything that `commit` acknowledges is on disk. A starting writer closes what an earlier run left open before anything
else is admitted. One thread commits; another may `publish`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType

from sealward.clock import Clock
from sealward.errors import IntegrityError, Reason, Refused
from sealward.events import Event, system_subject
from sealward.formats.entry import Sealed, seal
from sealward.formats.fault import FormatError
from sealward.formats.ids import rfc3339, ulid
from sealward.formats.note import Checkpoint
from sealward.formats.passes import NO_CM, pass_text, promises
from sealward.formats.subject_key import SubjectKey
from sealward.formats.tiles import WIDTH
from sealward.journal.archived import NAME as ARCHIVED
from sealward.journal.archived import archived_text, bundles
from sealward.journal.body_keys import BodyKey, BodyKeys, BodyObjects
from sealward.journal.chronicle import Chronicle
from sealward.journal.durable import Disk
from sealward.journal.folds import Copy, Fold, kinds_of
from sealward.journal.key_stores import KeyStore, KeyStores
from sealward.journal.keys import STORE, LogKeys, SubjectKeys
from sealward.journal.log import Log
from sealward.journal.quota import ADMIN_BYTES, Kind, Quota
from sealward.journal.reader import Reader
from sealward.journal.requests import ENDING, OpenRequest, Requests
from sealward.journal.rows import REMEDY as ROWS_REMEDY
from sealward.journal.state_copy import StateCopy


@dataclass(frozen=True, slots=True)
class Draft:
    """An event to be written: valid by `formats.event.validate`, that is the caller's duty.

    `user`: whom a service acts for, so that the pair has keys of its own. `kind`: whose room the entry takes.
    """

    event: Event
    user: str | None = None
    kind: Kind = Kind.ADMIN


@dataclass(frozen=True, slots=True)
class Ack:
    """One durable entry. `promise`: for admissions and intents, whose commitment somebody waits for; else empty."""

    index: int
    leaf: bytes
    cm: str | None = None
    promise: bytes = b""
    pass_: str | None = None  # of an admission


@dataclass(slots=True)
class _Batch:
    first: int
    events: list[Event] = field(default_factory=list)
    sealed: list[Sealed] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)


class Writer:
    """Made by `open`. After an IntegrityError everything is refused until `resume` succeeds."""

    def __init__(
        self,
        disk: Disk,
        log: Log,
        keys: LogKeys,
        clock: Clock,
        random: Callable[[int], bytes],
        folds: Sequence[Fold],
        elders: Sequence[KeyStore],
    ) -> None:
        self._disk, self._log, self._clock, self._random, self._folds = disk, log, clock, random, folds
        self._signer = keys.signer
        if log.size and STORE.rpartition("/")[2] not in disk.names("private"):
            raise IntegrityError("key_store", f"{STORE} is gone: it would look as if all were erased", remedy=ROWS_REMEDY)
        self._keys = SubjectKeys(disk, keys.events, random)
        self._key_stores = KeyStores(KeyStore(disk, self._keys, clock), elders)
        self._quota = Quota(disk.free, clock.boot)
        self._reader = Reader(disk, keys.signer.verifier, self._keys)
        self._requests = Requests(folds)
        self.lock = threading.RLock()
        """A copy of the state is taken under it: hold it from a decision that a fold already knows of to its commit."""
        self.on_erased: list[Callable[[Collection[str]], None]] = []
        """Whatever else was computed from opened events drops what came from these kids, before it returns."""
        self._copy = StateCopy(disk, log.origin, keys.events, random)
        self._leaving: Iterator[str] = iter(())  # bundles that were archived
        self._copied_when = self._published_when = clock.boot()
        self._full_said = False

    @classmethod
    def open(
        cls,
        disk: Disk,
        keys: LogKeys,
        *,
        clock: Clock,
        random: Callable[[int], bytes],
        folds: Sequence[Fold] = (),
        elders: Sequence[KeyStore] = (),
    ) -> Writer:
        """The journal, recovered; `folds` are brought up to date. `random(n)`: n random bytes; `elders`: logs before this one.

        Writes `journal.recovered` where a torn batch was dropped, and closes the requests of the last run (`recovery`).
        IntegrityError: locked, journal_damaged, journal_full, journal_io, key_store.
        """
        log = Log(disk, keys.signer, lambda: clock.now() // 1_000_000)
        with contextlib.ExitStack() as undo:
            undo.callback(log.close)
            try:
                writer = cls(disk, log, keys, clock, random, folds, elders)
                writer._replay()
                writer._tell_recovery()
            except OSError as error:
                raise log.fail(error) from error
            undo.pop_all()
        return writer

    def commit(self, drafts: Sequence[Draft]) -> list[Ack | Refused]:
        """One batch, durable on return; answers in the order of `drafts`.

        Refused for one draft alone: `journal_full` (its class has no room), `body_malformed` (it admits an open request,
        closes one that is not, or cannot be cut to size). Raised: IntegrityError, or Refused(key_unavailable) after
        `forget`; then none of them was written.
        """
        if self._log.failed:
            self._say_full()
            raise IntegrityError(self._log.failed, "the journal has stopped")
        batch = _Batch(self._log.size)
        self._requests.begin()
        refused = [self._take(draft, batch) for draft in drafts]
        acks = iter(self._append(batch) if batch.sealed else [])
        return [answer or next(acks) for answer in refused]

    def publish(self) -> None:
        """Tiles, checkpoint, and when they are due the copies of the state and of the keys. Any thread, one at a time.

        IntegrityError.
        """
        self._log.publish()
        self._published_when = self._clock.boot()
        if self._published_when - self._copied_when >= COPY_EVERY:
            self._write_copy()
        self._write(self._key_stores.keep)
        self._disk.remove(islice(self._leaving, REMOVED_AT_ONCE))

    def said(self) -> tuple[Checkpoint, bytes] | None:
        """The last checkpoint and its note. Any thread."""
        return self._log.said()

    def cosigned(self, checkpoint: Checkpoint, note: bytes, *, enough: bool) -> None:
        """Witnesses signed it: see `Log.cosigned`. Any thread. IntegrityError."""
        self._log.cosigned(checkpoint, note, enough=enough)

    def resume(self) -> None:
        """Tries to go on after a failure: reopens, rewrites what must be, publishes. IntegrityError: still failing."""
        try:
            self._keys.resume()
            self._log.resume()
        except OSError as error:
            raise self._log.fail(error) from error
        self._full_said = False
        self._log.publish()

    def close(self) -> None:
        """Publishes, and gives up the lock in any case. IntegrityError."""
        try:
            self._log.publish()
            self._write_copy()
            self._write(self._key_stores.keep)
            self._disk.remove(self._leaving)
        finally:
            self._close_files()

    def halt(self, code: str) -> None:
        """Nothing more is admitted: something this writer needs has died."""
        self._log.failed = self._log.failed or code

    def forget(self) -> None:
        """The end of a lease: nothing is sealed or opened any more (`key_unavailable`)."""
        self._keys.forget()
        with self.lock:
            self._copy.forget()

    @property
    def failed(self) -> str | None:
        """Why nothing is admitted: journal_full, journal_io."""
        return self._log.failed

    @property
    def origin(self) -> str:
        return self._log.origin

    @property
    def size(self) -> int:
        """Durable entries."""
        return self._log.size

    @property
    def published(self) -> int:
        """Entries under the last checkpoint."""
        return self._log.published

    @property
    def open_requests(self) -> Mapping[str, OpenRequest]:
        """Requests that were admitted and have no closing entry. A live view."""
        return MappingProxyType(self._requests.open)

    def closed(self, request: str) -> int | None:
        """Index of the entry that ended `request` within the last 60 s."""
        return self._requests.closed(request, self._clock.now())

    def receipt(self, request: str, subject: str) -> str | None:
        """The receipt of one of the last 8,192 requests; None until a checkpoint covers it.

        KeyError: not one of them, of another subject, or erased. KNOWN: older ones only by `Reader.find`, which reads on.
        """
        index = self._requests.done[request][0]
        row = self._reader.row(index, self._reader.entry(index))
        if row.event is None or row.event["subject"]["id"] != subject:
            raise KeyError(request)
        return self._reader.receipt(row)

    @property
    def chronicle(self) -> Chronicle:
        """What was done to this journal as a whole. Not to be changed."""
        return self._requests.chronicle

    def kids_of(self, service: str, user: str | None = None) -> list[str]:
        """The names of the keys of a subject, or of the `user` that a service named."""
        return self._key_stores.kids_of(service, user)

    def event_key(self, service: str, user: str | None, time: str) -> tuple[SubjectKey, SubjectKey | None]:
        """The key of a subject's events now, durable, and that of the next month where there is one. IntegrityError."""
        key = self._keys.key_for(service, user, time)
        self._write(self._keys.make_durable)
        return key, self._keys.ahead(service, user, time)

    def has_room(self, kind: Kind, size: int) -> bool:
        """Whether `size` bytes beside the log may be written for this class."""
        return self._quota.allows(kind, open_requests=len(self._requests.open)) and self._disk.free() - size >= ADMIN_BYTES

    @property
    def bodies(self) -> BodyKeys:
        """Keys of captured bodies."""
        return self._key_stores.own.bodies

    @property
    def objects(self) -> BodyObjects:
        """Captured bodies."""
        return self._key_stores.own.objects

    def add_body_keys(self, keys: Sequence[BodyKey]) -> None:
        """Durable on return. IntegrityError."""
        self._write(lambda: self.bodies.add(keys))

    def drop_keys(self, kids: Collection[str]) -> None:
        """No entry opens under them any more: not here, not in what was derived, not after a start. IntegrityError.

        `journal.erased`, which names them, is durable before: a start brings to its end what a crash leaves half done.
        """
        with self.lock:
            for subject in self._key_stores.drop(kids):
                self._requests.erased(subject)
        for drop in self.on_erased:
            drop(kids)
        self._write_copy()  # while the rows can still tell the next start whose these were
        self._write(lambda: self._key_stores.erase(kids))

    def may_part(self) -> int:
        """Before which entry everything could be archived: published, of no open request, and not needed at a start."""
        self._write_copy()
        return min(self.published, self._copy.at, *(found.index for found in self.open_requests.values())) // WIDTH * WIDTH

    def part(self, end: int) -> None:
        """Entries before `end` are archived: DIR/archived says so, then `publish` removes them, some at a time. IntegrityError.

        `journal.archived` is durable before. The copy of the state is kept apart: what it was computed from is gone.
        """
        self._write(lambda: self._disk.replace([*self._copy.apart(), (ARCHIVED, archived_text(end, self.origin))]))
        self._leaving = bundles(0, end)

    def status(self) -> dict[str, int]:
        """`checkpoint_age_ms`: since everything durable was last under a checkpoint."""
        age = int((self._clock.boot() - self._published_when) * 1000)
        return {"size": self.size, "checkpoint_size": self.published, "checkpoint_age_ms": age, "free_bytes": self._disk.free()}

    @property
    def reader(self) -> Reader:
        """Reads this journal with the keys held here."""
        return self._reader

    # -- a batch --

    def _take(self, draft: Draft, batch: _Batch) -> Refused | None:
        if not self._quota.allows(draft.kind, open_requests=len(self._requests.open)):
            return Refused(Reason.JOURNAL_FULL, f"no room for {draft.kind}")
        index = batch.first + len(batch.sealed)
        try:
            event = self._requests.link(draft.event)
            made = self._seal(event, index, draft.user)
        except FormatError as error:
            return Refused(Reason.BODY_MALFORMED, error.detail)
        self._requests.note(index, event)
        batch.events.append(event)
        batch.sealed.append(made)
        batch.kinds.append(draft.kind)
        return None

    def _seal(self, event: Event, index: int, user: str | None = None) -> Sealed:
        key = self._keys.key_for(event["subject"]["id"], user, event["time"])
        exp = self._clock.now() // 1_000_000 + PASS_SECONDS
        return seal(event, origin=self._log.origin, index=index, kid=key.kid, key=key.key, random=self._random, exp=exp)

    def _append(self, batch: _Batch) -> list[Ack]:
        try:
            self._keys.make_durable()
            leaves = self._log.append([made.entry for made in batch.sealed])
        except OSError as error:
            failed = self._log.fail(error)
            self._say_full()
            raise failed from error
        with self.lock:
            self._requests.accept(batch.first, batch.events, self._clock.now())
        for kind, made in zip(batch.kinds, batch.sealed, strict=True):
            self._quota.wrote(kind, len(made.entry))
        return self._acks(batch, leaves)

    def _acks(self, batch: _Batch, leaves: list[bytes]) -> list[Ack]:
        """One signature for the batch; none where nothing in it makes a promise."""
        waited = [
            made.cm is not None and event["type"] not in ENDING for made, event in zip(batch.sealed, batch.events, strict=True)
        ]
        if not any(waited):
            return [
                Ack(index, leaf, made.cm)
                for index, (leaf, made) in enumerate(zip(leaves, batch.sealed, strict=True), batch.first)
            ]
        pairs = [(leaf, bytes.fromhex(made.cm) if made.cm else NO_CM) for leaf, made in zip(leaves, batch.sealed, strict=True)]
        found = promises(self._log.origin, batch.first, pairs, self._signer.key)
        acks = []
        for index, (leaf, made, promise, wanted) in enumerate(zip(leaves, batch.sealed, found, waited, strict=True), batch.first):
            text = pass_text(index, leaf, promise, made.admission) if made.admission else None
            acks.append(Ack(index, leaf, made.cm, promise if wanted else b"", text))
        return acks

    # -- failing, starting, ending --

    def _own_event(self, kind: str, **groups: object) -> Event:
        now = self._clock.now()
        event = {"v": 1, "id": ulid(now, self._random(10)), "type": kind, "time": rfc3339(now)}
        return {**event, "instance": "recorder", "tenant": "default", "subject": dict(system_subject("recorder")), **groups}

    def _say_full(self) -> None:
        """The reserve is room for one last entry: that the disk is full."""
        if self._log.failed == "journal_full" and not self._full_said:
            self._full_said = True
            self._log.free_reserve()
            with contextlib.suppress(OSError):
                event, index = self._own_event("journal.full"), self._log.size
                made = self._seal(event, index)
                self._keys.make_durable()
                self._log.last_words(made.entry)
                with self.lock:
                    self._requests.accept(index, [event], self._clock.now())

    def _replay(self) -> None:
        """The open requests and the folds, from their copy and what came after it."""
        copy = self._copy.read(kinds_of(self._folds))
        if copy.at > self._log.size:
            raise IntegrityError("journal_damaged", f"{self._log.size} entries, {copy.at} were known")
        self._keys.drop(copy.chronicle.get("erased", ()))
        self._requests.load(copy, lambda index: self._reader.row(index, self._reader.entry(index)).event)
        for row in self._reader.rows(copy.at):
            if row.event is not None:
                self._requests.replay(row.index, row.event)
        if self._reader.archived() < self.chronicle.archived <= self.published:
            self.part(self.chronicle.archived)
        self._leaving = bundles(0, self._reader.archived())
        if self.chronicle.erased:
            self.drop_keys(self.chronicle.erased)

    def _tell_recovery(self) -> None:
        drafts = []
        if self._log.dropped_bytes:
            now = rfc3339(self._clock.now())
            gap = {"from_time": now, "to_time": now, "cause": "torn tail", "dropped_bytes": self._log.dropped_bytes}
            drafts.append(Draft(self._own_event("journal.recovered", gap=gap)))
        for request, found in self._requests.open.items():
            known = {name: found.event[name] for name in ("decision", "operation") if name in found.event}
            outcome = {"status": 0, "aborted_by": "recovery"}
            named = found.event["subject"].get("on_behalf_of")
            event = self._own_event("inference.aborted", link={"request": request}, outcome=outcome, **known)
            drafts.append(Draft(event, named["id"] if named else None))
        for start in range(0, len(drafts), BATCH):
            self.commit(drafts[start : start + BATCH])

    def _write_copy(self) -> None:
        self._copied_when = self._clock.boot()

        def take() -> Copy:
            with self.lock:
                return self._requests.dump(self._log.size)

        self._write(lambda: self._copy.write(take))

    def _write(self, what: Callable[[], None]) -> None:
        try:
            what()
        except OSError as error:
            raise self._log.fail(error) from error

    def _close_files(self) -> None:
        self._keys.close()
        self._key_stores.own.close()
        self._log.close()


REMOVED_AT_ONCE = 1_000
COPY_EVERY = 30.0
PASS_SECONDS = 30
BATCH = 256
