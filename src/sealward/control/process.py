"""Control as a process: imports and migrates with the rights it was started with, drops them, settles, serves.

READY is said when the first change is through: from then on there is a snapshot that doors can decide from.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import anyio._backends._asyncio  # noqa: F401 - loaded lazily otherwise, when its files can no longer be read
import structlog
import uvicorn.lifespan.off  # noqa: F401 - the same
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import FastAPI

from sealward.clock import SystemClock
from sealward.control.api import admin_api, described
from sealward.control.author import Author
from sealward.control.bodies import Bodies, purpose_key_of
from sealward.control.desk import Desk, by_peer
from sealward.control.exchange import Exchange
from sealward.control.keeper import Keeper
from sealward.control.links import RecorderJournal
from sealward.control.minting import Mint
from sealward.control.office import Office
from sealward.control.publisher import Publisher
from sealward.control.server import AdminServer
from sealward.control.state import State, migrate
from sealward.control.trust import Source, read_sources
from sealward.errors import ConfigurationError, IntegrityError, SealwardError
from sealward.formats.b64 import unb64url
from sealward.formats.fault import FormatError
from sealward.formats.snapshot import GENESIS
from sealward.journal.client import RecorderClient
from sealward.keyring.secret import Secret, read_key
from sealward.keyring.signer_link import SignerLink
from sealward.process import Start
from sealward.settings import Settings


def main(start: Start) -> None:
    """Role `control`: state/control/ of the deployment, sockets control.admin and control.owner, until SIGTERM."""
    settings = Settings.load(start.home)
    folder = (start.home / "state/control").resolve()  # later the home may be closed to us
    public = _pinned(start.home / "trust" / "signer.pub")
    database = folder / "state.db"
    if not database.exists():
        raise ConfigurationError(f"{database} is missing", remedy="sealward init makes it; a lost one is restored from a backup")
    migrate(database)
    if start.user is not None:
        for file in folder.glob("state.db*"):
            os.chown(file, start.user.uid, start.user.gid, follow_symlinks=False)
    app, sources = described(), read_sources(settings)
    start.drop()
    pepper = read_key(folder / "pepper")
    with State(database) as state:
        asyncio.run(_Control(start, settings, pepper, public, state, app, folder, sources).serve())


class _Control:
    """The process's parts. They are made inside the running loop."""

    def __init__(
        self,
        start: Start,
        settings: Settings,
        pepper: Secret,
        public: Ed25519PublicKey,
        state: State,
        app: FastAPI,
        folder: Path,
        sources: list[Source],
    ) -> None:
        clock, sockets = SystemClock(), folder.parents[1] / "run"
        self._start = start
        self._author = Author(clock, os.urandom)
        self._recorder = RecorderClient(sockets / "recorder.control.sock", clock)
        self._signer = SignerLink(sockets / "signer.control.sock")
        journal = RecorderJournal(self._recorder)
        self._publisher = Publisher(state, journal, self._signer, public, self._author)
        mint = Mint(journal, self._signer, self._author)
        office = Office(settings, pepper, self._author, self._recorder, self._publisher, mint)
        self._publisher.on_snapshot = office.hold
        office.bodies = Bodies(self._recorder, purpose_key_of(folder), clock, os.urandom)
        self._recorder.on_push = office.bodies.pushed
        self._keeper = Keeper(office, sources, self._signer.token_key)
        desk = Desk(office, {"/sealward/v1/token": Exchange(office).answer, "/sealward/v1/keys": self._keeper.answer})
        self._server = AdminServer(by_peer(desk, admin_api(app, office)), start)

    async def serve(self) -> None:
        """Until SIGTERM or SIGINT; raises what ended one of the parts."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        try:
            async with asyncio.TaskGroup() as group:
                await self._live(group, stop)
        except* (SealwardError, OSError) as causes:
            raise causes.exceptions[0] from None

    async def _live(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        """Settle, serve, drain; a stop may come at any time."""
        parts = [group.create_task(part) for part in (self._recorder.run(), self._signer.run(), stop.wait())]
        settled = group.create_task(self._publisher.settle())
        await asyncio.wait([settled, parts[-1]], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            settled.result()
            if self._publisher.snapshot is GENESIS:
                raise IntegrityError("first_change", "the first change was refused", remedy="the log says why; run sealward init")
            await self._keeper.sync()
            parts += [group.create_task(part) for part in (self._publisher.run(), self._keeper.run())]
            serving = group.create_task(self._server.run_until_stopped())
            self._start.ready()
            LOG.info("serving", epoch=self._publisher.snapshot.epoch)
            await stop.wait()
            self._server.stop()
            await asyncio.wait([serving])
        await self._recorder.drain()
        for task in (*parts, settled):
            task.cancel()


def _pinned(path: Path) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(unb64url(path.read_text("ascii").strip()))
    except (OSError, ValueError, FormatError) as error:
        raise ConfigurationError(f"{path} does not hold the signer's key", remedy="sealward init pins it") from error


LOG = structlog.get_logger()
