"""What a door, sidecar or recorder may decide from now: the snapshot that the newest heartbeat names (contracts.md §6).

A pure state machine. A question is a nonce with the moment it was sent, an answer counts from that moment by CLOCK_BOOTTIME.
A delta takes effect at once; until a newer answer names it, the last answer's time goes on. Epochs only grow, in memory only:
the signer never names less than it named, so there is no file to restore an old one from.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealward.errors import Reason, Refused
from sealward.formats.fault import FormatError
from sealward.formats.heartbeat import Heartbeat, check_heartbeat
from sealward.formats.snapshot import GENESIS, Point, Snapshot, apply, open_delta, open_snapshot


class View:
    """`public` is the pinned key of the signer. Epochs below `floor` are refused: the recorder passes what its journal knows.

    What is refused raises FormatError with the contract's reason and changes nothing, but a fork: two signed snapshots of one
    epoch mean that the signer's key lies, and nothing is served any more by this process.
    """

    def __init__(self, public: Ed25519PublicKey, floor: int = 0) -> None:
        self._public = public
        self._floor = floor
        self._asked: dict[bytes, float] = {}
        self._held = GENESIS
        self._named: Point = GENESIS.point
        self._sent, self._until = float("-inf"), float("-inf")
        self._forked = False

    def serving(self, now: float) -> Snapshot:
        """The snapshot to decide from at `now` (Clock.boot()); Refused(no_snapshot | no_heartbeat)."""
        if self._forked:
            raise Refused(Reason.NO_SNAPSHOT, "the signer signed two snapshots of one epoch", remedy="sealward recover signer")
        if self._held is GENESIS:
            raise Refused(Reason.NO_SNAPSHOT, "no snapshot yet")
        if not self._sent <= now < self._until:
            raise Refused(Reason.NO_HEARTBEAT, "the signer has not answered in time")
        if self.behind:
            raise Refused(Reason.NO_SNAPSHOT, f"epoch {self._named.epoch} is being fetched")
        return self._held

    @property
    def held(self) -> Snapshot:
        """The newest snapshot known, whether it may be served or not; GENESIS when there is none."""
        return self._held

    @property
    def behind(self) -> bool:
        """Whether the signer named a newer snapshot than is held: fetch deltas from `held.epoch`, or the whole."""
        return self._named.epoch > self._held.epoch

    def ask(self, nonce: bytes, now: float) -> None:
        """Call before a fresh random nonce is sent; what was asked long ago is forgotten."""
        self._asked[nonce] = now
        while len(self._asked) > MAX_ASKED:
            del self._asked[next(iter(self._asked))]

    def heard(self, nonce: bytes, beat: Heartbeat, now: float) -> None:
        """The answer to a nonce, once. FormatError: nonce (not asked), signature, ttl, epoch, fork, stale."""
        sent = self._asked.pop(nonce, None)
        if sent is None:
            raise FormatError("nonce", "an answer to no question")
        known = max(self._held.point, self._named)
        try:
            check_heartbeat(nonce, beat, self._public, known=known, age_s=now - sent)
        except FormatError as error:
            self._forked |= error.reason == "fork"
            raise
        if beat.named.epoch < self._floor:
            raise FormatError("epoch", f"{beat.named.epoch}, the journal knows {self._floor}")
        self._named = beat.named
        if sent > self._sent:
            self._sent, self._until = sent, sent + beat.ttl_ms / 1000

    def delta(self, data: bytes) -> None:
        """A delta, pushed or fetched; one that leads no further is ignored.

        FormatError: malformed, signature, from (something between is missing), epoch, fork.
        """
        delta = open_delta(data, self._public)
        if delta.start < delta.to <= self._held.epoch:
            if delta.to == self._held.epoch and delta.result != self._held.digest:
                self._fork(delta.to)
            return
        try:
            found = apply(self._held, delta)
        except FormatError as error:
            if error.reason in {"op", "result"}:  # it is from another snapshot of the epoch that is held
                self._fork(delta.start)
            raise
        self._take(found)

    def whole(self, data: bytes) -> None:
        """A snapshot, fetched. FormatError: malformed, signature, epoch, fork."""
        try:
            found = open_snapshot(data, self._public, self._held.point)
        except FormatError as error:
            self._forked |= error.reason == "fork"
            raise
        self._take(found)

    def _take(self, found: Snapshot) -> None:
        if found.epoch < self._floor:
            raise FormatError("epoch", f"{found.epoch}, the journal knows {self._floor}")
        if found.epoch == self._named.epoch and found.digest != self._named.digest:
            self._fork(found.epoch)
        if found.epoch > self._held.epoch:
            self._held = found

    def _fork(self, epoch: int) -> None:
        self._forked = True
        raise FormatError("fork", f"two snapshots of epoch {epoch}")


MAX_ASKED = 16
