"""Journals for tests: events of requests, a clock that is told the time, disks in memory and disks that fail."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from sealward.formats.ids import ulid
from sealward.formats.note import LogSigner
from sealward.journal.durable import Appender, Disk, File
from sealward.journal.folds import Fold
from sealward.journal.keys import LogKeys
from sealward.journal.verify import Report, Trust, verify
from sealward.journal.writer import Ack, Draft, Writer
from sealward.keyring.secret import Secret
from shared import VECTORS

Event = dict[str, Any]
ORIGIN = "journal.test/tests"
ED25519, MLDSA44 = Ed25519PrivateKey.from_private_bytes(b"e" * 32), MLDSA44PrivateKey.from_seed_bytes(b"m" * 32)
KEYS = LogKeys(LogSigner(ORIGIN, ED25519, MLDSA44), Secret(b"p" * 32))
TRUST = Trust(KEYS.signer.verifier, KEYS.signer.mldsa_verifier)
VALID: list[Event] = [orjson.loads(line) for line in (VECTORS / "journal/events/valid.jsonl").read_bytes().splitlines()]
_COUNT = itertools.count()


@dataclass
class StepClock:
    """Both clocks stand until they are told to go on."""

    us: int = 1_795_600_000_000_000

    def now(self) -> int:
        return self.us

    def boot(self) -> float:
        return self.us / 1e6

    def step(self, seconds: float) -> None:
        self.us += int(seconds * 1e6)


@dataclass
class MemoryDisk:
    """A journal.durable.Disk that keeps everything. `fail(call, name)` may raise before a call has any effect."""

    files: dict[str, bytes] = field(default_factory=dict)
    fail: Callable[[str, str], None] = lambda call, name: None
    locked: bool = False
    room: int = 1 << 40

    def read(self, name: str) -> bytes:
        if name not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return self.files[name]

    def names(self, folder: str) -> list[str]:
        return sorted({name[len(folder) + 1 :].partition("/")[0] for name in self.files if name.startswith(folder + "/")})

    def replace(self, files: Sequence[File]) -> None:
        for name, data in files:
            self.fail("replace", name)
            self.files[name] = data

    def rewrite(self, name: str, data: bytes) -> None:
        self.replace([(name, data)])

    def appender(self, name: str) -> Appender:
        self.fail("appender", name)
        self.files.setdefault(name, b"")
        return _MemoryAppender(self, name)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self.files.pop(name, None)

    def lock(self) -> None:
        self.locked = True

    def free(self) -> int:
        return self.room

    def close(self) -> None:
        self.locked = False


class _MemoryAppender:
    """`sync` failures leave the bytes in the file, unacknowledged, and break it, as a real one does."""

    def __init__(self, disk: MemoryDisk, name: str) -> None:
        self._disk, self._name, self._broken = disk, name, False
        self.durable = len(disk.files[name])

    def append(self, data: bytes) -> None:
        if self._broken:
            raise OSError(errno.EIO, "broken")
        self._disk.fail("append", self._name)
        self._disk.files[self._name] += data
        try:
            self._disk.fail("sync", self._name)
        except OSError:
            self._broken = True
            raise
        self.durable += len(data)

    def close(self) -> None:
        """Nothing to give back."""


class Counting:
    """A fold: how many events of each type there are, and the last index."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.last = -1

    def apply(self, index: int, event: Event) -> None:
        assert index == self.last + 1
        self.last = index
        self.counts[event["type"]] = self.counts.get(event["type"], 0) + 1

    def dump(self) -> dict[str, Any]:
        return {"counts": self.counts, "last": self.last}

    def erased(self, subject: str) -> None:
        """Nothing here names anybody."""

    def load(self, state: dict[str, Any]) -> None:
        self.counts, self.last = state["counts"], state["last"]


def opened(disk: Disk, clock: StepClock | None = None, folds: Sequence[Fold] = (), seed: int = 0) -> Writer:
    """A writer with known keys and repeatable chance."""
    return Writer.open(disk, KEYS, clock=clock or StepClock(), random=Random(seed).randbytes, folds=folds)


def failing(call: str, error: int, name: str = "") -> Callable[[str, str], None]:
    """A `MemoryDisk.fail` for calls on names that begin so."""

    def fail(called: str, on: str) -> None:
        if called == call and on.startswith(name):
            raise OSError(error, "injected", on)

    return fail


def request_id(us: int = 1_795_600_000_000_000) -> str:
    """Another one each time."""
    return ulid(us, next(_COUNT).to_bytes(10, "big"))


def event(kind: str, **members: Any) -> Event:
    """The first valid event of a type, changed."""
    return next(found for found in VALID if found["type"] == kind) | members


def admitted(request: str, **members: Any) -> Draft:
    """A request begins."""
    return Draft(event("inference.admitted", link={"request": request}, **members))


def completed(request: str, **members: Any) -> Draft:
    """It ends."""
    return Draft(event("inference.completed", link={"request": request}, **members))


def note(**members: Any) -> Draft:
    """An entry that opens and closes nothing."""
    return Draft(event("auth.login", **members))


def acks(writer: Writer, *drafts: Draft) -> list[Ack]:
    """All of them written."""
    found = writer.commit(drafts)
    assert all(isinstance(each, Ack) for each in found), found
    return [each for each in found if isinstance(each, Ack)]


def verified(disk: Disk) -> Report:
    """The public files hold."""
    report = verify(disk, TRUST)
    assert report.ok, report.errors
    return report
