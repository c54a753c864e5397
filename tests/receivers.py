"""Receivers of exports for tests: syslog over TLS and HTTP, on loopback, that behave well or badly as they are told."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sealward.host import certificates

Reads = Callable[[ssl.SSLSocket], bytes]
INDEX = re.compile(rb"cn1=([0-9]+)")


@dataclass
class Tls:
    """An authority, and a server certificate of it for 127.0.0.1."""

    folder: Path
    ca: Path = field(init=False)
    chain: Path = field(init=False)

    def __post_init__(self) -> None:
        now, ca_key, key = dt.datetime.now(dt.UTC), certificates.new_key(), certificates.new_key()
        authority = certificates.authority(ca_key, "receivers", now)
        self.ca, self.chain = self.folder / "ca.pem", self.folder / "server.pem"
        self.ca.write_bytes(certificates.pem(authority))
        leaf = certificates.server(key, ["127.0.0.1"], authority, ca_key, now)
        self.chain.write_bytes(certificates.pem(leaf) + certificates.key_pem(key))

    def context(self) -> ssl.SSLContext:
        """Of the server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain)
        return context


def whole(connection: ssl.SSLSocket) -> bytes:
    """Reads to the end, and ends."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def reset(after: int) -> Reads:
    """Reads a little, then the connection is reset, as when a machine dies."""

    def read(connection: ssl.SSLSocket) -> bytes:
        got = connection.recv(after)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return got

    return read


def early(after: int) -> Reads:
    """Reads a little and closes in good order, as a program that stops."""
    return lambda connection: connection.recv(after)


@dataclass
class Syslog:
    """One connection after another, each read by the next of `how`, at last by `whole`. `seen`: entries, by connection."""

    port: int
    how: list[Reads]
    seen: list[list[int]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def indices(self) -> list[int]:
        return [index for one in self.seen for index in one]


@contextlib.contextmanager
def syslog(context: ssl.SSLContext, *how: Reads) -> Iterator[Syslog]:
    """A receiver of counted messages."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Syslog(listener.getsockname()[1], list(how))
        thread = threading.Thread(target=_serve, args=(listener, context, found))
        thread.start()
        try:
            yield found
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def messages(data: bytes) -> list[bytes]:
    """The whole messages of a counted stream."""
    found = []
    while match := re.match(rb"([1-9][0-9]*) ", data):
        end = match.end() + int(match[1])
        if len(data) < end:
            break
        found.append(data[match.end() : end])
        data = data[end:]
    return found


def _serve(listener: socket.socket, context: ssl.SSLContext, found: Syslog) -> None:
    while True:
        try:
            raw, _ = listener.accept()
        except OSError:
            return
        read = found.how.pop(0) if found.how else whole
        try:
            with context.wrap_socket(raw, server_side=True) as connection:
                got = read(connection)
            found.seen.append([int(INDEX.search(message)[1]) for message in messages(got)])  # type: ignore[index]
        except OSError as error:
            found.failed.append(str(error))
            raw.close()


@dataclass
class Web:
    """Answers by turns from `answers` (status, body), then 200. `got`: (path, headers, parsed body)."""

    port: int
    answers: list[tuple[int, bytes]]
    got: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)


@contextlib.contextmanager
def web(*answers: tuple[int, bytes], context: ssl.SSLContext | None = None) -> Iterator[Web]:
    """An HTTP receiver."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, said = found.answers.pop(0) if found.answers else (200, b"{}")
            if status // 100 == 2:
                found.got.append((self.path, dict(self.headers), _parsed(body)))
            self.send_response(status)
            self.send_header("content-length", str(len(said)))
            self.send_header("location", "/elsewhere")
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    found = Web(server.server_address[1], list(answers))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _parsed(body: bytes) -> Any:
    lines = body.decode().splitlines()
    return json.loads(body) if len(lines) == 1 and not body.endswith(b"\n") else lines
