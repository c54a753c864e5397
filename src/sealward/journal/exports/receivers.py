"""Where an export goes. `take` returns when the receiver has the rows; until then they count as not sent."""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

import orjson
import structlog

from sealward.errors import ConfigurationError, UnreachableError
from sealward.journal.exports.formats import Format, Rows
from sealward.journal.exports.syslog_tls import SyslogTls
from sealward.keyring.secret import Secret


class Receiver(Protocol):
    """Somebody who keeps what he is sent. `gather_s`: how long it is worth waiting for more rows to send at once."""

    gather_s: float

    def take(self, rows: Rows) -> None:
        """UnreachableError: he may have some of them, or none."""

    def close(self) -> None:
        """Nothing more is sent."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How we prove who we are, and whom we believe: `ca` instead of the system's authorities; `headers` of HTTP requests."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    headers: Mapping[str, Secret] = field(default_factory=dict)

    def context(self) -> ssl.SSLContext:
        """TLS 1.3, the receiver's name checked. ConfigurationError."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"the certificates for the receiver: {error}") from error
        return context


def receiver(to: str, form: Format, credentials: Credentials) -> Receiver:
    """`-`, `file:PATH`, `https://…`, `http://` on loopback, `syslog+tls://HOST:PORT`. ConfigurationError for anything else."""
    if to == "-":
        return Lines(form)
    url = urlsplit(to)
    if url.username or url.password or url.query or url.fragment:
        raise ConfigurationError("an address holds no credentials", remedy="put headers into a file: --headers-file")
    if url.scheme == "file" and url.path:
        return File(Path(url.path), form)
    if url.scheme == "https" and url.hostname:
        return Http(url, form, credentials, credentials.context())
    if url.scheme == "http" and is_loopback(url.hostname or ""):
        return Http(url, form, credentials, None)
    if url.scheme == "syslog+tls" and url.hostname:
        if form.message is None:
            raise ConfigurationError("over syslog goes CEF", remedy="--format cef")
        return SyslogTls(url.hostname, url.port or SYSLOG_TLS, form.message, credentials.context())
    raise ConfigurationError(
        f"{to!r} is no receiver", remedy="https://…, http:// on loopback, syslog+tls://HOST:PORT, file:PATH, or -"
    )


def is_loopback(host: str) -> bool:
    """Whether nothing leaves this machine on the way."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Lines:
    """Standard output: whoever reads it has it when it is flushed."""

    gather_s = 0.0

    def __init__(self, form: Format) -> None:
        self._form = form

    def take(self, rows: Rows) -> None:
        sys.stdout.buffer.write(self._form.lines(rows))
        sys.stdout.buffer.flush()

    def close(self) -> None:
        """Others may still write there."""


class File:
    """A file of lines, durable before it counts; half a line that a crash left is cut off."""

    gather_s = 0.1

    def __init__(self, path: Path, form: Format) -> None:
        self._form = form
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        with os.fdopen(os.dup(self._file), "rb") as found:
            size = found.seek(0, os.SEEK_END)
            found.seek(max(0, size - LONGEST))
            rest = found.read()
        os.ftruncate(self._file, size - len(rest) + rest.rfind(b"\n") + 1 if rest else 0)
        os.lseek(self._file, 0, os.SEEK_END)

    def take(self, rows: Rows) -> None:
        view = memoryview(self._form.lines(rows))
        while view:
            view = view[os.write(self._file, view) :]
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)


class Http:
    """POST, one request a batch; any 2xx is a receipt. A redirect is none: rows go where they were told to go."""

    gather_s = 0.1

    def __init__(self, url: SplitResult, form: Format, credentials: Credentials, context: ssl.SSLContext | None) -> None:
        self._url, self._form, self._credentials, self._context = url, form, credentials, context
        self._connection: http.client.HTTPConnection | None = None

    def take(self, rows: Rows) -> None:
        body = self._form.body(rows)
        status = self._post(body, len(rows)) if len(body) <= LARGEST or len(rows) == 1 else TOO_LARGE
        if status == TOO_LARGE and len(rows) > 1:
            self.take(rows[: len(rows) // 2])
            self.take(rows[len(rows) // 2 :])
        elif status // 100 != SUCCESS:
            self.close()
            raise UnreachableError(f"{self._url.hostname} answers {status}")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, body: bytes, count: int) -> int:
        headers = {"content-type": self._form.content_type, "user-agent": "sealward"}
        headers |= {name: secret.reveal().decode() for name, secret in self._credentials.headers.items()}
        try:
            connection = self._connection = self._connection or self._connect()
            connection.request("POST", self._url.path or "/", body, headers)
            with connection.getresponse() as answer:
                said = answer.read(LONGEST)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise UnreachableError(f"{self._url.hostname}: {error or type(error).__name__}") from error
        rejected = _rejected(said)
        if rejected:  # the protocol says: not to be sent again
            LOG.warning("the receiver did not keep records", receiver=self._url.hostname, rejected=rejected, of=count)
        return answer.status

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=self._context)


def _rejected(said: bytes) -> int:
    """`partialSuccess.rejectedLogRecords` of an OTLP answer."""
    try:
        return int(orjson.loads(said)["partialSuccess"]["rejectedLogRecords"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return 0


LOG = structlog.get_logger()
SYSLOG_TLS = 6514  # RFC 5425
SUCCESS, TOO_LARGE = 2, 413
LARGEST = 1 << 20  # of a body; collectors refuse what is over some megabytes
TIMEOUT_S = 30.0
LONGEST = 1 << 20
