"""Ids, ULIDs and times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealward.formats import ids
from sealward.formats.fault import FormatError


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_a_ulid_tells_its_millisecond(ms: int, random: bytes) -> None:
    """26 characters that sort by time."""
    text = ids.ulid(ms * 1000 + 999, random)
    assert ids.ULID.fullmatch(text)
    assert ids.ulid_time_ms(text) == ms


@given(st.integers(0, 253_402_300_799_999_999))
def test_times_go_both_ways(us: int) -> None:
    """Microseconds survive the text form."""
    text = ids.rfc3339(us)
    assert ids.parse_rfc3339(text) == us
    assert ids.hour(text) == text[:13] + ":00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23T09:14:07Z",
        "2026-11-23T09:14:07.104Z",
        "2026-11-23T09:14:07.104512+00:00",
        "2026-13-23T09:14:07.104512Z",
        "2026-02-30T09:14:07.104512Z",
        "2026-11-23T09:14:07.104512Z\n",
        "\u0662026-11-23T09:14:07.104512Z",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    """One spelling, and only moments that exist."""
    with pytest.raises(FormatError):
        ids.parse_rfc3339(text)


@pytest.mark.parametrize("text", ["", "-a", "a b", "a\n", "a" * 129, "é", None, 5])
def test_other_names_are_no_ids(text: object) -> None:
    """The pattern matches the whole string."""
    assert not ids.is_id(text)


def test_an_id_may_hold_an_address() -> None:
    """Letters, digits and `._:@/+-`."""
    assert ids.is_id("sidecar:gpu1/a+b@c.d-e_f")


@pytest.mark.parametrize("text", ["8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01KA7000004EMC8AQHV907E60", "01KA7000004EMC8AQHV907E60U"])
def test_other_ulids_are_refused(text: str) -> None:
    """Too big, too short, a letter outside the alphabet."""
    with pytest.raises(FormatError):
        ids.ulid_time_ms(text)
