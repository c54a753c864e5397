"""One caller of one server, by HTTP over a connection that is kept: what checks ask with."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from sealward.errors import UnreachableError
from sealward.keyring.secret import Secret
from sealward.process import socket_address

Question = tuple[str, str, bytes | None, Mapping[str, str]]  # method, path, body, headers
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """`request`: the id that the server gave it; `value`: its JSON, or None where it is none."""

    status: int
    request: str
    value: Any = None

    @property
    def ok(self) -> bool:
        return self.status < HTTPStatus.BAD_REQUEST


class Caller:
    """Asks one question after another, by `credential` or as nobody. Close it.

    A key that was made a moment ago is not known to every worker yet: for `patience_s` whoever is refused as unknown asks again.
    """

    def __init__(
        self, connect: Callable[[], socket.socket], host: str, credential: Secret | None = None, patience_s: float = 0
    ) -> None:
        self._connect, self._host, self._credential = connect, host, credential
        self._connection: http.client.HTTPConnection | None = None
        self._new_until = time.monotonic() + patience_s

    def ask(self, method: str, path: str, body: Any = None, media: str = JSON) -> Answer:
        """`body` is sent as JSON, whatever `media` says of it. UnreachableError: no answer."""
        data = None if method in BODYLESS else json.dumps({} if body is None else body).encode()
        headers = {} if data is None else {"content-type": media}
        if self._credential is not None:
            headers["authorization"] = f"Bearer {self._credential.reveal().decode()}"
        answer = self._asked((method, path, data, headers))
        while answer.status == HTTPStatus.UNAUTHORIZED and time.monotonic() < self._new_until:
            time.sleep(PAUSE_S)
            answer = self._asked((method, path, data, headers))
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _asked(self, question: Question) -> Answer:
        """What a server had closed meanwhile is opened again, once."""
        if self._connection is not None:
            try:
                return self._answered(self._connection, question)
            except (OSError, http.client.HTTPException):
                self.close()
        try:
            fresh = self._connection = http.client.HTTPConnection(self._host)
            fresh.auto_open = 0  # never to a port of its own choice
            fresh.sock = self._connect()
            return self._answered(fresh, question)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            where = f"{question[0]} {question[1]}"
            raise UnreachableError(f"{where}: {error or type(error).__name__}", remedy="sealward status") from error

    def _answered(self, connection: http.client.HTTPConnection, question: Question) -> Answer:
        connection.request(*question)
        answer = connection.getresponse()
        content = answer.read(MOST)
        if answer.will_close or not answer.isclosed():
            self.close()
        return Answer(answer.status, answer.headers.get("x-sealward-request", ""), _json(content))


def over_unix(path: Path) -> Callable[[], socket.socket]:
    """Connects to a unix socket."""

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT_S)
        try:
            with socket_address(path) as address:
                connection.connect(address)
        except OSError:
            connection.close()
            raise
        return connection

    return connect


def over_tls(address: tuple[str, int], name: str, context: ssl.SSLContext) -> Callable[[], socket.socket]:
    """Connects to `address`, where a server must prove to be `name`."""

    def connect() -> socket.socket:
        raw = socket.create_connection(address, TIMEOUT_S)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return context.wrap_socket(raw, server_hostname=name)
        except OSError:
            raw.close()
            raise

    return connect


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


BODYLESS = frozenset({"GET", "DELETE"})
MOST = 1 << 20
TIMEOUT_S = 30
PAUSE_S = 0.02
