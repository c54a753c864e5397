"""Files and folders with their owner and mode, made once and durable; what is there already is checked, never replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sealward.errors import ConfigurationError
from sealward.process import User


def make_folder(path: Path, user: User, mode: int) -> None:
    """`path` is a folder of `user` with `mode`; a symbolic link in its place is refused."""
    path.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        about = os.fstat(descriptor)
        if os.geteuid() == 0 and (about.st_uid, about.st_gid) != (user.uid, user.gid):
            os.fchown(descriptor, user.uid, user.gid)
        if stat.S_IMODE(about.st_mode) != mode:
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def put(path: Path, data: bytes, user: User, mode: int, *, replace: bool = False) -> None:
    """A whole file or none, durable. FileExistsError where it exists and is not to be replaced."""
    if not replace and path.exists():
        raise FileExistsError(path)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        if os.geteuid() == 0:
            os.fchown(descriptor, user.uid, user.gid)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    fresh.rename(path)
    sync_folder(path.parent)


def hand_over(folder: Path, user: User) -> None:
    """Everything in `folder` belongs to `user`: what root made there on the user's behalf, before any process of his runs."""
    if os.geteuid() != 0:
        return
    for where, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            os.chown(Path(where, name), user.uid, user.gid, follow_symlinks=False)
    os.chown(folder, user.uid, user.gid, follow_symlinks=False)


def sync_folder(folder: Path) -> None:
    """The names in `folder` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def traversable(folder: Path) -> bool:
    """Whether any user may pass through `folder` and everything above it."""
    return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.parents))


def must_own(path: Path, user: User) -> None:
    """ConfigurationError unless `path` belongs to `user`: another user started this deployment before."""
    owner = path.stat().st_uid
    if owner != user.uid:
        remedy = f"run sealward as the user who made the deployment, or give {path} to uid {user.uid}"
        raise ConfigurationError(f"{path} belongs to uid {owner}, not to uid {user.uid}", remedy=remedy)
