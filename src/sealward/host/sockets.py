"""Listening sockets that the supervisor binds and processes inherit; they outlive a restart, so callers wait instead of failing.

A unix socket belongs to the user of its client, mode 0600, in a folder that only we write: the kernel keeps everybody else away.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from sealward.errors import ConfigurationError
from sealward.process import socket_address
from sealward.settings import Address


def listen_unix(path: Path, uid: int) -> socket.socket:
    """A stream socket at `path` that only `uid` (and root) can connect to."""
    listener = _bound(path, uid, socket.SOCK_STREAM)
    listener.listen(BACKLOG)
    return listener


def notify_socket(path: Path, uid: int) -> socket.socket:
    """A datagram socket that only `uid` can send READY=1 to; reading never waits."""
    notified = _bound(path, uid, socket.SOCK_DGRAM)
    notified.setblocking(False)
    return notified


def listen_tcp(address: Address) -> socket.socket:
    """A TCP listener. ConfigurationError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=TCP_BACKLOG)
    except OSError as error:
        remedy = "stop what listens there, or choose another address in sealward.yaml"
        raise ConfigurationError(f"cannot listen on {address.host}:{address.port}: {error.strerror}", remedy=remedy) from error


def _bound(path: Path, uid: int, kind: socket.SocketKind) -> socket.socket:
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, kind)
    mask = os.umask(0o177)  # between bind and chown it is ours alone
    try:
        with socket_address(path) as short:
            bound.bind(short)
    finally:
        os.umask(mask)
    if os.geteuid() == 0:
        os.chown(path, uid, -1, follow_symlinks=False)
    return bound


BACKLOG = 4096  # a unix socket refuses at once what does not fit, and a door connects once for every stream that begins
TCP_BACKLOG = 1024
