"""Who lives in the simulated world: the product's processes around their state machines, honest and hostile callers."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from sealward import settings
from sealward.errors import Refused
from sealward.events import Event
from sealward.formats.change import Change
from sealward.formats.ids import rfc3339, ulid
from sealward.formats.passes import parse_pass
from sealward.formats.snapshot import GENESIS, Snapshot, open_snapshot
from sealward.gateway.counters import Counters
from sealward.gateway.intents import Intents
from sealward.gateway.passgate import PassGate
from sealward.gateway.recording import Client, Recording
from sealward.gateway.recording import World as Around
from sealward.journal.writer import Writer
from sealward.keyring.provider import Lease
from sealward.keyring.secret import Secret
from sealward.keyring.signer import Signer
from world import LOG, LOG_KEYS, SIGNER_KEY, Asking, Faults, Following, Message, Node, Wire, World, quietly
from world_disk import SmallDisk
from world_truth import CONCURRENT, Served, Violation, allowed

PATH = "/v1/chat/completions"
SUBJECTS = ("ann", "bob", "cy")
MODELS = {"m1": "sha256:" + "1" * 64, "m2": "sha256:" + "2" * 64}
SIDECARS = ("sidecar1", "sidecar2")


class SignerNode(Node):
    """Everybody connects to it; it connects to nobody."""

    def boot(self) -> None:
        self.signer = Signer(SmallDisk(self.handle), self.clock, SIGNER_KEY, LOG)
        self._seen()

    def hear(self, wire: Wire, message: Message) -> None:
        answer = self.signer.handle(wire.role, message)
        self._seen()
        if answer.push is not None:
            for each in self.wires:
                each.send(each.ends[0], answer.push)
        wire.send(wire.ends[0], answer.reply)

    def _seen(self) -> None:
        self.world.truth.saw_signed(self.signer._last, self.signer._intent, self.world.now)


class Watch:
    """A fold that notes when an entry became durable while its writer ran."""

    def __init__(self, world: World) -> None:
        self._world, self.live = world, False

    def apply(self, index: int, event: Event) -> None:
        del event
        if self.live:
            self._world.truth.durable_at[index] = self._world.now

    def dump(self) -> dict[str, Any]:
        return {}

    def erased(self, subject: str) -> None:
        """Nothing here names anybody."""

    def load(self, state: dict[str, Any]) -> None:
        """Nothing is kept."""


class RecorderNode(Following):
    """The journal's one writer."""

    servers = ("signer",)

    def boot(self) -> None:
        self.counters, intents, watch = Counters(self.clock), Intents(), Watch(self.world)
        random = self.world.random.randbytes
        self.writer = Writer.open(self.handle, LOG_KEYS, clock=self.clock, random=random, folds=[self.counters, intents, watch])
        watch.live = True
        super().boot()
        nothing = lambda client, message: None  # noqa: E731 - nobody reads here
        around = Around(
            clock=self.clock,
            random=random,
            lease=Lease(lambda: Secret(b""), self.world.now, 1e9),
            serving=self.serving,
            behind=self.beat,
            receipt=nothing,
            read=nothing,
        )
        self.recording = Recording(self.writer, self.counters, intents, around, settings.Refusals())
        self.clients: dict[Wire, Client] = {}
        self._turning = False
        self.every(0.1, self.recording.tick)
        self.every(1.0, self.writer.publish)

    def floor(self) -> int:
        return self.counters.epoch

    def connected(self, wire: Wire) -> None:
        client = Client(wire.role, lambda message: self._say(wire, message), wire.close, _drained)
        self.clients[wire] = client
        self.recording.connect(client)

    def hung_up(self, wire: Wire) -> None:
        if wire in self.clients:
            self.recording.gone(self.clients.pop(wire))

    def hear(self, wire: Wire, message: Message) -> None:
        if wire not in self.clients:
            super().hear(wire, message)
            return
        self.recording.take(self.clients[wire], message)
        if not self._turning:
            self._turning = True
            self.later(0.0005, self._turn)

    def changed(self, old: Snapshot, new: Snapshot) -> None:
        self.recording.moved()

    def _turn(self) -> None:
        self._turning = False
        self.recording.turn()

    def _say(self, wire: Wire, message: Message) -> None:
        if "pass" in message:
            self.world.truth.acked[message["index"]] = parse_pass(message["pass"]).leaf
        elif "leaf" in message:
            self.world.truth.acked[message["index"]] = bytes.fromhex(message["leaf"])
        wire.send(wire.ends[0], message)


class SidecarNode(Following):
    """A model behind a gate; each start is another run."""

    servers = ("signer",)

    def boot(self) -> None:
        super().boot()
        self.gate = PassGate(f"{self.name}:{self.world.random.randbytes(8).hex()}", MODELS)

    def changed(self, old: Snapshot, new: Snapshot) -> None:
        self.gate.follow(new)

    def hear(self, wire: Wire, message: Message) -> None:
        if wire.ends[1] is not self:
            super().hear(wire, message)
            return
        wire.send(wire.ends[0], {"n": message["n"], "served": self._serve(message)})

    def _serve(self, message: Message) -> bool:
        unix_s = self.clock.now() // 1_000_000
        try:
            snapshot = self.serving()
            found = self.gate.check(message["pass"], message["path"], message["body"], unix_s)
        except Refused:
            return False
        self.world.truth.saw_served(Served(found, message["path"], message["body"], self.gate.name), snapshot, unix_s)
        return True


class DoorNode(Following):
    """One worker: honest requests, and what a taken door might do instead."""

    servers = ("signer", "recorder", *SIDECARS)

    def boot(self) -> None:
        super().boot()
        self.passes: list[tuple[str, str, bytes]] = []
        self.requests: list[str] = []
        self.every(0.5, self.request)

    def hung_up(self, wire: Wire) -> None:
        """A door whose recorder connection breaks cuts its streams: nothing of them is answered any more."""
        if wire.ends[1].name == "recorder":
            self._asked.clear()

    def request(self) -> None:
        if self.world.quiet:
            return
        if self.world.chance(self.world.faults.hostile):
            getattr(self, self.world.random.choice(HOSTILE))()
        else:
            self.honest()

    def honest(self) -> None:
        """What the pipeline does: decide, admit, forward, close; once more at the other sidecar when the first one fails."""
        subject, model = self.world.random.choice(SUBJECTS), self.world.random.choice(tuple(MODELS))
        snapshot = quietly(self.serving)
        if snapshot is not None and allowed(snapshot.sections, subject, KEYS[subject], model):
            request = ulid(self.clock.now(), self.world.random.randbytes(10))
            body = self.world.random.randbytes(20)
            self.world.truth.honest[request, sha256(body).hexdigest()] = (subject, KEYS[subject], model)
            self._admit(request, subject, model, body, list(SIDECARS), snapshot.epoch)

    def _admit(
        self, request: str, subject: str, model: str, body: bytes, sidecars: list[str], epoch: int, twist: str = ""
    ) -> None:
        sidecar = sidecars.pop(self.world.random.randrange(len(sidecars)))
        gate = next(node for node in self.world.nodes if node.name == sidecar).gate.name
        message = self.message(request, subject, model, body, gate, epoch)

        def passed(said: Message) -> None:
            if "pass" in said:
                self.passes.append((sidecar, said["pass"], body))
                where, message = twisted(twist, sidecar, said["pass"], body)
                wait = self.world.random.uniform(2.0, 55.0) if twist == "late" else 0.0
                self.later(wait, lambda: self.ask(where, message, served, within=4.0))

        def served(said: Message) -> None:
            if said.get("served"):
                self.close(request, "completed", {"status": 200, "output_tokens": 5, "input_tokens": 5})
            elif sidecars and "served" in said:
                again = lambda _: self._admit(request, subject, model, body, sidecars, epoch)  # noqa: E731
                self.close(request, "aborted", {"status": 502, "aborted_by": "upstream"}, again)
            else:
                self.close(request, "aborted", {"status": 502, "aborted_by": "door"})

        def late(said: Message) -> None:
            passed(said) if said else self._given_up(n, request)

        n = self.ask("recorder", message, late, within=1.5)
        self.requests.append(request)

    def _given_up(self, n: int, request: str) -> None:
        """A pass that comes after its question was given up is closed as aborted."""
        self._asked[n] = lambda said: "pass" in said and self.close(request, "aborted", {"status": 503, "aborted_by": "door"})

    def close(self, request: str, outcome: str, facts: Message, then: Callable[[Message], None] = lambda _: None) -> None:
        def closed(said: Message) -> None:
            if "index" in said and outcome == "completed":
                self.world.truth.completed.add(request)
            then(said)

        self.ask("recorder", {"op": "close", "req": request, "outcome": outcome, "event": {"outcome": facts}}, closed)

    def message(self, request: str, subject: str, model: str, body: bytes, gate: str, epoch: int) -> Message:
        """`admit`, as gateway.ledger writes it."""
        now = self.clock.now()
        event = {
            "v": 1, "id": ulid(now, self.world.random.randbytes(10)), "type": "inference.admitted", "time": rfc3339(now),
            "instance": self.name.replace("door", "door-"), "tenant": "default",
            "subject": {"id": subject, "kind": "human", "authn": "apikey", "key_id": KEYS[subject]},
            "source": {"addr": "10.0.0.7", "port": 4711},
            "decision": {"outcome": "allow", "epoch": epoch, "policy_digest": GENESIS.policy_digest, "policy_ids": []},
            "operation": {"name": "chat", "route": PATH, "method": "POST", "stream": False},
            "model": {"alias": model, "id": model}, "request": {"max_tokens": 10},
            "content": {"input": {"bytes": len(body), "capture": "digest", "messages": 1}}, "link": {"request": request},
        }  # fmt: skip
        digest = sha256(body).hexdigest()
        place = {"req": request, "input": digest, "body": digest, "path": PATH, "sidecar": gate}
        return {"op": "admit", "event": event, "tokens": 20, "epoch": epoch} | place

    # -- hostile --

    def replay(self) -> None:
        """A pass again: at once, much later, after a restart of the sidecar."""
        if self.passes:
            sidecar, text, body = self.world.random.choice(self.passes)
            self.ask(sidecar, {"pass": text, "path": PATH, "body": body}, lambda _: None)

    def twist(self) -> None:
        """An admission for one content, used for another, elsewhere, for another path, as if it were another's, or much later."""
        self._fresh(self.world.random.choice(["body", "path", "sidecar", "forged", "late", "late", "late"]))

    def _fresh(self, twist: str = "") -> None:
        epoch, subject = self.view.held.epoch, self.world.random.choice(SUBJECTS)
        request = ulid(self.clock.now(), self.world.random.randbytes(10))
        self._admit(request, subject, "m1", b"x" * 20, [self.world.random.choice(SIDECARS)], epoch, twist)

    def again(self) -> None:
        """A request id a second time: open, closed, or of long ago, under whatever epoch it likes."""
        if self.requests:
            request = self.world.random.choice(self.requests[-20:])
            epoch = self.world.random.choice([self.view.held.epoch, *self.world.truth.signed])
            self._admit(request, self.world.random.choice(SUBJECTS), "m1", b"y" * 20, [self.world.random.choice(SIDECARS)], epoch)

    def old_epoch(self) -> None:
        """Admit under a snapshot that was revoked, or under one that does not exist."""
        epoch = self.world.random.choice([0, 1, 2**40, *self.world.truth.signed])
        request = ulid(self.clock.now(), self.world.random.randbytes(10))
        self._admit(request, self.world.random.choice(SUBJECTS), "m1", b"z" * 20, [self.world.random.choice(SIDECARS)], epoch)

    def close_twice(self) -> None:
        """Close what is closed, what never was, and what another door has open."""
        others = [node.requests for node in self.world.nodes if isinstance(node, DoorNode) and node.up]
        requests = [request for known in others for request in known[-5:]]
        if requests:
            self.close(self.world.random.choice(requests), "completed", {"status": 200})

    def flood(self) -> None:
        """More at once than the limit allows."""
        for _ in range(CONCURRENT + 2):
            self._fresh()


class ControlNode(Asking):
    """One of two that change one thing at a time and do not know each other; now and then it tries without an entry."""

    servers = ("signer", "recorder")

    def boot(self) -> None:
        super().boot()
        self._busy_until = 0.0
        self.every(1.0, self.work)

    def work(self) -> None:
        if self.world.now >= self._busy_until and self.linked("signer") and self.linked("recorder"):
            self._busy_until = self.world.now + 8.0
            self.ask("signer", {"op": "snapshot"}, self._base)

    def _base(self, said: Message) -> None:
        if "snapshot" not in said:
            self._busy_until = 0.0
            return
        text = said["snapshot"].encode()
        base = open_snapshot(text, SIGNER_KEY.public_key(), GENESIS.point) if text else GENESIS
        ops = self._ops(base)
        if not ops:
            self._busy_until = 0.0
            return
        change = Change("u-1", tuple(ops), base.digest, self.world.random.randbytes(32).hex())
        meant = change
        if self.world.chance(self.world.faults.hostile / 3):
            change = Change("u-1", (["del", "subjects", "ann"],), base.digest, self.world.random.randbytes(32).hex())
        for each in (meant, change):
            self.world.truth.meant[each.digest] = each
        digest = {"digest": "sha256:" + meant.digest, "salt": meant.salt, "target": "subject:ann", "action": "change"}
        event = {"type": "apikey.revoked", "subject": {"id": "u-1", "kind": "human", "authn": "local"}, "change": digest}
        self.ask("recorder", {"op": "record", "event": event}, lambda said: self._propose(change, said, base))

    def _propose(self, change: Change, said: Message, base: Snapshot) -> None:
        if "promise" not in said:
            self._busy_until = 0.0
            return
        place = {name: said[name] for name in ("index", "leaf", "promise")}
        self.ask(
            "signer", {"op": "propose", "change": change.raw.decode()} | place, lambda done: self._done(done, said["index"], base)
        )

    def _done(self, said: Message, intent: int, base: Snapshot) -> None:
        self._busy_until = self.world.now + 2.0 * self.world.random.random()
        if "digest" in said:
            what = {"digest": said["digest"], "epoch": said["epoch"], "intent": intent, "ops": 1, "previous": base.digest}
            event = {"type": "snapshot.published", "snapshot": what}
            self.ask("recorder", {"op": "record", "event": event}, lambda _: None)

    def _ops(self, base: Snapshot) -> list[Any]:
        if base is GENESIS or self.world.faults.hostile == 0:
            return [op for op in everything() if base.sections[op[1]].get(op[2]) != op[3]]
        part, ident, value = self.world.random.choice(TOGGLES)
        return [["put", part, ident, value]]


def twisted(twist: str, sidecar: str, text: str, body: bytes) -> tuple[str, Message]:
    """Where a pass is used, and what for; as it was admitted when `twist` is empty."""
    where = next(name for name in SIDECARS if (name == sidecar) != (twist == "sidecar"))
    return where, {
        "pass": text.replace("index=", "index=1") if twist == "forged" else text,
        "path": "/v1/completions" if twist == "path" else PATH,
        "body": body[:-1] if twist == "body" else body,
    }


def everything() -> list[Any]:
    """The rows with which everybody may do everything."""
    rows: list[Any] = [["put", "trust", "log", {"vkey": LOG_KEYS.signer.verifier.vkey}]]
    rows += [["put", part, ident, values[0]] for part, ident, values in ROWS]
    return rows


def village(seed: int, faults: Faults | None = None) -> World:
    """Everybody, once."""
    world = World(seed, faults)
    SignerNode(world, "signer")
    RecorderNode(world, "recorder")
    for name in SIDECARS:
        SidecarNode(world, name)
    for n in (1, 2):
        DoorNode(world, f"door{n}")
        ControlNode(world, f"control{n}")
    world.later(1.0, world.disturb)
    return world


def live(seed: int, seconds: float = 40.0, faults: Faults | None = None) -> World:
    """A life with all faults, then a calm end in which everything must work again; raises world_truth.Violation."""
    world = village(seed, faults)
    world.run(seconds)
    world.calm()
    world.run(14.0)
    before = len(world.truth.completed)
    world.quiet = False
    world.run(3.0)
    if len(world.truth.completed) == before:
        raise Violation("service comes back")
    for node in world.nodes:
        if isinstance(node, DoorNode):
            node.up = False
            for wire in tuple(node.wires):
                wire.close()
    world.run(1.0)
    recorder = next(node for node in world.nodes if isinstance(node, RecorderNode))
    if recorder.writer.open_requests:
        raise Violation("closed once", "what a dead door left open is open")
    recorder.handle.end()
    recorder.up = False
    recorder.platter.crash()
    recorder.platter.crash_rate = 0.0
    recorder.start()
    world.truth.check(recorder.writer.reader.rows())
    return world


async def _drained() -> None:
    """Nobody reads slowly here."""


KEYS = {"ann": "00000000ann", "bob": "00000000bob", "cy": "000000000cy"}
_TIMES = {"created": "2026-11-01T00:00:00.000000Z", "expires": "2027-11-01T00:00:00.000000Z"}
_KEY = {"environment": "live", "hmac": "00" * 32} | _TIMES
_SUBJECT = {"kind": "human", "groups": [], "roles": ["consumer"]}
_MODEL = {"kind": "llamacpp", "sidecars": list(SIDECARS), "capture": "digest", "prefix_cache": "off", "max_output": 100}
_GRANT = {"actions": ["model:chat"]}
ROWS: list[tuple[str, str, list[Any]]] = [
    ("limits", "default", [{"concurrent": CONCURRENT}]),
    *[("subjects", name, [_SUBJECT, _SUBJECT | {"disabled": True}]) for name in SUBJECTS],
    *[("keys", KEYS[name], [_KEY | {"owner": name}, _KEY | {"owner": name, "suspended": True}]) for name in SUBJECTS],
    *[
        ("models", name, [_MODEL | {"digest": MODELS[name], "stage": stage} for stage in ("deployed", "retired")])
        for name in MODELS
    ],
    *[
        ("grants", f"{name}-{model}", [_GRANT | {"to": f"subject:{who}", "model": model} for who in (name, "nobody")])
        for name in SUBJECTS
        for model in MODELS
    ],
]
TOGGLES = [(part, ident, value) for part, ident, values in ROWS if len(values) > 1 for value in (values[0], values[0], values[1])]
HOSTILE = ("replay", "replay", "twist", "twist", "twist", "again", "old_epoch", "close_twice", "flood")
