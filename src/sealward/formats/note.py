"""Signed notes and checkpoints (C2SP signed-note, tlog-checkpoint, tlog-cosignature).

A note is text, an empty line, then lines `— name base64(keyID[4] ‖ signature)`. Whatever is wrong with one raises
FormatError("checkpoint"), a bad verifier key FormatError("vkey"). Signatures of unknown keys are ignored; one of a known
key that does not verify refuses the whole note.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from sealward.formats.b64 import b64, unb64
from sealward.formats.fault import FormatError
from sealward.formats.merkle import HASH


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log that somebody signed."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{b64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Reads the text of a note; extension lines are allowed and not looked at."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not all(lines[:-1]):  # noqa: PLR2004 - origin, size, root, the end
            raise FormatError("checkpoint", "needs three non-empty lines")
        if re.fullmatch("0|[1-9][0-9]{0,18}", lines[1], re.ASCII) is None:
            raise FormatError("checkpoint", "size")
        root = _strict64(lines[2])
        if len(root) != HASH:
            raise FormatError("checkpoint", "the root is not 32 bytes")
        return cls(lines[0], int(lines[1]), root)


@dataclass(frozen=True, slots=True)
class Verifier:
    """One trusted public key and the name it signs under."""

    name: str
    kind: int
    public: bytes

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """Reads a vkey `name+hex(keyID)+base64(type ‖ key)`."""
        match = re.fullmatch(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)", text.strip(" \n"))
        if match is None:
            raise FormatError("vkey", "not name+id+key")
        raw = _strict64(match[3], "vkey")
        found = cls(match[1], raw[0], raw[1:]) if raw else None
        if found is None or len(found.public) != PUBLIC_BYTES.get(found.kind):
            raise FormatError("vkey", "neither Ed25519 nor ML-DSA-44")
        if found.id.hex() != match[2]:
            raise FormatError("vkey", "the id is not that of the key")
        return found

    @property
    def id(self) -> bytes:
        return sha256(b"%s\n%c%s" % (self.name.encode(), self.kind, self.public)).digest()[:4]

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64(bytes([self.kind]) + self.public)}"

    def line(self, blob: bytes) -> str:
        """The note's line for a signature of this key."""
        return f"\N{EM DASH} {self.name} {b64(self.id + blob)}\n"

    def accepts(self, text: str, blob: bytes) -> bool:
        """Whether `blob` is this key's signature on the note `text`."""
        try:
            if self.kind == ED25519:
                Ed25519PublicKey.from_public_bytes(self.public).verify(blob, text.encode())
                return True
            if len(blob) != 8 + SIGNATURE_BYTES[self.kind]:
                return False
            time, signature = int.from_bytes(blob[:8], "big"), blob[8:]
            if self.kind == COSIGNATURE:
                message = f"cosignature/v1\ntime {time}\n{text}".encode()
                Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
            else:
                message = subtree_message(self.name, time, Checkpoint.parse(text))
                MLDSA44PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


class LogSigner:
    """The log's two keys. Never sign two checkpoints that are not prefixes of one log: that is its whole honour."""

    def __init__(self, origin: str, ed25519: Ed25519PrivateKey, mldsa: MLDSA44PrivateKey) -> None:
        self.key, self._mldsa = ed25519, mldsa
        self.verifier = Verifier(origin, ED25519, ed25519.public_key().public_bytes_raw())
        self.mldsa_verifier = Verifier(origin, MLDSA44, mldsa.public_key().public_bytes_raw())

    def checkpoint(self, size: int, root: bytes, unix_s: int) -> bytes:
        """A note signed by Ed25519 (what the public witness network takes) and by ML-DSA-44."""
        checkpoint = Checkpoint(self.verifier.name, size, root)
        cosigned = self._mldsa.sign(subtree_message(checkpoint.origin, unix_s, checkpoint))
        lines = self.verifier.line(self.key.sign(checkpoint.text.encode())) + self.mldsa_verifier.line(_u64(unix_s) + cosigned)
        return f"{checkpoint.text}\n{lines}".encode()


class WitnessSigner:
    """A witness's two keys. A cosignature says: what I saw of this log before is a prefix of this."""

    def __init__(self, name: str, ed25519: Ed25519PrivateKey, mldsa: MLDSA44PrivateKey) -> None:
        self._ed25519, self._mldsa = ed25519, mldsa
        self.verifier = Verifier(name, COSIGNATURE, ed25519.public_key().public_bytes_raw())
        self.mldsa_verifier = Verifier(name, MLDSA44, mldsa.public_key().public_bytes_raw())

    def cosign(self, text: str, unix_s: int) -> list[str]:
        """The lines of both keys on a checkpoint's `text`."""
        time = _u64(unix_s)
        ed25519 = self._ed25519.sign(f"cosignature/v1\ntime {unix_s}\n{text}".encode())
        mldsa = self._mldsa.sign(subtree_message(self.verifier.name, unix_s, Checkpoint.parse(text)))
        return [self.verifier.line(time + ed25519), self.mldsa_verifier.line(time + mldsa)]


@dataclass(frozen=True, slots=True)
class Signature:
    """One line of a note: whose it says it is, and the signature's bytes. `raw` has its line end."""

    name: str
    id: bytes
    blob: bytes
    raw: str


def split_note(data: bytes) -> tuple[str, list[Signature]]:
    """The text and its signatures, none of them checked."""
    try:
        note = data.decode()
    except UnicodeDecodeError as error:
        raise FormatError("checkpoint", "not UTF-8") from error
    if any(char < " " and char != "\n" for char in note):
        raise FormatError("checkpoint", "a control character")
    text, blank, block = note.rpartition("\n\n")
    lines = block.split("\n")
    if not blank or lines.pop() or not 1 <= len(lines) <= MAX_SIGNATURES:
        raise FormatError("checkpoint", "no block of signatures")
    return text + "\n", [_signature(line) for line in lines]


def open_note(data: bytes, trusted: Sequence[Verifier]) -> tuple[str, list[Verifier]]:
    """The text and the trusted keys that signed it: at least one."""
    text, signatures = split_note(data)
    by_key = {(key.name, key.id): key for key in trusted}
    signed: list[Verifier] = []
    for each in signatures:
        key = by_key.get((each.name, each.id))
        if key is not None and not key.accepts(text, each.blob):
            raise FormatError("checkpoint", f"the signature of {each.name} does not verify")
        if key is not None and key not in signed:
            signed.append(key)
    if not signed:
        raise FormatError("checkpoint", "no trusted key signed it")
    return text, signed


def with_lines(data: bytes, lines: Sequence[str]) -> bytes:
    """The note with signature `lines` added; each takes the place of an older one of its key."""
    text, held = split_note(data)
    fresh = [_signature(line.removesuffix("\n")) for line in lines]
    named = {(each.name, each.id) for each in fresh}
    kept = [each for each in held if (each.name, each.id) not in named]
    return f"{text}\n{''.join(each.raw for each in (*kept, *fresh))}".encode()


def open_checkpoint(data: bytes, log: Verifier, witnesses: Sequence[Verifier] = ()) -> tuple[Checkpoint, int]:
    """The checkpoint, which `log` must have signed, and how many of `witnesses` cosigned it."""
    checkpoint, cosigned = open_cosigned(data, log, witnesses)
    return checkpoint, len({key.name for key in cosigned})


def open_cosigned(data: bytes, log: Verifier, witnesses: Sequence[Verifier]) -> tuple[Checkpoint, list[Verifier]]:
    """The same, with the keys that cosigned. The log's own counts as none: a log cannot vouch for itself."""
    text, signed = open_note(data, [log, *witnesses])
    if log not in signed:
        raise FormatError("checkpoint", "the log did not sign it")
    checkpoint = Checkpoint.parse(text)
    if checkpoint.origin != log.name:
        raise FormatError("checkpoint", "origin is not that of the log key")
    return checkpoint, [key for key in signed if key.kind != ED25519 and key.public != log.public and key.name != log.name]


def subtree_message(name: str, unix_s: int, checkpoint: Checkpoint) -> bytes:
    """What an ML-DSA-44 cosignature (type 06) signs: the tree from entry 0, not the note's text."""
    who, origin = name.encode(), checkpoint.origin.encode()
    if max(len(who), len(origin)) > MAX_NAME:
        raise FormatError("checkpoint", "a name is too long for a cosignature")
    head = b"subtree/v1\n\0%c%s%s%c%s" % (len(who), who, _u64(unix_s), len(origin), origin)
    return head + _u64(0) + _u64(checkpoint.size) + checkpoint.root


def _signature(line: str) -> Signature:
    match = re.fullmatch("\N{EM DASH} ([^\\s+]+) ([A-Za-z0-9+/=]+)", line)
    blob = _strict64(match[2]) if match else b""
    if match is None or len(blob) <= KEY_ID:
        raise FormatError("checkpoint", "a malformed signature line")
    return Signature(match[1], blob[:KEY_ID], blob[KEY_ID:], line + "\n")


def _u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _strict64(text: str, reason: str = "checkpoint") -> bytes:
    try:
        return unb64(text)
    except FormatError as error:
        raise FormatError(reason, error.detail) from error


ED25519, COSIGNATURE, MLDSA44 = 1, 4, 6
PUBLIC_BYTES = {ED25519: 32, COSIGNATURE: 32, MLDSA44: 1312}
SIGNATURE_BYTES = {COSIGNATURE: 64, MLDSA44: 2420}
MAX_SIGNATURES, MAX_NAME, KEY_ID = 64, 255, 4
