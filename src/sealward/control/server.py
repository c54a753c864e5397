"""The admin API on its inherited unix sockets: uvicorn, with the kernel's word on who is at the other end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sealward.control.call import Peer
from sealward.errors import ConfigurationError
from sealward.process import Start, peer_uid


class AdminServer(uvicorn.Server):
    """One server for the sockets `control.{admin,owner,door}`; `stop` drains it. Signals are the process's business."""

    def __init__(self, app: ASGIApp, start: Start) -> None:
        self._sockets = [start.listeners[f"control.{role}"] for role in ROLES if f"control.{role}" in start.listeners]
        roles = {start.listeners[f"control.{role}"].getsockname(): role for role in ROLES if f"control.{role}" in start.listeners}
        if not roles:
            raise ConfigurationError("control has no socket", remedy="start it by `sealward up` or its unit")
        super().__init__(
            uvicorn.Config(
                app,
                http=_protocol(roles, start.peers),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=DRAIN_S,
                limit_concurrency=MAX_CONNECTIONS,
            )
        )
        self.config.load()

    async def run_until_stopped(self) -> None:
        await self.serve(self._sockets)

    def stop(self) -> None:
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _protocol(roles: Mapping[str, str], peers: Mapping[str, int]) -> type[asyncio.Protocol]:
    class OurProtocol(HttpToolsProtocol):
        """A stranger is gone before it can say a word."""

        def connection_made(self, transport: Any) -> None:
            connection = transport.get_extra_info("socket")
            role, uid = roles.get(connection.getsockname(), ""), peer_uid(connection)
            super().connection_made(transport)
            if not role or uid not in {0, peers.get(role)}:
                transport.abort()
                return
            self.app_state = {**self.app_state, "peer": Peer(cast("Any", role), uid)}

    return OurProtocol


ROLES = ("admin", "owner", "door")
KEEP_ALIVE_S = 75
DRAIN_S = 5
MAX_CONNECTIONS = 256
