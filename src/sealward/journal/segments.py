"""Segments: the truth between two checkpoints, as a run of frames, one for each commit batch.

    frame = "SWB1" ‖ u64be first index ‖ u32be payload bytes ‖ u32be crc32(first ‖ bytes ‖ payload) ‖ payload (a bundle)

The batch is the unit of tearing: one checksum over all of it, and the next one is written only when it is durable. So a
bad last batch was never acknowledged, while a bad batch with a good one behind it is damage. (Blocks of one write reach
the disk in any order: with a checksum for each entry, a crash would look like damage.)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

from sealward.errors import IntegrityError
from sealward.formats.fault import FormatError
from sealward.formats.tiles import bundle, unbundle


def needed(starts: Sequence[int], published: int) -> list[int]:
    """The segments that hold what no checkpoint covers, of those that are there (sorted by first index).

    One that a checkpoint covers was dropped, or is about to be; a crash can bring some of them back and not others.
    """
    covered = sum(following <= published for following in starts[1:])
    return list(starts[covered:])


def frame(first: int, entries: Sequence[bytes]) -> bytes:
    """One batch as it is written."""
    payload = bundle(entries)
    place = _PLACE.pack(first, len(payload))
    return b"".join((MAGIC, place, zlib.crc32(payload, zlib.crc32(place)).to_bytes(4, "big"), payload))


def batches(data: bytes, index: int) -> Iterator[tuple[list[bytes], int]]:
    """Entries of each intact batch from `index` on, and the offset behind it; stops at a torn tail.

    IntegrityError("journal_damaged") for a bad batch with a good one behind it, or one of another place.
    """
    at = 0
    while (found := _batch_at(data, at)) is not None:
        first, entries, end = found
        if first != index:
            raise IntegrityError("journal_damaged", f"a batch begins at entry {first}, expected {index}")
        index, at = index + len(entries), end
        yield entries, at
    later = at
    while (later := data.find(MAGIC, later + 1)) >= 0:
        if _batch_at(data, later) is not None:
            raise IntegrityError(
                "journal_damaged", f"batch at entry {index} (byte {at}) is damaged and a good one stands behind it"
            )


def _batch_at(data: bytes, at: int) -> tuple[int, list[bytes], int] | None:
    """(first index, entries, offset behind it) of an intact batch at this offset."""
    start = at + HEAD
    if start > len(data) or data[at : at + len(MAGIC)] != MAGIC:
        return None
    place = data[at + len(MAGIC) : start - 4]
    first, length = _PLACE.unpack(place)
    payload = data[start : start + length]
    if len(payload) != length or zlib.crc32(payload, zlib.crc32(place)) != int.from_bytes(data[start - 4 : start], "big"):
        return None
    try:
        return first, unbundle(payload), start + length
    except FormatError:
        return None


MAGIC = b"SWB1"
_PLACE = struct.Struct(">QI")
HEAD = len(MAGIC) + _PLACE.size + 4
