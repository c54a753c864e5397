"""The signed snapshot that all doors, sidecars and recorders decide from, and the deltas between two (contracts.md §6).

    snapshot = canonical {v, epoch, issued, previous, sections…} LF  b64url Ed25519 over "sealward snapshot v1" 00 ‖ digest LF
    delta    = canonical {v, from, to, issued, ops, result}      LF  b64url Ed25519 over "sealward delta v1" 00 ‖ SHA-256(line) LF
    digest   = SHA-256 of canonical {v, epoch, issued, previous, sections: {name: hex}}
    section  = SHA-256 of the concatenated SHA-256(canonical [id, value]) in id order

A snapshot keeps the hashes of its rows, so a delta costs the rows it changes and one hash over their section's hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sealward.formats import canonical, ids
from sealward.formats.b64 import b64url, unb64url
from sealward.formats.fault import FormatError
from sealward.formats.snapshot_schema import SECTIONS, row_fits, snapshot_fits


class Point(NamedTuple):
    """Where a reader stands: an epoch, and the one snapshot that may bear it."""

    epoch: int
    digest: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is decided from. `sections[name][id]` is a row of the schema; nothing in it may be changed."""

    epoch: int
    issued: str
    previous: str
    sections: Mapping[str, Mapping[str, Any]] = field(repr=False, compare=False)
    digest: str
    _rows: Mapping[str, _Rows] = field(repr=False, compare=False)

    @classmethod
    def of(cls, epoch: int, issued: str, previous: str, sections: Mapping[str, Mapping[str, Any]]) -> Snapshot:
        """From sections whose rows fit the schema; a section left out is empty."""
        return cls._made(epoch, issued, previous, {name: _Rows.of(sections.get(name, {})) for name in SECTIONS})

    @classmethod
    def _made(cls, epoch: int, issued: str, previous: str, rows: Mapping[str, _Rows]) -> Snapshot:
        head = {"v": 1, "epoch": epoch, "issued": issued, "previous": previous}
        digest = canonical.dumps(head | {"sections": {name: part.digest for name, part in rows.items()}})
        sections = MappingProxyType({name: part.values for name, part in rows.items()})
        return cls(epoch, issued, previous, sections, _sha256(digest), rows)

    @property
    def point(self) -> Point:
        return Point(self.epoch, self.digest)

    @property
    def policy_digest(self) -> str:
        """What decisions are recorded under: the digest of section `policies`."""
        return "sha256:" + self._rows["policies"].digest

    def line(self) -> bytes:
        """The canonical JSON of the whole."""
        head = {"v": 1, "epoch": self.epoch, "issued": self.issued, "previous": self.previous}
        return canonical.dumps(head | {name: dict(part) for name, part in self.sections.items()})

    def after(self, ops: Iterable[Any], *, epoch: int, issued: str) -> Snapshot:
        """The snapshot that `ops` make of this one; FormatError("op") where one is not of the schema or not of this snapshot."""
        touched: dict[str, list[Any]] = {}
        for op in ops:
            touched.setdefault(_section_of(op), []).append(op)
        rows = {**self._rows, **{name: self._rows[name].after(found) for name, found in touched.items()}}
        return self._made(epoch, issued, self.digest, rows)


@dataclass(frozen=True, slots=True)
class Delta:
    """The step from epoch `start` to epoch `to`; `result` is the digest of the snapshot it must lead to."""

    start: int
    to: int
    issued: str
    ops: tuple[Any, ...] = field(repr=False)
    result: str

    def line(self) -> bytes:
        named = {"v": 1, "from": self.start, "to": self.to, "issued": self.issued, "ops": list(self.ops), "result": self.result}
        return canonical.dumps(named)


def sign_snapshot(snapshot: Snapshot, key: Ed25519PrivateKey) -> bytes:
    """The file of `snapshot`. Genesis has none: it is never signed and never served."""
    if snapshot.epoch < 1:
        raise ValueError("genesis is never signed")
    return _signed(snapshot.line(), key, SNAPSHOT_LABEL + bytes.fromhex(snapshot.digest[7:]))


def open_snapshot(data: bytes, public: Ed25519PublicKey, known: Point) -> Snapshot:
    """Opens a file for a reader who stands at `known` (`GENESIS.point`: nothing known).

    FormatError: malformed (also outside the schema), signature, epoch (older than known), fork (another of the known epoch).
    """
    line, signature = _two_lines(data)
    value = canonical.parse(line)
    if not isinstance(value, dict) or not snapshot_fits(value):
        raise FormatError("malformed", "not of the snapshot's schema")
    found = Snapshot.of(value["epoch"], value["issued"], value["previous"], value)
    _verify(public, signature, SNAPSHOT_LABEL + bytes.fromhex(found.digest[7:]))
    if found.epoch < known.epoch:
        raise FormatError("epoch", f"{found.epoch}, known is {known.epoch}")
    if found.epoch == known.epoch and found.digest != known.digest:
        raise FormatError("fork", f"two snapshots of epoch {found.epoch}")
    return found


def sign_delta(delta: Delta, key: Ed25519PrivateKey) -> bytes:
    """The file of `delta`."""
    line = delta.line()
    return _signed(line, key, DELTA_LABEL + hashlib.sha256(line).digest())


def open_delta(data: bytes, public: Ed25519PublicKey) -> Delta:
    """FormatError: malformed, signature. Whether it fits a snapshot is asked by `apply`."""
    line, signature = _two_lines(data)
    value = canonical.parse(line)
    if not _is_delta(value):
        raise FormatError("malformed", "not a delta")
    _verify(public, signature, DELTA_LABEL + hashlib.sha256(line).digest())
    return Delta(value["from"], value["to"], value["issued"], tuple(value["ops"]), value["result"])


def apply(snapshot: Snapshot, delta: Delta) -> Snapshot:
    """The snapshot that `delta` makes of `snapshot`; FormatError: from, epoch, op, result."""
    if delta.start != snapshot.epoch:
        raise FormatError("from", f"{delta.start}, held is {snapshot.epoch}")
    if delta.to <= delta.start:
        raise FormatError("epoch", f"{delta.to} does not follow {delta.start}")
    found = snapshot.after(delta.ops, epoch=delta.to, issued=delta.issued)
    if found.digest != delta.result:
        raise FormatError("result", f"epoch {delta.to}")
    return found


@dataclass(frozen=True, slots=True)
class _Rows:
    """One section: its values, the hash of each, and the digest over them."""

    values: MappingProxyType[str, Any]
    hashes: dict[str, bytes]
    digest: str

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> _Rows:
        return cls._hashed(dict(values), {ident: _row_hash(ident, values[ident]) for ident in sorted(values)})

    @classmethod
    def _hashed(cls, values: dict[str, Any], hashes: dict[str, bytes]) -> _Rows:
        """`hashes` stand in id order."""
        return cls(MappingProxyType(values), hashes, hashlib.sha256(b"".join(hashes.values())).hexdigest())

    def after(self, ops: Iterable[Any]) -> _Rows:
        """`ops` are of this section and of the schema. What changes or deletes a row leaves the order as it is."""
        values, hashes, fresh = self.values.copy(), self.hashes.copy(), False
        for op in ops:
            ident = op[2]
            if op[0] == "put":
                fresh |= ident not in hashes
                values[ident], hashes[ident] = op[3], _row_hash(ident, op[3])
            elif ident in values:
                del values[ident], hashes[ident]
            else:
                raise FormatError("op", "deletes what is not there")
        return self._hashed(values, dict(sorted(hashes.items())) if fresh else hashes)


def _section_of(op: Any) -> str:
    """The section an op of the schema is for; FormatError("op") for every other value."""
    match op:
        case ["put", str(name), str(ident), value] if name in SECTIONS and row_fits(name, ident, value):
            return name
        case ["del", str(name), str(ident)] if name in SECTIONS and ids.is_id(ident):
            return name
    raise FormatError("op", "not an op of the schema")


def _row_hash(ident: str, value: Any) -> bytes:
    return hashlib.sha256(canonical.dumps([ident, value])).digest()


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _is_delta(value: Any) -> bool:
    match value:
        case {"v": 1, "from": int(start), "to": int(to), "issued": str(issued), "ops": list(), "result": str(result)}:
            numbers = {type(value["v"]), type(start), type(to)} == {int} and start >= 1 and to >= 1
            texts = ids.TIME.fullmatch(issued) is not None and ids.DIGEST.fullmatch(result) is not None
            return numbers and texts and len(value) == DELTA_MEMBERS
    return False


def _signed(line: bytes, key: Ed25519PrivateKey, message: bytes) -> bytes:
    return line + b"\n" + b64url(key.sign(message)).encode() + b"\n"


def _two_lines(data: bytes) -> tuple[bytes, bytes]:
    parts = data.split(b"\n")
    if len(parts) != 3 or parts[2] or not parts[1].isascii():  # noqa: PLR2004 - two lines, each with its end
        raise FormatError("malformed", "not two lines")
    signature = unb64url(parts[1].decode())
    if len(signature) != SIGNATURE_BYTES:
        raise FormatError("malformed", "not a signature")
    return parts[0], signature


def _verify(public: Ed25519PublicKey, signature: bytes, message: bytes) -> None:
    try:
        public.verify(signature, message)
    except InvalidSignature as error:
        raise FormatError("signature") from error


SNAPSHOT_LABEL = b"sealward snapshot v1\0"
DELTA_LABEL = b"sealward delta v1\0"
SIGNATURE_BYTES = 64
DELTA_MEMBERS = 6
GENESIS = Snapshot.of(0, "1970-01-01T00:00:00.000000Z", "sha256:" + "00" * 32, {})
