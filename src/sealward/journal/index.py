"""The side index: columns of every entry, so that a question costs what its answer is long.

    private/index/<first>       columns of up to 32,768 entries, sealed under a key of the file's own
    private/index/manifest      which files there are and their keys, sealed under the purpose key of events

Derived: a file that is missing, or does not open, is made anew from the log. It says what erased subjects did, so their rows
lose every fact at once and the file gets a new key; where that was missed (a crash, an index out of a backup), a file that
is opened is compared with the keys that still exist. Backups leave the folder out.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import orjson
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealward.formats.b64 import b64url, unb64url
from sealward.formats.fault import FormatError
from sealward.journal.columns import FACTS, ROWS, Columns, Counts, Words
from sealward.journal.durable import Disk
from sealward.journal.reader import Reader
from sealward.keyring.secret import Secret


class Index:
    """Of what `reader` reads and is not archived. `gone(kids)`: those of them whose keys were erased. Thread-safe.

    `size`: how many entries the log has at least. `purpose_key` is that of events; `random(n)`: n random bytes. One process at
    a time may have it open: the journal's writer, or one on its behalf.
    """

    def __init__(
        self,
        disk: Disk,
        reader: Reader,
        purpose_key: Secret,
        gone: Callable[[Collection[str]], Collection[str]],
        random: Callable[[int], bytes],
        size: int,
    ) -> None:
        self._disk, self._reader, self._purpose_key, self._gone, self._random = disk, reader, purpose_key, gone, random
        self._lock = threading.RLock()
        self._loaded: dict[int, Columns] = {}  # the most recently used last
        self._unsaved: set[int] = set()
        self._gone_before = 0
        self._places = self._read_manifest()
        self._open = self._reopen()
        if self.size > size:  # of another history
            self._begin(0)
        self._let_go()

    @property
    def size(self) -> int:
        """Entries that are in it."""
        return self._open.first + len(self._open)

    def catch_up(self, until: int) -> None:
        """Takes in the log's entries before `until`, as far as there are any; others may ask meanwhile."""
        with self._lock:
            self._let_go()
        more = True
        while more:
            with self._lock:
                more = self.size < until and self._take(min(SLICE, until - self.size))

    def select(self, words: Words, since: int, until: int) -> Iterator[list[int]]:
        """The entries that fit (see `Columns.select`), ascending in each run, the newest run first."""
        for number in range(len(self._places), -1, -1):
            with self._lock:
                columns = self._run(number, since, until)
                rows = columns.select(words, since, until) if columns else ()
                found = [columns.first + row for row in rows] if columns else []
            if found:
                yield found

    def counts(self, words: Words, since: int, until: int, by: Sequence[str]) -> Counts:
        """How many of those entries there are, in all or `by` columns, hour, day."""
        total: Counts = Counter()
        for number in range(len(self._places) + 1):
            with self._lock:
                columns = self._run(number, since, until)
                if columns:
                    total.update(columns.tally(words, since, until, by))
        return total

    def counts_of(self, indices: Sequence[int], by: Sequence[str]) -> Counts:
        """The same of given entries of one run."""
        with self._lock:
            columns = self._run((indices[0] - self._base) // ROWS) if indices else None
            return columns.counts(by, [index - columns.first for index in indices]) if columns else Counter()

    def warm(self) -> None:
        """Computes ahead what questions need, a little at a time: others may ask meanwhile."""
        for number in range(max(0, len(self._places) - LOADED), len(self._places)):
            for name in FACTS:
                with self._lock:
                    columns = self._run(number) if number < len(self._places) else None
                    if columns is not None:
                        columns.warm(name)

    def on_erased(self, kids: Collection[str]) -> None:
        """No row says any more what these keys sealed, in memory and on disk; whoever erases calls it within the live clock.

        What cannot be written is deleted, and made anew later.
        """
        with self._lock:
            columns = [self._columns(place) for place in self._places]
            self._unsaved |= {each.first for each in (*columns, self._open) if each.drop(kids)}
            try:
                self._save()
            except OSError:
                self._discard()
                raise

    def save(self, *, last: bool) -> None:
        """Writes what is not yet on disk, with `last` also the last run, which is not full. OSError: it stays in memory."""
        with self._lock:
            if last:
                self._unsaved.add(self._open.first)
            if self._unsaved and self._disk.free() > ROOM:
                self._save()

    # -- taking in --

    def _take(self, count: int) -> bool:
        erased: list[str] = []
        start = self.size
        for row in islice(self._reader.rows(start), count):
            if row.index != self.size:  # what stood between has just been archived
                self._let_go()
                break
            self._open.append(row.event, row.header)
            if row.event is not None and row.event["type"] == ERASED:
                erased += row.event["erasure"].get("kids", ())
            if len(self._open) == ROWS:
                self._close_run()
        if erased:
            self.on_erased(erased)
        return self.size > start

    def _begin(self, first: int) -> None:
        """Nothing is known of what comes before."""
        self._places, self._open = [], Columns(first // ROWS * ROWS)
        self._open.skip(first % ROWS)
        self._loaded.clear()
        self._unsaved.clear()

    def _let_go(self) -> None:
        """What was archived leaves the index too."""
        first = self._reader.archived()
        if first <= self._gone_before:
            return
        self._gone_before = first
        if first > self.size:
            self._begin(first)
            return
        left = [place for place in self._places if place.first + ROWS <= first]
        for place in left:
            self._loaded.pop(place.first, None)
        self._places = self._places[len(left) :]
        straddling = self._run(0)
        if straddling is not None and straddling.first < first:
            straddling.leave(first - straddling.first)
            self._unsaved.add(straddling.first)
        self._disk.remove([_name(place.first) for place in left])

    @property
    def _base(self) -> int:
        return self._places[0].first if self._places else self._open.first

    def _close_run(self) -> None:
        full = self._open
        self._places.append(_Place(full.first, *full.span, b""))
        self._unsaved.add(full.first)
        self._remember(full)
        self._open = Columns(full.first + ROWS)

    # -- files --

    def _run(self, number: int, since: int = 0, until: int = 1 << 62) -> Columns | None:
        """A run, by its number; None where no entry of it can be of this time."""
        if number == len(self._places):
            return self._open
        place = self._places[number]
        return self._columns(place) if place.high >= since and place.low < until else None

    def _columns(self, place: _Place) -> Columns:
        found = self._loaded.pop(place.first, None) or self._load(place)
        self._remember(found)
        return found

    def _remember(self, columns: Columns) -> None:
        self._loaded[columns.first] = columns
        old = [first for first in self._loaded if first not in self._unsaved]
        for first in old[: max(0, len(self._loaded) - LOADED)]:
            del self._loaded[first]

    def _load(self, place: _Place) -> Columns:
        try:
            data = self._disk.read(_name(place.first))
            columns = Columns.load(_cipher(place.key).decrypt(data[:NONCE], data[NONCE:], self._label(place.first)))
        except (FileNotFoundError, InvalidTag, FormatError, ValueError) as error:
            LOG.warning("a file of the side index is made anew", file=_name(place.first), cause=type(error).__name__)
            columns = Columns(place.first)
            columns.skip(max(0, self._reader.archived() - place.first))
            for row in islice(self._reader.rows(place.first), ROWS - len(columns)):
                columns.append(row.event, row.header)
            self._unsaved.add(place.first)
        if columns.drop(self._gone(columns.kids)):
            self._unsaved.add(place.first)
        return columns

    def _save(self) -> None:
        """Files first; the manifest, which holds the keys that the former files were under, is overwritten."""
        files, keys = [], dict[int, bytes]()
        changed = [columns for columns in (*self._loaded.values(), self._open) if columns.first in self._unsaved]
        for columns in changed:
            key, nonce = self._random(KEY), self._random(NONCE)
            keys[columns.first] = key
            files.append((_name(columns.first), nonce + _cipher(key).encrypt(nonce, columns.dump(), self._label(columns.first))))
        self._disk.replace(files)
        self._places = [place._replace(key=keys.get(place.first, place.key)) for place in self._places]
        last = [_Place(self._open.first, *self._open.span, keys[self._open.first])] if self._open.first in keys else []
        self._disk.rewrite(MANIFEST, self._sealed_manifest([*self._places, *last]))
        self._unsaved.clear()

    def _discard(self) -> None:
        self._disk.remove([MANIFEST, *(_name(place.first) for place in self._places), _name(self._open.first)])

    def _reopen(self) -> Columns:
        """The last run, if it is not full."""
        if self._places:
            last = self._columns(self._places[-1])
            if len(last) < ROWS:
                del self._loaded[last.first]
                self._places.pop()
                return last
            return Columns(last.first + ROWS)
        return Columns(0)

    def _read_manifest(self) -> list[_Place]:
        try:
            data = self._disk.read(MANIFEST)
            rows = orjson.loads(_cipher(self._purpose_key.reveal()).decrypt(data[:NONCE], data[NONCE:], self._label(MANIFEST)))
            places = [_Place(first, low, high, unb64url(key)) for first, low, high, key in rows]
        except FileNotFoundError:
            return []
        except (InvalidTag, ValueError, TypeError) as error:
            LOG.warning("the side index is made anew", cause=type(error).__name__)
            return []
        whole = [place for number, place in enumerate(places) if place.first == places[0].first + number * ROWS]
        return whole if len(whole) == len(places) else []

    def _sealed_manifest(self, places: list[_Place]) -> bytes:
        nonce, rows = self._random(NONCE), [[*place[:3], b64url(place.key)] for place in places]
        return nonce + _cipher(self._purpose_key.reveal()).encrypt(nonce, orjson.dumps(rows), self._label(MANIFEST))

    def _label(self, of: int | str) -> bytes:
        return b"\0".join((b"sealward index v1", sys.byteorder.encode(), self._reader.log.name.encode(), str(of).encode()))


def discard(disk: Disk) -> None:
    """No side index any more, of a log to which nothing is added: an erasure would have to reach it. OSError."""
    names = disk.names(FOLDER)
    if names:
        disk.rewrite(MANIFEST, b"")
        disk.remove([f"{FOLDER}/{name}" for name in names])


class _Place(NamedTuple):
    """A file: its first entry, the earliest and latest time in it (µs), and its key (none yet: not written)."""

    first: int
    low: int
    high: int
    key: bytes


def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)


def _name(first: int) -> str:
    return f"{FOLDER}/{first:020d}"


LOG = structlog.get_logger()
ERASED = "journal.erased"
FOLDER = "private/index"
MANIFEST = "private/index/manifest"
KEY, NONCE = 32, 12
SLICE = 8_192
LOADED = 128  # runs in memory: four million entries, about 250 MB
ROOM = 256 << 20  # below it, what is left of the disk is for entries
