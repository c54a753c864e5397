"""A recorder without sockets for tests: the product's Recording over a simulated disk, a clock that stands, doors by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from sealward import settings
from sealward.errors import Reason, Refused
from sealward.events import Event
from sealward.formats import event as events
from sealward.formats.ids import rfc3339, ulid
from sealward.formats.snapshot import Snapshot
from sealward.gateway.clients import Client
from sealward.gateway.counters import Counters
from sealward.gateway.intents import Intents
from sealward.gateway.recording import Recording, World
from sealward.journal.writer import Ack, Draft, Writer
from sealward.keyring.provider import Lease
from sealward.keyring.secret import Secret
from world import LOG_KEYS
from world_disk import Handle, Platter

Message = dict[str, Any]
START_US = 1_795_424_400_000_000
DIGEST = "sha256:" + "1" * 64
MODEL = {
    "digest": DIGEST,
    "signature_id": "sig-1",
    "stage": "deployed",
    "kind": "llamacpp",
    "sidecars": ["local"],
    "capture": "digest",
    "prefix_cache": "off",
    "max_output": 64,
}


class StoodClock:
    """Both readings move only by hand."""

    def __init__(self) -> None:
        self.us, self.seconds = START_US, 1000.0

    def now(self) -> int:
        return self.us

    def boot(self) -> float:
        return self.seconds

    def pass_(self, seconds: float) -> None:
        self.us += int(seconds * 1_000_000)
        self.seconds += seconds


class Peer:
    """One client and what it was told."""

    def __init__(self, desk: Desk, role: str) -> None:
        self.told: list[Message] = []
        self.hung_up = False
        self._desk, self._n = desk, 0
        self.client = Client(role, self.told.append, self._hang_up, self._drained)
        desk.recording.connect(self.client)

    def ask(self, message: Message) -> Message:
        """The answer of a turn of its own; `{}` where there is none yet."""
        n = self.send(message)
        self._desk.recording.turn()
        return self.answer(n)

    def send(self, message: Message) -> int:
        """Taken with the next turn."""
        self._n += 1
        self._desk.recording.take(self.client, message | {"n": self._n})
        return self._n

    def answer(self, n: int) -> Message:
        return next((said for said in self.told if said.get("n") == n), {})

    def admit(self, **changes: Any) -> Message:
        return self.ask(self._desk.admission(**changes))

    def close(self, request: str, outcome: str = "completed", **outcome_members: Any) -> Message:
        return self.ask(closing(request, outcome, **outcome_members))

    def _hang_up(self) -> None:
        self.hung_up = True

    async def _drained(self) -> None:
        await asyncio.sleep(0)


class Desk:
    """The recorder of one journal. `life()` starts it anew on the same disk."""

    def __init__(self, seed: int = 1, refusals: settings.Refusals | None = None, **sections: Any) -> None:
        self.clock, self.random = StoodClock(), Random(seed)
        self.platter = Platter(Random(seed))
        self.refusals = refusals or settings.Refusals(burst=1000, per_second=1000, proven_per_second=1000)
        self.sections: dict[str, Any] = {
            "subjects": {
                "ann": {"kind": "human", "groups": ["staff"], "roles": []},
                "bob": {"kind": "service", "groups": [], "roles": []},
            },
            "keys": {"KEYofANN111": {"owner": "ann"}},
            "models": {"m1": MODEL},
        } | sections
        self.epoch = 7
        self.unable: Reason | None = None
        self.provider_gone = False
        self.asked_signer = 0
        self.looked_up: list[Message] = []
        self.life()

    def life(self) -> None:
        """A new process: memory is gone, the disk and the clock are there."""
        self.counters, self.intents = Counters(self.clock), Intents()
        self.writer = Writer.open(
            Handle(self.platter), LOG_KEYS, clock=self.clock, random=self.random.randbytes, folds=[self.counters, self.intents]
        )
        self.writer.publish()
        self._watch(self.writer)
        lease = Lease(self._unwrap, self.clock.boot())
        world = World(self._serving, lease, self.clock, self.random.randbytes, self._behind, self._look_up, self._look_up)
        self.recording = Recording(self.writer, self.counters, self.intents, world, self.refusals)
        self.snapshot = self._snapshot()

    def change(self, **sections: Any) -> None:
        """The recorder's own snapshot moves to the next epoch."""
        self.sections |= sections
        self.epoch += 1
        self.snapshot = self._snapshot()
        self.recording.moved()

    def ulid(self, age_s: float = 0.0) -> str:
        return ulid(self.clock.now() - int(age_s * 1_000_000), self.random.randbytes(10))

    def admission(self, *, subject: str = "ann", request: str = "", key: str | None = None, **changes: Any) -> Message:
        """What a door sends to have a request admitted."""
        request = request or self.ulid()
        said = {"id": subject, "kind": "human", "authn": "apikey", "groups": ["forged"]} | ({"key_id": key} if key else {})
        event = {
            "v": 1,
            "id": self.ulid(),
            "type": "inference.admitted",
            "time": rfc3339(self.clock.now()),
            "instance": "door-1",
            "tenant": "default",
            "subject": said,
            "source": {"addr": "203.0.113.9", "port": 40000, "tls_version": "1.3"},
            "decision": {"outcome": "allow", "epoch": 1, "policy_digest": "sha256:" + "9" * 64, "policy_ids": ["consumer"]},
            "operation": {"name": "chat", "route": "/v1/chat/completions", "method": "POST", "stream": False},
            "model": {"alias": "m1", "id": "m1", "digest": "sha256:" + "8" * 64, "signer": "nobody"},
            "request": {"max_tokens": 64, "n": 1},
            "content": {"input": {"bytes": 100, "capture": "digest", "messages": 1}},
            "link": {"request": request},
        } | changes.pop("event", {})
        message = {
            "op": "admit",
            "event": event,
            "req": request,
            "input": "a" * 64,
            "body": "b" * 64,
            "path": "/v1/chat/completions",
            "sidecar": "local:" + "0" * 15 + "1",
            "tokens": 100,
            "epoch": self.epoch,
        }
        return message | changes

    def rows(self, kind: str = "") -> list[Event]:
        """Every durable event, or those of one type."""
        found = [row.event for row in self.writer.reader.rows() if row.event is not None]
        return [event for event in found if not kind or event["type"] == kind]

    def _snapshot(self) -> Snapshot:
        return Snapshot.of(self.epoch, rfc3339(START_US), "sha256:" + "0" * 64, self.sections)

    def _serving(self) -> Snapshot:
        if self.unable is not None:
            raise Refused(self.unable)
        return self.snapshot

    def _unwrap(self) -> Secret:
        if self.provider_gone:
            raise Refused(Reason.KEY_UNAVAILABLE)
        return Secret(b"p" * 32)

    def _behind(self) -> None:
        self.asked_signer += 1

    def _look_up(self, client: Client, message: Message) -> None:
        del client
        self.looked_up.append(message)

    def _watch(self, writer: Writer) -> None:
        """Whatever the recorder writes is valid by the schema."""
        commit: Callable[[Any], list[Ack | Refused]] = writer.commit

        def watched(drafts: list[Draft]) -> list[Ack | Refused]:
            for draft in drafts:
                events.validate(draft.event)
            return commit(drafts)

        writer.commit = watched  # type: ignore[method-assign,assignment]


def closing(request: str, outcome: str = "completed", **members: Any) -> Message:
    """What a door sends to close a request."""
    how = {"status": 200, "input_tokens": 10, "output_tokens": 20} | members
    event = {"outcome": how, "statement": {"output_sha256": "c" * 64, "text_sha256": ["d" * 64]}}
    return {"op": "close", "req": request, "outcome": outcome, "event": event}
