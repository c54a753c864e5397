"""The one way a running exchange loses its right to go on: by key, subject, model or age of its decision.

A change of the snapshot is looked through at once: whoever is no longer proven, or no longer granted, by the new one is cut,
whatever he is doing (knowledge/identity.md section 7). Nothing else is touched.
"""

from __future__ import annotations

from sealward.errors import Reason, Refused
from sealward.gateway.exchange import Exchange
from sealward.identity.access import Access


class Cuts:
    """The exchanges of one worker from their authentication to their end."""

    def __init__(self) -> None:
        self._running: set[Exchange] = set()

    def __len__(self) -> int:
        return len(self._running)

    def add(self, exchange: Exchange) -> None:
        self._running.add(exchange)

    def drop(self, exchange: Exchange) -> None:
        self._running.discard(exchange)

    def cut(
        self,
        reason: Reason,
        since_us: int,
        *,
        key: str | None = None,
        subject: str | None = None,
        model: str | None = None,
        before_epoch: int | None = None,
    ) -> int:
        """End all that fit every condition given (none given: all); how many. `since_us`: when their right ended."""
        victims = [
            each
            for each in self._running
            if (key is None or (each.principal is not None and each.principal.key_id == key))
            and (subject is None or (each.principal is not None and each.principal.id == subject))
            and (model is None or each.model_id == model)
            and (before_epoch is None or (each.ground is not None and each.ground.snapshot.epoch < before_epoch))
        ]
        for exchange in victims:
            _end(exchange, Refused(reason), since_us)
        return len(victims)

    def review(self, access: Access, now_us: int, since_us: int) -> int:
        """Decide anew about everything that runs, by a new snapshot; how many were cut."""
        ended = 0
        for exchange in list(self._running):
            refused = _refused_now(exchange, access, now_us)
            if refused is not None:
                _end(exchange, refused, since_us)
                ended += 1
        return ended

    def expire(self, now_us: int) -> None:
        """End what runs on a proof that is over."""
        for exchange in list(self._running):
            until = exchange.principal.expires_us if exchange.principal is not None else None
            if until is not None and until <= now_us:
                _end(exchange, Refused(Reason.EXPIRED), until)


def _refused_now(exchange: Exchange, access: Access, now_us: int) -> Refused | None:
    if exchange.principal is None or exchange.found is None:
        return None
    try:
        principal = access.renew(exchange.principal, now_us=now_us)
        if exchange.grant is not None:
            access.decide(principal, exchange.found.route.action, exchange.model_id, now_us=now_us)
    except Refused as refused:
        # What a running exchange lost it was granted before: to its caller and in its entry that is a revocation, but for the
        # model's own fate.
        return refused if refused.reason is Reason.MODEL_WITHDRAWN else Refused(Reason.REVOKED, refused.reason.value)
    return None


def _end(exchange: Exchange, refused: Refused, since_us: int) -> None:
    exchange.cut_us = since_us
    exchange.interrupt(refused)
