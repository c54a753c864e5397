"""A copy of a journal's public files in memory, with one bit of one entry flipped: what verification must find."""

from __future__ import annotations

from dataclasses import dataclass

from sealward.formats.note import Verifier
from sealward.formats.tiles import WIDTH, bundle, tile_path, unbundle
from sealward.journal.verify import Files, Trust, verify
from sealward.rollout.evidence import Evidence, failed, held


def check(files: Files, log: Verifier, index: int) -> list[Evidence]:
    """The journal verifies as it is, and no longer once entry `index` differs by one bit. Reads every entry, twice."""
    name = "verification"
    still = _Copy(files, files.read("checkpoint"))
    report = verify(still, Trust(log))
    if not report.ok:
        return [failed(name, f"{fault['code']}: {fault['detail']}") for fault in report.errors[:MOST]]
    found = [held(name, f"{report.size} entries hash to the signed root")]
    changed = verify(_Copy(files, still.checkpoint, index), Trust(log))
    named = [fault for fault in changed.errors if f"entry {index} " in fault["detail"]]
    if named:
        return [*found, held(name, f"a bit of entry {index} flipped in a copy is found: {named[0]['code']}", entry=index)]
    return [*found, failed(name, f"a bit of entry {index} flipped in a copy is not found", entry=index)]


@dataclass(frozen=True, slots=True)
class _Copy:
    """As published when `checkpoint` was; entry `flipped` is another one."""

    files: Files
    checkpoint: bytes
    flipped: int | None = None

    def read(self, name: str) -> bytes:
        if name == "checkpoint":
            return self.checkpoint
        data = self.files.read(name)
        if self.flipped is None or name.partition(".p/")[0] != tile_path("entries", self.flipped // WIDTH):
            return data
        entries = unbundle(data)
        if self.flipped % WIDTH < len(entries):
            entry = bytearray(entries[self.flipped % WIDTH])
            entry[len(entry) // 2] ^= 1
            entries[self.flipped % WIDTH] = bytes(entry)
        return bundle(entries)

    def names(self, folder: str) -> list[str]:
        return self.files.names(folder)


MOST = 5
