"""What every connection needs of whoever serves it: a door's worker and the sidecar are two of a kind."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine
from typing import Any

from sealward.clock import Clock
from sealward.errors import Refused
from sealward.formats.ids import ulid
from sealward.gateway.connection import Connection
from sealward.gateway.entries import Author
from sealward.gateway.exchange import Exchange, Source
from sealward.gateway.flight import Wait
from sealward.gateway.limits import Limits
from sealward.gateway.routes import Table
from sealward.gateway.ticker import Ticker


class Server:
    """Holds the connections and lets them come to their end."""

    def __init__(self, author: Author, limits: Limits, table: Table, ticker: Ticker) -> None:
        self.author, self.limits, self.table, self.ticker = author, limits, table, ticker
        self.clock: Clock = author.clock
        self.buffered = 0
        self._random, self._drawn = b"", 0
        self.draining = False
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()

    def serve(self, exchange: Exchange) -> Coroutine[Wait[Any], None, None]:
        """One exchange from its head to its end."""
        raise NotImplementedError

    def crashed(self, exchange: Exchange) -> None:
        """A stage of it raised what no stage may raise: refuse it, and cut what it may have said."""
        raise NotImplementedError

    def allows_host(self, host: bytes, sni: str | None) -> bool:
        raise NotImplementedError

    def note(self, source: Source, refused: Refused) -> None:
        """A refusal at the HTTP layer that is not of an exchange."""
        raise NotImplementedError

    def mint(self, now_us: int) -> str:
        """The id of a request that begins now. Randomness is drawn for many at a time: a system call costs as much as the id."""
        at = self._drawn
        if at >= len(self._random):
            self._random, at = os.urandom(10 * IDS_A_DRAW), 0
        self._drawn = at + 10
        return ulid(now_us, self._random[at : at + 10])

    @property
    def connections(self) -> int:
        return len(self._connections)

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        self.ticker.watch(connection)

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()
        self.ticker.forget(connection)

    async def quiet(self) -> None:
        """Begin nothing more; until what runs has come to its end, at most `drain_s`."""
        self.draining = True
        for connection in list(self._connections):
            connection.stop_idle()
        if self._connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.limits.drain_s):
                    await self._empty.wait()

    def reset(self) -> None:
        """End every connection at once."""
        for connection in list(self._connections):
            connection.reset()


IDS_A_DRAW = 256
