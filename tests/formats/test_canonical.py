"""Canonical JSON has one spelling for one value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealward.formats import canonical
from sealward.formats.fault import FormatError

VALUES = st.recursive(
    st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(max_codepoint=126)), inner),
)


@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    """Every value inside the limits has bytes, and they are its only ones."""
    assert canonical.parse(canonical.dumps(value)) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" {}",
        b"{}\n",
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":null}',
        b"[1.0]",
        b"[-0]",
        b"[1e2]",
        b"[9007199254740992]",
        b"[-9007199254740992]",
        b"[18446744073709551616]",
        b'{"\xc3\xa9":1}',
        b'["\\u00e9"]',
        b'["\\/"]',
        b'["\\ud800"]',
        b'["\xff"]',
        b"\xef\xbb\xbf{}",
        b"[01]",
        b"NaN",
        b"[" * 5000 + b"]" * 5000,
        b"[" * 500 + b"]" * 500,
    ],
)
def test_other_spellings_are_refused(data: bytes) -> None:
    """White space, order, duplicates, escapes, floats, null, big integers, depth: FormatError, nothing else."""
    with pytest.raises(FormatError) as refused:
        canonical.parse(data)
    assert refused.value.reason == "malformed"
