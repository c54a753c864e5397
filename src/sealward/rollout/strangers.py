"""What somebody reaches who is nobody here: sockets, ports and model servers tried as a user without any right.

Root tries as the user `nobody`. Who is not root tries as himself what others own; of what is his own only the mode can be said.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from sealward.rollout.asking import over_unix
from sealward.rollout.evidence import Evidence, failed, held, left_out


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root is nobody within: also for the kernel's word at the other end of a socket. No threads beside it."""
    if os.geteuid() != 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def try_socket(check: str, path: Path, owner: int | None = None) -> Evidence:
    """A unix socket that only `owner` (and root) may open; None: whose it is, is not known, others may not."""
    try:
        about = path.stat()
    except PermissionError:
        return held(check, f"{path.name}: out of reach of uid {os.geteuid()}")
    except FileNotFoundError:
        return left_out(check, f"{path.name} is not there")
    mode = f"mode {stat.S_IMODE(about.st_mode):04o} of uid {about.st_uid}"
    forbidden = stat.S_IRWXO if owner is None else stat.S_IRWXO | stat.S_IRWXG
    if about.st_mode & forbidden or (owner is not None and about.st_uid != owner):
        return failed(check, f"{path.name}: {mode}, open to more than its one client")
    if os.geteuid() == about.st_uid != 0:
        return held(check, f"{path.name}: {mode}, only he may open it")
    return _knocked(check, path)


def listening(users: Collection[int]) -> dict[int, int]:
    """TCP port → uid, of every listener that one of `users` has opened himself."""
    found = {}
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            local, state, uid = (line.split()[n] for n in (1, 3, 7))
            if state == LISTEN and int(uid) in users:
                found[int(local.rpartition(":")[2], 16)] = int(uid)
    return found


def over_tcp(host: str, port: int) -> socket.socket:
    """A connection as nobody."""
    with as_nobody():
        return socket.create_connection((host, port), TIMEOUT_S)


def _knocked(check: str, path: Path) -> Evidence:
    try:
        with as_nobody():
            over_unix(path)().close()
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM}:
            return held(check, f"{path.name}: closed to a stranger")
        return left_out(check, f"{path.name}: {error.strerror or error}")
    return failed(check, f"{path.name}: a stranger can connect")


NOBODY = 65534
LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
TIMEOUT_S = 5
