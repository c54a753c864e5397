"""The signed pass of one admission: a promise over the commit batch, one signature for all of it.

    promise = signature ‖ u64be first ‖ u16be size ‖ path of N - first
    signed  = "sealward promise v1" 00 origin 00 u64be first ‖ u16be size ‖ RFC 6962 root over leaf ‖ cm
    pass    = "v1;index=N;leaf=b64url;promise=b64url;admission=b64url"

The header `x-sealward-pass` to the sidecar and `x-sealward-receipt` to the caller (contracts.md section 4). The log key
alone makes it, so nobody shares a secret and a restart needs no exchange of keys.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sealward.formats import canonical
from sealward.formats.b64 import b64url, unb64url
from sealward.formats.fault import FormatError
from sealward.formats.ids import DIGEST, HEX32, ID, ULID
from sealward.formats.merkle import leaf_hash, root_from_inclusion
from sealward.formats.note import Verifier


def promises(origin: str, first: int, batch: Sequence[tuple[bytes, bytes]], key: Ed25519PrivateKey) -> list[bytes]:
    """One promise for each (leaf, cm) of a batch of 1 to 65,535 that begins at index `first`; `NO_CM` where there is none."""
    paths: list[list[bytes]] = [[] for _ in batch]
    root = _root([leaf_hash(leaf + cm) for leaf, cm in batch], paths)
    place = first.to_bytes(8, "big") + len(batch).to_bytes(2, "big")
    signature = key.sign(_message(origin, place, root))
    return [b"".join((signature, place, *path)) for path in paths]


def pass_text(index: int, leaf: bytes, promise: bytes, admission: bytes) -> str:
    """The header's value."""
    return f"v1;index={index};leaf={b64url(leaf)};promise={b64url(promise)};admission={b64url(admission)}"


@dataclass(frozen=True, slots=True)
class Pass:
    """A well-formed pass; nothing in it is believed before `Log.check`."""

    index: int
    leaf: bytes
    promise: bytes
    admission: dict[str, Any]
    raw_admission: bytes


def parse_pass(text: str) -> Pass:
    """FormatError: format (not the grammar), payload (not an admission)."""
    match = PASS.fullmatch(text)
    if match is None:
        raise FormatError("format")
    try:
        leaf, promise, raw = (unb64url(match[name]) for name in ("leaf", "promise", "admission"))
    except FormatError:
        raise FormatError("format", "base64url") from None
    index = int(match["index"])
    if len(leaf) != HASH or index >= 1 << 63:
        raise FormatError("format", "leaf or index")
    try:
        admission = canonical.parse(raw)
    except FormatError:
        raise FormatError("payload", "not canonical") from None
    if not isinstance(admission, dict) or not _is_admission(admission):
        raise FormatError("payload", "not an admission")
    return Pass(index, leaf, promise, admission, raw)


class Log:
    """The log whose promises are believed, by its origin and Ed25519 key.

    Requests of one batch share a signature, so the signed messages last seen are remembered (bounded): one check a batch.
    """

    def __init__(self, origin: str, key: Ed25519PublicKey) -> None:
        self._origin, self._key = origin, key
        self._seen: dict[bytes, None] = {}

    @classmethod
    def of(cls, verifier: Verifier) -> Log:
        """From the Ed25519 key that also signs the checkpoints."""
        return cls(verifier.name, Ed25519PublicKey.from_public_bytes(verifier.public))

    def check_promise(self, index: int, leaf: bytes, cm: bytes, promise: bytes) -> None:
        """The log promised this leaf and commitment at this index. FormatError: length, range, steps, signature."""
        if len(promise) < HEAD or (len(promise) - HEAD) % HASH:
            raise FormatError("length")
        place, steps = promise[SIGNATURE:HEAD], promise[HEAD:]
        first, size = int.from_bytes(place[:8], "big"), int.from_bytes(place[8:], "big")
        if not first <= index < first + size:
            raise FormatError("range")
        path = [steps[at : at + HASH] for at in range(0, len(steps), HASH)]
        try:
            root = root_from_inclusion(index - first, size, leaf_hash(leaf + cm), path)
        except FormatError:
            raise FormatError("steps") from None
        self._check(promise[:SIGNATURE], _message(self._origin, place, root))

    def check_pass(self, text: str) -> Pass:
        """What caller and sidecar check alike."""
        found = parse_pass(text)
        self.check_promise(found.index, found.leaf, sha256(found.raw_admission).digest(), found.promise)
        return found

    def check_sidecar(self, text: str, place: Place, body: bytes) -> Pass:
        """All that a sidecar checks before the runtime sees a byte. FormatError also: missing, and those of `check_here`."""
        if not text:
            raise FormatError("missing")
        found = self.check_pass(text)
        check_here(found, place, body)
        return found

    def check_caller(self, text: str, request: bytes) -> Pass:
        """What a caller checks of `x-sealward-receipt`: it is for the content that was sent. FormatError also: input."""
        found = self.check_pass(text)
        if found.admission["input"] != sha256(request).hexdigest():
            raise FormatError("input")
        return found

    def _check(self, signature: bytes, message: bytes) -> None:
        signed = signature + message
        if signed in self._seen:
            return
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            raise FormatError("signature") from None
        self._seen[signed] = None
        if len(self._seen) > MAX_SEEN:
            del self._seen[next(iter(self._seen))]


@dataclass(frozen=True, slots=True)
class Place:
    """What a sidecar knows of itself when a request arrives: `name` = id:run, `now` in Unix seconds."""

    name: str
    path: str
    now: int
    presented: str
    approved: Collection[str]
    used: Collection[str]


def check_here(found: Pass, place: Place, body: bytes) -> None:
    """A sound pass is for this sidecar, here, now, once, and for these bytes, before the runtime sees one of them.

    FormatError, first reason first: sidecar, path, time, used, body, model, unapproved.
    """
    said = found.admission
    if said["sidecar"] != place.name:
        raise FormatError("sidecar")
    if said["path"] != place.path:
        raise FormatError("path")
    if not said["exp"] - LIFE - SKEW <= place.now < said["exp"] + SKEW:
        raise FormatError("time")
    if said["req"] in place.used:
        raise FormatError("used")
    if said["body"] != sha256(body).hexdigest():
        raise FormatError("body")
    if said["model"] != place.presented:
        raise FormatError("model")
    if said["model"] not in place.approved:
        raise FormatError("unapproved")


def _root(level: list[bytes], paths: list[list[bytes]]) -> bytes:
    """RFC 6962 root, level by level; every leaf's path collects the sibling of the node it is under."""
    width = 1  # leaves under one whole node of this level
    while len(level) > 1:
        above = []
        for at in range(0, len(level) - 1, 2):
            left, right = level[at], level[at + 1]
            above.append(sha256(b"\x01" + left + right).digest())
            start = at * width
            for path in paths[start : start + width]:
                path.append(right)
            for path in paths[start + width : start + 2 * width]:
                path.append(left)
        if len(level) & 1:
            above.append(level[-1])
        level, width = above, 2 * width
    return level[0]


def _message(origin: str, place: bytes, root: bytes) -> bytes:
    return b"".join((b"sealward promise v1\x00", origin.encode(), b"\x00", place, root))


def _is_admission(said: dict[str, Any]) -> bool:
    return (
        said.keys() == SHAPE.keys() | {"epoch", "exp", "v"}
        and said["v"] == 1
        and all(type(said[name]) is int for name in ("epoch", "exp", "v"))
        and said["epoch"] >= 0
        and all(isinstance(said[name], str) and pattern.fullmatch(said[name]) for name, pattern in SHAPE.items())
    )


NO_CM = bytes(32)
LIFE, SKEW = 30, 5  # seconds: a pass is made to live 30, clocks may differ by 5 (contracts.md section 4)
SIGNATURE, HASH = 64, 32
HEAD = SIGNATURE + 8 + 2
MAX_SEEN = 1024
PASS = re.compile(
    r"v1;index=(?P<index>0|[1-9][0-9]{0,18});leaf=(?P<leaf>[A-Za-z0-9_-]+);promise=(?P<promise>[A-Za-z0-9_-]*)"
    r";admission=(?P<admission>[A-Za-z0-9_-]+)",
    re.ASCII,
)
SHAPE = {
    "body": HEX32,
    "input": HEX32,
    "model": DIGEST,
    "path": re.compile(r"/[!-~]*"),
    "req": ULID,
    "salt": HEX32,
    "sidecar": re.compile(ID.pattern + r":[0-9a-f]{16}"),
    "sub": ID,
}
