"""The sidecar as a process: hashes and starts its runtimes, presents them until SIGTERM, ends when one of them ends.

A runtime that died is not started again here: the whole sidecar ends, its run with it, and the supervisor starts both anew; so
no pass of the old run can meet the new runtime.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealward import settings
from sealward.clock import SystemClock
from sealward.errors import ConfigurationError, Reason, UnreachableError
from sealward.events import Event, system_subject
from sealward.formats.b64 import unb64url
from sealward.gateway.entries import Author
from sealward.gateway.follower import Follower
from sealward.gateway.limits import Limits
from sealward.gateway.presenting import DoorConnection, Presenting, Shared
from sealward.gateway.recorder_link import RecorderLink
from sealward.gateway.refusals import Refusals
from sealward.gateway.runtimes import STAGES, Child, Presented, present, sweep
from sealward.gateway.ticker import Ticker
from sealward.gateway.view import View
from sealward.process import Start


def main(start: Start) -> None:
    """Role `sidecar`: socket sidecar.door. UnreachableError when a runtime does not start, or ends."""
    found = settings.Settings.load(start.home)
    run = (start.home / "run").resolve()  # later it may not be reachable through the home folder
    public = _pinned(start.home / "trust" / "signer.pub")
    sweep(start.home)
    # Forked here: before a thread, before the loop, before the drop.
    presented = [present(name, model, start) for name, model in found.models.items() if not model.runtime.danger_direct]
    start.drop()
    uvloop.run(Sidecar(start, run, public, presented, found.refusals).serve())


class Sidecar:
    """One run. `serve` returns after SIGTERM and raises what ended it otherwise."""

    def __init__(
        self, start: Start, run: Path, public: Ed25519PublicKey, presented: Sequence[Presented], refusals: settings.Refusals
    ) -> None:
        self._start, self._run, self._public, self._presented, self._refusals = start, run, public, presented, refusals
        self._name = f"{ID}:{secrets.token_hex(8)}"

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        ended = self._ended = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, None)
        limits, clock, ticker = Limits(body_bytes=BODY_BYTES), SystemClock(), Ticker(loop)
        author = self._author = Author(f"sidecar/{ID}", clock, os.urandom)
        link = self._link = _Link(self._run / "recorder.runtime.sock", author, ticker, limits, lambda _: None)
        follower = Follower(self._run / "signer.runtime.sock", View(self._public), clock)
        refusals = Refusals(self._refusals, author, link)
        server = Presenting(self._name, self._presented, Shared(author, ticker, follower, refusals, limits))
        follower.on_change.append(server.follow)
        following = loop.create_task(follower.run())
        following.add_done_callback(self._over)
        self._watch()
        uid = self._start.peers["door"]
        doors = self._start.listeners["sidecar.door"]
        # The loop's own default of 100 would take the place of the listener's: a burst of streams would be turned away.
        listening = await loop.create_unix_server(lambda: DoorConnection(server, uid), sock=doors, backlog=BACKLOG)
        loading = loop.create_task(self._load(server))
        loading.add_done_callback(self._over)
        try:
            await ended
            listening.close()
            await server.quiet()
        finally:
            loading.cancel()
            following.cancel()
            server.reset()
            refusals.close()
            link.stop()
            ticker.stop()
            self._stop()

    async def _load(self, server: Presenting) -> None:
        """Until everything is there to serve: the recorder is told what, then the supervisor, then the doors."""
        await self._link.up.wait()
        for model in self._presented:
            self._record("model.presented", model)
        await self._loaded.wait()
        for model in self._presented:
            self._record("model.loaded", model)
        server.state = "ready"
        self._start.ready()

    def _watch(self) -> None:
        self._loaded = asyncio.Event()
        self._children = {model.id: model.child for model in self._presented if model.child is not None}
        self._told = dict.fromkeys(self._children, b"")
        for name, child in self._children.items():
            asyncio.get_running_loop().add_reader(child.stages, self._heard, name, child)
        self._all_loaded()

    def _heard(self, name: str, child: Child) -> None:
        told = os.read(child.stages, 16)
        if told:
            self._told[name] += told
            self._all_loaded()
            return
        asyncio.get_running_loop().remove_reader(child.stages)
        del self._children[name]
        at = STAGES.get(self._told[name], "its start")
        code = child.stop()
        process = {"name": f"runtime/{name}", "pid": child.pid, "exit": code, "reason": f"ended while at: {at}"}
        self._link.record(self._author.event("process.failed", system_subject(SUBJECT), process=process))
        self._end(UnreachableError(f"the runtime of {name} ended ({code}) while at: {at}", remedy="see the model's `runtime`"))

    def _all_loaded(self) -> None:
        if all(told in SERVING for told in self._told.values()):
            self._loaded.set()

    def _record(self, kind: str, model: Presented) -> None:
        load: Event = {"id": self._name.rpartition(":")[2], "means": "direct", "runtime": model.kind, "sidecar": ID}
        if model.child is not None:
            load["pid"] = model.child.pid
        named = {"alias": model.id, "id": model.id, "digest": model.digest}
        self._link.record(self._author.event(kind, system_subject(SUBJECT), model=named, load=load))

    def _over(self, task: asyncio.Task[None]) -> None:
        """What no task of ours may raise ends the process."""
        if not task.cancelled() and task.exception() is not None:
            self._end(task.exception())

    def _end(self, error: BaseException | None) -> None:
        if not self._ended.done():
            if error is None:
                self._ended.set_result(None)
            else:
                self._ended.set_exception(error)

    def _stop(self) -> None:
        for child in self._children.values():
            asyncio.get_running_loop().remove_reader(child.stages)
            child.stop()
        for model in self._presented:
            if model.child is not None and isinstance(model.address, Path):
                model.address.unlink(missing_ok=True)


class _Link(RecorderLink):
    """`up` is set once the recorder is there."""

    def __init__(self, path: Path, author: Author, ticker: Ticker, limits: Limits, on_broken: Callable[[Reason], None]) -> None:
        super().__init__(path, author, ticker, limits, on_broken)
        self.up = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.up.set()


def _pinned(path: Path) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(unb64url(path.read_text("utf-8").strip()))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path.name} is no pinned key", remedy="`sealward init` pins it") from error


ID = "local"
SUBJECT = "sidecar/local"
BACKLOG = 4096
BODY_BYTES = 32 << 20  # the door's own text of a body may be longer than the caller's
SERVING = frozenset(told for told, stage in STAGES.items() if stage == "serving")
