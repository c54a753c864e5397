"""One witness as its log sees it: what it holds, and its cosignature on something newer. Blocking, bounded, with deadlines.

Only what the log's own key signed is believed of an answer: a witness can be silent, but it cannot talk a log into stopping.
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 - loaded lazily by the first look-up of a name, when its file may not be readable any more
import http.client
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sealward.errors import ConfigurationError, UnreachableError
from sealward.formats.add_checkpoint import AddCheckpoint
from sealward.formats.fault import FormatError
from sealward.formats.note import Checkpoint, Verifier, open_checkpoint, split_note
from sealward.journal.witness import folder_of
from sealward.process import socket_address
from sealward.settings import Witness


class Conflict(Exception):  # noqa: N818 - an answer: the witness knows another size
    """`size`: what it says it has. Nobody signed that."""

    def __init__(self, size: int) -> None:
        super().__init__(f"it knows {size} entries")
        self.size = size


@dataclass(frozen=True, slots=True)
class WitnessClient:
    """Made by `of`. Every method raises UnreachableError when there is no usable answer within WHOLE_S."""

    name: str
    keys: tuple[Verifier, ...]
    url: str
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, witness: Witness) -> WitnessClient:
        """Reads the CA file, so that it need not be readable later. ConfigurationError."""
        tls = None
        if witness.url.startswith("https:"):
            try:
                tls = ssl.create_default_context(cafile=witness.ca_file)
            except OSError as error:  # an ssl.SSLError is one
                raise ConfigurationError(
                    f"journal.witnesses {witness.name}: {witness.ca_file}: {error.strerror or error}"
                ) from error
            tls.minimum_version = ssl.TLSVersion.TLSv1_3
        return cls(witness.name, witness.keys, witness.url, tls)

    def latest(self, log: Verifier) -> Checkpoint | None:
        """What it holds of this log, signed by the log; None: nothing yet (or it does not tell)."""
        held = self.held(log)
        return held[0] if held is not None else None

    def held(self, log: Verifier) -> tuple[Checkpoint, bytes] | None:
        """The same, with the note."""
        status, body = self._ask("GET", f"/{folder_of(log.name)}/checkpoint", None)
        if status == http.client.NOT_FOUND:
            return None
        try:
            if status != http.client.OK:
                raise FormatError("checkpoint", f"status {status}")  # noqa: TRY301 - one way out for every bad answer
            return open_checkpoint(body, log)[0], body
        except FormatError as error:
            raise UnreachableError(f"{self.name} holds no checkpoint of this log: {error}") from error

    def add(self, old: int, proof: Sequence[bytes], checkpoint: Checkpoint, note: bytes) -> list[str]:
        """The lines of our keys of it on the checkpoint's note, each verified, at least one. Conflict: it knows another size."""
        status, body = self._ask("POST", "/add-checkpoint", AddCheckpoint(old, tuple(proof), note).body)
        if status == http.client.CONFLICT and body.strip().isdigit() and len(body) < MAX_DIGITS:
            raise Conflict(int(body))
        if status != http.client.OK:
            raise UnreachableError(f"{self.name} answers {status}")
        try:
            _, lines = split_note(f"{checkpoint.text}\n".encode() + body)
            ours = {(key.name, key.id): key for key in self.keys}
            found = [
                each.raw for each in lines if (key := ours.get((each.name, each.id))) and key.accepts(checkpoint.text, each.blob)
            ]
        except FormatError as error:
            raise UnreachableError(f"{self.name} answers with something else: {error}") from error
        if not found:
            raise UnreachableError(f"{self.name} did not sign with the key in the settings")
        return found

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        connection = self._connection()
        timer = threading.Timer(WHOLE_S, _cut, [connection])  # a timeout of each read alone can be stretched for ever
        timer.start()
        try:
            connection.request(method, self._prefix + path, body, {"content-type": "text/plain"} if body else {})
            answer = connection.getresponse()
            data = answer.read(MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self.name} does not answer: {error}") from error
        finally:
            timer.cancel()
            connection.close()
        if len(data) > MAX_ANSWER:
            raise UnreachableError(f"{self.name} answers without end")
        return answer.status, data

    @property
    def _prefix(self) -> str:
        return "" if self.url.startswith("unix:") else urlsplit(self.url).path

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return _UnixConnection(Path(parts.path))
        host = parts.hostname or ""
        if self.tls is not None:
            return http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT_S, context=self.tls)
        return http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_S)


def _cut(connection: http.client.HTTPConnection) -> None:
    with contextlib.suppress(OSError, AttributeError):  # it is over already
        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)  # not that of an SSLSocket, which its reader still uses


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        with socket_address(self._path) as address:
            self.sock.connect(address)


TIMEOUT_S, WHOLE_S = 2.0, 5.0
MAX_ANSWER = 256 << 10
MAX_DIGITS = 20
