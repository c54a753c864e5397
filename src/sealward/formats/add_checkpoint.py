"""The request a log sends to its witnesses (C2SP tlog-witness): the size it believes they know, a proof, its new checkpoint.

old <size>    up to 63 lines of base64, the proof    an empty line    the checkpoint, verbatim
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sealward.formats.b64 import b64, unb64
from sealward.formats.fault import FormatError


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """`proof`: that the tree of the checkpoint extends the one of `old` entries; empty where `old` is 0 or its own size."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes

    @property
    def body(self) -> bytes:
        steps = "".join(f"{b64(step)}\n" for step in self.proof)
        return f"old {self.old}\n{steps}\n".encode() + self.note

    @classmethod
    def parse(cls, data: bytes) -> AddCheckpoint:
        """FormatError("request") for another grammar. The note is not looked at."""
        match = _GRAMMAR.fullmatch(data)
        if match is None:
            raise FormatError("request", "not old, proof, checkpoint")
        try:
            proof = tuple(unb64(line.decode()) for line in match[2].split(b"\n")[:-1])
        except FormatError as error:
            raise FormatError("request", error.detail) from error
        return cls(int(match[1]), proof, match[3])


_GRAMMAR = re.compile(rb"old (0|[1-9][0-9]{0,18})\n((?:[A-Za-z0-9+/]{43}=\n){0,63})\n((?s:.+))")
