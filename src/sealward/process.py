"""One process of ours: what it is given at its start, how it gives up rights, and who is at the other end of a socket.

A process starts with the rights of its supervisor, imports everything, opens what it needs, then calls `Start.drop`:
from there on it is a user of its own, cannot gain rights, dies with its parent and dumps no memory. Listening sockets
come as inherited descriptors by systemd's socket activation (LISTEN_FDS, LISTEN_FDNAMES: sd_listen_fds(3)), readiness
goes out by sd_notify(3), so units and the supervisor start the same programs the same way. (The supervisor cannot number
a child's descriptors from 3 without code between fork and exec: it names their numbers in SEALWARD_FDS.)
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sealward.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class User:
    """Who a process is after the drop."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Start:
    """What the supervisor (or systemd) gives a process. `peers`: client role → uid allowed at that role's socket."""

    role: str
    home: Path
    listeners: Mapping[str, socket.socket] = field(default_factory=dict)
    peers: Mapping[str, int] = field(default_factory=dict)
    user: User | None = None

    def drop(self) -> None:
        """From here on without rights. Order matters: the parent-death signal is cleared by a change of uid."""
        os.umask(0o077)
        if self.user is not None and os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(self.user.gid, self.user.gid, self.user.gid)
            os.setresuid(self.user.uid, self.user.uid, self.user.uid)
        confine()
        die_with_parent(int(os.environ.pop("SEALWARD_SUPERVISOR", os.getppid())))

    def ready(self) -> None:
        """READY=1 to whoever started us (sd_notify)."""
        address = os.environ.get("NOTIFY_SOCKET", "")
        if address:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier, socket_address(Path(address)) as short:
                notifier.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else short)


def confine() -> None:
    """No core, no tracing by others, no rights by a setuid program."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_SET_DUMPABLE, 0)


def die_with_parent(parent: int) -> None:
    """SIGTERM for this process when `parent` ends, also when it ended just now. A fork clears it: workers ask again."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(0)


def inherited() -> dict[str, socket.socket]:
    """The listening sockets this process was started with, by name (sd_listen_fds(3))."""
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    names = [name for name in os.environ.pop("LISTEN_FDNAMES", "").split(":") if name]
    numbers = [int(number) for number in os.environ.pop("SEALWARD_FDS", "").split(",") if number]
    numbers = numbers or list(range(FIRST_INHERITED, FIRST_INHERITED + count))
    if not count == len(names) == len(numbers):
        raise ConfigurationError("LISTEN_FDS and LISTEN_FDNAMES differ", remedy="start the process by `sealward up` or its unit")
    for number in numbers:
        os.set_inheritable(number, False)  # ours alone: a runtime that we start gets no listening socket
    return {name: socket.socket(fileno=number) for name, number in zip(names, numbers, strict=True)}


def peer_uid(connection: socket.socket) -> int:
    """The uid at the other end of a unix socket, as the kernel saw it (SO_PEERCRED)."""
    return int(_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[1])


@contextmanager
def acting_as(user: User) -> Iterator[None]:
    """Where we are root, `user`'s rights only: his folder may hold links that he laid for root to follow."""
    if os.geteuid() != 0 or user.uid == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(user.gid)
    os.seteuid(user.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(os.getgid())
        os.setgroups(groups)


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """An address for `path` that fits into a sockaddr_un (107 bytes) however deep the deployment lies."""
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


FIRST_INHERITED = 3
MAX_SOCKET_PATH = 107
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
_UCRED = struct.Struct("3i")
