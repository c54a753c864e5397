"""The files that spare a start from reading the whole journal: the copy of the state, and one kept apart at the last archiving.

What was archived cannot be read again, so the second one is not overwritten before the next archiving.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from sealward.journal.durable import Disk, File
from sealward.journal.folds import Copy, open_copy, seal_copy
from sealward.keyring.secret import Secret


class StateCopy:
    """`at`: how many entries the copy on disk covers. Thread-safe. `random(n)`: n random bytes."""

    def __init__(self, disk: Disk, origin: str, key: Secret, random: Callable[[int], bytes]) -> None:
        self._disk, self._origin, self._key, self._random = disk, origin, key, random
        self._lock = threading.Lock()
        self._keeps = True
        self.at = 0

    def read(self, kinds: list[str]) -> Copy:
        """The newest that fits folds of these kinds, or any where there are none; else one of the beginning.

        Without folds a copy that has some is not written over: that would cost the next recorder a replay.
        """
        known = Copy()
        for name in (COPY, BASE):
            try:
                copy = open_copy(self._disk.read(name), self._key, self._origin)
            except (FileNotFoundError, ValueError):
                continue
            if not kinds or copy.kinds == kinds:
                self.at, self._keeps = copy.at, bool(kinds) or not copy.kinds
                return copy
            known = Copy(chronicle=copy.chronicle)
        return known

    def write(self, take: Callable[[], Copy]) -> None:
        """What `take` gives, unless it covers what the last one did. OSError."""
        with self._lock:
            copy = take()
            if self._keeps and copy.at != self.at:
                self._disk.replace([(COPY, seal_copy(copy, self._key, self._origin, self._random(12)))])
                self.at = copy.at

    def apart(self) -> list[File]:
        """The file that keeps the present one apart."""
        try:
            return [(BASE, self._disk.read(COPY))]
        except FileNotFoundError:
            return []

    def forget(self) -> None:
        """The end of a lease: nothing is written any more."""
        self._key, self._keeps = Secret(b""), False


COPY, BASE = "private/folds", "private/folds.base"
