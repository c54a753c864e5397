"""A file of key rows: one line, a list of rows, is what one sync made durable, so only the last line can be torn.

Rows are named by their `kid`. What is dropped is not in the file any more, and what the file held before is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, TypeVar

import orjson

from sealward.errors import IntegrityError
from sealward.journal.durable import Appender, Disk

T = TypeVar("T")
Row = dict[str, Any]


class RowFile(Generic[T]):
    """`found` is what `opened` made of each row, in order, when the file was read. Damage before the last line raises.

    `opened` raises ValueError for a row that is none. Nothing is written before `start`.
    """

    def __init__(self, disk: Disk, name: str, opened: Callable[[Row], T]) -> None:
        self._disk, self._name = disk, name
        self._rows: dict[str, Row] = {}
        self._file: Appender | None = None
        self.found, self._torn = self._read(opened)

    def start(self) -> None:
        """For writing: a torn line, whose keys nothing was acknowledged under, is gone from the file."""
        self._open(rewrite=self._torn)

    def append(self, rows: Sequence[Row]) -> None:
        """Durable on return. OSError: none of them is; `resume` before the next call."""
        if self._file is None:
            raise IntegrityError("key_store", f"{self._name} was opened for reading")
        self._file.append(_line(rows))
        self._rows |= {row["kid"]: row for row in rows}

    def resume(self) -> None:
        """After a failed `append`: all durable rows into a new file. OSError: still failing."""
        self._open(rewrite=True)

    def drop(self, kids: Collection[str]) -> None:
        """A file without them. OSError: it is as before."""
        left = {kid: row for kid, row in self._rows.items() if kid not in kids}
        self._disk.rewrite(self._name, b"".join([_line([row]) for row in left.values()]))
        self._rows = left
        if self._file is not None:
            self._open(rewrite=False)

    def row(self, kid: str) -> Row | None:
        return self._rows.get(kid)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _open(self, *, rewrite: bool) -> None:
        if rewrite:
            self._disk.replace([(self._name, b"".join([_line([row]) for row in self._rows.values()]))])
        old, self._file = self._file, self._disk.appender(self._name)
        if old is not None:
            old.close()

    def _read(self, opened: Callable[[Row], T]) -> tuple[list[T], bool]:
        found: list[T] = []
        try:
            lines = self._disk.read(self._name).splitlines(keepends=True)
        except FileNotFoundError:
            return found, True
        for number, line in enumerate(lines, 1):
            try:
                rows: list[Row] = orjson.loads(line if line.endswith(b"\n") else b"")
                found += [opened(row) for row in rows]
            except (ValueError, TypeError) as error:
                if number < len(lines):
                    raise IntegrityError("key_store", f"{self._name} is damaged in line {number}", remedy=REMEDY) from error
                return found, True
            self._rows |= {row["kid"]: row for row in rows}
        return found, False


def without(data: bytes, kids: Collection[str]) -> bytes:
    """The bytes of such a file without some rows; a torn line is left out too."""
    kept = []
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            continue
        rows = [row for row in orjson.loads(line) if row["kid"] not in kids]
        if rows:
            kept.append(_line(rows))
    return b"".join(kept)


def _line(rows: Sequence[Row]) -> bytes:
    return orjson.dumps(rows) + b"\n"


REMEDY = "put the newest good copy of private/keys.copies in its place; what was erased since is dropped at the next start"
