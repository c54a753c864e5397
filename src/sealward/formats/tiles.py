"""The public files of a log, C2SP tlog-tiles: which exist at a size, how they are named, what they hold.

`tile/<L>/<N>[.p/<W>]` holds up to 256 hashes of level L, `tile/entries/<N>[.p/<W>]` as many entries. A full file never
changes; a partial one (W < 256) belongs to a checkpoint and is never hashed upward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sealward.formats.fault import FormatError
from sealward.formats.merkle import HASH, fold, node_hash, peaks_of, subtree_root

Read = Callable[[str], bytes]  # a file below the prefix; FileNotFoundError


def tile_path(level: int | str, n: int, width: int = 256) -> str:
    """Path below the prefix; `level` is 0..63 or "entries"."""
    return f"tile/{level}/{_index_path(n)}" + ("" if width == WIDTH else f".p/{width}")


def tiles_for(size: int) -> Iterator[tuple[int, int, int]]:
    """(level, n, width) of every hash tile of a tree of `size` entries. Bundles: those of level 0."""
    level = 0
    while count := size >> 8 * level:
        for n in range(count >> 8):
            yield level, n, WIDTH
        if count & 255:
            yield level, count >> 8, count & 255
        level += 1


def bundle(entries: Sequence[bytes]) -> bytes:
    """u16be length ‖ entry, for each; ValueError for an entry over 65,535 bytes."""
    try:
        return b"".join([part for entry in entries for part in (len(entry).to_bytes(2, "big"), entry)])
    except OverflowError as error:
        raise ValueError("an entry is longer than 65,535 bytes") from error


def unbundle(data: bytes, count: int | None = None) -> list[bytes]:
    """The entries of a bundle, exactly `count` where given; FormatError("bundle") for bytes missing or left over."""
    entries: list[bytes] = []
    at = 0
    while at < len(data) if count is None else len(entries) < count:
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        if start > len(data) or at > len(data):
            raise FormatError("bundle", "is short")
        entries.append(data[start:at])
    if at != len(data):
        raise FormatError("bundle", "has trailing bytes")
    return entries


@dataclass(frozen=True, slots=True)
class Publication:
    """A tree as it is made public: its size and root, and the files that settled publications did not have.

    The first `full` files are complete ones, which never change; the others belong to this size.
    """

    size: int
    root: bytes
    files: tuple[tuple[str, bytes], ...]
    full: int


class Edge:
    """The right edge of the tree: takes entries, gives the files that became due. Owned by one thread at a time."""

    def __init__(self) -> None:
        self.size = 0
        self._entries: list[bytes] = []
        self._levels: list[list[bytes]] = [[]]
        self._due: list[tuple[str, list[bytes]]] = []  # full files, not yet public

    def append(self, entry: bytes, leaf: bytes) -> None:
        self._entries.append(entry)
        self.size += 1
        self._push(0, leaf)
        if len(self._entries) == WIDTH:
            self._due.append((tile_path("entries", (self.size >> 8) - 1), self._entries))
            self._entries = []

    def root(self) -> bytes:
        """Root of the tree as it stands."""
        return fold([peak for tile in reversed(self._levels) for peak in peaks_of(tile)])

    def take(self) -> Callable[[], Publication]:
        """What is to be published now. Taking is quick; the call that makes the bytes may run elsewhere."""
        full = len(self._due)
        due = self._due + [
            (tile_path(level, self.size >> 8 * (level + 1), len(tile)), list(tile))
            for level, tile in enumerate(self._levels)
            if tile
        ]
        if self._entries:
            due.append((tile_path("entries", self.size >> 8, len(self._entries)), list(self._entries)))
        size, levels = self.size, [list(tile) for tile in reversed(self._levels)]

        def make() -> Publication:
            root = fold([peak for tile in levels for peak in peaks_of(tile)])
            files = tuple((name, bundle(parts) if name.startswith("tile/entries/") else b"".join(parts)) for name, parts in due)
            return Publication(size, root, files, full)

        return make

    def settle(self, made: Publication) -> None:
        """What was taken is public."""
        del self._due[: made.full]

    def forget(self) -> None:
        """Everything so far is public already."""
        self._due = []

    @classmethod
    def restore(cls, size: int, published: int, read: Read) -> Edge:
        """The edge at `size`, out of the files of a checkpoint of `published` >= `size` entries.

        The caller must compare a root with a signed one before it believes the result.
        """
        edge = cls()
        edge.size = size
        level = 0
        while count := size >> 8 * level:
            held = count & 255
            tile = read_tile(read, level, count >> 8, published >> 8 * level) if held else b""
            if len(tile) < held * HASH:
                raise FormatError("bundle", "a tile is short")
            edge._levels[level:] = [[tile[at : at + HASH] for at in range(0, held * HASH, HASH)]]
            level += 1
        if size & 255:
            edge._entries = unbundle(read_tile(read, "entries", size >> 8, published))[: size & 255]
            if len(edge._entries) != size & 255:
                raise FormatError("bundle", "is short")
        return edge

    def _push(self, level: int, value: bytes) -> None:
        if level == len(self._levels):
            self._levels.append([])
        tile = self._levels[level]
        tile.append(value)
        if len(tile) == WIDTH:
            self._due.append((tile_path(level, (self.size >> 8 * (level + 1)) - 1), tile))
            self._levels[level] = []
            self._push(level + 1, subtree_root(tile))


class TileTree:
    """Roots of any part of a published tree of `size` entries, out of its tiles; FormatError("bundle") for a short one."""

    def __init__(self, size: int, read: Read) -> None:
        self._size, self._read = size, read

    def mth(self, start: int, end: int) -> bytes:
        """MTH(D[start:end]) for what proofs are made of: a complete subtree, or the tree's right end."""
        width = end - start
        if width & (width - 1) or start % width:
            split = start + (1 << (width - 1).bit_length() - 1)
            return node_hash(self.mth(start, split), self.mth(split, end))
        level = (width.bit_length() - 1) // 8
        first, count = start >> 8 * level, width >> 8 * level
        tile = read_tile(self._read, level, first >> 8, self._size >> 8 * level)
        at = (first & 255) * HASH
        if len(tile) < at + count * HASH:
            raise FormatError("bundle", "a tile is short")
        return subtree_root([tile[i : i + HASH] for i in range(at, at + count * HASH, HASH)])


def read_tile(read: Read, level: int | str, n: int, count: int) -> bytes:
    """Tile `n` of a level of `count` hashes, at least what belongs to them; FileNotFoundError.

    A partial file may have been replaced by the full one since its checkpoint.
    """
    width = min(WIDTH, count - n * WIDTH)
    try:
        return read(tile_path(level, n, width))
    except FileNotFoundError:
        if width == WIDTH:
            raise
        return read(tile_path(level, n))


def _index_path(n: int) -> str:
    """1234067 → x001/x234/067."""
    path = f"{n % 1000:03d}"
    while n >= 1000:  # noqa: PLR2004 - groups of three digits
        n //= 1000
        path = f"x{n % 1000:03d}/{path}"
    return path


WIDTH = 256
