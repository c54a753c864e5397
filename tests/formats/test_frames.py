"""Messages on our sockets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealward.formats.fault import FormatError
from sealward.formats.frames import Frames, frame


@given(st.lists(st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=3), max_size=5), st.integers(1, 7))
def test_messages_survive_any_cut_of_the_stream(messages: list[dict[str, int]], step: int) -> None:
    """A socket may deliver bytes in any portions."""
    stream, frames = b"".join(map(frame, messages)), Frames()
    found = [message for at in range(0, len(stream), step) for message in frames.feed(stream[at : at + step])]
    assert found == messages


@pytest.mark.parametrize("data", [b"\x00\x10\x00\x01", b"\x00\x00\x00\x02[]", b"\x00\x00\x00\x01{", b"\x00\x00\x00\x00"])
def test_what_is_no_message_ends_the_connection(data: bytes) -> None:
    """Over a MiB, not an object, not JSON, empty."""
    with pytest.raises(FormatError):
        Frames().feed(data)
