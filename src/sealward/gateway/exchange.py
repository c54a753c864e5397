"""One request of one caller, from its head to its entry. Every field is written once, by the stage named beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sealward.errors import Reason, Refused
from sealward.gateway.flight import Flight, Wait
from sealward.gateway.routes import Found

if TYPE_CHECKING:
    from sealward.gateway.bodies import Chat, Outgoing
    from sealward.gateway.connection import Connection
    from sealward.gateway.reply import Reply
    from sealward.gateway.sidecars import Sidecar
    from sealward.gateway.standing import Ground
    from sealward.gateway.upstream import Call
    from sealward.identity.access import Grant
    from sealward.identity.certificate import ClientCertificate
    from sealward.identity.principal import Principal


@dataclass(slots=True)
class Head:
    """A request's head as llhttp read it. Names in lower case; `doubled` holds what came under a name that was there."""

    method: str
    target: bytes
    http: str
    headers: dict[bytes, bytes]
    doubled: list[tuple[bytes, bytes]]

    @property
    def authorization(self) -> list[bytes]:
        """Every value of the header."""
        first = self.headers.get(b"authorization")
        if first is None:
            return []
        return [first, *(value for name, value in self.doubled if name == b"authorization")] if self.doubled else [first]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a connection comes from: `facts` is the event's `source`, `json` the same once serialised for all its entries."""

    addr: str
    port: int
    sni: str | None
    certificate: ClientCertificate | None
    facts: dict[str, Any]
    json: bytes


@dataclass(slots=True, eq=False)
class Exchange:
    """What the stages of pipeline.py know. It ends once: by its last stage, or by a `Refused` from anywhere."""

    connection: Connection
    source: Source
    id: str
    started_us: int
    head: Head
    body: Wait[bytes]
    """Set by the connection when the body is complete."""
    fault: Refused | None = None
    """What the connection found wrong before there was an exchange."""
    flight: Flight[Exchange] | None = None
    found: Found | None = None  # route
    ground: Ground | None = None  # authenticate; anew when the snapshot moved before the admission
    principal: Principal | None = None  # authenticate
    input: bytes = b""  # read
    chat: Chat | None = None  # authorize
    model_id: str | None = None  # authorize
    grant: Grant | None = None  # authorize
    outgoing: Outgoing | None = None  # authorize
    sidecar: Sidecar | None = None  # admit
    pass_: str = ""  # admit
    index: int | None = None  # admit: there is an entry, from here on it must be closed
    retried: bool = False  # forward: the admission is another one than the first
    noted: bool = False  # admit: the recorder has written the refusal itself
    call: Call | None = None  # forward
    reply: Reply | None = None  # forward
    last: bytes = b""  # record: the content that waits for the entry
    closed: bool = False  # record: the closing entry was asked for
    cut_us: int = 0  # cuts: when the right to go on ended
    answered: bool = False  # the head of an answer went to the client

    @property
    def known(self) -> tuple[Ground, Principal]:
        """Under which snapshot it is decided, and who asks: behind `authenticate` both are there."""
        if self.ground is None or self.principal is None:
            raise Refused(Reason.CREDENTIAL_MISSING)
        return self.ground, self.principal

    def let_go(self) -> None:
        """It is over: what it is tied to in circles goes, so that it is freed now and not by the garbage collector."""
        self.flight = self.call = self.reply = None

    def interrupt(self, refused: Refused) -> None:
        """End it where it stands."""
        if self.flight is not None:
            self.flight.interrupt(refused)
