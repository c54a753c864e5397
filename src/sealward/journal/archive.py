"""An archive: the content of old entries, copied whole and verified before it leaves its journal.

    TARGET/tile/entries/…                      the bundles that leave
    TARGET/tile/<level>/…, checkpoint, vkey    what proves them, as it was then
    TARGET/manifest-<from>-<to>.json           {"files": {name: sha256 hex}, "from", "origin", "root", "to", "v": 1}

Several archives of one journal may share a target: it then verifies with `journal verify DIR --archive TARGET` as one. Reads
public files only; `source` and `target` are below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from sealward.errors import IntegrityError
from sealward.formats import canonical
from sealward.formats.entry import header_of
from sealward.formats.ids import hour, rfc3339
from sealward.formats.tiles import WIDTH, TileTree, tile_path, tiles_for, unbundle
from sealward.journal.archived import bundles
from sealward.journal.durable import Disk, File
from sealward.journal.reader import Reader
from sealward.journal.verify import Files, Trust, verify


@dataclass(frozen=True, slots=True)
class Part:
    """Entries `first` to before `end`, both multiples of 256."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Made:
    """A copy that was verified. `root`: of the first `part.end` entries; `manifest`: both `sha256:…`."""

    part: Part
    root: str
    manifest: str
    bytes: int


def older(source: Files, part: Part, before_us: int) -> Part:
    """The whole bundles of `part` that hold only entries of hours before the one of `before_us` (Unix time in µs)."""
    limit = hour(rfc3339(before_us))
    low, high = part.first // WIDTH, part.end // WIDTH
    while low < high:
        middle = (low + high) // 2
        last = unbundle(source.read(tile_path("entries", middle)), WIDTH)[-1]
        low, high = (middle + 1, high) if header_of(last)[0]["time"] < limit else (low, middle)
    return Part(part.first, low * WIDTH)


def copy(source: Files, target: Disk, part: Part, trust: Trust) -> Made:
    """`part` and what proves it, durable at `target` and verified there.

    IntegrityError("archive"): the copy does not verify, or another log's archive is there. OSError.
    """
    checkpoint, note = Reader(source, trust.log).checkpoint()  # type: ignore[arg-type]  # it reads files and nothing else
    _same_log(target, trust)
    names: dict[str, str] = {}
    size = 0
    for batch in _batches(source, part, checkpoint.size):
        target.replace(batch)
        names |= {name: sha256(data).hexdigest() for name, data in batch}
        size += sum(len(data) for name, data in batch if name.startswith("tile/entries/"))
    target.replace([("vkey", trust.log.vkey.encode() + b"\n"), ("checkpoint", note)])
    report = verify(_Overlay(source, target, set(bundles(part.first, part.end))), trust, target)
    if not report.ok:
        raise IntegrityError("archive", f"the copy does not verify: {report.errors[0]['detail']}", remedy="nothing was removed")
    root = f"sha256:{TileTree(checkpoint.size, target.read).mth(0, part.end).hex()}"
    told = {"v": 1, "origin": trust.log.name, "from": part.first, "to": part.end, "root": root, "files": names}
    manifest = canonical.dumps(told)
    target.replace([(f"manifest-{part.first}-{part.end}.json", manifest)])
    return Made(part, root, f"sha256:{sha256(manifest).hexdigest()}", size)


class _Overlay:
    """The source, with some files as they are in the copy."""

    def __init__(self, source: Files, target: Files, copied: set[str]) -> None:
        self._source, self._target, self._copied = source, target, copied

    def read(self, name: str) -> bytes:
        return (self._target if name in self._copied else self._source).read(name)

    def names(self, folder: str) -> list[str]:
        return self._source.names(folder)


def _batches(source: Files, part: Part, size: int) -> Iterator[list[File]]:
    """Bundles, and the hash tiles of the whole tree of `size`: a proof needs its right edge too."""
    wanted = [*bundles(part.first, part.end), *(tile_path(*tile) for tile in tiles_for(size))]
    for start in range(0, len(wanted), AT_ONCE):
        yield [(name, _hashes(source, name)) for name in wanted[start : start + AT_ONCE]]


def _hashes(source: Files, name: str) -> bytes:
    """A partial tile may have given way to the full one meanwhile."""
    try:
        return source.read(name)
    except FileNotFoundError:
        full, _, width = name.partition(".p/")
        if not width:
            raise
        return source.read(full)[: int(width) * 32]


def _same_log(target: Files, trust: Trust) -> None:
    try:
        there = target.read("vkey")
    except FileNotFoundError:
        return
    if there.decode("utf-8", "replace").strip() != trust.log.vkey:
        raise IntegrityError("archive", "another log's archive is there", remedy="choose a folder of its own")


AT_ONCE = 128
