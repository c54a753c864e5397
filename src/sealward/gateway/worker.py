"""One worker of a door: everything its exchanges share, put together once."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import socket
import ssl
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sealward import settings
from sealward.clock import Clock
from sealward.errors import Reason, Refused
from sealward.formats.ids import parse_rfc3339
from sealward.gateway import endings, pipeline
from sealward.gateway.cuts import Cuts
from sealward.gateway.entries import Author
from sealward.gateway.exchange import Exchange, Source
from sealward.gateway.flight import Wait
from sealward.gateway.ledger import Ledger
from sealward.gateway.limits import Limits
from sealward.gateway.listener import Listener
from sealward.gateway.recorder_link import RecorderLink
from sealward.gateway.refusals import Refusals
from sealward.gateway.reply import ReplyStage
from sealward.gateway.rotation import Rotation
from sealward.gateway.routes import Table
from sealward.gateway.serving import Server
from sealward.gateway.sidecars import Sidecars
from sealward.gateway.standing import Ground, Standing
from sealward.gateway.standing import Source as Snapshots
from sealward.gateway.ticker import Ticker
from sealward.gateway.tls import Names, trust_clients
from sealward.gateway.upstream import Pool
from sealward.identity.issuers import Issuers
from sealward.keyring.secret import Secret


@dataclass(frozen=True, slots=True)
class Site:
    """What a worker is given: its place in the deployment."""

    instance: str
    table: Table
    names: Names
    recorder: Path
    sidecar: Path | None
    """Of an inference door."""
    control: Path | None
    """Which administers, and exchanges tokens."""
    pepper: Secret
    environment: str
    audience: str = ""
    """How tokens call this door."""
    refusals: settings.Refusals = field(default_factory=settings.Refusals)
    limits: Limits = field(default_factory=Limits)
    journal: Path | None = None
    """Its public files, at a management door."""

    def numbered(self, number: int) -> Site:
        """For one worker of several."""
        return replace(self, instance=f"{self.instance}-{number}")


class Worker(Server):
    """Needs a running loop. `follow` it with the follower's changes, `listen` on sockets, `drain` it at the end."""

    def __init__(self, site: Site, clock: Clock, snapshots: Snapshots) -> None:
        super().__init__(Author(site.instance, clock, os.urandom), site.limits, site.table, Ticker(asyncio.get_running_loop()))
        self.site = site
        self.link = RecorderLink(site.recorder, self.author, self.ticker, self.limits, self._recorder_lost)
        self.ledger = Ledger(self.link, self.author)
        self.refusals = Refusals(site.refusals, self.author, self.link)
        self.cuts = Cuts()
        self.standing = Standing(snapshots, site.pepper, site.environment, self.ticker)
        self.standing.on_change = self._changed
        self.sidecars = Sidecars(site.sidecar or Path(), self.ticker, self.limits)
        self.control = Pool(site.control, self.ticker, self.limits) if site.control is not None else None
        self.rotation = Rotation(self.control, self.standing, self.ticker)
        self.stages: Sequence[ReplyStage] = ()
        self.deadline = 0.0
        self._listeners: list[Listener] = []
        self._contexts: list[ssl.SSLContext] = []
        self._trusted: Issuers | None = None
        self._hosts: dict[tuple[bytes, str | None], bool] = {}
        self._salt = hmac.digest(site.pepper.reveal(), b"sealward cache salt v1", hashlib.sha256)
        self.ticker.watch(self)

    # -- what stages and connections ask --

    def serve(self, exchange: Exchange) -> Coroutine[Wait[Any], None, None]:
        return pipeline.serve(self, exchange)

    def crashed(self, exchange: Exchange) -> None:
        """A stage of it raised what no stage may raise: it is refused, and what it may have said is cut."""
        endings.refused(self, exchange, Refused(Reason.POLICY_ERROR, "a stage crashed"))
        exchange.connection.over(exchange)

    def allows_host(self, host: bytes, sni: str | None) -> bool:
        known = self._hosts.get((host, sni))
        if known is None:
            known = self.site.names.allow(host, sni)
            if len(self._hosts) < MAX_HOSTS:
                self._hosts[host, sni] = known
        return known

    def cache_salt(self, row: Mapping[str, Any], subject: str, request: str) -> str:
        """Separates prefix caches that can be: by subject, or where there shall be none by the request's id (80 random bits)."""
        if row["kind"] != "openai":
            return ""
        if row["prefix_cache"] != "subject":
            return request
        return hmac.digest(self._salt, subject.encode(), hashlib.sha256).hex()

    def note(self, source: Source, refused: Refused) -> None:
        """A refusal at the HTTP layer that is not of an exchange."""
        self.refusals.refused("http", refused, source.facts)

    @property
    def ready(self) -> bool:
        """Whether a new request would be served as far as can be told."""
        upstream = self.sidecars.ready if self.site.sidecar is not None else True
        return not self.draining and self.link.connected and self.standing.serving and upstream

    # -- life --

    def listen(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._listeners.append(Listener(sock, context, self, self._refused_handshake))
        self._contexts.append(context)
        self._trusted = None
        if self.standing.serving:
            self._trust_clients(self.standing.ground())

    async def drain(self) -> None:
        """Accept no more, let what runs come to its end, at most `drain_s`."""
        for listener in self._listeners:
            listener.stop()
        await self.quiet()
        self.cuts.cut(Reason.DRAINING, self.clock.now())
        self.refusals.close()
        await self.link.sent()
        self.stop()

    def stop(self) -> None:
        """At once."""
        for listener in self._listeners:
            listener.stop()
        self.reset()
        self.sidecars.stop()
        if self.control is not None:
            self.control.close()
        self.link.stop()
        self.ticker.stop()

    def expire(self, now: float) -> None:
        """The ticker's: once a second."""
        self.deadline = now + 1.0
        self.refusals.flush()
        self.cuts.expire(self.clock.now())
        if len(self.cuts) and not self.standing.serving:
            # A door that hears no signer hears no revocation: what runs may not go on for longer than what would begin.
            self.cuts.cut(Reason.NO_HEARTBEAT, self.clock.now())

    def _changed(self, ground: Ground) -> None:
        if self.site.sidecar is not None:
            self.sidecars.follow(ground.snapshot)
        self._trust_clients(ground)
        self.cuts.review(ground.access, self.clock.now(), parse_rfc3339(ground.snapshot.issued))

    def _trust_clients(self, ground: Ground) -> None:
        """Clients of the trust domains of this snapshot may finish a handshake. KNOWN: a domain that left may until a restart."""
        if ground.access.issuers is not self._trusted:
            self._trusted = ground.access.issuers
            for context in self._contexts:
                trust_clients(context, self._trusted.roots)

    def _recorder_lost(self, reason: Reason) -> None:
        """Nothing that runs can be closed by an entry of ours any more, or not for long: it ends."""
        self.cuts.cut(reason, self.clock.now())

    def _refused_handshake(self, source: dict[str, Any], reason: Reason) -> None:
        self.refusals.refused("tls", Refused(reason), source)


MAX_HOSTS = 1_000
