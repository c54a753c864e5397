""".tlog-proof (C2SP tlog-proof): one entry's place in a log, checked offline against a checkpoint that travels with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sealward.formats.b64 import b64, unb64
from sealward.formats.fault import FormatError
from sealward.formats.merkle import root_from_inclusion
from sealward.formats.note import Checkpoint, Verifier, open_checkpoint


@dataclass(frozen=True, slots=True)
class Proof:
    """Hashes list the leaf's sibling first; `checkpoint` is the signed note, verbatim."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes

    @property
    def text(self) -> str:
        steps = "".join(f"{b64(step)}\n" for step in self.hashes)
        return f"c2sp.org/tlog-proof@v1\nindex {self.index}\n{steps}\n{self.checkpoint.decode()}"

    @classmethod
    def parse(cls, text: str) -> Proof:
        """FormatError("proof") for another grammar. An `extra` line is nobody's word: it is dropped."""
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise FormatError("proof", "not a .tlog-proof")
        try:
            hashes = tuple(unb64(line) for line in match[2].split("\n")[:-1])
        except FormatError as error:
            raise FormatError("proof", error.detail) from error
        return cls(int(match[1]), hashes, match[3].encode())

    def verify(self, leaf: bytes, log: Verifier, witnesses: Sequence[Verifier] = ()) -> tuple[Checkpoint, int]:
        """The checkpoint that holds `leaf` at `index`, and its witnesses; FormatError("checkpoint"|"inclusion")."""
        checkpoint, cosigned = open_checkpoint(self.checkpoint, log, witnesses)
        if root_from_inclusion(self.index, checkpoint.size, leaf, self.hashes) != checkpoint.root:
            raise FormatError("inclusion", "the proof leads to another root")
        return checkpoint, cosigned


_GRAMMAR = re.compile(
    r"c2sp\.org/tlog-proof@v1\n(?:extra [A-Za-z0-9+/=]+\n)?index (0|[1-9][0-9]{0,18})\n"
    r"((?:[A-Za-z0-9+/]{43}=\n){0,63})\n((?s:.+))",
    re.ASCII,
)
