"""The sidecars that the snapshot names: which serves a model, and under which run, learned from its health answer.

A pass is made for one run of one sidecar, so the run must be fresh: it is asked again every second, and forgotten at once when a
connection to the sidecar ends by itself.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sealward.errors import Reason, Refused
from sealward.formats.snapshot import Snapshot
from sealward.gateway.flight import Wait
from sealward.gateway.limits import Limits
from sealward.gateway.ticker import Ticker
from sealward.gateway.upstream import Address, Call, Pool


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One sidecar in one run. `name` is what an admission says: `id:run`."""

    name: str
    pool: Pool


class Sidecars:
    """Watches every sidecar row of the snapshot that has an address here. KNOWN: local ones only in this version."""

    def __init__(self, local: Address, ticker: Ticker, limits: Limits) -> None:
        self._local, self._ticker, self._limits = local, ticker, limits
        self._watches: dict[str, _Watch] = {}

    def follow(self, snapshot: Snapshot) -> None:
        """The rows of section `trust` as they are now."""
        rows = {name.removeprefix("sidecar:"): row for name, row in snapshot.sections["trust"].items() if name != "log"}
        wanted = {name for name, row in rows.items() if "local" in row}
        for name in self._watches.keys() - wanted:
            self._watches.pop(name).stop()
        for name in wanted - self._watches.keys():
            self._watches[name] = _Watch(name, Pool(self._local, self._ticker, self._limits), self._ticker)

    def at_hand(self, model_id: str, row: Mapping[str, Any]) -> Sidecar | None:
        """What `serving` gives where it need not wait; None: ask that."""
        for name in row["sidecars"]:
            watch = self._watches.get(name)
            if watch is None or watch.sidecar is None:
                return None
            if watch.models.get(model_id) == row["digest"]:
                return watch.sidecar
        return None

    async def serving(self, model_id: str, row: Mapping[str, Any], but: Sidecar | None = None) -> Sidecar:
        """One of the model's own that presents the approved digest, other than the run `but`.

        Refused: upstream_unavailable, or model_digest where only another digest stands behind the approved name.
        """
        reason = Reason.UPSTREAM_UNAVAILABLE
        for watch in [self._watches[name] for name in row["sidecars"] if name in self._watches]:
            if watch.sidecar is None:
                await watch.settled()
            if watch.sidecar is not None and watch.sidecar is not but and model_id in watch.models:
                if watch.models[model_id] == row["digest"]:
                    return watch.sidecar
                reason = Reason.MODEL_DIGEST
        raise Refused(reason)

    @property
    def ready(self) -> bool:
        return any(watch.sidecar is not None for watch in self._watches.values())

    def stop(self) -> None:
        for watch in self._watches.values():
            watch.stop()


class _Watch:
    """Health of one sidecar; the sink of its own question."""

    def __init__(self, name: str, pool: Pool, ticker: Ticker) -> None:
        self._name, self._pool, self._ticker = name, pool, ticker
        self.sidecar: Sidecar | None = None
        self.models: Mapping[str, Any] = {}
        self.deadline = 0.0
        self._call: Call | None = None
        self._status = 0
        self._answer = b""
        self._loop, self._asked = asyncio.get_running_loop(), 0.0
        self._waiting: list[Wait[None]] = []
        self._unsure = True
        pool.on_lost.append(self)
        ticker.watch(self)
        self.expire(self._loop.time())

    def stop(self) -> None:
        self._ticker.forget(self)
        self._pool.on_lost.clear()
        self._pool.close()
        self.sidecar = None

    def settled(self) -> Wait[None]:
        """Until it is known again whether it serves; at once when that is known."""
        wait: Wait[None] = Wait()
        if self._unsure:
            self._waiting.append(wait)
        else:
            wait.set(None)
        return wait

    def expire(self, now: float) -> None:
        """The ticker's: ask."""
        self.deadline = now + EVERY_S
        if self._call is not None and not self._call.over:
            self._call.abort()  # it did not answer the last question within a second
            self._settle(None)
        self._ask()

    def lost(self, pool: Pool) -> None:
        """Of the pool: a connection ended by itself; the sidecar may be another one by now."""
        del pool
        self.sidecar, self._unsure = None, True
        now = self._loop.time()
        if (self._call is None or self._call.over) and now > self._asked + AGAIN_S:
            self._ask()
        self.deadline = min(self.deadline, now)

    def answered(self, status: int, headers: dict[bytes, bytes]) -> None:
        del headers
        self._status = status

    def received(self, content: bytes) -> None:
        self._answer = (self._answer + content)[:MAX_ANSWER]

    def ended(self, content: bytes) -> None:
        self.received(content)
        found = _health(self._answer) if self._status == OK else None
        if found is None or found.get("id") != self._name or found.get("state") != "ready":
            self._settle(None)
            return
        self.models = found["models"]
        name = f"{self._name}:{found['run']}"
        self._settle(self.sidecar if self.sidecar is not None and self.sidecar.name == name else Sidecar(name, self._pool))

    def broken(self, reason: Reason) -> None:
        del reason
        self._settle(None)

    def _ask(self) -> None:
        self._status, self._answer = 0, b""
        self._asked = self._loop.time()
        self._call = self._pool.send(HEALTH, self)

    def _settle(self, sidecar: Sidecar | None) -> None:
        self.sidecar, self._unsure = sidecar, False
        waiting, self._waiting = self._waiting, []
        for wait in waiting:
            wait.set(None)


def _health(answer: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None
    right = isinstance(found, dict) and isinstance(found.get("models"), dict)
    return found if right and isinstance(found.get("run"), str) and RUN.fullmatch(found["run"]) else None


HEALTH = b"GET /sealward/v1/health HTTP/1.1\r\nhost: sidecar\r\n\r\n"
RUN = re.compile(r"[0-9a-f]{16}")
EVERY_S, AGAIN_S, MAX_ANSWER, OK = 1.0, 0.05, 1 << 20, 200
