"""Bytes on real sockets: a request that is sound, the one thing changed in it, and what came back."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Request:
    """An HTTP request. `but` changes it; `raw` is what goes out."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes = b""
    version: bytes = b"HTTP/1.1"

    def but(self, *, body: bytes | None = None, more: Headers = (), **headers: bytes | None) -> Request:
        """Headers by name (`_` is `-`) replaced, removed (None) or added; `more` as further lines; the length stays right."""
        named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        told = b"content-length" in named
        kept = [(name, named.pop(name, value)) for name, value in self.headers]
        added = [*kept, *named.items()]
        lines = tuple((name, value) for name, value in added if value is not None) + more
        if body is not None and not told:
            lines = tuple((name, b"%d" % len(body) if name == b"content-length" else value) for name, value in lines)
        return replace(self, headers=lines, body=self.body if body is None else body)

    def to(self, target: bytes, method: bytes | None = None) -> Request:
        return replace(self, target=target, method=method or self.method)

    @property
    def raw(self) -> bytes:
        head = b"%b %b %b\r\n" % (self.method, self.target, self.version)
        return head + b"".join(b"%b: %b\r\n" % pair for pair in self.headers) + b"\r\n" + self.body


@dataclass(frozen=True)
class Answer:
    """What came back; `status` 0: the connection ended without a byte of an answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    closes: bool = True

    @property
    def json(self) -> Any:
        return json.loads(self.body)


NOTHING = Answer(0)


class Line:
    """One TLS 1.3 connection of a caller. `port` is ours: the journal knows us by it."""

    def __init__(self, port: int, tls: ssl.SSLContext, sni: str | None = "localhost", raw: socket.socket | None = None) -> None:
        raw = raw or socket.create_connection(("127.0.0.1", port), 15)
        raw.settimeout(15)
        self.port: int = raw.getsockname()[1]
        self.sock: ssl.SSLSocket = tls.wrap_socket(raw, server_hostname=sni)

    def send(self, data: bytes) -> None:
        """As much as the other side takes: it may refuse and close in the middle."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.sock.sendall(data)

    def answer(self, method: bytes = b"POST") -> Answer:
        """The next whole answer."""
        return read_answer(self.sock, method)

    def lines(self) -> Iterator[bytes]:
        """The raw bytes that come, until the end; a reset raises."""
        while data := self.sock.recv(1 << 16):
            yield data

    def close(self) -> None:
        self.sock.close()


def read_answer(sock: socket.socket, method: bytes = b"POST") -> Answer:
    """One answer of HTTP, or NOTHING where the connection ends instead. What is cut off in the middle raises."""
    response = http.client.HTTPResponse(sock, method=method.decode("latin-1"))
    try:
        response.begin()
    except (http.client.RemoteDisconnected, ConnectionError, ssl.SSLError):
        return NOTHING
    with response:
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read(), response.will_close)


def client_tls(ca_file: str, verify: bool = True) -> ssl.SSLContext:
    """A caller's TLS. `verify` False: for hellos that name another host, or none."""
    tls = ssl.create_default_context(cafile=ca_file)
    if not verify:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return tls
