"""The door's parser beside another one: what llhttp takes for a request, h11 takes for the same request, or the door refuses.

A disagreement between two parsers is how requests are smuggled. llhttp may refuse more; it must never read something else.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

import h11
import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from doors import Clock
from sealward.errors import Refused
from sealward.gateway.connection import Connection
from sealward.gateway.exchange import Exchange, Source
from sealward.gateway.limits import Limits

Read = tuple[str, bytes, tuple[tuple[bytes, bytes], ...], bytes]

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
SEEDS = [
    HEAD + b"content-length: 5\r\n\r\nhello",
    HEAD + b"Content-Length: 0\r\n\r\n",
    HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    HEAD + b"transfer-encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: Chunked\r\n\r\n0a\r\nhellohello\r\n000\r\n\r\n",
    HEAD + b"x-a:  b c\t\r\nx-b:\r\ncontent-length: 1\r\n\r\nx",
    b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
]
ODD = [
    HEAD + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    HEAD + b"content-length: 5, 5\r\n\r\nhello",
    HEAD + b"content-length: +5\r\n\r\nhello",
    HEAD + b"content-length: 0x5\r\n\r\nhello",
    HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    HEAD + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"transfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
    HEAD + b"transfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
    HEAD + b"transfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    HEAD + b"transfer-encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
    HEAD + b" x: y\r\ncontent-length: 0\r\n\r\n",
    HEAD + b"x\r\ncontent-length: 0\r\n\r\n",
    HEAD + b": y\r\ncontent-length: 0\r\n\r\n",
    HEAD + b"x: y\rz: w\r\ncontent-length: 0\r\n\r\n",
    HEAD + b"x: y\ncontent-length: 0\r\n\r\n",
    b"POST  /v1 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
    b"POST /v1\tHTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
    b"POST /v1 HTTP/1.1 \r\nhost: a\r\ncontent-length: 0\r\n\r\n",
    b"POST /v1 HTTP/1.11\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
    b"\r\nPOST /v1 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
]


EDITS = [b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"0", b"5", b"\0", b",", b";", b"\x0b", b"\xff"]


class Quiet:
    """A transport and a ticker in one that do nothing."""

    now = 0.0

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: 0

    def is_closing(self) -> bool:
        return False


class Server(Quiet):
    """Takes what a connection makes of its bytes."""

    def __init__(self) -> None:
        self.limits, self.ticker, self.clock, self.draining, self.buffered = Limits(), Quiet(), Clock(), False, 0
        self.exchanges: list[Exchange] = []

    async def serve(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        if exchange.fault is None:
            with contextlib.suppress(Refused):
                exchange.input = await exchange.body


def by_the_door(data: bytes, size: int) -> Read | None:
    """The first request as the door's connection reads it; None when it is refused or not complete."""
    server = Server()
    connection = Connection(server, Source("1.1.1.1", 1, None, None, {}, b"{}"))  # type: ignore[arg-type]
    connection.connection_made(Quiet())  # type: ignore[arg-type]
    try:
        for at in range(0, len(data), size):
            connection.data_received(data[at : at + size])
    except ValueError:
        pass
    if not server.exchanges:
        return None
    exchange = server.exchanges[0]
    head = exchange.head
    if exchange.fault is not None or not exchange.body.done or head.http != "1.1" or head.doubled or b"host" not in head.headers:
        return None
    if head.headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":  # refused by head.check
        return None
    if exchange.body._error is not None:
        return None
    body = exchange.body._value or b""
    return head.method, head.target, tuple(sorted(head.headers.items())), body


def by_h11(data: bytes) -> Read | None:
    """The same by h11; None when it refuses or wants more."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    parser.receive_data(data)
    try:
        event = parser.next_event()
        if not isinstance(event, h11.Request):
            return None
        body = b""
        while not isinstance(part := parser.next_event(), h11.EndOfMessage):
            if not isinstance(part, h11.Data):
                return None
            body += bytes(part.data)
    except h11.RemoteProtocolError:
        return None
    return event.method.decode(), event.target, tuple(sorted(event.headers)), body


def compare(data: bytes, size: int) -> None:
    """Whatever both take, both read the same way.

    Only the door takes line ends before a request (RFC 9112 section 2.2) and several spaces within its line (section 3);
    both end in the same request, written anew.
    """
    usual = re.sub(rb"^([A-Z]+) +([!-~]+) +", rb"\1 \2 ", re.sub(rb"^[\r\n]+", b"", data))
    ours, theirs = by_the_door(data, size), by_h11(usual)
    if ours is None:
        return
    assert theirs is not None, f"only the door takes {data!r}"
    assert ours[0] == theirs[0]
    assert ours[1] == theirs[1]
    assert ours[3] == theirs[3]
    assert {_field(*each) for each in ours[2]} == {_field(*each) for each in theirs[2]}


def _field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return name, value.strip(b" \t").lower() if name == b"transfer-encoding" else value.strip(b" \t")


@pytest.mark.parametrize("data", SEEDS, ids=range(len(SEEDS)))
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_sound_requests_are_read_alike_in_any_pieces(data: bytes, size: int) -> None:
    """The control: both take them."""
    assert by_the_door(data, size) is not None
    compare(data, size)


@pytest.mark.parametrize("data", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_odd_requests_are_refused_or_read_alike(data: bytes, size: int) -> None:
    """The catalogue of request smuggling (attack 80)."""
    compare(data, size)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.sampled_from(SEEDS + ODD),
    edits=st.lists(
        st.tuples(
            st.integers(0, 400),
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"0", b"5", b"\0", b",", b";", b"\x0b", b"\xff"]),
        ),
        min_size=1,
        max_size=3,
    ),
    insert=st.booleans(),
)
@example(seed=SEEDS[2], edits=[(80, b"\n")], insert=True)
def test_mutated_requests_are_refused_or_read_alike(seed: bytes, edits: list[tuple[int, bytes]], insert: bool) -> None:
    """One to three bytes changed anywhere."""
    data = seed
    for place, new in edits:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + (0 if insert else 1) :]
    compare(data, 1 << 20)


def test_the_upgrade_of_llhttp_is_no_parser_error() -> None:
    """The trap behind two `except`s: CONNECT raises something that is not a kind of HttpParserError."""
    assert not issubclass(httptools.HttpParserUpgrade, httptools.HttpParserError)
