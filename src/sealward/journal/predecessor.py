"""What a log commits to that goes on from another which must not be continued, and how an outsider checks it.

    OLD/successor                 the new log's vkey and a line end: nobody opens OLD for writing any more
    NEW/predecessor               canonical {"key": hex, "kid", "note", "v": 1, "vkey"} and a line end

Entry 0 of NEW is `journal.successor`, sealed under a key of its own, which `predecessor` publishes: it holds nobody's secrets.
It commits to `note`, the old log's signed checkpoint with the most entries that its disk, its witnesses or its owner knew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sealward.formats import canonical
from sealward.formats.entry import unseal
from sealward.formats.fault import FormatError
from sealward.formats.note import Checkpoint, Verifier, open_checkpoint
from sealward.formats.tiles import read_tile, unbundle


@dataclass(frozen=True, slots=True)
class Predecessor:
    """What a successor commits to: a signed note of the old log."""

    log: Verifier
    checkpoint: Checkpoint
    note: bytes

    @classmethod
    def of(cls, log: Verifier, note: bytes) -> Predecessor:
        """FormatError: the note is not the log's."""
        return cls(log, open_checkpoint(note, log)[0], note)

    def text(self, kid: str, key: bytes) -> bytes:
        """The file `predecessor`; `kid` and `key` are those of the successor's first entry."""
        told = {"v": 1, "vkey": self.log.vkey, "note": self.note.decode(), "kid": kid, "key": key.hex()}
        return canonical.dumps(told) + b"\n"

    def told(self) -> dict[str, Any]:
        """The members of the event that say so."""
        at = self.checkpoint
        root, digest = f"sha256:{at.root.hex()}", f"sha256:{sha256(self.note).hexdigest()}"
        return {"origin": at.origin, "size": at.size, "root": root, "checkpoint": digest}


def predecessor(read: Callable[[str], bytes], log: Verifier, size: int) -> Predecessor | None:
    """What the log whose public files these are commits to; None: it says of no predecessor, or its first bundle is archived.

    FormatError("successor"): it says so, and its first entry does not.
    """
    try:
        data = read(PREDECESSOR)
        bundle = unbundle(read_tile(read, "entries", 0, size))
    except FileNotFoundError:
        return None
    try:
        found = canonical.parse(data[:-1])
        before = Predecessor.of(Verifier.parse(found["vkey"]), found["note"].encode())
        event = unseal(bundle[0], origin=log.name, index=0, key=bytes.fromhex(found["key"]))
        said = {name: event["successor"][name] for name in before.told()}
        if event["type"] == KIND and said == before.told():
            return before
    except (FormatError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise FormatError("successor", f"the file predecessor is not that of the first entry: {error}") from error
    raise FormatError("successor", "the first entry commits to something else")


KIND = "journal.successor"
SUCCESSOR, PREDECESSOR = "successor", "predecessor"
