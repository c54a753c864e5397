"""Accepts and secures connections so that a refused handshake is seen (knowledge/gateway.md section 7).

`create_server(ssl=…)` tells nobody about a handshake that failed, and `start_tls` on uvloop loses sound connections; this way
0 of 12,000 were lost and every case told apart. The first bytes are only looked at: they say what the client offered.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from sealward.errors import Reason
from sealward.gateway.connection import Connection
from sealward.gateway.exchange import Source
from sealward.gateway.refusals import network
from sealward.gateway.tls import client_certificate, shown_name

if TYPE_CHECKING:
    from sealward.gateway.worker import Worker

RefusedHandshake = Callable[[dict[str, Any], Reason], None]


class Listener:
    """One listening socket of a worker. `refused` is told the source and the reason of each handshake that failed."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, worker: Worker, refused: RefusedHandshake) -> None:
        self._sock, self._context, self._worker, self._refused = sock, context, worker, refused
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._by_network: Counter[str] = Counter()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, round(worker.limits.handshake_s))
        self._loop.add_reader(sock.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more; handshakes under way go on."""
        self._loop.remove_reader(self._sock.fileno())

    def _accept(self) -> None:
        for _ in range(BATCH):
            try:
                connection, peer = self._sock.accept()
            except OSError:  # nothing left, or it went away
                return
            connection.setblocking(False)
            place = network(peer[0])
            limits = self._worker.limits
            full = len(self._handshakes) >= limits.handshakes or self._by_network[place] >= limits.handshakes_per_source
            if full or self._worker.connections >= limits.connections:
                connection.close()
                self._refused(_source(peer, "unknown"), Reason.OVERLOADED)
                continue
            self._by_network[place] += 1
            task = self._loop.create_task(self._secure(connection, peer))
            self._handshakes.add(task)
            task.add_done_callback(partial(self._done, place))

    def _done(self, place: str, task: asyncio.Task[None]) -> None:
        self._handshakes.discard(task)
        self._by_network[place] -= 1
        if not self._by_network[place]:
            del self._by_network[place]

    async def _secure(self, connection: socket.socket, peer: Any) -> None:
        try:
            hello = connection.recv(11, socket.MSG_PEEK)  # 22 = handshake record; 9..10 = the version the hello offers
        except OSError:
            hello = b""
        if hello and hello[0] != HANDSHAKE:
            connection.close()
            self._refused(_source(peer, "none"), Reason.TLS_PLAINTEXT)
            return
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                lambda: _Secured(self._worker, peer),
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._worker.limits.handshake_s,
            )
        except OSError as error:  # SSLError and TimeoutError are OSErrors
            connection.close()
            reason, version = _judged(error, hello)
            self._refused(_source(peer, version), reason)


class _Secured(Connection):
    """A connection whose source is known once its handshake is done."""

    __slots__ = ("_peer",)

    def __init__(self, worker: Worker, peer: Any) -> None:
        super().__init__(worker, _NO_SOURCE)
        self._peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        secured = transport.get_extra_info("ssl_object")
        sni, cipher = shown_name(secured), secured.cipher()
        facts: dict[str, Any] = {"addr": self._peer[0], "port": self._peer[1], "tls_version": "1.3", "tls_cipher": cipher[0]}
        if sni is not None and sni.isascii() and len(sni) <= MAX_NAME:
            facts["sni"] = sni
        certificate = client_certificate(secured)
        self.source = Source(self._peer[0], self._peer[1], sni, certificate, facts, orjson.dumps(facts))
        super().connection_made(transport)


def _source(peer: Any, version: str) -> dict[str, Any]:
    return {"addr": peer[0].partition("%")[0], "port": peer[1], "tls_version": version}


def _judged(error: Exception, hello: bytes) -> tuple[Reason, str]:
    """Why a handshake failed, and the `tls_version` that its event shows."""
    cause = getattr(error, "reason", None) or ""
    if cause in NOT_TLS:
        return Reason.TLS_PLAINTEXT, "none"
    if "CERT" in cause or "UNKNOWN_CA" in cause:
        return Reason.TLS_CERTIFICATE, "1.3"
    if isinstance(error, ssl.SSLError):  # another version, or nothing that 1.3 offers
        return Reason.TLS_VERSION, VERSIONS.get(hello[9:11], "unknown")
    # uvloop's word for its handshake timeout is ConnectionAbortedError; a client that leaves is a ConnectionResetError.
    slow = isinstance(error, (TimeoutError, ConnectionAbortedError))
    return Reason.HTTP_TIMEOUT if slow else Reason.CLIENT_GONE, "unknown"


BATCH, HANDSHAKE, MAX_NAME = 64, 22, 128
NOT_TLS = frozenset({
    "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER", "BAD_RECORD_TYPE", "UNEXPECTED_MESSAGE", "LENGTH_MISMATCH",
    "DECODE_ERROR", "PACKET_LENGTH_TOO_LONG", "RECORD_TOO_SMALL", "UNEXPECTED_RECORD", "BAD_PACKET",
})  # fmt: skip
VERSIONS = {b"\x03\x00": "ssl3", b"\x03\x01": "1.0", b"\x03\x02": "1.1", b"\x03\x03": "1.2"}
_NO_SOURCE = Source("", 0, None, None, {}, b"{}")
