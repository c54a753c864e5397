"""First and last byte of one caller alone: one connection, one request at a time."""

from __future__ import annotations

import re
import socket
import ssl
import statistics
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import counters
from subject import PATH, Subject, chat


@dataclass(slots=True)
class Times:
    """Microseconds from the last byte sent to the first byte and to the last byte received; CPU of each part meanwhile."""

    first_us: list[float] = field(default_factory=list)
    last_us: list[float] = field(default_factory=list)
    cpu_s: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, float]:
        """Medians, 99th percentiles."""
        first, last = (statistics.quantiles(values, n=100) for values in (self.first_us, self.last_us))
        return {"first_p50": first[49], "first_p99": first[98], "last_p50": last[49], "last_p99": last[98]}

    def cpu_us(self, part: str) -> float:
        """CPU of one part a request. Alone, a part that only computes takes this long: its share of the latency, at least."""
        return self.cpu_s.get(part, 0.0) * 1e6 / len(self.last_us)


def ask(subject: Subject, count: int, times: Times, *, streamed: bool) -> None:
    """`count` requests on one kept connection, added to `times`."""
    request, before = _request(subject, streamed=streamed), counters.cpu_by_part(subject.parts)
    with _connect(subject) as connection:
        for _ in range(count):
            start = time.perf_counter()
            connection.sendall(request)
            data = connection.recv(65536)
            first = time.perf_counter()
            while not _complete(data):
                more = connection.recv(65536)
                if not more:
                    raise SystemExit(f"{subject.name} closed the connection in an answer")
                data += more
            times.last_us.append((time.perf_counter() - start) * 1e6)
            times.first_us.append((first - start) * 1e6)
            if not data.startswith(b"HTTP/1.1 200 "):
                raise SystemExit(f"{subject.name}: {data[:40]!r}")
    after = counters.cpu_by_part(subject.parts)
    for part, seconds in after.items():
        times.cpu_s[part] = times.cpu_s.get(part, 0.0) + seconds - before[part]


def _request(subject: Subject, *, streamed: bool) -> bytes:
    body, url = chat(streamed=streamed), urlsplit(subject.url)
    head = f"POST {PATH} HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: {subject.authorization}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _connect(subject: Subject) -> socket.socket:
    url = urlsplit(subject.url)
    connection = socket.create_connection((url.hostname or "", url.port or 0), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if url.scheme == "http":
        return connection
    return ssl._create_unverified_context().wrap_socket(connection, server_hostname=url.hostname)  # noqa: SLF001 - made for this run


def _complete(data: bytes) -> bool:
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return False
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")
