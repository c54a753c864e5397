"""Server-sent events out of arbitrary pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealward.gateway.sse import Events
from shared import shared

TEXT = (
    'data: {"a":"ü"}\n\n: ping\n\ndata: one\ndata: two\r\n\r\ndata:x\r\revent: y\rdata: z\r\n\ndata\n\nid: 1\n\ndata: [DONE]\n\n'
).encode()
FOUND = ['{"a":"ü"}'.encode(), b"one\ntwo", b"x", b"z", b"", b"[DONE]"]


def read(pieces: list[bytes]) -> list[bytes]:
    """All events of these reads."""
    events = Events(1 << 20)
    return [each for piece in pieces for each in events.feed(piece)]


@pytest.mark.parametrize("size", range(1, 65))
def test_any_size_of_pieces_gives_the_same_events(size: int) -> None:
    """LF, CRLF and CR end lines; a code point or a CRLF cut by a read is whole again."""
    assert read([TEXT[at : at + size] for at in range(0, len(TEXT), size)]) == FOUND


@given(st.lists(st.integers(0, len(TEXT)), max_size=12))
def test_any_cuts_give_the_same_events(cuts: list[int]) -> None:
    """Wherever the reads fall, empty ones too."""
    places = sorted([0, *cuts, len(TEXT)])
    assert read([TEXT[a:b] for a, b in itertools.pairwise(places)]) == FOUND


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 16])
def test_the_streams_of_a_real_model_are_read_whole(size: int) -> None:
    """Byte for byte from llama.cpp: every event is JSON or the end."""
    path = shared("vectors", "gateway", "streams", "openai-chat-n2.http")
    if path is None:
        print("LEFT OUT: vectors/gateway/streams is not there")
        return
    _, _, chunked = path.read_bytes().partition(b"\r\n\r\n")
    content = b""
    while chunked:
        length, _, rest = chunked.partition(b"\r\n")
        content, chunked = content + rest[: int(length, 16)], rest[int(length, 16) + 2 :]
    found = read([content[at : at + size] for at in range(0, len(content), size)])
    assert found[-1] == b"[DONE]"
    assert all(each.startswith(b"{") and each.endswith(b"}") for each in found[:-1])
    assert len(found) > 10


def test_an_event_without_an_end_is_bounded() -> None:
    """And known to be unfinished."""
    events = Events(100)
    assert events.feed(b"data: " + b"x" * 80) == []
    assert events.unfinished
    with pytest.raises(ValueError, match="large"):
        events.feed(b"x" * 40)


def test_a_line_without_an_end_is_unfinished() -> None:
    """Only a blank line ends an event."""
    events = Events(100)
    assert events.feed(b"data: x\n") == []
    assert events.unfinished
    assert events.feed(b"\n") == [b"x"]
    assert not events.unfinished
