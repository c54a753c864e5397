"""Base64 with one spelling for one value."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealward.formats.b64 import b64, b64url, unb64, unb64url
from sealward.formats.fault import FormatError


@given(st.binary())
def test_bytes_go_both_ways(data: bytes) -> None:
    """Both alphabets are inverses."""
    assert unb64(b64(data)) == data
    assert unb64url(b64url(data)) == data
    assert "=" not in b64url(data)


@pytest.mark.parametrize(
    ("read", "text"),
    [(unb64, text) for text in ("AA", "AA=", "AA==\n", "AB==", "A A=", "-_==", "é===", "AA==AA==")]
    + [(unb64url, text) for text in ("A", "AA==", "AB", "A A", "+/", "AA\n", "é")],
)
def test_other_spellings_are_refused(read: Callable[[str], bytes], text: str) -> None:
    """Padding, spare bits, line ends, the other alphabet."""
    with pytest.raises(FormatError):
        read(text)
