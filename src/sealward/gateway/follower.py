"""Keeps a view fresh: a nonce every two seconds and after every delta, what is missing fetched, everybody told of a change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import structlog

from sealward.clock import Clock
from sealward.errors import UnreachableError
from sealward.formats.fault import FormatError
from sealward.formats.snapshot import GENESIS, Snapshot
from sealward.gateway.view import View
from sealward.keyring.signer_link import SignerLink

Change = Callable[[Snapshot, Snapshot], None]


class Follower:
    """Run `run` as a task. `on_change` holds what is called, at once and in order, with (old, new) when the snapshot changes.

    The first one follows on GENESIS. A delta is in effect when it has been read from the socket: a stream that it cuts is cut
    before the loop turns to anything else.
    """

    def __init__(self, path: Path, view: View, clock: Clock, random: Callable[[int], bytes] = os.urandom) -> None:
        self.view = view
        self.on_change: list[Change] = []
        self._clock, self._random = clock, random
        self._link = SignerLink(path, on_up=self.wake, on_delta=self._pushed)
        self._woken = asyncio.Event()
        self._moved = asyncio.Event()

    def serving(self) -> Snapshot:
        """The snapshot to decide from now; Refused(no_snapshot | no_heartbeat)."""
        return self.view.serving(self._clock.boot())

    def wake(self) -> None:
        """Ask the signer now, not at the next turn."""
        self._woken.set()

    async def reach(self, epoch: int, within_s: float = 1.0) -> bool:
        """Asks the signer at once and waits until `epoch` is held: what the lower of two does that meet with different ones."""
        self.wake()
        try:
            async with asyncio.timeout(within_s):
                while self.view.held.epoch < epoch:
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._link.run())
            while True:
                self._woken.clear()
                try:
                    await self._beat()
                except (FormatError, UnreachableError) as error:
                    LOG.warning("heartbeat refused", cause=str(error))
                try:
                    async with asyncio.timeout(EVERY_S):
                        await self._woken.wait()
                except TimeoutError:
                    continue

    async def _beat(self) -> None:
        nonce = self._random(NONCE_BYTES)
        self.view.ask(nonce, self._clock.boot())
        answer = await self._link.heartbeat(nonce)
        self.view.heard(nonce, answer, self._clock.boot())
        if self.view.behind:
            await self._fetch()

    async def _fetch(self) -> None:
        try:
            missing = [] if self.view.held is GENESIS else await self._link.deltas(self.view.held.epoch)
        except FormatError as error:
            if error.reason != "gone":
                raise
            missing = []
        for delta in missing:
            self._take(self.view.delta, delta)
        if self.view.behind:
            self._take(self.view.whole, await self._link.snapshot())

    def _pushed(self, delta: bytes) -> None:
        self.wake()
        try:
            if delta:
                self._take(self.view.delta, delta)
        except FormatError as error:  # the answer to the nonce will say what is missing
            LOG.warning("delta refused", cause=str(error))

    def _take(self, step: Callable[[bytes], None], data: bytes) -> None:
        old = self.view.held
        step(data)
        if self.view.held is not old:
            for each in self.on_change:
                each(old, self.view.held)
            self._moved.set()
            self._moved = asyncio.Event()


LOG = structlog.get_logger()
EVERY_S = 2.0
NONCE_BYTES = 16
