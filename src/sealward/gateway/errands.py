"""What the recorder looks up for a client outside its turns: a bounded number of tasks, and each answers in any case."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from sealward.errors import IntegrityError, Reason, Refused
from sealward.gateway.clients import Client

Message = dict[str, Any]


class Errands:
    """Needs a running loop. MAX_WAITING at a time; who asks beyond it is told `overloaded`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, client: Client, message: Message, answer: Coroutine[Any, Any, None]) -> None:
        """`answer` says its words to the client; what it raises is said for it."""
        if len(self._tasks) >= MAX_WAITING:
            answer.close()
            client.say({"n": message["n"], "refused": Reason.OVERLOADED})
            return
        task = asyncio.get_running_loop().create_task(_guarded(client, message, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


async def _guarded(client: Client, message: Message, answer: Coroutine[Any, Any, None]) -> None:
    try:
        await answer
    except Refused as refused:
        client.say({"n": message["n"], "refused": refused.reason})
    except ConnectionResetError:
        LOG.info("a client left before its answer", client=client.role)
    except (IntegrityError, OSError) as error:
        LOG.error("the journal cannot be read", cause=str(error))  # noqa: TRY400 - its words say it all
        client.say({"n": message["n"], "refused": Reason.JOURNAL_IO})


LOG = structlog.get_logger()
MAX_WAITING = 64
