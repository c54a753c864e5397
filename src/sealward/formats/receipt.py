"""A receipt proves offline: this prompt, this answer, this model, this decision, at this place in the log.

    receipt = {"statement": …, "entry": base64, "proof": ".tlog-proof text"}
    statement → `cm` → header → leaf → proof → checkpoint (→ witnesses)              (contracts.md section 3)

Whoever holds the bytes, texts, tool calls or the pass that it belongs to has them compared too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sealward.formats import canonical
from sealward.formats.b64 import unb64
from sealward.formats.entry import Event, header_of
from sealward.formats.fault import FormatError
from sealward.formats.ids import HEX32, ID, TIME, ULID, hour
from sealward.formats.merkle import leaf_hash
from sealward.formats.note import Checkpoint, Verifier
from sealward.formats.passes import Log
from sealward.formats.proof import Proof


@dataclass(frozen=True, slots=True)
class Receipt:
    """A sound receipt. `of`: index of the pass it closes, None for a request that was never admitted."""

    statement: Event
    index: int
    of: int | None
    checkpoint: Checkpoint
    witnesses: int


def verify_receipt(
    data: bytes | str,
    *,
    log: Verifier,
    witnesses: Sequence[Verifier] = (),
    threshold: int = 0,
    pass_: str | None = None,
    input: bytes | None = None,  # noqa: A002 - the statement's own word
    output: bytes | None = None,
    texts: Sequence[str] | None = None,
    tools: Sequence[tuple[str, str]] | None = None,
) -> Receipt:
    """The receipt, sound and equal to everything that was given; `tools` are (name, arguments as text).

    FormatError, first reason first: malformed, statement, entry, header, cm, origin, proof, of, checkpoint (also: fewer
    than `threshold` witnesses), inclusion; then input, output, text, tools, pass.
    """
    receipt = _sound(data, log, witnesses)
    if receipt.witnesses < threshold:
        raise FormatError("checkpoint", f"{receipt.witnesses} witnesses, {threshold} needed")
    for name, content in (("input", input), ("output", output)):
        if content is not None and receipt.statement.get(f"{name}_sha256") != sha256(content).hexdigest():
            raise FormatError(name)
    if texts is not None and receipt.statement.get("text_sha256") != [sha256(text.encode()).hexdigest() for text in texts]:
        raise FormatError("text")
    if tools is not None and receipt.statement.get("tools_sha256") != [tool_digest(*call) for call in tools]:
        raise FormatError("tools")
    if pass_ is not None:
        _check_pass(receipt, pass_, log)
    return receipt


def tool_digest(name: str, arguments: str) -> str:
    """One value of `tools_sha256`: SHA-256(name 00 arguments), hex."""
    return sha256(f"{name}\0{arguments}".encode()).hexdigest()


def _sound(data: bytes | str, log: Verifier, witnesses: Sequence[Verifier]) -> Receipt:
    value = _strict(data)
    match value:
        case {"statement": dict() as statement, "entry": str() as encoded, "proof": str() as text}:
            pass
        case _:
            raise FormatError("malformed", "not the members of a receipt")
    if not _is_statement(statement):
        raise FormatError("statement")
    try:
        entry = unb64(encoded)
    except FormatError:
        raise FormatError("entry", "base64") from None
    header, _ = header_of(entry)
    if header.get("cm") != sha256(canonical.dumps(statement)).hexdigest():
        raise FormatError("cm", "the entry commits to another statement")
    if hour(statement["time"]) != header["time"]:
        raise FormatError("header", "another hour")
    if statement["origin"] != log.name:
        raise FormatError("origin")
    proof = Proof.parse(text)
    of = header.get("of")
    if (of is None) != (statement["outcome"] == "denied") or (of is not None and of >= proof.index):
        raise FormatError("of")
    checkpoint, cosigned = proof.verify(leaf_hash(entry), log, witnesses)
    return Receipt(statement, proof.index, of, checkpoint, cosigned)


def _check_pass(receipt: Receipt, text: str, log: Verifier) -> None:
    """The pass the caller holds is the admission that this receipt closes."""
    try:
        found = Log.of(log).check_pass(text)
    except FormatError as error:
        raise FormatError("pass", error.reason) from None
    statement, said = receipt.statement, found.admission
    model = statement.get("model")
    closed = (
        receipt.of,
        *(statement.get(name) for name in ("request", "input_sha256", "subject", "epoch")),
        model.get("digest") if isinstance(model, dict) else None,
    )
    if closed != (found.index, said["req"], said["input"], said["sub"], said["epoch"], said["model"]):
        raise FormatError("pass", "of another request")


def _strict(data: bytes | str) -> Any:
    """JSON without what two parsers read differently: a name twice, null, floats, large integers, lone surrogates."""
    if len(data) > MAX_RECEIPT:
        raise FormatError("malformed", "too long")
    try:
        text = data.decode() if isinstance(data, bytes) else data
        value = json.loads(text, object_pairs_hook=_once, parse_int=_integer)
        canonical.dumps(value)
    except (ValueError, TypeError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise FormatError("malformed", "not strict JSON") from None
    canonical.check(value)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _integer(digits: str) -> int:
    if digits == "-0" or len(digits) > MAX_DIGITS:
        raise ValueError("not an integer within 2^53")
    return int(digits)


def _is_statement(said: Event) -> bool:
    return (
        type(said.get("v")) is int
        and said["v"] == 1
        and all(isinstance(said.get(name), str) and pattern.fullmatch(said[name]) for name, pattern in SHAPE.items())
        and all(_are_hashes(said[name]) for name in ("text_sha256", "tools_sha256") if name in said)
    )


def _are_hashes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= MAX_HASHES
        and all(isinstance(item, str) and HEX32.fullmatch(item) for item in value)
    )


MAX_RECEIPT = 256 << 10
MAX_DIGITS = 17
MAX_HASHES = 16
SHAPE = {
    "request": ULID,
    "origin": re.compile(r".+"),
    "salt": HEX32,
    "outcome": re.compile("completed|denied|aborted"),
    "time": TIME,
    "subject": ID,
}
