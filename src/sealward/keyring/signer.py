"""The signer: it holds the key that all others obey, and so does little (contracts.md §6).

Control proposes; the signer signs what has an entry in the journal, follows on what it signed last and fits the schema; and the
tokens that have an entry and name who is there (docs/reference/tokens.md). It answers nonces, and serves and pushes what it
signed. A pure state machine: disk and clock are arguments, a socket is not here.

    snapshot   the signed snapshot of some epoch, and the intent it came from: three lines
    deltas     one line for each change since, and the last 256 in any case: {"delta": text, "intent": {change, index, leaf}}

Both are durable before a heartbeat names them. A torn last line was never acknowledged and is dropped; anything else that
does not fit is damage: the signer does not start on it (`sealward recover signer`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealward.clock import Clock
from sealward.errors import IntegrityError
from sealward.formats import canonical, ids
from sealward.formats.b64 import unb64url
from sealward.formats.change import Intent, carry_out, parse_change
from sealward.formats.fault import FormatError
from sealward.formats.heartbeat import MAX_TTL_MS, sign_heartbeat
from sealward.formats.passes import Log
from sealward.formats.snapshot import GENESIS, Delta, Snapshot, apply, open_delta, open_snapshot, sign_delta, sign_snapshot
from sealward.formats.token import check_token
from sealward.keyring.disk import Disk
from sealward.keyring.token_key import TokenKey

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to who asked, and before it to everybody."""

    reply: Message
    push: Message | None = None


class Signer:
    """`log` is the pinned log, whose promises are believed; what a snapshot says about it is not asked here.

    `tokens` is the key of our tokens; None where the deployment has none yet.
    Raises IntegrityError where its state is damaged. An OSError out of `handle` ends the process: what reached the disk is
    known only to the next start.
    """

    def __init__(self, disk: Disk, clock: Clock, key: Ed25519PrivateKey, log: Log, tokens: TokenKey | None = None) -> None:
        self._disk, self._clock, self._key, self._log, self._tokens = disk, clock, key, log, tokens
        self._last, self._intent, self._history = _recover(disk, key)
        self._whole: str | None = None
        if self._last is not GENESIS:
            self._rewrite()  # also makes durable what the last run may have left in the page cache

    def handle(self, role: str, message: Message) -> Answer:
        """One request of a client of `role`. Refusals are answers; only `control` proposes."""
        try:
            reply, push = self._asked(role, message)
        except FormatError as error:
            reply, push = {"refused": error.reason}, None
        return Answer({"n": message.get("n", 0)} | reply, push)

    def _asked(self, role: str, message: Message) -> tuple[Message, Message | None]:
        match message:
            case {"op": "heartbeat", "nonce": str(nonce)}:
                return self._heartbeat(unb64url(nonce)), None
            case {"op": "snapshot"}:
                return {"snapshot": self._served()}, None
            case {"op": "intent"}:
                return {"epoch": self._last.epoch} | self._intent, None
            case {"op": "deltas", "from": int(epoch)}:
                return self._deltas(epoch), None
        if role == "control":
            return self._asked_by_control(message)
        raise FormatError("malformed", "not a request of this role")

    def _asked_by_control(self, message: Message) -> tuple[Message, Message | None]:
        match message:
            case {"op": "token_key"} if self._tokens is not None:
                return {"jwk": self._tokens.jwk}, None
            case {"op": str(op), "change": str(change), "index": int(index), "leaf": str(leaf), "promise": str(promise)}:
                if ids.HEX32.fullmatch(leaf):
                    intent = Intent(index, bytes.fromhex(leaf), unb64url(promise))
                    if op == "propose":
                        return self._propose(change.encode(), intent)
                    if op == "token" and self._tokens is not None:
                        return self._mint(change.encode(), intent, self._tokens), None
        raise FormatError("malformed", "not a request")

    def _heartbeat(self, nonce: bytes) -> Message:
        if len(nonce) != NONCE_BYTES:
            raise FormatError("malformed", "not a nonce")
        if self._last is GENESIS:
            raise FormatError("no_snapshot")
        beat = sign_heartbeat(nonce, self._last.point, MAX_TTL_MS, self._key)
        return {"heartbeat": beat.signature, "epoch": beat.named.epoch, "digest": beat.named.digest, "ttl_ms": beat.ttl_ms}

    def _served(self) -> str:
        if self._whole is None:
            self._whole = "" if self._last is GENESIS else sign_snapshot(self._last, self._key).decode()
        return self._whole

    def _deltas(self, epoch: int) -> Message:
        if epoch == self._last.epoch:
            return {"deltas": []}
        starts = [step.start for step in self._history]
        if epoch not in starts:
            raise FormatError("gone")
        return {"deltas": [step.text for step in self._history[starts.index(epoch) :]]}

    def _propose(self, raw: bytes, intent: Intent) -> tuple[Message, Message]:
        now = self._clock.now()
        before, issued = self._last, ids.rfc3339(now)
        after = carry_out(raw, intent, log=self._log, last=before, unix_s=now // 1_000_000, issued=issued)
        change = parse_change(raw)
        named = {"change": change.digest, "index": intent.index, "leaf": intent.leaf.hex()}
        text = ""
        if before is GENESIS:  # readers know nothing yet: there is nothing to be ahead of
            self._disk.replace("snapshot", _snapshot_file(after, named, self._key))
            self._disk.replace("deltas", b"")
        else:
            text = sign_delta(Delta(before.epoch, after.epoch, issued, change.ops, after.digest), self._key).decode()
            step = _Step(before.epoch, text, named)
            self._disk.append("deltas", step.line())
            self._history.append(step)
        self._last, self._intent, self._whole = after, named, None
        if len(self._history) >= 2 * KEPT_DELTAS:
            self._rewrite()
        return {"epoch": after.epoch, "digest": after.digest, "delta": text}, {"push": "delta", "delta": text}

    def _mint(self, raw: bytes, intent: Intent, key: TokenKey) -> Message:
        """Keeps nothing: the same entry gives the same claims again, to whoever asks with it."""
        now_s = self._clock.now() // 1_000_000
        return {"token": key.sign(check_token(raw, intent, log=self._log, last=self._last, kid=key.kid, unix_s=now_s))}

    def _rewrite(self) -> None:
        """The snapshot first: steps that it already holds are history, whichever crash comes between."""
        del self._history[:-KEPT_DELTAS]
        self._disk.replace("snapshot", _snapshot_file(self._last, self._intent, self._key))
        self._disk.replace("deltas", b"".join(step.line() for step in self._history))


@dataclass(frozen=True, slots=True)
class _Step:
    """One signed delta as it is kept: where it starts, its text, the intent it came from."""

    start: int
    text: str
    intent: Message

    def line(self) -> bytes:
        return canonical.dumps({"delta": self.text, "intent": self.intent}) + b"\n"


def _recover(disk: Disk, key: Ed25519PrivateKey) -> tuple[Snapshot, Message, list[_Step]]:
    """What was signed last, its intent, and the steps that lead there."""
    data, deltas = disk.read("snapshot"), disk.read("deltas")
    if not data and not deltas:
        return GENESIS, {}, []
    try:
        *file, last_line, nothing = data.split(b"\n")
        last = open_snapshot(b"\n".join([*file, b""]), key.public_key(), GENESIS.point)
        intent = canonical.parse(last_line)
        if nothing:
            raise FormatError("malformed", "bytes behind the intent")  # noqa: TRY301 - one way out for all damage
    except (FormatError, ValueError) as error:
        raise IntegrityError("signer_state", f"snapshot: {error}", remedy="sealward recover signer") from error
    return _replay(last, intent, deltas.split(b"\n"), key)


def _replay(last: Snapshot, intent: Message, lines: list[bytes], key: Ed25519PrivateKey) -> tuple[Snapshot, Message, list[_Step]]:
    history: list[_Step] = []
    whole = [*lines[:-1], *([lines[-1]] if lines[-1] else [])]
    for n, line in enumerate(whole):
        try:
            kept = canonical.parse(line)
            delta = open_delta(kept["delta"].encode(), key.public_key())
            if delta.to > last.epoch:
                last, intent = apply(last, delta), kept["intent"]
        except (FormatError, TypeError, KeyError, AttributeError) as error:
            if n == len(whole) - 1:
                break  # torn: it was never acknowledged
            raise IntegrityError("signer_state", f"deltas, line {n}: {error}", remedy="sealward recover signer") from error
        history.append(_Step(delta.start, kept["delta"], kept["intent"]))
    return last, intent, history


def _snapshot_file(snapshot: Snapshot, intent: Message, key: Ed25519PrivateKey) -> bytes:
    return sign_snapshot(snapshot, key) + canonical.dumps(intent) + b"\n"


KEPT_DELTAS = 256
NONCE_BYTES = 16
