"""The few files of a process whose state is small: each is read whole, replaced whole, or grows at its end; durable on return."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """Named files. After an OSError nothing is known about the file: its process ends and starts from what is there."""

    def read(self, name: str) -> bytes:
        """All of it; empty when there is none."""

    def replace(self, name: str, data: bytes) -> None:
        """Afterwards the file is `data`; after a crash within, it is `data` or what it was."""

    def append(self, name: str, data: bytes) -> None:
        """Afterwards the file ends with `data`; after a crash within, with any part of its blocks."""


class Folder:
    """A folder of one user."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, name: str) -> bytes:
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return b""

    def replace(self, name: str, data: bytes) -> None:
        """Write beside it, fdatasync, rename, fsync the folder."""
        temporary = self._path / f".{name}.new"
        self._write(temporary, os.O_CREAT | os.O_TRUNC, data)
        temporary.rename(self._path / name)
        folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def append(self, name: str, data: bytes) -> None:
        """Write, fdatasync. The file is there: `replace` made it."""
        self._write(self._path / name, os.O_APPEND, data)

    @staticmethod
    def _write(path: Path, flags: int, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
