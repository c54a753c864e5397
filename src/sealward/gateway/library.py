"""Receipts, looked up in the journal's files in threads of their own, and other work that must not stop the turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sealward.formats.ids import ULID
from sealward.gateway.clients import Client
from sealward.gateway.errands import Errands
from sealward.journal.writer import Writer

Message = dict[str, Any]


class Library:
    """Answers `receipt`. Needs a running loop; two look-ups run at a time."""

    def __init__(self, writer: Writer) -> None:
        self._writer, self._errands = writer, Errands()
        self._threads = ThreadPoolExecutor(2, "library")

    def receipt(self, client: Client, message: Message) -> None:
        """`{n, op: receipt, req, subject}` → `{n, receipt}`, `{n, pending}`, or `{n, refused: not_found}`: also for others'."""
        self._errands.start(client, message, self._receipt(client, message))

    def aside(self, client: Client, message: Message, work: Callable[[], Message]) -> None:
        """The client is told what `work` gives; Refused, IntegrityError and OSError are said for it."""
        self._errands.start(client, message, self._aside(client, message, work))

    def close(self) -> None:
        self._errands.close()
        self._threads.shutdown()

    async def _aside(self, client: Client, message: Message, work: Callable[[], Message]) -> None:
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        client.say({"n": message["n"]} | answer)

    async def _receipt(self, client: Client, message: Message) -> None:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._threads, self._find, message.get("req"), message.get("subject"))
        client.say({"n": message["n"]} | answer)

    def _find(self, request: Any, subject: Any) -> Message:
        if not isinstance(request, str) or ULID.fullmatch(request) is None or not isinstance(subject, str):
            return NOT_FOUND
        try:
            text = self._writer.receipt(request, subject)
        except KeyError:
            row = self._writer.reader.find(request)  # older than what the writer knows by heart
            if row is None or row.event is None or row.event["subject"]["id"] != subject:
                return NOT_FOUND
            text = self._writer.reader.receipt(row)
        return {"pending": True} if text is None else {"receipt": text}


NOT_FOUND: Message = {"refused": "not_found"}
