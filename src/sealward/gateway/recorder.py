"""The recorder as a process: the one point that every request of this host passes.

One socket per client role. Whatever the sockets brought in one turn of the loop is one commit, inline: while the disk syncs,
the next batch gathers in the kernel. Tiles and checkpoint follow in a thread, receipts and reads in two more. After a failure
of the journal the process answers with the reason until the disk takes writes again, and then ends: the next one starts from
what is durable. Witnesses are asked before anything is opened: a disk behind what one of them holds is never continued.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import structlog
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealward import settings
from sealward.clock import SystemClock
from sealward.errors import ConfigurationError, IntegrityError, Reason, Refused
from sealward.events import Event
from sealward.formats.b64 import unb64url
from sealward.formats.fault import FormatError
from sealward.formats.frames import Frames, frame
from sealward.gateway.catalogue import Catalogue
from sealward.gateway.clients import Client
from sealward.gateway.counters import Counters
from sealward.gateway.entries import Author
from sealward.gateway.follower import Follower
from sealward.gateway.intents import Intents
from sealward.gateway.library import Library
from sealward.gateway.readings import Readings
from sealward.gateway.recording import Message, Recording, World
from sealward.gateway.recoveries import Recoveries
from sealward.gateway.view import View
from sealward.gateway.watch import Watch
from sealward.journal.cosigning import NOBODY, Witnesses, refuse_if_behind
from sealward.journal.durable import OsDisk
from sealward.journal.key_stores import elders_of
from sealward.journal.keys import load_keys, load_purpose_key, verifier_of
from sealward.journal.publisher import Publisher
from sealward.journal.reader import Reader
from sealward.journal.writer import Writer
from sealward.keyring.provider import Lease, Standing
from sealward.process import Start, peer_uid


def main(start: Start) -> None:
    """Role `recorder`: sockets recorder.{door,admin,control,runtime,supervisor,owner}, the journal of the deployment."""
    found = settings.Settings.load(start.home)
    journal, run = (start.home / "journal").resolve(), (start.home / "run").resolve()
    try:
        public = Ed25519PublicKey.from_public_bytes(unb64url((start.home / "trust" / "signer.pub").read_text().strip()))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"trust/signer.pub: {error}", remedy="`sealward init` pins it") from error
    witnesses = Witnesses.of(found.journal)
    start.drop()
    uvloop.run(Recorder(start, journal, run, public, found.refusals, witnesses).serve())


class Recorder:
    """One run. `serve` returns after SIGTERM, and raises what ended it otherwise."""

    def __init__(
        self,
        start: Start,
        journal: Path,
        run: Path,
        public: Ed25519PublicKey,
        refusals: settings.Refusals,
        witnesses: Witnesses = NOBODY,
    ) -> None:
        self._start, self._clock = start, SystemClock()
        counters, intents, recoveries = Counters(self._clock), Intents(), Recoveries()
        purpose_key = load_purpose_key(journal)
        self._catalogue = Catalogue.start(journal, verifier_of(journal), purpose_key, start.listeners.values())
        keys, disk = load_keys(journal), OsDisk(journal)
        self._lease = Lease(partial(load_purpose_key, journal), self._clock.boot())
        for name in refuse_if_behind(Reader(disk, keys.signer.verifier), witnesses.clients):
            LOG.warning("witness does not answer", name=name)
        folds, elders = (counters, intents, recoveries), elders_of(journal, self._clock)
        self._writer = Writer.open(disk, keys, clock=self._clock, random=os.urandom, folds=folds, elders=elders)
        author = Author("recorder", self._clock, os.urandom)
        self._watch = Watch(self._writer, recoveries, witnesses, journal.parent / "recovery/recovery.log", author)
        self._follower = Follower(run / "signer.recorder.sock", View(public, floor=counters.epoch), self._clock)
        self._library = Library(self._writer)
        self._readings = Readings(self._writer, self._catalogue)
        world = World(
            clock=self._clock,
            random=os.urandom,
            lease=self._lease,
            serving=self._follower.serving,
            behind=self._follower.wake,
            receipt=self._library.receipt,
            read=self._readings.read,
            aside=self._library.aside,
            fresh=self._watch.fresh,
            witnesses=self._watch.status,
        )
        self._recording = Recording(self._writer, counters, intents, world, refusals)
        self._unwrap = partial(load_purpose_key, journal)
        self._until = FOREVER

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = loop.create_future()
        loop.set_exception_handler(self._crashed)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)  # events are trees without cycles, thousands live at a time: 15 % of the CPU else
        self._recording.begin(os.getpid(), self._watch.first())
        self._record(self._watch.begin())
        office = Office(self._recording, loop)
        self._follower.on_change.append(lambda _old, _new: office.moved())
        publisher = Publisher(self._writer)
        self._readings.begin()
        servers = []
        for name, listener in self._start.listeners.items():
            role = name.partition(".")[2]
            factory = partial(Connection, office, role, self._start.peers[role])
            servers.append(await loop.create_unix_server(factory, sock=listener))
        tasks = [loop.create_task(self._follower.run()), loop.create_task(self._tick(office))]
        for task in tasks:
            task.add_done_callback(self._over)
        self._start.ready()
        try:
            await self._ended
            self._recording.end()
        finally:
            for server in servers:
                server.close()
            for connection in office.connections:
                connection.close()
            for task in tasks:
                task.cancel()
            publisher.stop()
            self._library.close()
            self._readings.close()
            with contextlib.suppress(IntegrityError):  # said already; what is durable stays
                self._writer.publish()
            self._watch.stop()
            with contextlib.suppress(IntegrityError):
                self._writer.close()

    def _end(self) -> None:
        """Doors have drained before; what is still open may close within DRAIN_S."""
        self._recording.drain()
        self._until = min(self._until, self._clock.boot() + DRAIN_S)

    def _crashed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A fault of ours in any callback: what is in memory may be half done, so it ends here and the next run replays."""
        loop.default_exception_handler(context)
        if not self._ended.done():
            self._ended.set_exception(context.get("exception") or IntegrityError("recorder", str(context.get("message"))))

    def _over(self, task: asyncio.Task[None]) -> None:
        """Neither the snapshot nor the clock may stop while the rest goes on."""
        if not task.cancelled() and task.exception() is not None and not self._ended.done():
            self._ended.set_exception(cast("BaseException", task.exception()))

    async def _tick(self, office: Office) -> None:
        tried = self._clock.boot()
        while True:
            await asyncio.sleep(TICK_S)
            events, behind = self._watch.look()
            self._record(events)
            if behind:
                self._recording.stop(Reason.JOURNAL_DAMAGED)
            office.tick()
            self._readings.grown()
            now = self._clock.boot()
            if self._lease.standing(now) is Standing.ENDED:
                self._readings.close()
            if self._recording.stopped in RETRIED and now - tried >= RETRY_S:
                tried = now
                self._try_again()
            if self._until < FOREVER and (now >= self._until or not self._recording.open) and not self._ended.done():
                self._ended.set_result(None)

    def _record(self, events: Sequence[Event]) -> None:
        for event in events:
            self._recording.record(event)
        if events:
            self._recording.turn()

    def _try_again(self) -> None:
        """Whether the disk or the provider is back. What is in memory may be ahead of the disk: a new process starts from it."""
        try:
            if self._writer.failed is not None:
                self._writer.resume()
            self._unwrap()
        except (IntegrityError, Refused):
            return
        if not self._ended.done():
            self._ended.set_exception(IntegrityError(str(self._recording.stopped), "over; starting again"))


class Office:
    """Gathers what a turn of the loop brings, and sends out what it answers."""

    def __init__(self, recording: Recording, loop: asyncio.AbstractEventLoop) -> None:
        self._recording, self._loop = recording, loop
        self._due = False
        self.connections: set[Connection] = set()
        self._unsent: set[Connection] = set()

    def connected(self, connection: Connection) -> None:
        self.connections.add(connection)
        self._recording.connect(connection.client)

    def lost(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.discard(connection)
            self._run(partial(self._recording.gone, connection.client))

    def take(self, client: Client, messages: list[Message]) -> None:
        for message in messages:
            self._recording.take(client, message)
        self._soon()

    def moved(self) -> None:
        self._run(self._recording.moved)

    def tick(self) -> None:
        self._run(self._recording.tick)

    def say(self, connection: Connection) -> None:
        """`connection` has something to send, with this turn."""
        self._unsent.add(connection)
        self._soon()

    def _soon(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self._run, self._recording.turn)

    def _run(self, step: Callable[[], None]) -> None:
        self._due = True
        step()
        for connection in self._unsent:
            connection.flush()
        self._unsent.clear()
        self._due = False


class Connection(asyncio.Protocol):
    """One client. Whoever is not the user of the socket's role, or root, is gone before it can say a word."""

    def __init__(self, office: Office, role: str, uid: int) -> None:
        self._office, self._uid = office, uid
        self.client = Client(role, self._say, self._hang_up, self._drained)
        self._frames = Frames(MESSAGE_LIMIT)
        self._out: list[bytes] = []
        self._hanging_up = False
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if peer_uid(transport.get_extra_info("socket")) not in {0, self._uid}:
            self._transport.abort()
            return
        self._office.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._writable.set()
        self._office.lost(self)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._frames.feed(data)
        except FormatError:
            self._transport.abort()
            return
        if messages and not self._hanging_up:
            self._office.take(self.client, messages)

    def pause_writing(self) -> None:
        """Whoever does not read its answers asks nothing more."""
        self._transport.pause_reading()
        self._writable.clear()

    def resume_writing(self) -> None:
        self._transport.resume_reading()
        self._writable.set()

    def flush(self) -> None:
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()
        if self._hanging_up:
            self._transport.close()

    def close(self) -> None:
        self._transport.close()

    def _say(self, message: Message | bytes) -> None:
        self._out.append(message if isinstance(message, bytes) else frame(message))
        self._office.say(self)

    def _hang_up(self) -> None:
        self._hanging_up = True
        self._office.say(self)

    async def _drained(self) -> None:
        await self._writable.wait()
        if self._transport.is_closing():
            raise ConnectionResetError


LOG = structlog.get_logger()
RETRIED = frozenset({Reason.JOURNAL_FULL, Reason.JOURNAL_IO, Reason.KEY_UNAVAILABLE})
MESSAGE_LIMIT = 1 << 18
TICK_S = 0.1
RETRY_S = 2.0
DRAIN_S = 5.0
FOREVER = float("inf")
