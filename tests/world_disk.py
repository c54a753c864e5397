"""Disks of the simulated world: what a product's call promised is there after a crash, and nothing else is sure to be.

One `Platter` outlives the processes. Each process life writes through a handle of its own, which may crash in the middle of
any call: of an append any blocks are there, of a replacement any of its files, of a removal any part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random


class Crashed(Exception):  # noqa: N818 - what happened, not a fault
    """The process is no more; nothing of it may run on."""


class Platter:
    """Durable files. `crash_rate`: how many of a handle's calls end in a crash. `syncs`: appends really reach the disk."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.files: dict[str, bytes] = {}
        self.removed: dict[str, bytes] = {}
        self.unsynced: dict[str, bytes] = {}
        self.crash_rate = 0.0
        self.syncs = True

    def crash(self) -> None:
        """Power is gone: removals that nobody synced may be undone, appends that nobody synced are lost."""
        for name, data in self.removed.items():
            if name not in self.files and self.random.random() < 0.5:
                self.files[name] = data
        self.files |= self.unsynced
        self.removed, self.unsynced = {}, {}


class Handle:
    """One life of a process on a platter: journal.durable.Disk and, by other names, keyring.disk.Disk."""

    def __init__(self, platter: Platter) -> None:
        self._platter = platter
        self._dead = False

    def read(self, name: str) -> bytes:
        self._alive()
        return self._platter.files[name] if name in self._platter.files else _missing(name)

    def names(self, folder: str) -> list[str]:
        self._alive()
        inside = [name[len(folder) + 1 :] for name in self._platter.files if name.startswith(folder + "/")]
        return sorted({name.partition("/")[0] for name in inside})

    def replace(self, files: Sequence[tuple[str, bytes]]) -> None:
        self._alive()
        if self._crashes():
            for name, data in files:
                if self._platter.random.random() < 0.5:
                    self._put(name, data)
            self._die()
        for name, data in files:
            self._put(name, data)

    def rewrite(self, name: str, data: bytes) -> None:
        self.replace([(name, data)])

    def appender(self, name: str) -> SimAppender:
        self._alive()
        self._platter.files.setdefault(name, b"")
        return SimAppender(self, name)

    def append(self, name: str, data: bytes) -> None:
        """Some blocks of 64 bytes of it when it crashes: blocks of one write arrive in any order."""
        self._alive()
        before = self._platter.files[name]
        if self._crashes():
            random = self._platter.random
            blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
            kept = [block if random.random() < 0.5 else bytes(len(block)) for block in blocks[: random.randint(0, len(blocks))]]
            self._platter.files[name] = before + b"".join(kept if random.random() < 0.7 else blocks)
            self._die()
        if not self._platter.syncs:
            self._platter.unsynced.setdefault(name, before)
        self._platter.files[name] = before + data

    def remove(self, names: Iterable[str]) -> None:
        self._alive()
        for name in names:
            if name in self._platter.files:
                self._platter.removed[name] = self._platter.files.pop(name)
        if self._crashes():
            self._die()

    def lock(self) -> None:
        self._alive()

    def free(self) -> int:
        return 1 << 40

    def close(self) -> None:
        """The life is over; the platter keeps what it has."""

    def end(self) -> None:
        """From now on every call of this life raises Crashed."""
        self._dead = True

    def _put(self, name: str, data: bytes) -> None:
        self._platter.files[name] = data
        self._platter.removed.pop(name, None)
        self._platter.unsynced.pop(name, None)

    def _crashes(self) -> bool:
        return self._platter.random.random() < self._platter.crash_rate

    def _alive(self) -> None:
        if self._dead:
            raise Crashed

    def _die(self) -> None:
        self._dead = True
        raise Crashed


class SimAppender:
    """The end of one file."""

    def __init__(self, handle: Handle, name: str) -> None:
        self._handle, self._name = handle, name
        self.durable = len(handle.read(name))

    def append(self, data: bytes) -> None:
        self._handle.append(self._name, data)
        self.durable += len(data)

    def close(self) -> None:
        """Nothing to give back."""


class SmallDisk:
    """keyring.disk.Disk over a handle."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def read(self, name: str) -> bytes:
        try:
            return self._handle.read(name)
        except FileNotFoundError:
            return b""

    def replace(self, name: str, data: bytes) -> None:
        self._handle.replace([(name, data)])

    def append(self, name: str, data: bytes) -> None:
        self._handle.append(name, data)


def _missing(name: str) -> bytes:
    raise FileNotFoundError(name)


BLOCK = 64
