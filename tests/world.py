"""A seeded world for the product's own state machines: signer, recorder, sidecars, doors and control, under one scheduler.

Messages are delayed, reordered within their connection and dropped; connections break; every process crashes between any two
steps and inside any call to its disk, and starts again from what is there; the wall clock steps. A run is a function of its
seed. The classes are the product's: Signer, View, Recording with Writer, Counters and Intents, PassGate. What is written
here is only what stands around them: sockets, timers, callers, and the hostile part of the doors and of control.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from sealward.errors import IntegrityError, Refused
from sealward.formats.b64 import b64url
from sealward.formats.fault import FormatError
from sealward.formats.heartbeat import Heartbeat
from sealward.formats.note import LogSigner
from sealward.formats.passes import Log
from sealward.formats.snapshot import GENESIS, Point, Snapshot
from sealward.gateway.view import View
from sealward.journal.keys import LogKeys
from sealward.keyring.secret import Secret
from world_disk import Crashed, Handle, Platter
from world_truth import Truth, broken

Message = dict[str, Any]
ORIGIN = "journal.test/world"
SIGNER_KEY = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
LOG_KEYS = LogKeys(
    LogSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"l" * 32), MLDSA44PrivateKey.from_seed_bytes(b"m" * 32)),
    Secret(b"p" * 32),
)


@dataclass
class Faults:
    """How bad this world is. Rates are chances per message, call of a disk, or second."""

    loss: float = 0.01
    slow: float = 0.05
    stall: float = 0.02
    disk_crash: float = 0.004
    kill: float = 0.03
    cut: float = 0.01
    step: float = 0.03
    hostile: float = 0.3


CALM = Faults(0, 0, 0, 0, 0, 0, 0, 0)


class World:
    """Time, chance, and who is there. `now` is CLOCK_BOOTTIME in seconds; the wall clock runs beside it and may step."""

    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        self.random = Random(seed)
        self.faults = faults or Faults()
        self.now, self.wall = 1000.0, 1_795_424_400.0
        self.truth = Truth()
        self.quiet = False
        self.nodes: list[Node] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._n = 0

    def later(self, delay: float, act: Callable[[], None]) -> None:
        """`act` after `delay` seconds; what falls on one moment comes in random order."""
        self._n += 1
        heapq.heappush(self._queue, (self.now + delay, self.random.getrandbits(32) << 32 | self._n, act))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, act = heapq.heappop(self._queue)
            act()
        self.now = end

    def chance(self, rate: float) -> bool:
        return self.random.random() < rate

    def calm(self) -> None:
        """No more faults and no requests; connections are made anew."""
        self.faults, self.quiet = CALM, True
        for node in self.nodes:
            node.platter.crash_rate = 0.0
            for wire in tuple(node.wires):
                wire.close()

    def disturb(self) -> None:
        """Once a second: somebody dies, a connection stalls or breaks, the wall clock steps."""
        for node in self.nodes:
            if node.up and self.chance(self.faults.kill):
                node.crash()
            for wire in tuple(node.wires):
                if self.chance(self.faults.stall / 2):
                    wire.stalled[self.random.choice(wire.ends)] = self.now + self.random.uniform(4.0, 16.0)
                if self.chance(self.faults.cut / 2):
                    wire.close()
        if self.chance(self.faults.step):
            self.wall += self.random.choice([-90.0, -3.0, 3.0, 90.0])
        self.later(1.0, self.disturb)


class Clock:
    """sealward.clock.Clock of this world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> int:
        return int((self._world.wall + self._world.now) * 1_000_000)

    def boot(self) -> float:
        return self._world.now


class Wire:
    """A connection. While it is open, what is sent arrives once, late, in any order, or never; afterwards nothing arrives."""

    def __init__(self, world: World, client: Node, server: Node, role: str) -> None:
        self._world, self.ends, self.role = world, (client, server), role
        self.open = True
        self.stalled: dict[Node, float] = {}  # what goes to this end waits so long, if it comes at all
        for node in self.ends:
            node.wires.append(self)
        server.connected(self)

    def send(self, to: Node, message: Message) -> None:
        world = self._world
        stalled = max(0.0, self.stalled.get(to, 0.0) - world.now)
        if world.chance(0.7 if stalled else world.faults.loss):
            return
        delay = world.random.uniform(0.0002, 0.01)
        if stalled:
            delay += stalled + world.random.uniform(0.0, 8.0)
        elif world.chance(world.faults.slow):
            delay += world.random.choice([0.5, 2.0, 9.0]) * world.random.random()
        world.later(delay, lambda: self._arrive(to, message))

    def close(self) -> None:
        """Both ends notice, each in its own time."""
        if self.open:
            self.open = False
            for node in self.ends:
                node.wires.remove(self)
                self._world.later(self._world.random.uniform(0.0, 0.05), node.step(lambda node=node: node.hung_up(self)))

    def _arrive(self, to: Node, message: Message) -> None:
        if self.open and to.up:
            to.step(lambda: to.hear(self, message))()


class Node:
    """A process. `boot` makes its state machines; they are gone with `crash`, and their disk keeps what is durable."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.clock = world, name, Clock(world)
        self.platter = Platter(world.random)
        self.handle = Handle(self.platter)
        self.wires: list[Wire] = []
        self.up, self.life = False, 0
        world.nodes.append(self)
        world.later(0.0, self.start)

    def start(self) -> None:
        if not self.up:
            self.up, self.life = True, self.life + 1
            self.handle = Handle(self.platter)
            self.platter.crash_rate = self.world.faults.disk_crash
            self.step(self.boot)()

    def crash(self) -> None:
        self.up = False
        self.handle.end()
        self.platter.crash()
        for wire in tuple(self.wires):
            wire.close()
        self.world.later(self.world.random.uniform(0.05, 3.0), self.start)

    def step(self, act: Callable[[], None]) -> Callable[[], None]:
        """`act` as one step of this life; nothing when the life is over."""
        life = self.life

        def guarded() -> None:
            if self.up and self.life == life:
                try:
                    act()
                except Crashed:
                    self.crash()
                except IntegrityError as error:
                    broken("opens again", f"{self.name}: {error}")

        return guarded

    def later(self, delay: float, act: Callable[[], None]) -> None:
        """After `delay`, if this life lasts so long."""
        self.world.later(delay, self.step(act))

    def every(self, seconds: float, act: Callable[[], None]) -> None:
        def turn() -> None:
            self.later(seconds * self.world.random.uniform(0.9, 1.1), turn)
            act()

        self.later(seconds * self.world.random.random(), turn)

    def boot(self) -> None:
        raise NotImplementedError

    def connected(self, wire: Wire) -> None:
        """A client came."""

    def hung_up(self, wire: Wire) -> None:
        """The other end of `wire` is gone."""

    def hear(self, wire: Wire, message: Message) -> None:
        raise NotImplementedError


class Asking(Node):
    """A process with numbered questions to servers. A question is given up after `within` seconds: `answered({})`."""

    servers: tuple[str, ...] = ()

    def boot(self) -> None:
        self._links: dict[str, Wire] = {}
        self._asked: dict[int, Callable[[Message], None]] = {}
        self._n = self.world.random.getrandbits(20)
        self.every(0.2, self._connect)

    def ask(self, server: str, message: Message, answered: Callable[[Message], None], within: float = 2.0) -> int:
        self._n += 1
        n = self._n
        self._asked[n] = answered
        self.tell(server, message | {"n": n})
        self.later(within, lambda: self._asked.pop(n, lambda _: None)({}))
        return n

    def tell(self, server: str, message: Message) -> None:
        wire = self._links.get(server)
        if wire is not None and wire.open:
            wire.send(wire.ends[1], message)

    def linked(self, server: str) -> bool:
        return server in self._links and self._links[server].open

    def hear(self, wire: Wire, message: Message) -> None:
        answered = self._asked.pop(message.get("n"), None)
        if answered is not None:
            answered(message)

    def _connect(self) -> None:
        for name in self.servers:
            server = next(node for node in self.world.nodes if node.name == name)
            if server.up and not self.linked(name):
                self._links[name] = Wire(self.world, self, server, self.name.rstrip("0123456789"))
                self.joined(name)

    def joined(self, server: str) -> None:
        """A new connection to `server`."""


class Following(Asking):
    """A process with a view: gateway.follower's steps, one message at a time."""

    def boot(self) -> None:
        super().boot()
        self.view = View(SIGNER_KEY.public_key(), self.floor())
        self.every(2.0, self.beat)

    def floor(self) -> int:
        return 0

    def serving(self) -> Snapshot:
        """What the view lets this process decide from; the truth must allow it."""
        found = self.view.serving(self.world.now)
        self.world.truth.check_served_from(self.name, found, self.world.now)
        return found

    def joined(self, server: str) -> None:
        if server == "signer":
            self.beat()

    def beat(self) -> None:
        nonce = self.world.random.randbytes(16)
        self.view.ask(nonce, self.world.now)
        self.ask("signer", {"op": "heartbeat", "nonce": b64url(nonce)}, lambda said: self._heard(nonce, said), within=60.0)

    def hear(self, wire: Wire, message: Message) -> None:
        if message.get("push") == "delta":
            self._taken(self.view.delta, message["delta"])
            self.beat()
        else:
            super().hear(wire, message)

    def changed(self, old: Snapshot, new: Snapshot) -> None:
        """The snapshot that is held is another one."""

    def _heard(self, nonce: bytes, said: Message) -> None:
        if "heartbeat" not in said:
            return
        beat = Heartbeat(Point(said["epoch"], said["digest"]), said["ttl_ms"], said["heartbeat"])
        try:
            self.view.heard(nonce, beat, self.world.now)
        except FormatError:
            return
        if self.view.behind and self.view.held is GENESIS:
            self.ask("signer", {"op": "snapshot"}, self._whole, within=30.0)
        elif self.view.behind:
            self.ask("signer", {"op": "deltas", "from": self.view.held.epoch}, self._steps, within=30.0)

    def _whole(self, said: Message) -> None:
        self._taken(self.view.whole, said.get("snapshot", ""))

    def _steps(self, said: Message) -> None:
        for delta in said.get("deltas", []):
            self._taken(self.view.delta, delta)
        if self.view.behind:
            self.ask("signer", {"op": "snapshot"}, self._whole, within=30.0)

    def _taken(self, step: Callable[[bytes], None], data: str) -> None:
        old = self.view.held
        try:
            if data:
                step(data.encode())
        except FormatError:
            return
        if self.view.held.epoch < old.epoch:
            broken("epochs", f"{self.name} went back to {self.view.held.epoch}")
        if self.view.held is not old:
            self.changed(old, self.view.held)


def quietly(act: Callable[[], Any]) -> Any:
    """What `act` gives; None where the product refuses."""
    try:
        return act()
    except (Refused, FormatError):
        return None


LOG = Log(ORIGIN, LOG_KEYS.signer.key.public_key())
