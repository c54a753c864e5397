"""The sidecar at work: the door's own connection code before a model, with another route table and a gate for passes.

    door ──HTTP/1.1, unix socket, x-sealward-pass──▶ check · route · read · pass ──the same bytes──▶ runtime

The bytes that go on are the bytes whose hash the pass names; the answer flows back as it is read, as fast as the door reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from sealward.errors import Reason, Refused
from sealward.formats.snapshot import Snapshot
from sealward.gateway import answers, head
from sealward.gateway.connection import Connection
from sealward.gateway.entries import Author
from sealward.gateway.exchange import Exchange, Source
from sealward.gateway.flight import Wait
from sealward.gateway.limits import Limits
from sealward.gateway.passgate import SERVED, PassGate
from sealward.gateway.refusals import Heard, Refusals
from sealward.gateway.routes import SIDECAR
from sealward.gateway.runtimes import Presented
from sealward.gateway.serving import Server
from sealward.gateway.ticker import Ticker
from sealward.gateway.upstream import Call, Pool
from sealward.process import peer_uid


class Snapshots(Protocol):
    """A follower: `serving` gives the snapshot to decide from now, or raises Refused(no_heartbeat | no_snapshot)."""

    def serving(self) -> Snapshot: ...


@dataclass(frozen=True, slots=True)
class Shared:
    """What a sidecar's parts have in common."""

    author: Author
    ticker: Ticker
    snapshots: Snapshots
    refusals: Refusals
    limits: Limits


class Presenting(Server):
    """Serves `presented` under `name` = id:run. `state` is what the health answer says: loading or ready."""

    def __init__(self, name: str, presented: Sequence[Presented], shared: Shared) -> None:
        super().__init__(shared.author, shared.limits, SIDECAR, shared.ticker)
        self.name, self.snapshots, self.state = name, shared.snapshots, "loading"
        self.models = {model.id: model.digest for model in presented}
        self.gate = PassGate(name, self.models)
        self.pools = {model.digest: Pool(model.address, self.ticker, self.limits) for model in presented}
        self.running: dict[Exchange, str] = {}
        """What the runtimes are at, with the digest of its model."""
        self._refusals = shared.refusals
        self._approved: set[str] = set()
        self._heard = True
        self.deadline = 0.0
        self.ticker.watch(self)

    def follow(self, old: Snapshot, new: Snapshot) -> None:
        """The follower's callback. No pass for a model that is withdrawn is taken from now on.

        Its running answers are the doors' to cut, whose entries say why; a tick later they stop here, whatever a door thinks.
        """
        del old
        self.gate.follow(new)
        self._approved = {row["digest"] for row in new.sections["models"].values() if row["stage"] in SERVED}
        self.deadline = self.ticker.after(0)

    def expire(self, now: float) -> None:
        """The ticker's: once a second. A sidecar that hears no signer hears no withdrawal either: doors cut first, as above."""
        self.deadline = now + 1.0
        self._refusals.flush()
        self._cut(Reason.MODEL_WITHDRAWN, lambda digest: digest not in self._approved)
        try:
            self.snapshots.serving()
            self._heard = True
        except Refused as refused:
            if not self._heard:
                self._cut(refused.reason, lambda _: True)
            self._heard = False

    def serve(self, exchange: Exchange) -> Coroutine[Wait[Any], None, None]:
        return _serve(self, exchange)

    def crashed(self, exchange: Exchange) -> None:
        self.end(exchange, Refused(Reason.POLICY_ERROR, "a stage crashed"))
        exchange.connection.over(exchange)

    def end(self, exchange: Exchange, why: Refused) -> None:
        """No byte more from the runtime, an entry where nobody else writes one, and what the door may still read."""
        if exchange.call is not None:
            exchange.call.abort()
        stage = _stage(why.reason)
        if stage:
            asked = exchange.head
            host = asked.headers.get(b"host", b"").decode("latin-1")
            heard = Heard(asked.method, host, asked.target.decode("latin-1"))
            self._refusals.refused(stage, why, exchange.source.facts, heard)
        answers.refuse(exchange, why)

    def allows_host(self, host: bytes, sni: str | None) -> bool:
        del sni
        return host in {b"sidecar", b"localhost"}  # nothing is decided by it on a socket of our own

    def reset(self) -> None:
        super().reset()
        for pool in self.pools.values():
            pool.close()

    def note(self, source: Source, refused: Refused) -> None:
        self._refusals.refused("http", refused, source.facts)

    def _cut(self, reason: Reason, which: Callable[[str], bool]) -> None:
        for exchange in [each for each, digest in self.running.items() if which(digest)]:
            exchange.interrupt(Refused(reason))


class DoorConnection(Connection):
    """One connection of the door. Whoever is not its user, or root, is gone before a word is read."""

    __slots__ = ("_uid",)

    def __init__(self, server: Presenting, uid: int) -> None:
        super().__init__(server, SOURCE)
        self._uid = uid

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if peer_uid(transport.get_extra_info("socket")) not in {0, self._uid}:
            self.transport.abort()


Stage = Callable[[Presenting, Exchange], Awaitable[None] | None]


async def health(server: Presenting, exchange: Exchange) -> None:
    """Which run this is, and what it serves: a door asks every second."""
    await exchange.body
    identity, _, run = server.name.rpartition(":")
    said = {"id": identity, "run": run, "models": server.models, "state": server.state}
    answers.whole(exchange, 200, b"application/json", orjson.dumps(said))


def passed(server: Presenting, exchange: Exchange) -> None:
    """Refused: draining, no_heartbeat, no_snapshot, pass_missing, pass_invalid."""
    if server.draining:
        raise Refused(Reason.DRAINING)
    server.snapshots.serving()
    text = exchange.head.headers.get(b"x-sealward-pass", b"").decode("latin-1")
    path = exchange.head.target.decode("ascii")
    found = server.gate.check(text, path, exchange.input, server.clock.now() // 1_000_000)
    server.running[exchange] = found.admission["model"]


async def forward(server: Presenting, exchange: Exchange) -> None:
    """The bytes that the pass names, to the runtime that the pass names. Refused: upstream_*."""
    relay = _Relay(exchange)
    request = REQUEST % (exchange.head.target, len(exchange.input), exchange.input)
    call: Call = server.pools[server.running[exchange]].send(request, relay)
    exchange.call = call
    if exchange.connection.paused:
        call.pause()
    await relay.finished


class _Relay:
    """An answer of the runtime on its way to the door. An error of the runtime keeps its words: only that it is one goes on."""

    def __init__(self, exchange: Exchange) -> None:
        self._client = answers.StreamTo(exchange)
        self.finished: Wait[None] = Wait()

    def answered(self, status: int, headers: dict[bytes, bytes]) -> None:
        content_type = headers.get(b"content-type", b"")
        if status != OK or answers.SAFE_HEADER.fullmatch(content_type) is None:
            self.broken(Reason.UPSTREAM_UNAVAILABLE if status == BUSY else Reason.UPSTREAM_ERROR)
        else:
            self._client.content_type = content_type

    def received(self, content: bytes) -> None:
        if not self.finished.done:
            self._client.write(content)

    def ended(self, content: bytes) -> None:
        if not self.finished.done:
            self._client.end(content)
            self.finished.set(None)

    def broken(self, reason: Reason) -> None:
        self.finished.fail(Refused(reason))


async def _serve(server: Presenting, exchange: Exchange) -> None:
    try:
        for look in ALWAYS:
            look(server, exchange)
        for stage in COLUMNS[exchange.found.route.kind]:  # type: ignore[union-attr]  # written by head.route
            waits = stage(server, exchange)
            if waits is not None:
                await waits
    except Refused as refused:
        server.end(exchange, refused)
    finally:
        server.running.pop(exchange, None)
        exchange.connection.over(exchange)


def _stage(reason: Reason) -> str:
    """Where a refusal that is the sidecar's own belongs; the door and the recorder write the others."""
    if reason.startswith("pass_"):
        return "authn"
    if reason.startswith("route_"):
        return "route"
    return "http" if reason.startswith(("http_", "body_", "host_")) else ""


ALWAYS = (head.check, head.route)  # as before a door: what has two readings is not looked at any further
COLUMNS: dict[str, tuple[Stage, ...]] = {
    "health": (health,),
    "chat": (
        head.read,  # whole, bounded: its hash is part of the pass
        passed,  # no entry, no service: before the runtime sees a byte
        forward,
    ),
}
SOURCE = Source("", 0, None, None, {"network": "sidecar.door"}, b'{"network":"sidecar.door"}')
REQUEST = b"POST %b HTTP/1.1\r\nhost: runtime\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
OK, BUSY = 200, 503
