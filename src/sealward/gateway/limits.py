"""How much of everything a door's worker holds, and for how long. Each bound names what happens beyond it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, counts and seconds of one worker."""

    handshake_s: float = 5.0
    """TLS: then the connection ends, recorded."""
    head_s: float = 10.0
    """First byte of a request to the end of its head: 408 and close."""
    body_s: float = 30.0
    """End of the head to the end of the body: 408 and close."""
    idle_s: float = 75.0
    """Between two requests of one connection: close."""
    unread_s: float = 60.0
    """A client that does not read: its reply is cut."""
    linger_s: float = 2.0
    """How long a refused upload is read and thrown away, so that the answer arrives before the reset."""
    connect_s: float = 2.0
    """To a sidecar or control: `upstream_unavailable`."""
    first_byte_s: float = 300.0
    """From the request to the head of the answer: `upstream_timeout`."""
    between_s: float = 120.0
    """Between two reads of an answer: `upstream_timeout`."""
    admit_s: float = 1.0
    """The recorder's answer: `journal_stalled`."""
    close_s: float = 10.0
    """The recorder's answer to a closing entry, while the last bytes wait: the reply is cut."""
    drain_s: float = 30.0
    """After SIGTERM: what still runs is cut."""

    head_bytes: int = 32 << 10
    """Request line and headers: 431."""
    headers: int = 100
    url_bytes: int = 2 << 10
    """The request target: 414."""
    body_bytes: int = 8 << 20
    """The body: 413."""
    framing_bytes: int = 16 << 10
    """What chunks may cost beyond their content and 32 bytes each (endless extensions): 400."""
    buffered_bytes: int = 256 << 20
    """Bodies held by the worker: `overloaded`."""
    reply_bytes: int = 32 << 20
    """An answer that is not streamed: `upstream_error`."""
    event_bytes: int = 1 << 20
    """One event of a stream: `upstream_error`."""
    write_high: int = 64 << 10
    """Unread by the client: the sidecar is no longer read."""
    connections: int = 10_000
    """Of the worker: the newest is closed."""
    handshakes: int = 2_048
    """Open at once: the newest is closed, recorded as `overloaded`."""
    handshakes_per_source: int = 512
    """Of one /24 or /56."""
    asked: int = 4_096
    """Questions to the recorder without an answer: `overloaded`."""
    unsent: int = 8 << 20
    """Bytes the recorder has not read: questions are `journal_stalled`, events are dropped and counted."""
    pooled: int = 256
    """Idle connections to one upstream: the rest is closed."""
    pool_idle_s: float = 60.0
