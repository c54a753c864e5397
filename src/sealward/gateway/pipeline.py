"""The request path, in the order in which it happens. Each stage either goes on or raises `Refused`; both ways end in entries.

A stage takes the exchange and writes its own fields of it; one that may have to wait gives back what is to be awaited. There is
no way around a stage: a route has one of these columns and nothing else, and what crashes is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from sealward.errors import Refused
from sealward.gateway import endings, head, inference, logfiles, reads, relay
from sealward.gateway.exchange import Exchange

if TYPE_CHECKING:
    from sealward.gateway.worker import Worker

Stage = Callable[["Worker", Exchange], Awaitable[None] | None]

ALWAYS: tuple[Callable[[Worker, Exchange], None], ...] = (
    head.check,  # framing, Host and headers first: what has two readings is not looked at any further
    head.route,  # a closed table: unknown paths cost nothing and reach nobody
)
PROBE: tuple[Stage, ...] = (
    reads.probe,  # a constant for load balancers, without a credential and without an entry
)
CHAT: tuple[Stage, ...] = (
    head.authenticate,  # from the head alone: a stranger's body is never read, nor is he told to send it
    head.read,  # bounded; parsed by nobody before it is complete
    inference.authorize,  # strict body → one canonical model id → Cedar: everything after this acts on what was decided
    inference.admit,  # the recorder counts, writes and syncs: no entry, no service
    inference.forward,  # our own serialisation with the pass, to the sidecar; the reply flows back as it is read
    inference.record,  # the closing entry is durable before the last byte
    inference.release,  # the last bytes
)
READ: tuple[Stage, ...] = (
    head.authenticate,
    head.read,  # a GET with a body is refused in `check`; this waits for the end of the request
    reads.answer,  # from the snapshot or the recorder; leaves an access.read
)
ADMIN: tuple[Stage, ...] = (
    head.authenticate,  # anonymous callers end here, recorded; control verifies the same credential again
    head.read,
    relay.forward,  # unchanged to control, which decides and records
)
TOKEN: tuple[Stage, ...] = (
    head.authenticate,  # the subject token is this credential; control verifies it again before anything is minted
    head.read,
    relay.forward,  # to control, which decides, records and has the signer sign
)
RESOURCE: tuple[Stage, ...] = (
    reads.resource,  # where tokens for this door come from: for callers that have none yet, without an entry
)
LOG: tuple[Stage, ...] = (
    head.authenticate,
    head.read,
    logfiles.answer,  # the journal's public files, for whoever may verify it; leaves an access.read
)
COLUMNS: dict[str, tuple[Stage, ...]] = {
    "chat": CHAT, "models": READ, "model": READ, "receipt": READ, "admin": ADMIN, "log": LOG, "token": TOKEN,
    "resource": RESOURCE, "livez": PROBE, "readyz": PROBE,
}  # fmt: skip


async def serve(worker: Worker, exchange: Exchange) -> None:
    """One exchange from its head to its end."""
    try:
        for look in ALWAYS:
            look(worker, exchange)
        for stage in COLUMNS[exchange.found.route.kind]:  # type: ignore[union-attr]  # written by head.route
            waits = stage(worker, exchange)
            if waits is not None:
                await waits
    except Refused as refused:
        endings.refused(worker, exchange, refused)
    finally:
        worker.cuts.drop(exchange)
        exchange.connection.over(exchange)
