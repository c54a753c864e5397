"""The Merkle tree of RFC 6962 over SHA-256: roots, and proofs that an entry is in a tree or a tree extends another.

A hash is 32 bytes. Proofs list the sibling nearest the leaf first. Verifying raises FormatError("inclusion") or
FormatError("consistency"); making a proof that cannot exist is a ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

from sealward.formats.fault import FormatError

Mth = Callable[[int, int], bytes]  # (start, end) → MTH(D[start:end])


def leaf_hash(entry: bytes) -> bytes:
    """Hash of one entry: SHA-256(00 ‖ entry)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(01 ‖ left ‖ right)."""
    return sha256(b"\x01" + left + right).digest()


def subtree_root(hashes: Sequence[bytes]) -> bytes:
    """MTH over leaf hashes: pairs are joined level by level, an odd last one moves up as it is."""
    if not hashes:
        return EMPTY_ROOT
    level = list(hashes)
    while len(level) > 1:
        odd = level[-1:] if len(level) & 1 else []
        level = [sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)] + odd
    return level[0]


def fold(peaks: Sequence[bytes]) -> bytes:
    """Root over the roots of complete subtrees, largest and leftmost first."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def peaks_of(hashes: Sequence[bytes]) -> Iterator[bytes]:
    """Roots of the complete subtrees over up to 255 hashes of one level: one for each set bit of their count."""
    start = 0
    for bit in reversed(range(len(hashes).bit_length())):
        if len(hashes) >> bit & 1:
            yield subtree_root(hashes[start : start + (1 << bit)])
            start += 1 << bit


def inclusion_proof(index: int, size: int, mth: Mth) -> list[bytes]:
    """RFC 6962 2.1.1."""
    if not 0 <= index < size:
        raise ValueError(f"index {index} is not in a tree of {size}")
    start, end, path = 0, size, []
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            path.append(mth(split, end))
            end = split
        else:
            path.append(mth(start, split))
            start = split
    return path[::-1]


def consistency_proof(old: int, new: int, mth: Mth) -> list[bytes]:
    """RFC 6962 2.1.2, for 0 < old <= new."""
    if not 0 < old <= new:
        raise ValueError("a consistency proof needs 0 < old <= new")
    start, end, path, complete = 0, new, [], True
    while old < end:
        split = start + _split(end - start)
        if old <= split:
            path.append(mth(split, end))
            end = split
        else:
            path.append(mth(start, split))
            start, complete = split, False
    return ([] if complete else [mth(start, end)]) + path[::-1]


def root_from_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that `proof` leads to (RFC 9162 2.1.3.2); the caller compares it with the signed one."""
    if not 0 <= index < size or any(len(value) != HASH for value in (leaf, *proof)):
        raise FormatError("inclusion", "index outside the tree, or a hash that is not 32 bytes")
    node, last, root = index, size - 1, leaf
    for step in proof:
        if last == 0:
            raise FormatError("inclusion", "the proof is too long")
        if node & 1 or node == last:
            root = node_hash(step, root)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, step)
        node, last = node >> 1, last >> 1
    if last:
        raise FormatError("inclusion", "the proof is too short")
    return root


def check_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Raises unless the tree of `new` entries extends that of `old` (RFC 9162 2.1.4.2).

    At equal sizes the proof must be empty. A tree of size 0 proves nothing and is refused: who meets a log for the first
    time handles that before asking for a proof.
    """
    path = list(proof)
    if old == new and old > 0:
        sound = not path and old_root == new_root
    elif not 1 <= old < new or any(len(value) != HASH for value in (old_root, new_root, *path)):
        sound = False
    else:
        if old & (old - 1) == 0:  # then the old tree is itself a subtree, and the proof leaves its root out
            path.insert(0, old_root)
        sound = bool(path) and _roots(old, new, path) == (old_root, new_root)
    if not sound:
        raise FormatError("consistency", f"no proof that {new} entries extend {old}")


def _roots(old: int, new: int, path: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old_side = new_side = path[0]
    for step in path[1:]:
        if last == 0:
            return None
        if first & 1 or first == last:
            old_side, new_side = node_hash(step, old_side), node_hash(step, new_side)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            new_side = node_hash(new_side, step)
        first, last = first >> 1, last >> 1
    return (old_side, new_side) if last == 0 else None


def _split(width: int) -> int:
    """The largest power of two below `width`."""
    return 1 << (width - 1).bit_length() - 1


HASH = 32
EMPTY_ROOT = sha256(b"").digest()
