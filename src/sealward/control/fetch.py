"""Documents of token issuers over https: bounded in bytes and time, no redirect followed, nothing sent but the request.

Blocking: to be run in a thread. What a library says about a failure is kept for the log; nobody outside reads it.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - loaded lazily otherwise, when its files can no longer be read
import http.client
import ssl
import time
from urllib.parse import urlsplit

from sealward.errors import UnreachableError


def fetch(url: str, context: ssl.SSLContext, within_s: float = 5.0) -> bytes:
    """The JSON document at `url`. UnreachableError for any other answer, or none in time."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise UnreachableError("not an https address")
    end = time.monotonic() + within_s
    connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=within_s, context=context)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"accept": ", ".join(TYPES)})
        answer = connection.getresponse()
        media = answer.getheader("content-type", "").partition(";")[0].strip().lower()
        if answer.status != OK or media not in TYPES:
            raise UnreachableError(f"status {answer.status}, {media[:64]!r}")
        return _read(answer, end)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnreachableError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()


def _read(answer: http.client.HTTPResponse, end: float) -> bytes:
    data = bytearray()
    while piece := answer.read1(1 << 14):
        data += piece
        if len(data) > MAX_DOCUMENT:
            raise UnreachableError("over 64 KiB")
        if time.monotonic() > end:
            raise UnreachableError("too slow")
    return bytes(data)


OK = 200
MAX_DOCUMENT = 64 << 10
TYPES = ("application/json", "application/jwk-set+json")
