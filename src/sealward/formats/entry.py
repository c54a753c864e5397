"""One journal entry: a clear header with a pseudonym, and the event sealed under its subject's event key.

    entry  = 0x01 ‖ u16be len(header) ‖ header ‖ sealed                     at most 32 KiB
    header = canonical JSON of {cm?, kid, of?, time}, time cut to the hour, nothing else in clear
    sealed = Cobblestone-256(key, canonical event padded with spaces to a multiple of 256,
                             context = "sealward entry v1" 00 origin 00 u64be index ‖ SHA-256(header))

`cm` commits to an admission, a statement or a change: hex SHA-256 of canonical JSON that holds a 32-byte salt. Admission
and statement are rebuilt from the event, so the two cannot differ. `of` is the index of the admission that an entry
closes (contracts.md sections 3 and 4; the cipher: C2SP chunked-encryption). Cobblestone draws a random salt a message
and commits to its key: the index of a torn, dropped entry is used again, so it must not be a nonce.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from sealward.formats import canonical
from sealward.formats.event import fit, holds_float
from sealward.formats.fault import FormatError
from sealward.formats.ids import hour

Event = dict[str, Any]


class Sealed(NamedTuple):
    """An entry, what it commits to, and on an admission the canonical bytes behind `cm`."""

    entry: bytes
    cm: str | None
    admission: bytes | None


def seal(
    event: Event,
    *,
    origin: str,
    index: int,
    kid: str,
    key: bytes,
    random: Callable[[int], bytes] = os.urandom,
    exp: int | None = None,
) -> Sealed:
    """The entry of a valid event at `index`, under the event key `key` (32 bytes) that `kid` names.

    Adds `origin`, `seq`, the salts, and to an admission `exp` (Unix seconds). A closing event says in `link.of` what it
    closes. Raises FormatError("event") where one of these is missing, an integer is a float (1.0), or nothing is left to cut
    from a too large event.
    """
    kind = event["type"]
    event = {**event, "origin": origin, "seq": index}
    header: Event = {"kid": kid, "time": hour(event["time"])}
    admission = None
    if kind == ADMITTED:
        if exp is None:
            raise FormatError("event", "an admission expires")
        event["admission"] = {**event["admission"], "salt": random(32).hex(), "exp": exp}
        admission = canonical.dumps(admission_of(event))
        header["cm"] = sha256(admission).hexdigest()
    else:
        if kind in OUTCOMES and "refusal" not in event:  # an aggregate has no statement
            event["statement"] = {**event.get("statement", {}), "salt": random(32).hex()}
        if (cm := commitment(event)) is not None:
            header["cm"] = cm
        if kind in CLOSING:
            if "of" not in event.get("link", {}):
                raise FormatError("event", "closes nothing")
            header["of"] = event["link"]["of"]
    text = _text(event)
    raw = canonical.dumps(header)
    cipher = Cobblestone256Encryptor(key, _context(origin, index, raw))
    sealed = cipher.update(text + b" " * (-len(text) % BLOCK)), cipher.finalize()
    return Sealed(b"".join((b"\x01", len(raw).to_bytes(2, "big"), raw, *sealed)), header.get("cm"), admission)


def header_of(entry: bytes) -> tuple[Event, bytes]:
    """The clear header and its exact bytes; FormatError("entry" or "header")."""
    end = 3 + int.from_bytes(entry[1:3], "big")
    if len(entry) < 3 or entry[0] != 1 or len(entry) < end:  # noqa: PLR2004 - version byte and length
        raise FormatError("entry", "not an entry of version 1")
    found = HEADER.fullmatch(entry, 3, end)
    of = int(found["of"] or 0) if found else -1
    if found is None or of > canonical.SAFE_INTEGER:
        raise FormatError("header", "not canonical, or not the members of a header")
    header: Event = {name: found[name].decode() for name in ("cm", "kid", "time") if found[name] is not None}
    return header if found["of"] is None else {**header, "of": of}, entry[3:end]


def unseal(entry: bytes, *, origin: str, index: int, key: bytes) -> Event:
    """The event of the entry at `index`, after every check that ties it to its header.

    Raises FormatError: entry, header, commitment (another key, place or header), seal, padding, event, differs.
    """
    header, raw = header_of(entry)
    if header.get("of", -1) >= index:
        raise FormatError("header", "closes a later entry")
    padded = _opened(entry[3 + len(raw) :], key, _context(origin, index, raw))
    text = padded.rstrip(b" ")
    if len(padded) % BLOCK or len(padded) > MAX_EVENT or len(padded) - len(text) >= BLOCK:
        raise FormatError("padding")
    try:
        event: Event = canonical.parse(text)
        closes = event["type"] in CLOSING
        of = event.get("link", {}).get("of")
        same = (commitment(event), of, hour(event["time"])) == (header.get("cm"), header.get("of"), header["time"])
    except (KeyError, TypeError, AttributeError, FormatError):
        raise FormatError("event", "not canonical, or not an event") from None
    if not same or closes != ("of" in header):
        raise FormatError("differs", "sealed event and clear header")
    return event


def commitment(event: Event) -> str | None:
    """`cm` of the event's entry, hex; None where it commits to nothing."""
    if event["type"] == ADMITTED:
        return sha256(canonical.dumps(admission_of(event))).hexdigest()
    if "statement" in event:
        return sha256(canonical.dumps(statement_of(event))).hexdigest()
    change = event.get("change", {})
    return str(change["digest"]).removeprefix("sha256:") if "salt" in change else None


def admission_of(event: Event) -> Event:
    """What the sidecar and the caller check, rebuilt from a sealed `inference.admitted`."""
    return {
        "v": 1,
        "epoch": event["decision"]["epoch"],
        "model": event["model"]["digest"],
        "req": event["link"]["request"],
        "sub": event["subject"]["id"],
        **event["admission"],
    }


def statement_of(event: Event) -> Event:
    """What the caller can check, rebuilt from a sealed event that has one; what is absent is left out."""
    said = {
        "v": 1,
        "origin": event["origin"],
        "outcome": OUTCOMES[event["type"]],
        "time": event["time"],
        "subject": event["subject"]["id"],
        **event["statement"],
    }
    if "link" in event and "request" in event["link"]:
        said["request"] = event["link"]["request"]
    if "outcome" in event:
        said["status"] = event["outcome"]["status"]
    if "decision" in event:
        decision = event["decision"]
        said |= {name: decision[name] for name in ("epoch", "policy_digest") if name in decision}
    if "model" in event:
        model = event["model"]
        bound = {name: model[name] for name in ("id", "digest", "signature_id") if name in model}
        if bound:
            said["model"] = bound
    return said


class Closings:
    """The rule of `of` as a verifier without keys sees it: feed every header in order of the log (from index 0)."""

    def __init__(self) -> None:
        self._closable: set[int] = set()
        self._unseen: list[range] = []
        self._closed_unseen: set[int] = set()

    def skip(self, indices: range) -> None:
        """Headers that nobody has: each may have been closable, once."""
        if self._unseen and self._unseen[-1].stop == indices.start:
            indices = range(self._unseen.pop().start, indices.stop)
        self._unseen.append(indices)

    def take(self, index: int, header: Event) -> None:
        """FormatError("of") where an entry closes what is not an earlier, committed, itself not closing, open one."""
        if "of" in header:
            of = header["of"]
            if of in self._closable:
                self._closable.remove(of)
            elif of not in self._closed_unseen and any(of in indices for indices in self._unseen):
                self._closed_unseen.add(of)
            else:
                raise FormatError("of", f"entry {index} closes {of}")
        elif "cm" in header:
            self._closable.add(index)


def _text(event: Event) -> bytes:
    text = canonical.dumps(event)
    if holds_float(event, text):
        raise FormatError("event", "a float")
    return text if len(text) <= MAX_EVENT else canonical.dumps(fit(event, MAX_EVENT))


def _opened(sealed: bytes, key: bytes, context: bytes) -> bytes:
    cipher, step = Cobblestone256Decryptor(key, context), "commitment"
    try:
        start = cipher.update(sealed[:PREFIX])
        step = "seal"
        return start + cipher.update(sealed[PREFIX:]) + cipher.finalize()
    except InvalidTag:
        raise FormatError(step) from None


def _context(origin: str, index: int, header: bytes) -> bytes:
    return b"".join((b"sealward entry v1\x00", origin.encode(), b"\x00", index.to_bytes(8, "big"), sha256(header).digest()))


ADMITTED = "inference.admitted"
CLOSING = frozenset({"inference.completed", "inference.aborted"})
OUTCOMES = {"inference.completed": "completed", "inference.denied": "denied", "inference.aborted": "aborted"}
MAX_EVENT = 32_000
BLOCK = 256
PREFIX = 56  # Cobblestone's salt and commitment
HEADER = re.compile(  # canonical JSON of these members is a regular language; verification reads millions of them
    rb'\{(?:"cm":"(?P<cm>[0-9a-f]{64})",)?"kid":"(?P<kid>[0-9a-f]{18})",(?(cm)(?:"of":(?P<of>0|[1-9][0-9]{0,15}),)?)'
    rb'"time":"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:00:00Z)"\}'
)
