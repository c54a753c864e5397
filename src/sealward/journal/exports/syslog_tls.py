"""Syslog over TLS 1.3 (RFC 5425), whose messages nobody acknowledges: only a connection that ended well was read to its end.

So a batch is a connection. We send it, say that we have ended, and read until the receiver ends too. His kernel answers with a
reset instead when his program closed what it had not read; bytes that are not acknowledged when he ends never reached him.
Then the whole batch is sent again: at least once.
"""

from __future__ import annotations

import fcntl
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable

from sealward.errors import UnreachableError
from sealward.journal.exports.formats import Rows


class SyslogTls:
    """A receiver of counted messages."""

    gather_s = 1.0  # a connection a second is enough

    def __init__(self, host: str, port: int, message: Callable[[Rows], bytes], context: ssl.SSLContext) -> None:
        self._host, self._port, self._message, self._context = host, port, message, context

    def take(self, rows: Rows) -> None:
        """UnreachableError: the connection did not end well."""
        data = self._message(rows)
        if not data:
            return
        try:
            with socket.create_connection((self._host, self._port), TIMEOUT_S) as connection:
                _Session(connection, self._context, self._host).deliver(data)
        except OSError as error:
            raise UnreachableError(f"{self._host}:{self._port}: {error or type(error).__name__}") from error

    def close(self) -> None:
        """Each batch ended its own connection."""


class _Session:
    """TLS over a socket that we end by halves, which ssl.SSLSocket does not let us. OSError (ssl.SSLError is one)."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._connection = connection
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)

    def deliver(self, data: bytes) -> None:
        while self._wants(self._tls.do_handshake):
            self._receive()
        for start in range(0, len(data), PART):
            self._tls.write(data[start : start + PART])
            self._flush()
        self._wants(self._tls.unwrap)  # our close_notify
        self._connection.shutdown(socket.SHUT_WR)
        while received := self._connection.recv(PART):
            self._in.write(received)
        self._check_acknowledged()
        self._check_last_words()

    def _check_acknowledged(self) -> None:
        """Our own end may still be on its way."""
        until = time.monotonic() + ACKNOWLEDGED_S
        while struct.unpack("i", fcntl.ioctl(self._connection, termios.TIOCOUTQ, bytes(4)))[0]:
            if time.monotonic() > until or self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise ConnectionResetError("it ended before it had everything")
            time.sleep(0.001)

    def _check_last_words(self) -> None:
        """A fatal alert, such as for our certificate, may come as late as this."""
        self._in.write_eof()
        try:
            while self._tls.read(PART):
                continue
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError, ssl.SSLSyscallError):
            return  # that he ends his side of TLS too is more than many do

    def _wants(self, step: Callable[[], object]) -> bool:
        """Whether a step waits for bytes; what it has to say is sent in any case."""
        try:
            step()
        except ssl.SSLWantReadError:
            return True
        finally:
            self._flush()
        return False

    def _receive(self) -> None:
        received = self._connection.recv(PART)
        if not received:
            raise ConnectionResetError("it ended during the handshake")
        self._in.write(received)

    def _flush(self) -> None:
        if self._out.pending:
            self._connection.sendall(self._out.read())


TIMEOUT_S, ACKNOWLEDGED_S = 30.0, 5.0
PART = 1 << 16
