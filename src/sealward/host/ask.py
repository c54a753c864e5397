"""One question to a process of ours over its unix socket, for the command line. Blocking, with a deadline."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import Any

import orjson

from sealward.errors import UnreachableError
from sealward.formats.fault import FormatError
from sealward.formats.frames import Frames, frame
from sealward.process import socket_address


def ask(path: Path, message: dict[str, Any]) -> dict[str, Any]:
    """The answer to one framed message. UnreachableError when nobody answers in time or with something else."""
    try:
        with _connect(path) as connection:
            connection.sendall(frame(message | {"n": 1}))
            frames = Frames()
            while data := connection.recv(RECEIVE):
                for answer in frames.feed(data):
                    if answer.get("n") == 1:
                        return answer
    except (OSError, FormatError) as error:
        raise _silent(path, error) from error
    raise _silent(path, None)


def get(path: Path, target: str) -> dict[str, Any]:
    """The JSON object that an HTTP server on a unix socket answers. UnreachableError likewise."""
    try:
        with _connect(path) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            response = http.client.HTTPResponse(connection)
            response.begin()
            value = orjson.loads(response.read(MAX_BODY))
    except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as error:
        raise _silent(path, error) from error
    if response.status != http.HTTPStatus.OK or not isinstance(value, dict):
        raise _silent(path, None)
    return value


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(TIMEOUT_S)
    with socket_address(path) as short:
        connection.connect(short)
    return connection


def _silent(path: Path, error: Exception | None) -> UnreachableError:
    why = f": {error.strerror or error}" if isinstance(error, OSError) else ""
    return UnreachableError(f"{path.name.split('.')[0]} does not answer{why}", remedy="`sealward status` shows the processes")


TIMEOUT_S = 5
RECEIVE = 1 << 16
MAX_BODY = 1 << 20
