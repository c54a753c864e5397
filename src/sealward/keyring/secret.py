"""Key bytes as a type that does not print, and the files they lie in.

A key file holds one line: the bytes in base64url. It is made once, readable by one user, and never written again.
KNOWN: Python cannot promise that a key leaves memory when it is dropped; processes dump no core and are not traced instead.
"""

from __future__ import annotations

import hmac
import os
import stat
from pathlib import Path
from typing import NoReturn

from sealward.errors import ConfigurationError
from sealward.formats.b64 import b64url, unb64url
from sealward.formats.fault import FormatError
from sealward.process import User


class Secret:
    """Bytes that no log, traceback, f-string, JSON encoder or pickle shows. `reveal` stands where they are used."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return SHOWN

    def __format__(self, spec: str) -> str:
        return SHOWN

    def __eq__(self, other: object) -> bool:
        """In constant time."""
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a hash of a key is a fingerprint of it

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not serialised")


def read_key(path: Path) -> Secret:
    """The key in `path`. ConfigurationError where it is missing, not ours alone (0400 or 0600), or not a key file.

    Root reads the files of other users: it starts processes that drop their rights later.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}", remedy="`sealward init` makes all keys") from error
    try:
        _check_ours(path, os.fstat(descriptor))
        text = os.read(descriptor, MAX_FILE)
    finally:
        os.close(descriptor)
    try:
        return Secret(unb64url(text.decode("ascii").removesuffix("\n")))
    except (FormatError, UnicodeDecodeError):
        raise ConfigurationError(f"{path} is not a key file", remedy="restore it from a backup") from None


def write_key(path: Path, key: Secret, user: User | None = None) -> None:
    """Makes `path`, durable, mode 0400, of `user` (default: ours). FileExistsError: a key is never replaced."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o400)  # whatever the umask
        if user is not None:
            os.fchown(descriptor, user.uid, user.gid)
        file.write(b64url(key.reveal()).encode() + b"\n")
        file.flush()
        os.fsync(descriptor)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_ours(path: Path, about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise ConfigurationError(f"{path} is not a file")
    if stat.S_IMODE(about.st_mode) not in {0o400, 0o600}:
        raise ConfigurationError(f"{path} may be read by others", remedy=f"chmod 0400 {path}")
    if os.geteuid() not in {0, about.st_uid}:
        raise ConfigurationError(f"{path} belongs to another user", remedy=f"chown {os.geteuid()} {path}")


SHOWN = "<secret>"
MAX_FILE = 1 << 16
