"""A door: the inference ingress (role `door`) and the management ingress (role `admin`), one program with two route tables.

The master reads the keys, makes the TLS context, gives up its rights and forks; each worker follows the signer by itself.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealward.clock import SystemClock
from sealward.errors import ConfigurationError
from sealward.formats.b64 import unb64url
from sealward.formats.fault import FormatError
from sealward.gateway.follower import Follower
from sealward.gateway.limits import Limits
from sealward.gateway.master import Crew
from sealward.gateway.routes import INFERENCE, MANAGEMENT
from sealward.gateway.tls import Names, server_context
from sealward.gateway.view import View
from sealward.gateway.worker import Site, Worker
from sealward.keyring.secret import read_key
from sealward.process import Start
from sealward.settings import Settings


def main(start: Start) -> None:
    """Serves until SIGTERM. ConfigurationError: settings, certificate or keys are not usable."""
    base = start.home.resolve()  # later it may not be reachable through the home folder
    settings = Settings.load(base)
    door = settings.doors.inference if start.role == "door" else settings.doors.management
    listener = start.listeners.get("tcp")
    if listener is None:
        raise ConfigurationError("no listening socket", remedy="start the door by `sealward up` or its unit")
    certificate = door.certificate_file or base / "tls/server.pem"
    key = door.key_file or base / "state" / start.role / "tls.key"
    context = server_context(certificate, key, door.client_ca_file)
    site = _site(start.role, base, settings, certificate)
    parts = _Parts(site, base / "run" / f"signer.{start.role}.sock", _signer(base), listener, context)
    start.drop()
    Crew(door.workers, parts.work, parts.site.limits.drain_s + LEEWAY_S).run(start.ready)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the master has made for its workers."""

    site: Site
    signer_socket: Path
    signer: Ed25519PublicKey
    listener: socket.socket
    context: ssl.SSLContext

    def work(self, number: int, ready: Callable[[], None]) -> None:
        """A worker's life."""
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(self._serve(number, ready))
        # The loop is not closed: uvloop waits for ever for a transport that is closing just then, and this process ends anyway.

    async def _serve(self, number: int, ready: Callable[[], None]) -> None:
        clock = SystemClock()
        follower = Follower(self.signer_socket, View(self.signer), clock)
        worker = Worker(self.site.numbered(number), clock, follower)
        follower.on_change.append(worker.standing.changed)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, stop.set)
        following = loop.create_task(follower.run())
        following.add_done_callback(lambda _: stop.set())
        worker.listen(self.listener, self.context)
        ready()
        await stop.wait()
        if following.done():
            following.result()  # it never ends by itself: without it this worker would decide from an old snapshot
        await worker.drain()
        following.cancel()


def _site(role: str, base: Path, settings: Settings, certificate: Path) -> Site:
    run = base / "run"
    inference = role == "door"
    return Site(
        instance=role,
        table=INFERENCE if inference else MANAGEMENT,
        names=Names.of(certificate),
        recorder=run / f"recorder.{role}.sock",
        sidecar=run / "sidecar.door.sock" if inference else None,
        control=run / f"control.{role}.sock",
        pepper=read_key(base / "state" / role / "pepper"),
        environment=settings.identity.environment,
        audience=settings.doors.audience("inference" if inference else "management"),
        refusals=settings.refusals,
        limits=Limits(),
        journal=None if inference else base / "journal",
    )


def _signer(base: Path) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(unb64url((base / "trust/signer.pub").read_text("ascii").strip()))
    except (OSError, ValueError, FormatError) as error:
        raise ConfigurationError(f"trust/signer.pub: {error}", remedy="`sealward init` pins it") from error


LEEWAY_S = 5.0
