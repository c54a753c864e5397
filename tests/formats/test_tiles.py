"""Tiles and bundles, against a log that golang.org/x/mod made."""

from __future__ import annotations

import hashlib

import pytest

from sealward.formats import merkle, tiles
from sealward.formats.b64 import b64
from sealward.formats.fault import FormatError
from shared import VECTORS, vector

LOG300 = VECTORS / "journal" / "log300"
PUBLISHED = (0, 1, 2, 3, 7, 8, 255, 256, 257, 300)


def _entry(index: int) -> bytes:
    return b'{"seq":%d,"event":"test"}' % index


def _publish(edge: tiles.Edge, files: dict[str, bytes]) -> tiles.Publication:
    made = edge.take()()
    files |= made.files
    return made


def test_our_files_of_300_entries_are_those_of_other_tools() -> None:
    """Every tile, bundle and partial one of every published size, byte for byte; and no other file."""
    edge, files = tiles.Edge(), dict[str, bytes]()
    for index in range(300):
        edge.append(_entry(index), merkle.leaf_hash(_entry(index)))
        if edge.size in PUBLISHED:
            made = _publish(edge, files)
            assert made.root == edge.root()
            assert b64(made.root) == (LOG300 / "checkpoints" / str(edge.size)).read_text().split("\n")[2]
    theirs = {
        str(path.relative_to(LOG300)): path.read_bytes() for path in LOG300.rglob("*") if path.is_file() and "tile" in path.parts
    }
    assert files == theirs


def test_the_specifications_own_example_size() -> None:
    """70,000 entries: 277 tiles with known hashes, and the root."""
    known, edge, files = vector("journal", "tiles70000.json"), tiles.Edge(), dict[str, bytes]()
    for index in range(70_000):
        edge.append(_entry(index), merkle.leaf_hash(_entry(index)))
    made = _publish(edge, files)
    mine = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if "entries" not in name}
    assert mine == known["tile_sha256"]
    assert {tiles.tile_path(*tile) for tile in tiles.tiles_for(70_000)} == set(mine)
    assert b64(made.root) == known["root"]


@pytest.mark.parametrize("published", PUBLISHED)
def test_an_edge_comes_back_from_the_files(published: int) -> None:
    """At every size up to a checkpoint; and it goes on as if it had never stopped."""
    everything, whole = dict[str, bytes](), tiles.Edge()
    for index in range(published):
        whole.append(_entry(index), merkle.leaf_hash(_entry(index)))
    _publish(whole, everything)
    for size in {published, published // 2, published & ~255, max(published - 1, 0)}:
        edge = tiles.Edge.restore(size, published, everything.__getitem__)
        for index in range(size, published):
            edge.append(_entry(index), merkle.leaf_hash(_entry(index)))
        assert edge.root() == whole.root()
        again = dict[str, bytes]()
        _publish(edge, again)
        assert again.items() <= everything.items()


def test_an_edge_is_not_made_of_short_files() -> None:
    """A cut tile or bundle is refused, not guessed."""
    with pytest.raises(FormatError):
        tiles.Edge.restore(3, 3, lambda name: b"" if "entries" in name else bytes(95))
    with pytest.raises(FormatError):
        tiles.Edge.restore(3, 3, lambda name: b"\0\0" if "entries" in name else bytes(96))


@pytest.mark.parametrize("data", [b"\0", b"\0\2a", b"\0\1a\0", b"\xff\xff"])
def test_a_bundle_has_no_bytes_missing_or_left_over(data: bytes) -> None:
    """FormatError, not an IndexError."""
    for count in (None, 1):
        with pytest.raises(FormatError):
            tiles.unbundle(data, count)


def test_bundles_go_both_ways() -> None:
    """Empty and longest entries too; a longer one is no entry."""
    entries = [b"", b"a", bytes(65_535)]
    assert tiles.unbundle(tiles.bundle(entries), 3) == tiles.unbundle(tiles.bundle(entries)) == entries
    with pytest.raises(ValueError, match="65,535"):
        tiles.bundle([bytes(65_536)])


def test_paths_are_those_of_the_specification() -> None:
    """Groups of three digits, all but the last with an x."""
    assert tiles.tile_path(0, 1_234_067) == "tile/0/x001/x234/067"
    assert tiles.tile_path("entries", 273, 112) == "tile/entries/273.p/112"
    assert tiles.tile_path("entries", 1000) == "tile/entries/x001/000"


def test_proofs_come_out_of_tiles() -> None:
    """Every part of the tree that a proof needs, at a size with partial tiles on two levels."""
    edge, files = tiles.Edge(), dict[str, bytes]()
    leaves = [merkle.leaf_hash(_entry(index)) for index in range(1000)]
    for index, leaf in enumerate(leaves):
        edge.append(_entry(index), leaf)
    root = _publish(edge, files).root
    tree = tiles.TileTree(1000, files.__getitem__)
    for index in (0, 1, 255, 256, 511, 767, 768, 998, 999):
        proof = merkle.inclusion_proof(index, 1000, tree.mth)
        assert merkle.root_from_inclusion(index, 1000, leaves[index], proof) == root
    for old in (1, 255, 256, 257, 768, 999):
        old_root = merkle.subtree_root(leaves[:old])
        merkle.check_consistency(old, 1000, old_root, root, merkle.consistency_proof(old, 1000, tree.mth))


def test_a_full_tile_stands_in_for_a_partial_one() -> None:
    """A reader with an older checkpoint finds its hashes after the partial file is gone."""
    files = {"tile/0/000": b"full", "tile/0/001.p/3": b"part"}

    def read(name: str) -> bytes:
        if name not in files:
            raise FileNotFoundError(name)
        return files[name]

    assert tiles.read_tile(read, 0, 0, 200) == b"full"
    assert tiles.read_tile(read, 0, 1, 259) == b"part"
    with pytest.raises(FileNotFoundError):
        tiles.read_tile(read, 0, 1, 258)
