"""A witness on the network: `POST /add-checkpoint` and `GET /<hex sha256 of origin>/checkpoint`, one request a connection.

Strangers may ask: only what a log's key signed changes anything. Everything is bounded: connections, bytes, seconds. TLS 1.3,
or plain HTTP where nobody else can listen: loopback and unix sockets.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import signal
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httptools
import structlog

from sealward.errors import ConfigurationError, IntegrityError
from sealward.journal.witness import Answer, Witness
from sealward.process import Start, confine


@dataclass(frozen=True, slots=True)
class Listen:
    """`unix:/path`, or a host and a port; with `certificate` and `key` (PEM files) TLS 1.3."""

    where: str
    certificate: Path | None = None
    key: Path | None = None

    def bind(self) -> socket.socket:
        """The listening socket. ConfigurationError: there is no such place, or it is taken."""
        address = self._address()
        try:
            if address is not None:
                return socket.create_server(address, family=socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
            path = Path(self.where.removeprefix("unix:"))
            if path.is_socket():
                path.unlink()
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
            path.chmod(0o666)  # anybody who may enter its folder may ask, as on a network
            listener.listen()
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {self.where}: {error.strerror or error}") from error
        return listener

    def context(self) -> ssl.SSLContext | None:
        """ConfigurationError: plaintext would cross a network, or the files are not a certificate and its key."""
        if self.certificate is None or self.key is None:
            if (self.certificate, self.key) != (None, None):
                raise ConfigurationError("TLS needs both files", remedy="give --certificate and --key")
            address = self._address()
            if address is not None and not _is_loopback(address[0]):
                remedy = "give --certificate and --key, or listen on 127.0.0.1, [::1] or unix:/path"
                raise ConfigurationError("plain HTTP only on loopback or a unix socket", remedy=remedy)
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"{self.certificate}: no usable certificate and key") from error
        return context

    def _address(self) -> tuple[str, int] | None:
        """None for a unix socket."""
        if self.where.startswith("unix:/"):
            return None
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\s]+)):([0-9]{1,5})", self.where)
        if match is None or int(match[3]) > LAST_PORT:
            raise ConfigurationError(f"{self.where!r} is no place to listen", remedy="write HOST:PORT, [V6]:PORT or unix:/path")
        return match[1] or match[2], int(match[3])


async def serve(witness: Witness, listener: socket.socket, tls: ssl.SSLContext | None, ready: Callable[[], None]) -> None:
    """Until SIGTERM or SIGINT; `ready` is called when it serves."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with await start(witness, listener, tls):
        confine()
        Start("witness", Path()).ready()
        ready()
        await stop.wait()


async def start(witness: Witness, listener: socket.socket, tls: ssl.SSLContext | None) -> asyncio.Server:
    """It answers from here on, in this loop's thread."""
    open_: set[_Connection] = set()
    loop = asyncio.get_running_loop()
    make = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
    timeout = TIMEOUT_S if tls else None
    return await make(lambda: _Connection(witness, open_), sock=listener, ssl=tls, ssl_handshake_timeout=timeout)


class _Connection(asyncio.Protocol):
    """One request, one answer, the end."""

    def __init__(self, witness: Witness, open_: set[_Connection]) -> None:
        self._witness, self._open = witness, open_
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._body, self._read = b"", b"", 0
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)
        self._timer = asyncio.get_running_loop().call_later(TIMEOUT_S, self._transport.abort)
        if len(self._open) > MAX_CONNECTIONS:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._timer.cancel()
        self._open.discard(self)

    def data_received(self, data: bytes) -> None:
        self._read += len(data)
        if self._answered:
            return
        if self._read > MAX_REQUEST:
            self._answer(Answer(413, b"too large\n"))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._answer(Answer(400, b"not HTTP/1.1\n"))

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not self._answered:
            self._answer(self._decide(self._parser.get_method(), self._url))

    def _decide(self, method: bytes, target: bytes) -> Answer:
        folder = LATEST.fullmatch(target)
        try:
            if target == b"/add-checkpoint":
                return self._witness.add_checkpoint(self._body) if method == b"POST" else Answer(405, b"POST only\n")
            if folder is not None:
                return self._witness.latest(folder[1].decode()) if method == b"GET" else Answer(405, b"GET only\n")
        except (IntegrityError, OSError) as error:  # its state is damaged, or a cosignature would not be durable: none leaves
            LOG.error("cannot answer", cause=str(error))  # noqa: TRY400 - its words say it all
            return Answer(500, b"the witness cannot keep its state\n")
        return Answer(404, b"nothing here\n")

    def _answer(self, answer: Answer) -> None:
        self._answered = True
        head = f"HTTP/1.1 {answer.status} {PHRASES[answer.status]}\r\ncontent-type: {answer.content_type}\r\n"
        head += f"content-length: {len(answer.body)}\r\nconnection: close\r\n\r\n"
        self._transport.write(head.encode() + answer.body)
        self._transport.close()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


LOG = structlog.get_logger()
LATEST = re.compile(rb"/([0-9a-f]{64})/checkpoint")
PHRASES = {
    200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 409: "Conflict",
    413: "Content Too Large", 422: "Unprocessable Content", 500: "Internal Server Error",
}  # fmt: skip
MAX_REQUEST = 128 << 10
MAX_CONNECTIONS = 128
TIMEOUT_S = 10.0
LAST_PORT = 65_535
