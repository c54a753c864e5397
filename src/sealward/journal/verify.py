"""Verify a published log from its public files alone: no private key, no lock, nothing written.

The whole tree is built again from the *entries* and compared, file by file, with what is published: a tile is never
believed. `of` is followed without keys (contracts.md section 3). A known checkpoint finds rollbacks and forks.

Of entries that were archived (archived.py) only the hashes are here: they are held against the root, and counted as not seen,
unless the archive is given too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Protocol

from sealward.formats.b64 import b64
from sealward.formats.entry import Closings, header_of
from sealward.formats.fault import FormatError
from sealward.formats.merkle import HASH, leaf_hash
from sealward.formats.note import MLDSA44, Checkpoint, Verifier, open_checkpoint, open_cosigned, open_note
from sealward.formats.tiles import WIDTH, Edge, bundle, tile_path, unbundle
from sealward.journal.archived import archived
from sealward.journal.predecessor import Predecessor, predecessor


class Files(Protocol):
    """The public files; a `Disk` is one."""

    def read(self, name: str) -> bytes:
        """FileNotFoundError."""

    def names(self, folder: str) -> list[str]:
        """Empty where there is none."""


def _anybody(cosigned: AbstractSet[Verifier]) -> bool:
    del cosigned
    return True


@dataclass(frozen=True, slots=True)
class Trust:
    """What the verifier believes: the log's key, and optionally its ML-DSA-44 key, witnesses and older checkpoints.

    `quorum` says whether the keys that cosigned are enough.
    """

    log: Verifier
    mldsa: Verifier | None = None
    witnesses: Sequence[Verifier] = ()
    quorum: Callable[[AbstractSet[Verifier]], bool] = _anybody
    known: Sequence[bytes] = ()


@dataclass(slots=True)
class Report:
    """The last line of `journal verify --json`.

    Codes: checkpoint, witnesses, known_checkpoint, rollback, fork, successor, archived, bundle, entry, of, root, tile.
    """

    origin: str = ""
    size: int = 0
    root: str = ""
    witnesses: int = 0
    archived: int = 0  # entries before this one may be elsewhere
    unseen: int = 0  # of these only the hash is known
    predecessor: dict[str, Any] | None = None  # origin and size that it commits to
    errors: list[dict[str, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.errors

    def fault(self, code: str, detail: str, *, cause: bool = False) -> None:
        """One more; after 100 the rest is not listed. The cause of others stands before them."""
        if cause:
            self.errors.insert(0, {"code": code, "detail": detail})
        elif len(self.errors) < MOST_FAULTS:
            self.errors.append({"code": code, "detail": detail})

    def as_json(self) -> dict[str, Any]:
        found = {"ok": self.ok, "origin": self.origin, "size": self.size, "root": self.root}
        found |= {"unseen": self.unseen} if self.unseen else {}
        found |= {"predecessor": self.predecessor} if self.predecessor else {}
        return found | {"witnesses": self.witnesses, "errors": self.errors}


def verify(files: Files, trust: Trust, archive: Files | None = None) -> Report:
    """Everything that can be said about the public files, with an `archive` of entries that left them."""
    report = Report(origin=trust.log.name)
    try:
        note = files.read("checkpoint")
        checkpoint, cosigned = open_cosigned(note, trust.log, trust.witnesses)
        if trust.mldsa is not None:
            _check_mldsa(note, trust.log, trust.mldsa)
    except (OSError, FormatError) as error:
        report.fault("checkpoint", str(error))
        return report
    report.size, report.root = checkpoint.size, b64(checkpoint.root)
    report.witnesses = len({key.name for key in cosigned})
    if not trust.quorum(set(cosigned)):
        report.fault("witnesses", f"{report.witnesses} of {len(trust.witnesses)} witnesses cosigned: not enough")
    try:
        report.archived = min(archived(files.read, trust.log.name), checkpoint.size // WIDTH * WIDTH)
    except FormatError as error:
        report.fault("archived", error.detail)
    _check_predecessor(files, archive, trust, report)
    _Walk(files, archive, checkpoint, report).run(_marks(trust, checkpoint, report))
    return report


def _check_predecessor(files: Files, archive: Files | None, trust: Trust, report: Report) -> None:
    """A successor must not commit to less than what is known of the log before it."""
    notes = [data for data in trust.known if not _is_of(data, trust.log)]

    def read(name: str) -> bytes:
        try:
            return files.read(name)
        except FileNotFoundError:
            if archive is None:
                raise
            return archive.read(name)

    try:
        before = predecessor(read, trust.log, report.size)
        report.predecessor = {"origin": before.log.name, "size": before.checkpoint.size} if before else None
        for note in notes:
            if before is None:
                raise FormatError("known_checkpoint", "is of another log, and this one names no predecessor")  # noqa: TRY301
            known = Predecessor.of(before.log, note).checkpoint
            if known.size > before.checkpoint.size:
                detail = f"it commits to {before.checkpoint.size} entries of {known.origin}, a known checkpoint has {known.size}"
                report.fault("successor", detail)
            elif known.size == before.checkpoint.size and known.root != before.checkpoint.root:
                report.fault("successor", f"it commits to other {known.size} entries of {known.origin} than a known checkpoint")
    except FormatError as error:
        code = "successor" if error.reason == "successor" else "known_checkpoint"
        report.fault(code, error.detail)


def _is_of(note: bytes, log: Verifier) -> bool:
    return note.partition(b"\n")[0] == log.name.encode()


def _check_mldsa(note: bytes, log: Verifier, mldsa: Verifier) -> None:
    if mldsa.kind != MLDSA44 or mldsa.name != log.name:
        raise FormatError("checkpoint", "the ML-DSA-44 key is not one of this log")
    if mldsa not in open_note(note, [log, mldsa])[1]:
        raise FormatError("checkpoint", "the log's ML-DSA-44 signature is missing")


def _marks(trust: Trust, checkpoint: Checkpoint, report: Report) -> dict[int, set[bytes]]:
    """Roots that the tree must have had at earlier sizes."""
    marks: dict[int, set[bytes]] = {}
    for data in filter(lambda note: _is_of(note, trust.log), trust.known):
        try:
            known, _ = open_checkpoint(data, trust.log)
        except FormatError as error:
            report.fault("known_checkpoint", str(error))
            continue
        if known.size > checkpoint.size:
            report.fault("rollback", f"the log has {checkpoint.size} entries, a known checkpoint has {known.size}")
        else:
            marks.setdefault(known.size, set()).add(known.root)
    return marks


class _Walk:
    """One pass over the entries."""

    def __init__(self, files: Files, archive: Files | None, checkpoint: Checkpoint, report: Report) -> None:
        self._files, self._archive, self._checkpoint, self._report = files, archive, checkpoint, report
        self._edge, self._closings = Edge(), Closings()
        self._differing: list[str] = []  # hash tiles that are not those of the entries: one of the two was changed

    def run(self, marks: dict[int, set[bytes]]) -> None:
        size = self._checkpoint.size
        for start in range(0, size, WIDTH):
            if start < self._report.archived and not self._is_here(start):
                if not self._skip(start, marks):
                    return
                continue
            entries = self._entries(start, min(WIDTH, size - start))
            if entries is None:
                return
            for index, entry in enumerate(entries, start):
                if index in marks:
                    self._check_mark(index, marks)
                self._check_header(index, entry)
                self._edge.append(b"", leaf_hash(entry))  # bundles need no making again: they are what is read
            self._compare()
            self._compare_bundles(tile_path("entries", start // WIDTH), entries)
        self._check_mark(size, marks)
        if self._edge.root() != self._checkpoint.root:
            where = f": {'; '.join(self._differing[:MOST_NAMED])}" if self._differing else ""
            self._report.fault("root", f"the entries do not hash to the signed root{where}", cause=True)
        else:
            for detail in self._differing:
                self._report.fault("tile", detail)

    def _is_here(self, start: int) -> bool:
        """Whether an archived bundle is: it may be about to go, or in an archive that was given."""
        name = tile_path("entries", start // WIDTH)
        return self._read(name) is not None or (self._archive is not None and _read(self._archive, name) is not None)

    def _skip(self, start: int, marks: dict[int, set[bytes]]) -> bool:
        """An archived bundle that is not here: its hashes in place of its entries. False where they are not here either."""
        name = tile_path(0, start // WIDTH)
        tile = self._read(name) or b""
        if len(tile) != WIDTH * HASH:
            self._report.fault("archived", f"{name}, the hashes of archived entries from {start} on, is missing or short")
            return False
        for index in range(start, start + WIDTH):
            if index in marks:
                self._check_mark(index, marks)
            at = (index - start) * HASH
            self._edge.append(b"", tile[at : at + HASH])
        self._closings.skip(range(start, start + WIDTH))
        self._report.unseen += WIDTH
        self._compare()
        return True

    def _entries(self, start: int, count: int) -> list[bytes] | None:
        name = tile_path("entries", start // WIDTH, count)
        try:
            if start < self._report.archived and self._archive is not None and self._read(name) is None:
                return unbundle(self._archive.read(name), count)
            try:
                return unbundle(self._files.read(name), count)
            except FileNotFoundError:  # a partial one gives way to the full one
                return unbundle(self._files.read(name.partition(".p/")[0]))[:count]
        except (OSError, FormatError) as error:
            self._report.fault("bundle", f"{name}, entries {start} to {start + count - 1}: {error}")
            return None

    def _compare(self) -> None:
        """What is due at this size must be what is published, and so must partial files of smaller sizes."""
        made = self._edge.take()()
        self._edge.settle(made)
        for name, data in made.files if made.size == self._checkpoint.size else made.files[: made.full]:
            if not name.startswith("tile/entries/"):
                self._compare_hashes(name, data)

    def _compare_hashes(self, name: str, data: bytes) -> None:
        full = name.partition(".p/")[0]
        published = self._read(name)
        if published is None and name != full:
            published = (self._read(full) or b"")[: len(data)]
        if published != data:
            self._differing.append(_difference(full, data, published))
        for width in self._smaller(full, len(data) // HASH):
            if self._read(f"{full}.p/{width}") != data[: width * HASH]:
                self._report.fault("tile", f"{full}.p/{width} does not hold the hashes of the entries")

    def _compare_bundles(self, full: str, entries: Sequence[bytes]) -> None:
        for width in self._smaller(full, len(entries)):
            if self._read(f"{full}.p/{width}") != bundle(entries[:width]):
                self._report.fault("bundle", f"{full}.p/{width} does not hold the entries")

    def _smaller(self, full: str, than: int) -> list[int]:
        return [int(width) for width in self._files.names(f"{full}.p") if width.isdecimal() and int(width) < than]

    def _read(self, name: str) -> bytes | None:
        return _read(self._files, name)

    def _check_header(self, index: int, entry: bytes) -> None:
        if entry[:1] != b"\x01":  # of another version or program: opaque
            return
        try:
            self._closings.take(index, header_of(entry)[0])
        except FormatError as error:
            self._report.fault("of" if error.reason == "of" else "entry", f"entry {index}: {error}")

    def _check_mark(self, size: int, marks: dict[int, set[bytes]]) -> None:
        if size in marks and marks[size] != {self._edge.root()}:
            self._report.fault("fork", f"not an extension of the known checkpoint of size {size}")


def _read(files: Files, name: str) -> bytes | None:
    try:
        return files.read(name)
    except OSError:
        return None


def _difference(full: str, data: bytes, published: bytes | None) -> str:
    """Which entry, where a tile of leaves says it."""
    level, _, number = full.removeprefix("tile/").partition("/")
    if published and level == "0":
        first = int(number.replace("x", "").replace("/", "")) * WIDTH
        for at in range(0, len(data), HASH):
            if data[at : at + HASH] != published[at : at + HASH]:
                return f"entry {first + at // HASH} and its hash in {full} differ"
    return f"{full} does not hold the hashes of the entries" if published else f"{full} is missing"


MOST_FAULTS, MOST_NAMED = 100, 3
