"""How a change becomes a signed snapshot (contracts.md section 6): pending → intent → signed → applied → published.

    committed as pending with its bytes      nobody else knows of it
    intent entry durable                     the journal knows what is tried, and `cm` is the change's hash
    signed                                   the signer's epoch; from here on every door obeys it
    applied                                  our rows
    `snapshot.published` names the intent    the intent is closed

Each step can be the last before a crash or a lost connection. `settle` starts from wherever that was: what the signer carried
out is published, what takes rights away is done again, the rest is closed as failed; pending changes that no entry names are
proposed anew. Nothing new is tried before that is done. One change at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Protocol

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealward.control.acts import Act, again
from sealward.control.author import Author, intent_of
from sealward.control.state import State, Stored
from sealward.errors import IntegrityError, Reason, Refused, UnreachableError
from sealward.events import Event
from sealward.formats.change import Change, Intent
from sealward.formats.fault import FormatError
from sealward.formats.snapshot import GENESIS, Point, Snapshot, apply, open_delta, open_snapshot
from sealward.identity.policies import require


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """An intent entry that no `snapshot.published` names and no `change.failed` closes; `digest` hex of its change."""

    index: int
    digest: str
    event: Event


class Journal(Protocol):
    """The recorder. Raises Refused when it says no, UnreachableError when nobody knows what it did."""

    async def record(self, event: Event) -> Intent:
        """Durable on return."""

    async def intents(self) -> Sequence[OpenIntent]:
        """In the order of the log."""


class SignedLike(Protocol):
    """What the signer made of a proposal."""

    @property
    def named(self) -> Point: ...
    @property
    def delta(self) -> bytes: ...


class Signer(Protocol):
    """The signer's link. Raises FormatError(reason) when it says no, UnreachableError when nobody knows what it did."""

    async def snapshot(self) -> bytes: ...
    async def intent(self) -> tuple[int, str, int] | None: ...
    async def propose(self, change: bytes, intent: Intent) -> SignedLike: ...


@dataclass(frozen=True, slots=True)
class Published:
    """What a change became."""

    epoch: int
    intent: int


class Publisher:
    """`snapshot` is the newest one that the signer signed, as far as we know; `on_snapshot` hears of each."""

    def __init__(
        self,
        state: State,
        journal: Journal,
        signer: Signer,
        public: Ed25519PublicKey,
        author: Author,
        on_snapshot: Callable[[Snapshot], None] = lambda _: None,
    ) -> None:
        self.snapshot: Snapshot = GENESIS
        self._state, self._journal, self._signer, self._public = state, journal, signer, public
        self._author, self.on_snapshot = author, on_snapshot
        self._lock = asyncio.Lock()
        self._due = asyncio.Event()  # set = `_settle` comes before anything new
        self._due.set()

    async def publish(self, by: str, make: Callable[[Snapshot], Act], event: Callable[[Act], Event]) -> Published:
        """Carries out what `make` makes of the newest snapshot. Refused when it cannot be; UnreachableError: perhaps later."""
        async with self._lock:
            if self._due.is_set():
                await self._settle()
            for _ in range(ATTEMPTS):
                act = make(self.snapshot)
                stored = self._state.add(self._checked(by, act.ops), event(act))
                with contextlib.suppress(_Overtaken):
                    return await self._carry_out(stored)
                await self._fetch()
            raise Refused(Reason.OVERLOADED, "another control process is publishing")

    async def run(self) -> None:
        """Settles whenever that is due; to be run as a task after the first `settle`."""
        while True:
            await self._due.wait()
            await self.settle()

    async def settle(self) -> None:
        """Returns when everything that an earlier run or a lost connection left behind has come to its end."""
        for pause in chain(PAUSES_S, repeat(PAUSES_S[-1])):
            try:
                async with self._lock:
                    await self._settle()
            except (UnreachableError, Refused) as error:
                LOG.info("changes are not settled yet", cause=error.detail)
                await asyncio.sleep(pause)
            else:
                return

    async def _settle(self) -> None:
        done = False
        try:
            await self._bring_to_an_end()
            done = True
        except _Overtaken as error:
            raise UnreachableError("another control process is publishing") from error
        finally:
            if done:
                self._due.clear()
            else:
                self._due.set()

    async def _bring_to_an_end(self) -> None:
        await self._fetch()
        carried = await self._signer.intent()
        left = list(await self._journal.intents())
        for intent in left:
            stored = self._state.find(intent.digest)
            if carried == (self.snapshot.epoch, intent.digest, intent.index):
                await self._conclude(stored, intent)
            else:
                await self._redo_or_fail(stored, intent)
        named = {intent.digest for intent in left}
        for stored in self._state.pending():
            if stored.change.digest not in named:
                await self._anew(stored)
        if self._state.sections() != _plain(self.snapshot):
            self._state.replace(self.snapshot.sections)

    async def _conclude(self, stored: Stored | None, intent: OpenIntent) -> None:
        """The signer was ahead of the journal."""
        if stored is not None and stored.status == "pending":
            self._state.applied(stored, intent=intent.index, epoch=self.snapshot.epoch)
        ops = len(stored.change.ops) if stored is not None else 1
        await self._journal.record(self._author.published(self.snapshot, intent.index, ops))

    async def _redo_or_fail(self, stored: Stored | None, intent: OpenIntent) -> None:
        """The right is gone before its first intent is closed: no crash in between can revive it."""
        act = again(intent.event, self.snapshot)
        ops = act.ops if act is not None else self._first(stored)
        if ops:
            event = {name: value for name, value in intent.event.items() if name not in RECORDED}
            event["change"] = {name: value for name, value in event["change"].items() if name not in {"digest", "salt"}}
            change = self._checked(intent.event["subject"]["id"], ops)
            await self._carry_out(self._state.add(change, self._author.anew(event)))
        if stored is not None and stored.status == "pending":
            self._state.failed(stored, "stopped before it was signed")
        why = "done again by a later intent" if ops else "stopped before it was signed"
        await self._journal.record(self._author.failed(intent.event, intent.digest, why))

    def _first(self, stored: Stored | None) -> tuple[Any, ...]:
        """Without any snapshot there is one change to be made, and no other way out: the first one, which `init` left pending."""
        return stored.change.ops if stored is not None and self.snapshot is GENESIS else ()

    async def _anew(self, stored: Stored) -> None:
        """A pending change that no entry names: as it is, or on the snapshot of now."""
        if stored.change.previous != self.snapshot.digest:
            self._state.failed(stored, "proposed anew on a later snapshot")
            try:
                change = self._checked(stored.change.by, stored.change.ops)
            except Refused as error:
                LOG.warning("a pending change no longer fits", cause=error.detail)
                return
            stored = self._state.add(change, self._author.anew(stored.event))
        try:
            await self._carry_out(stored)
        except Refused:
            if self.snapshot is GENESIS:
                raise  # the first change stays pending until it is through

    async def _carry_out(self, stored: Stored) -> Published:
        """From pending to published. After anything but an answer the outcome is open, and `settle` is due."""
        self._due.set()
        change = stored.change
        try:
            intent = await self._journal.record(intent_of(stored.event, change))
        except Refused:
            if self.snapshot is not GENESIS:
                self._state.failed(stored, "no entry, no change")
                self._due.clear()
            raise
        try:
            signed = await self._signer.propose(change.raw, intent)
        except FormatError as error:
            self._state.failed(stored, error.reason)
            await self._journal.record(self._author.failed(stored.event, change.digest, error.reason))
            self._due.clear()
            if error.reason == "previous":
                raise _Overtaken from error
            raise Refused(Reason.POLICY_ERROR, f"the signer refused the change: {error.reason}") from error
        await self._advance(signed)
        self._state.applied(stored, intent=intent.index, epoch=self.snapshot.epoch)
        await self._journal.record(self._author.published(self.snapshot, intent.index, len(change.ops)))
        self._due.clear()
        return Published(self.snapshot.epoch, intent.index)

    async def _advance(self, signed: SignedLike) -> None:
        if not signed.delta:
            await self._fetch()
            return
        try:
            self._hold(apply(self.snapshot, open_delta(signed.delta, self._public)))
        except FormatError as error:
            raise IntegrityError("snapshot", f"the signer's delta: {error}", remedy="sealward doctor") from error

    async def _fetch(self) -> None:
        data = await self._signer.snapshot()
        try:
            self._hold(open_snapshot(data, self._public, self.snapshot.point) if data else self.snapshot)
        except FormatError as error:
            raise IntegrityError("snapshot", f"the signer's snapshot: {error}", remedy="sealward doctor") from error

    def _hold(self, snapshot: Snapshot) -> None:
        if snapshot.digest != self.snapshot.digest:
            self.snapshot = snapshot
            self.on_snapshot(snapshot)

    def _checked(self, by: str, ops: Sequence[object]) -> Change:
        """A change on the newest snapshot; Refused where it would give none that the schema and Cedar allow."""
        try:
            after = self.snapshot.after(ops, epoch=self.snapshot.epoch + 1, issued=self.snapshot.issued)
        except FormatError as error:
            raise Refused(Reason.BODY_FIELD, f"not allowed by the schema: {error.detail}") from error
        if after.policy_digest != self.snapshot.policy_digest:
            require(after.sections["policies"])
        return Change(by, tuple(ops), self.snapshot.digest, self._author.random(32).hex())


class _Overtaken(Exception):  # noqa: N818 - an answer, not a fault
    """The signer signed another change since: make this one again on what is now."""


def _plain(snapshot: Snapshot) -> dict[str, dict[str, object]]:
    return {name: dict(rows) for name, rows in snapshot.sections.items()}


ATTEMPTS = 5
PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
RECORDED = frozenset({"origin", "seq"})  # the recorder's own members
LOG = structlog.get_logger()
