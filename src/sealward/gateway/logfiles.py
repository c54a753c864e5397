"""The management door serves the journal's public files, read-only (C2SP tlog-tiles): checkpoint, tiles, bundles, verifier keys.

Whoever may `journal:verify` reads them with any tlog client; nothing private has a name here. Each read leaves an `access.read`.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sealward.errors import Reason, Refused
from sealward.gateway import answers
from sealward.gateway.exchange import Exchange
from sealward.gateway.flight import Wait

if TYPE_CHECKING:
    from sealward.gateway.worker import Worker


async def answer(worker: Worker, exchange: Exchange) -> None:
    """Refused: action_not_granted, route_unknown (no such file)."""
    ground, principal = exchange.known
    ground.access.decide(principal, "journal:verify", now_us=worker.clock.now())
    worker.refusals.read(principal.subject(), worker.ledger.members(exchange))
    exchange.noted = True
    name = exchange.found.parameter if exchange.found else ""
    if worker.site.journal is None or PUBLIC.fullmatch(name) is None:
        raise Refused(Reason.ROUTE_UNKNOWN)
    content = await _read(worker.site.journal / name)
    if content is None:
        raise Refused(Reason.ROUTE_UNKNOWN)
    answers.whole(exchange, 200, BINARY if name.startswith("tile/") else TEXT, content)


def _read(path: Path) -> Wait[bytes | None]:
    """The file, read by a thread: a bundle may have megabytes, and the disk may be slow."""
    wait: Wait[bytes | None] = Wait()
    reading = asyncio.get_running_loop().run_in_executor(None, _content, path)
    reading.add_done_callback(lambda done: wait.set(None if done.cancelled() else done.result()))
    return wait


def _content(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()
    except OSError:
        return None


PUBLIC = re.compile(
    r"checkpoint|checkpoint\.witnessed|vkey|vkey\.mldsa44|"
    r"tile/(?:entries|[0-9]|[1-5][0-9]|6[0-3])/(?:x[0-9]{3}/)*[0-9]{3}(?:\.p/[1-9][0-9]{0,2})?"
)
TEXT, BINARY = b"text/plain; charset=utf-8", b"application/octet-stream"
