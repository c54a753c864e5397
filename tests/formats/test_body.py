"""Captured bodies."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from sealward.formats.b64 import unb64
from sealward.formats.body import PUBLIC_BYTES, Place, body_key, open_body, public_half, public_key, seal_body
from sealward.formats.fault import FormatError
from shared import vector

FILE = vector("contracts", "body.json")
PLACE = Place(FILE["origin"], FILE["kid"], FILE["request"], FILE["side"])
KEY = body_key(bytes.fromhex(FILE["seed"]))


def test_the_body_of_the_vector_opens() -> None:
    """Info, object and reference are those of another implementation."""
    sealed = unb64(FILE["object"])
    assert PLACE.info.hex() == FILE["info"]
    assert open_body(sealed, KEY, PLACE).decode() == FILE["body"]
    assert "sha256:" + hashlib.sha256(sealed).hexdigest() == FILE["ref"]


def test_a_body_opens_only_where_it_belongs() -> None:
    """Other place, key or bytes are refused."""
    sealed = seal_body(b"hello", KEY.public_key(), PLACE)
    assert open_body(sealed, KEY, PLACE) == b"hello"
    for data, key, place in (
        (sealed, KEY, replace(PLACE, side="output")),
        (sealed, KEY, replace(PLACE, request="01KA7000004EMC8AQHV907E60P")),
        (sealed, body_key(bytes(32)), PLACE),
        (sealed[:-1] + b"x", KEY, PLACE),
        (b"", KEY, PLACE),
    ):
        with pytest.raises(FormatError) as refused:
            open_body(data, key, place)
        assert refused.value.reason == "sealed"


def test_the_public_half_travels_as_bytes() -> None:
    """What is sealed to it opens under the seed's pair; other bytes are no key."""
    seed = bytes(range(32))
    half = public_half(seed)
    assert len(half) == PUBLIC_BYTES
    assert open_body(seal_body(b"hello", public_key(half), PLACE), body_key(seed), PLACE) == b"hello"
    for data in (b"", half[1:], half + b"x"):
        with pytest.raises(FormatError) as refused:
            public_key(data)
        assert refused.value.reason == "public"
