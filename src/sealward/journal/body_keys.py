"""Keys of captured bodies, as the recorder keeps them: public halves to seal to, and rows that it cannot open.

    private/bodies.jsonl            {kid, wrapped, public, of}: a row of contracts.md section 2 under the purpose journal-bodies
                                    (only control's reader opens it), base64url of the public key, and the kid of the event key
    private/bodies/MONTH/KID/HEX    a body object, named by its SHA-256

A body key goes with the event key of its subject and month: one erasure, one store, one set of copies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from sealward.formats.b64 import unb64url
from sealward.formats.body import PUBLIC_BYTES
from sealward.formats.fault import FormatError
from sealward.formats.ids import KID
from sealward.journal.durable import Disk
from sealward.journal.rows import RowFile


@dataclass(frozen=True, slots=True)
class BodyKey:
    """`of`: the kid of the event key; `wrapped`: the private half, for the reader; `public`: base64url."""

    kid: str
    of: str
    public: str
    wrapped: str = field(repr=False)

    @classmethod
    def parse(cls, row: Any) -> BodyKey:
        """FormatError("row")."""
        if not isinstance(row, dict) or row.keys() != ROW or not all(isinstance(value, str) for value in row.values()):
            raise FormatError("row", "needs kid, of, public, wrapped")
        if not KID.fullmatch(row["kid"]) or not KID.fullmatch(row["of"]) or len(unb64url(row["public"])) != PUBLIC_BYTES:
            raise FormatError("row", "kid or public key")
        return cls(**row)

    def row(self) -> dict[str, str]:
        return {"kid": self.kid, "of": self.of, "public": self.public, "wrapped": self.wrapped}


class BodyKeys:
    """By the kid of the event key. One thread adds and drops."""

    def __init__(self, disk: Disk) -> None:
        self._file = RowFile(disk, BODY_STORE, BodyKey.parse)
        self._by_event: dict[str, BodyKey] = {found.of: found for found in self._file.found}
        self._by_kid: dict[str, BodyKey] = {found.kid: found for found in self._file.found}
        self._started = False

    def of(self, kid: str) -> BodyKey | None:
        """The body key that goes with an event key."""
        return self._by_event.get(kid)

    def named(self, kid: str) -> BodyKey | None:
        """A body key by its own kid."""
        return self._by_kid.get(kid)

    def add(self, keys: Sequence[BodyKey]) -> None:
        """Durable on return. OSError; then none of them is there. The first one stays where there are two."""
        fresh = {key.of: key for key in keys if key.of not in self._by_event}
        if not fresh:
            return
        if not self._started:
            self._file.start()
            self._started = True
        self._file.append([key.row() for key in fresh.values()])
        self._by_event |= fresh
        self._by_kid |= {key.kid: key for key in fresh.values()}

    def kids_of(self, kids: Collection[str]) -> list[str]:
        """Of the body keys that go with these event keys."""
        return [self._by_event[kid].kid for kid in kids if kid in self._by_event]

    def drop(self, kids: Collection[str]) -> None:
        """Nothing is sealed to them, or given to the reader, any more."""
        gone = set(kids)
        self._by_event = {of: key for of, key in self._by_event.items() if key.kid not in gone and of not in gone}
        self._by_kid = {key.kid: key for key in self._by_event.values()}

    def on_disk(self, kid: str) -> bool:
        return self._file.row(kid) is not None

    def erase(self, kids: Collection[str]) -> None:
        """The store without their rows. OSError."""
        self._file.drop(kids)

    def close(self) -> None:
        self._file.close()


class BodyObjects:
    """Body objects, by the month and kid of the key that they are sealed to, and their digest. Any thread. OSError."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def put(self, month: str, kid: str, data: bytes) -> str:
        """Durable on return: its `ref`."""
        digest = sha256(data).hexdigest()
        self._disk.replace([(f"{BODIES}/{month}/{kid}/{digest}", data)])
        return f"sha256:{digest}"

    def read(self, month: str, kid: str, ref: str) -> bytes:
        """FileNotFoundError."""
        return self._disk.read(f"{BODIES}/{month}/{kid}/{ref.removeprefix('sha256:')}")

    def has(self, month: str, kid: str, ref: str) -> bool:
        return ref.removeprefix("sha256:") in self._disk.names(f"{BODIES}/{month}/{kid}")

    def remove(self, month: str, kid: str, ref: str) -> None:
        self._disk.remove([f"{BODIES}/{month}/{kid}/{ref.removeprefix('sha256:')}"])

    def sweep(self, alive: Callable[[str], bool]) -> None:
        """No object is left of a key that is not `alive`."""
        for month in self._disk.names(BODIES):
            for kid in self._disk.names(f"{BODIES}/{month}"):
                if not alive(kid):
                    folder = f"{BODIES}/{month}/{kid}"
                    self._disk.remove([f"{folder}/{name}" for name in self._disk.names(folder)])


BODY_STORE, BODIES = "private/bodies.jsonl", "private/bodies"
ROW = frozenset({"kid", "of", "public", "wrapped"})
