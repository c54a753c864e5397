"""Reading a journal: every durable entry, opened where its key still exists. Takes no lock and writes nothing.

It may run beside a writer: bundles are taken up to where the segments begin, then the segments, whose last batch may be torn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from sealward.errors import IntegrityError
from sealward.events import Event
from sealward.formats import canonical
from sealward.formats.b64 import b64
from sealward.formats.entry import header_of, statement_of, unseal
from sealward.formats.fault import FormatError
from sealward.formats.ids import hour, rfc3339, ulid_time_ms
from sealward.formats.merkle import EMPTY_ROOT, Mth, consistency_proof, inclusion_proof, leaf_hash
from sealward.formats.note import Checkpoint, Verifier, open_checkpoint
from sealward.formats.proof import Proof
from sealward.formats.subject_key import SubjectKey
from sealward.formats.tiles import WIDTH, TileTree, read_tile, unbundle
from sealward.journal.archived import archived
from sealward.journal.durable import Disk
from sealward.journal.log import CHECKPOINT, SEGMENTS, WITNESSED
from sealward.journal.segments import batches, needed


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as its reader sees it; `event` is None where the subject was erased."""

    index: int
    entry: bytes
    header: dict[str, Any]
    event: Event | None

    @property
    def leaf(self) -> bytes:
        return leaf_hash(self.entry)

    def as_json(self) -> dict[str, Any]:
        """The line of `journal export`."""
        if self.event is None:
            return {"index": self.index, "erased": True, "header": self.header}
        return {"index": self.index, "event": self.event}


class Keys(Protocol):
    """What opens entries."""

    def key(self, kid: str) -> SubjectKey | None:
        """None where it was erased. Refused(key_unavailable)."""


class Reader:
    """One journal. Damage is an IntegrityError("journal_damaged")."""

    def __init__(self, disk: Disk, log: Verifier, keys: Keys | None = None) -> None:
        self._disk, self.log, self._keys = disk, log, keys

    def checkpoint(self) -> tuple[Checkpoint, bytes]:
        """The published state and the note that says so."""
        return self._opened(CHECKPOINT)

    def covering(self, index: int) -> tuple[Checkpoint, bytes]:
        """A published state that holds `index`: the last witnessed one if it does, else the last. KeyError: neither does."""
        try:
            found = self._opened(WITNESSED)
        except FileNotFoundError:
            found = self.checkpoint()
        if index >= found[0].size:
            found = self.checkpoint()
        if not 0 <= index < found[0].size:
            raise KeyError(index)
        return found

    def root(self, size: int, published: Checkpoint) -> bytes:
        """Root of the first `size` entries of a published state."""
        return self._mth(published)(0, size) if size else EMPTY_ROOT

    def consistency(self, old: int, published: Checkpoint) -> tuple[bytes, ...]:
        """The proof that a published state extends its first `old` entries; empty where there is nothing to prove."""
        return tuple(consistency_proof(old, published.size, self._mth(published))) if 0 < old < published.size else ()

    def entries(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """(index, entry) of every durable entry from `start` on that is not archived, also those younger than the checkpoint."""
        index = start
        while True:
            segments = self._segments()  # before the checkpoint: what is dropped later, bundles hold by then
            index = max(index, self.archived())
            try:
                for found, entry in self._entries(index, segments):
                    yield found, entry
                    index = found + 1
            except FileNotFoundError as error:
                if segments == self._segments() and index >= self.archived():
                    raise IntegrityError("journal_damaged", f"a file from entry {index} on is missing: {error}") from None
            else:
                return

    def rows(self, start: int = 0) -> Iterator[Row]:
        """The same, opened."""
        for index, entry in self.entries(start):
            yield self.row(index, entry)

    def at(self, indices: Sequence[int]) -> Iterator[Row]:
        """The rows at these indices, which ascend; a bundle is read once. What is not there is left out."""
        size = self._published()
        first, split = bisect_left(indices, self.archived()), bisect_left(indices, size)
        for n, some in groupby(indices[first:split], lambda index: index // WIDTH):
            entries = self._bundle(n, size)
            yield from (self.row(index, entries[index % WIDTH]) for index in some)
        young = set(indices[split:])
        for index, entry in self.entries(min(young)) if young else ():
            if index in young:
                young.remove(index)
                yield self.row(index, entry)
            if not young:
                return

    def key(self, kid: str) -> SubjectKey | None:
        """What opens the entries that name it; None where it was erased, or nothing is opened here. Refused(key_unavailable)."""
        return self._keys.key(kid) if self._keys else None

    def erased(self, kids: Collection[str]) -> set[str]:
        """Those of them whose keys are gone."""
        return {kid for kid in kids if self.key(kid) is None}

    def row(self, index: int, entry: bytes) -> Row:
        """One entry, opened where its key still exists."""
        try:
            header, _ = header_of(entry)
            found = self.key(header["kid"])
            event = unseal(entry, origin=self.log.name, index=index, key=found.key) if found else None
        except FormatError as error:
            raise IntegrityError("journal_damaged", f"entry {index}: {error}") from error
        return Row(index, entry, header, event)

    def archived(self) -> int:
        """Entries before this index have been archived (archived.py)."""
        try:
            return archived(self._disk.read, self.log.name)
        except FormatError as error:
            raise IntegrityError("journal_damaged", error.detail) from error

    def entry(self, index: int) -> bytes:
        """One durable entry; KeyError where there is none, or it is archived."""
        size = self._published()
        if 0 <= index < size:
            try:
                return self._bundle(index // WIDTH, size)[index % WIDTH]
            except FileNotFoundError:
                if index < self.archived():
                    raise KeyError(index) from None
                raise
        found = next(self.entries(index), None)
        if found is None or found[0] != index:
            raise KeyError(index)
        return found[1]

    def proof(self, index: int) -> Proof:
        """Its place in the published log (see `covering`); KeyError where no checkpoint covers it."""
        checkpoint, note = self.covering(index)
        return Proof(index, tuple(inclusion_proof(index, checkpoint.size, self._mth(checkpoint))), note)

    def find(self, request: str, *, everywhere: bool = False) -> Row | None:
        """The entry that ended `request` (completed, aborted, or denied); None where there is none.

        Costs the entries since the hour of the request's ULID; `everywhere` costs all of them and trusts no clock.
        """
        start = 0 if everywhere else self.since(request)
        for index, entry in self.entries(start):
            if "cm" in header_of(entry)[0]:
                row = self.row(index, entry)
                if row.event and "statement" in row.event and row.event["link"].get("request") == request:
                    return row
        return None

    def since(self, request: str) -> int:
        """An index before every entry about a request, by its ULID: bundles begin in order of time, give or take an hour."""
        moment, size = hour(rfc3339(ulid_time_ms(request) * 1000)), self._published()
        first = low = self.archived() // WIDTH
        high = size // WIDTH
        while low < high:
            middle = (low + high) // 2
            header, _ = header_of(self._bundle(middle, size)[0])
            low, high = (middle + 1, high) if header["time"] < moment else (low, middle)
        return max(low - 1, first) * WIDTH

    def receipt(self, row: Row) -> str | None:
        """The receipt of a row from `find` (contracts.md section 3); None until a checkpoint covers it."""
        if row.event is None:
            raise KeyError(row.index)
        if row.index >= self._published():
            return None
        parts = {"statement": statement_of(row.event), "entry": b64(row.entry), "proof": self.proof(row.index).text}
        return canonical.dumps(parts).decode()

    def _entries(self, start: int, segments: list[int]) -> Iterator[tuple[int, bytes]]:
        size = self._published()
        segments = needed(segments, size)
        until = segments[0] if segments else size
        for n in range(start // WIDTH, -(-until // WIDTH)):
            yield from ((i, entry) for i, entry in enumerate(self._bundle(n, size), n * WIDTH) if start <= i < until)
        for first, following in zip(segments, [*segments[1:], None], strict=True):
            if following is None or start < following:
                index = first
                for entries, _ in batches(self._disk.read(f"{SEGMENTS}/{first:020d}.seg"), first):
                    yield from ((i, entry) for i, entry in enumerate(entries, index) if i >= start)
                    index += len(entries)

    def _opened(self, name: str) -> tuple[Checkpoint, bytes]:
        note = self._disk.read(name)
        try:
            return open_checkpoint(note, self.log)[0], note
        except FormatError as error:
            raise IntegrityError("journal_damaged", f"{name}: {error}") from error

    def _mth(self, published: Checkpoint) -> Mth:
        tree = TileTree(published.size, self._disk.read)

        def mth(start: int, end: int) -> bytes:
            try:
                return tree.mth(start, end)
            except (FileNotFoundError, FormatError) as error:
                raise IntegrityError("journal_damaged", f"tiles: {error}") from error

        return mth

    def _segments(self) -> list[int]:
        return [int(name.removesuffix(".seg")) for name in self._disk.names(SEGMENTS)]

    def _published(self) -> int:
        try:
            return self.checkpoint()[0].size
        except FileNotFoundError:
            return 0

    def _bundle(self, n: int, size: int) -> list[bytes]:
        try:
            return unbundle(read_tile(self._disk.read, "entries", n, size))
        except FormatError as error:
            raise IntegrityError("journal_damaged", f"bundle {n} {error.detail}") from error
