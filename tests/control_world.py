"""A world for control: the real signer on a disk in memory, and a journal that gives real promises and can fail."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from people import NOW, PEPPER
from sealward.control import genesis
from sealward.control.api import admin_api, described
from sealward.control.author import Author
from sealward.control.bodies import Bodies
from sealward.control.call import Peer
from sealward.control.minting import Mint
from sealward.control.office import Office
from sealward.control.publisher import OpenIntent, Publisher
from sealward.control.state import State
from sealward.errors import Reason, Refused, UnreachableError
from sealward.events import Event
from sealward.formats.b64 import b64url
from sealward.formats.change import Intent
from sealward.formats.event import validate
from sealward.formats.fault import FormatError
from sealward.formats.passes import Log, promises
from sealward.formats.snapshot import Point, Snapshot
from sealward.gateway.intents import TOKENS
from sealward.keyring.secret import Secret
from sealward.keyring.signer import Signer
from sealward.keyring.signer_link import Signed
from sealward.keyring.token_key import TokenKey
from sealward.settings import Settings

ORIGIN = "journal.test/control"
LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TOKEN_KEY = TokenKey(Secret(bytes(range(2, 34))))
SIGNER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
DIGEST = "sha256:" + "1" * 64
SETTINGS = """
version: 1
journal: {origin: journal.test/control}
models:
  m1: {weights: m1.gguf, runtime: {kind: llamacpp, start: xllamacpp}}
  later: {weights: m2.gguf, runtime: {kind: llamacpp, start: xllamacpp}}
"""


class Dies(Exception):  # noqa: N818 - not a fault: the process ends here
    """Control is killed at this point."""


class TestClock:
    """Stands still until it is moved."""

    __test__ = False

    def __init__(self) -> None:
        self.us = NOW

    def now(self) -> int:
        return self.us

    def boot(self) -> float:
        return self.us / 1_000_000


class MemoryDisk:
    """Everything is durable at once."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        return self.files.get(name, b"")

    def replace(self, name: str, data: bytes) -> None:
        self.files[name] = data

    def append(self, name: str, data: bytes) -> None:
        self.files[name] += data


@dataclass
class Switch:
    """What happens at the n-th step from now: a kill before or after it, a lost answer, a refusal."""

    steps: int = 0
    at: int = -1
    what: str = ""

    def set(self, at: int, what: str) -> None:
        self.at, self.what = self.steps + at, what

    def before(self) -> None:
        self._happen({"dies before": Dies(), "refuses": Refused(Reason.JOURNAL_FULL), "unreachable": UnreachableError("gone")})

    def after(self) -> None:
        self._happen({"dies after": Dies(), "answer lost": UnreachableError("the answer is lost")})
        self.steps += 1

    def _happen(self, causes: dict[str, Exception]) -> None:
        if self.steps == self.at and self.what in causes:
            self.at, self.steps = -1, self.steps + 1
            raise causes[self.what]


@dataclass
class TestJournal:
    """Events in order; what leaves no valid entry is a fault of the test's subject."""

    __test__ = False
    switch: Switch
    events: list[Event] = field(default_factory=list)

    async def record(self, event: Event) -> Intent:
        self.switch.before()
        index = self.take(event)
        cm = bytes.fromhex(event.get("change", {}).get("digest", "sha256:" + "0" * 64)[7:])
        leaf = sha256(json.dumps(event).encode()).digest()
        self.switch.after()
        return Intent(index, leaf, promises(ORIGIN, index, [(leaf, cm)], LOG_KEY)[0])

    def take(self, event: Event) -> int:
        validate(event)
        self.events.append(event)
        return len(self.events) - 1

    async def intents(self) -> list[OpenIntent]:
        closed = {event["snapshot"]["intent"] for event in self.events if event["type"] == "snapshot.published"}
        failed = {event["change"]["digest"] for event in self.events if event["type"] == "change.failed"}
        return [
            OpenIntent(n, event["change"]["digest"][7:], event)
            for n, event in enumerate(self.events)
            if "salt" in event.get("change", {})
            and event["type"] not in TOKENS
            and n not in closed
            and event["change"]["digest"] not in failed
        ]

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


class TestLink:
    """The signer, asked without a socket."""

    __test__ = False

    def __init__(self, signer: Signer, switch: Switch) -> None:
        self._signer, self._switch = signer, switch

    async def snapshot(self) -> bytes:
        return str(self._ask({"op": "snapshot"})["snapshot"]).encode()

    async def intent(self) -> tuple[int, str, int] | None:
        said = self._ask({"op": "intent"})
        return (said["epoch"], said["change"], said["index"]) if "change" in said else None

    async def propose(self, change: bytes, intent: Intent) -> Signed:
        self._switch.before()
        place = {"index": intent.index, "leaf": intent.leaf.hex(), "promise": b64url(intent.promise)}
        said = self._ask({"op": "propose", "change": change.decode()} | place)
        self._switch.after()
        return Signed(Point(said["epoch"], said["digest"]), said["delta"].encode())

    async def token(self, request: bytes, intent: Intent) -> str:
        self._switch.before()
        place = {"index": intent.index, "leaf": intent.leaf.hex(), "promise": b64url(intent.promise)}
        said = self._ask({"op": "token", "change": request.decode()} | place)
        self._switch.after()
        return str(said["token"])

    async def token_key(self) -> dict[str, str]:
        return dict(self._ask({"op": "token_key"})["jwk"])

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        reply = self._signer.handle("control", message | {"n": 1}).reply
        if "refused" in reply:
            raise FormatError(reply["refused"])
        return reply


class Sink:
    """Refusals and reads go to the same journal."""

    def __init__(self, journal: TestJournal) -> None:
        self._journal = journal

    def record(self, event: Event) -> None:
        self._journal.take(event)


class TestBodies(Bodies):
    """What was captured is always there; who reads it leaves an event first."""

    __test__ = False

    def __init__(self, journal: TestJournal) -> None:
        self._journal = journal

    async def read(self, request: str, event: Event) -> dict[Any, bytes]:
        self._journal.take(event)
        return {"input": b"say hello"}


class World:
    """One deployment. `boot` starts control (again): new objects on the same files, journal and signer."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.switch = TestClock(), Switch()
        self.journal = TestJournal(self.switch)
        self.signer = Signer(MemoryDisk(), self.clock, SIGNER_KEY, Log(ORIGIN, LOG_KEY.public_key()), TOKEN_KEY)
        self.settings = Settings.parse(SETTINGS, folder / "sealward.yaml", dt.date(2026, 11, 23))
        self.path = folder / "state.db"
        self._n = 0
        self.author = Author(self.clock, self._random)
        vkey = "journal.test/control+2e391da3+ASaZNBhQ2DZB3cZtXbj3rZon7JMXOSnBMSIJemQhhG8g"
        ops = genesis.first_ops(self.settings, {"m1": DIGEST}, vkey, TOKEN_KEY.jwk)
        genesis.create_state(self.path, ops, self.author)

    def _random(self, size: int) -> bytes:
        self._n += 1
        return sha256(self._n.to_bytes(8, "big")).digest()[:size]

    def boot(self) -> Office:
        state = State(self.path)
        link = TestLink(self.signer, self.switch)
        publisher = Publisher(state, self.journal, link, SIGNER_KEY.public_key(), self.author)
        mint = Mint(self.journal, link, self.author)
        office = Office(self.settings, PEPPER, self.author, Sink(self.journal), publisher, mint)
        office.bodies = TestBodies(self.journal)
        publisher.on_snapshot = office.hold
        self.state, self.office = state, office
        return office

    def run(self, story: Callable[[Office], Any]) -> Any:
        """One life of control: boots, tells `story`, and lets go of the database however it ends."""
        office = self.boot()
        try:
            return asyncio.run(story(office))
        finally:
            self.state.close()

    def served(self) -> Snapshot:
        """What the doors would decide from."""
        return self.office.snapshot


@dataclass
class Reply:
    """An answer of the admin API."""

    status: int
    headers: dict[str, str]
    body: Any


def _api(office: Office) -> Any:
    """The routes are described once for all tests."""
    return admin_api(APP, office)


APP = described()


async def ask(
    office: Office,
    method: str,
    path: str,
    body: Any = None,
    *,
    key: bytes = b"",
    role: str = "owner",
    raw: bytes | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Reply:
    """One request to the admin API, past the socket."""
    data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
    heads = [(b"content-type", b"application/json"), *headers, *([(b"authorization", b"Bearer " + key)] if key else [])]
    if role == "admin":
        heads.append((b"x-sealward-source", b"203.0.113.9 40112"))
    peer = Peer(role, 0)  # type: ignore[arg-type]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode(), "root_path": "", "scheme": "http",
        "query_string": b"", "headers": heads, "state": {"peer": peer},
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await _api(office)(scope, receive, send)  # type: ignore[arg-type]
    head = next(message for message in sent if message["type"] == "http.response.start")
    text = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return Reply(head["status"], {name.decode(): value.decode() for name, value in head["headers"]}, json.loads(text or b"null"))
