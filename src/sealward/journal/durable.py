"""Bytes that survive: the few sequences of system calls on which the journal's promise rests.

replace   write temp, fdatasync temp, rename     (each file), then fsync each directory once
rewrite   replace, then zeros and fdatasync over what the name stood for before
append    write, fdatasync                       a failed sync is final for that descriptor: the kernel may have dropped the
                                                 pages and marked them clean, so a second call would lie
mkdir     mkdir, fsync the parent

The descriptor that wrote is the one that syncs: another could miss the error of the write. Everything below
`private/` belongs to one user; the rest is public and readable whatever the umask.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from sealward.errors import IntegrityError

File = tuple[str, bytes]


class Appender(Protocol):
    """The end of one file. `durable` is the length that is known to be on disk."""

    durable: int

    def append(self, data: bytes) -> None:
        """Durable on return. OSError: `data` is not acknowledged.

        After a failed write the file is as before and may be used again; after a failed sync every further call raises too.
        """

    def close(self) -> None:
        """Give the descriptor back."""


class Disk(Protocol):
    """Files below one directory, by names with `/`. A simulated disk promises the same.

    At a crash it forgets

    - of `replace`: any subset of its files (each is whole or absent), and everything after it;
    - of `Appender.append`: any part of the bytes whose call had not returned;
    - of `remove`: any subset.
    """

    def read(self, name: str) -> bytes:
        """Whole content; FileNotFoundError."""

    def names(self, folder: str) -> list[str]:
        """Sorted names in a folder; empty where there is none. Temporary files are not listed."""

    def replace(self, files: Sequence[File]) -> None:
        """Each file is whole or as before; all are durable on return. Folders are made."""

    def rewrite(self, name: str, data: bytes) -> None:
        """`replace`, after which the bytes that the file held before are overwritten."""

    def appender(self, name: str) -> Appender:
        """The end of a file, which is made if it is missing."""

    def remove(self, names: Iterable[str]) -> None:
        """Files that nothing needs any more, and their folder when it is empty; missing ones are fine. Not synced."""

    def lock(self) -> None:
        """This process is the one writer until `close`; IntegrityError("locked") when there is another."""

    def free(self) -> int:
        """Bytes that may still be written."""

    def close(self) -> None:
        """Give up the lock."""


class OsDisk:
    """A directory of the machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = -1
        about = root.stat()
        self._owner = (about.st_uid, about.st_gid) if os.geteuid() == 0 else None  # root leaves no files that lock out their user

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(path.name for path in (self._root / folder).iterdir() if not path.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def replace(self, files: Sequence[File]) -> None:
        for start in range(0, len(files), OPEN_AT_ONCE):
            self._replace_some(files[start : start + OPEN_AT_ONCE])
        for folder in {(self._root / name).parent for name, _ in files}:
            _sync_folder(folder)

    def rewrite(self, name: str, data: bytes) -> None:
        """KNOWN: a disk that copies on write, and flash, keep the old bytes until they need the room."""
        try:
            old = os.open(self._root / name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            self.replace([(name, data)])
            return
        try:
            self.replace([(name, data)])
            _write_all(old, bytes(os.fstat(old).st_size))
            os.fdatasync(old)
        finally:
            os.close(old)

    def appender(self, name: str) -> Appender:
        path = self._root / name
        self._make_folder(path.parent)
        return _OsAppender(path, self._owner)

    def remove(self, names: Iterable[str]) -> None:
        paths = [self._root / name for name in names]
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in paths}:
            with contextlib.suppress(OSError):  # not empty, or gone already
                folder.rmdir()

    def lock(self) -> None:
        self._lock = os.open(self._root / "private" / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE_FILE)
        _give(self._lock, self._owner)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            remedy = "stop the other writer: `sealward up` of this deployment, or another `journal append`"
            raise IntegrityError("locked", "another writer has this journal open", remedy=remedy) from error

    def free(self) -> int:
        about = os.statvfs(self._root)
        return about.f_bavail * about.f_frsize

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _replace_some(self, files: Sequence[File]) -> None:
        """Writing all before syncing any lets the disk gather."""
        written: list[tuple[int, Path, Path]] = []
        try:
            for name, data in files:
                path = self._root / name
                self._make_folder(path.parent)
                temp = path.with_name(f".{path.name}.tmp")
                descriptor = os.open(temp, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
                written.append((descriptor, temp, path))
                _give(descriptor, self._owner)
                os.fchmod(descriptor, PRIVATE_FILE if name.startswith("private/") else PUBLIC_FILE)
                _write_all(descriptor, data)
            for descriptor, temp, path in written:
                os.fdatasync(descriptor)
                temp.rename(path)
        except OSError:
            for _, temp, _ in written:
                temp.unlink(missing_ok=True)  # on a full disk they are the room that is missing
            raise
        finally:
            for descriptor, _, _ in written:
                os.close(descriptor)

    def _make_folder(self, path: Path) -> None:
        if path.is_dir():
            return
        self._make_folder(path.parent)
        path.mkdir(exist_ok=True)
        path.chmod(PRIVATE_FOLDER if path.is_relative_to(self._root / "private") else PUBLIC_FOLDER)
        if self._owner is not None:
            os.chown(path, *self._owner)
        _sync_folder(path.parent)


class _OsAppender:
    def __init__(self, path: Path, owner: tuple[int, int] | None) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE)
        _give(self._descriptor, owner)
        self.durable = os.fstat(self._descriptor).st_size
        self._broken = False
        _sync_folder(path.parent)

    def append(self, data: bytes) -> None:
        if self._broken:
            raise OSError(errno.EIO, "an earlier sync of this file failed")
        try:
            _write_all(self._descriptor, data)
        except OSError:
            self._broken = True  # until the half is gone
            os.ftruncate(self._descriptor, self.durable)
            self._broken = False
            raise
        try:
            os.fdatasync(self._descriptor)
        except OSError:
            self._broken = True
            raise
        self.durable += len(data)

    def close(self) -> None:
        os.close(self._descriptor)


def _give(descriptor: int, owner: tuple[int, int] | None) -> None:
    if owner is not None:
        os.fchown(descriptor, *owner)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


OPEN_AT_ONCE = 128
PRIVATE_FILE, PUBLIC_FILE, PRIVATE_FOLDER, PUBLIC_FOLDER = 0o600, 0o644, 0o700, 0o755
