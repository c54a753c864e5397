"""Copies of the key stores, and what an erasure does to them.

They are apart from ordinary backups, which leave the key stores out: a key that was erased must not come back from a tape. A
copy is made an hour after the last one where a store has changed since, once a day in any case, and is gone after seven days.
So an erased key is nowhere left after seven days, even if somebody took a copy away and keeps it as long; here it is hunted
down at once. Thread-safe.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable

from sealward.formats.fault import FormatError
from sealward.formats.ids import parse_rfc3339, rfc3339
from sealward.journal.durable import Disk
from sealward.journal.rows import without


class KeyCopies:
    """Of the stores named, each a rows.RowFile. `now`: Unix time in µs."""

    def __init__(self, disk: Disk, stores: Iterable[str], now: Callable[[], int]) -> None:
        self._disk, self._stores, self._now = disk, tuple(stores), now
        self._lock = threading.Lock()
        self._due = 0
        self._hunted = self._left()

    def erase(self, kids: Collection[str], drop: Callable[[], None]) -> None:
        """Calls `drop`, which takes rows out of the stores; the next `keep` takes them out of every copy, also after a crash."""
        with self._lock:
            self._hunted |= set(kids)
            self._disk.replace([(HUNTED, "\n".join(sorted(self._hunted)).encode())])
            drop()

    def keep(self) -> None:
        """Hunts down, makes and drops what is due. Cheap when nothing is. OSError: it is tried again with the next call."""
        if not self._hunted and self._now() < self._due:
            return
        with self._lock:
            if self._hunted:
                self._hunt()
            now = self._now()
            for store in self._stores:
                self._keep(store, now)
            self._due = now + CHECK_US

    def _hunt(self) -> None:
        for store in self._stores:
            for name, _ in self._copies(store):
                data = self._disk.read(name)
                left = without(data, self._hunted)
                if left != data:
                    self._disk.rewrite(name, left)
        self._hunted = set()
        self._disk.remove([HUNTED])

    def _keep(self, store: str, now: int) -> None:
        copies = self._copies(store)
        try:
            data = without(self._disk.read(store), ())
        except FileNotFoundError:
            return
        name, made = copies[-1] if copies else ("", now - DAY_US)
        if now - made >= DAY_US or (now - made >= EVERY_US and self._disk.read(name) != data):
            self._disk.replace([(f"{FOLDER}/{rfc3339(now)}.{_base(store)}", data)])
        old = [name for name, made in copies if now - made >= KEPT_US]
        for name in old:
            self._disk.rewrite(name, b"")
        self._disk.remove(old)

    def _copies(self, store: str) -> list[tuple[str, int]]:
        """(name, when it was made), oldest first."""
        found = []
        for name in self._disk.names(FOLDER):
            time, _, base = name.partition("Z.")
            if base == _base(store):
                try:
                    found.append((f"{FOLDER}/{name}", parse_rfc3339(time + "Z")))
                except FormatError:
                    continue  # not one of ours
        return found

    def _left(self) -> set[str]:
        try:
            return set(self._disk.read(HUNTED).decode().split())
        except FileNotFoundError:
            return set()


def _base(store: str) -> str:
    return store.rpartition("/")[2]


FOLDER, HUNTED = "private/keys.copies", "private/keys.hunted"
EVERY_US, DAY_US, KEPT_US = 3_600_000_000, 86_400_000_000, 7 * 86_400_000_000
CHECK_US = 60_000_000
