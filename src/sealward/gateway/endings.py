"""How an exchange ends that was refused, wherever it stood: its entry, its upstream, its caller, in this order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealward.errors import Reason, Refused
from sealward.gateway import answers
from sealward.gateway.exchange import Exchange
from sealward.gateway.ledger import aborted_by
from sealward.gateway.refusals import Heard

if TYPE_CHECKING:
    from sealward.gateway.worker import Worker


def refused(worker: Worker, exchange: Exchange, why: Refused) -> None:
    """One entry, no byte more from the runtime, and the answer that the caller may still get."""
    if exchange.call is not None:
        exchange.call.abort()
    if exchange.index is not None:
        if not exchange.closed:
            worker.ledger.close_aborted(exchange, why, aborted_by(why.reason))
    elif not exchange.noted and why.reason not in UNWRITTEN:
        _note(worker, exchange, why)
    answers.refuse(exchange, why)


def _note(worker: Worker, exchange: Exchange, why: Refused) -> None:
    if exchange.principal is None:
        asked = exchange.head
        host = asked.headers.get(b"host", b"").decode("latin-1")
        heard = Heard(asked.method, host, asked.target.decode("latin-1"))
        worker.refusals.refused(_stage(exchange, why), why, exchange.source.facts, heard)
        return
    kind = "admin.denied" if exchange.found is not None and exchange.found.route.kind in {"admin", "log"} else "inference.denied"
    worker.refusals.denied(kind, why, exchange.principal.subject(), worker.ledger.members(exchange))


def _stage(exchange: Exchange, why: Refused) -> str:
    if exchange.ground is not None or why.reason.startswith("credential_"):
        return "authn"
    return "route" if why.reason in ROUTE else "http"


ROUTE = frozenset({Reason.ROUTE_UNKNOWN, Reason.ROUTE_METHOD, Reason.ROUTE_NOT_SUPPORTED})
UNWRITTEN = frozenset({
    Reason.STALE_EPOCH, Reason.NO_HEARTBEAT, Reason.NO_SNAPSHOT, Reason.JOURNAL_FULL, Reason.JOURNAL_IO, Reason.JOURNAL_STALLED,
    Reason.JOURNAL_DAMAGED,
})  # fmt: skip
