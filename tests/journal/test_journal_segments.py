"""Frames: a batch is whole, torn, or damage."""

from __future__ import annotations

import pytest

from sealward.errors import IntegrityError
from sealward.journal.segments import HEAD, batches, frame, needed

ONE, TWO, THREE = frame(0, [b"a", b"bc"]), frame(2, [b""]), frame(3, [bytes(40_000)])
DATA = ONE + TWO + THREE


def test_batches_come_back() -> None:
    """Entries in order, with the offset behind each batch."""
    found = list(batches(DATA, 0))
    assert [entries for entries, _ in found] == [[b"a", b"bc"], [b""], [bytes(40_000)]]
    assert [end for _, end in found] == [len(ONE), len(ONE + TWO), len(DATA)]


@pytest.mark.parametrize("cut", [1, 3, HEAD - 1, HEAD, HEAD + 1, len(THREE) - 1])
def test_a_torn_tail_is_dropped(cut: int) -> None:
    """Cut anywhere, or with blocks missing inside: the batches before it stand."""
    assert list(batches(ONE + TWO + THREE[:cut], 0))[-1] == ([b""], len(ONE + TWO))
    holed = THREE[:cut] + bytes(1) + THREE[cut + 1 :] if THREE[cut] else THREE[:cut] + b"\1" + THREE[cut + 1 :]
    assert len(list(batches(ONE + TWO + holed, 0))) == 2


@pytest.mark.parametrize("at", range(len(ONE)))
def test_damage_with_a_good_batch_behind_it_is_told(at: int) -> None:
    """Any byte of it: what was acknowledged later proves that this was too."""
    data = bytearray(DATA)
    data[at] ^= 1
    with pytest.raises(IntegrityError) as refused:
        list(batches(bytes(data), 0))
    assert refused.value.code == "journal_damaged"


def test_a_batch_belongs_to_its_place() -> None:
    """One that is missing, twice, or of another segment is damage."""
    for data, index in ((ONE + THREE, 0), (ONE + ONE, 0), (TWO, 0)):
        with pytest.raises(IntegrityError):
            list(batches(data, index))


def test_covered_segments_are_not_needed() -> None:
    """Some of them may come back after a crash, with gaps between."""
    assert needed([0, 10, 20], 0) == [0, 10, 20]
    assert needed([0, 10, 20], 9) == [0, 10, 20]
    assert needed([0, 10, 20], 10) == [10, 20]
    assert needed([0, 20], 25) == [20]
    assert needed([7], 100) == [7]
