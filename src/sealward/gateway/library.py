"""What the recorder looks up in the journal's files, in threads of its own: receipts for doors, rows for the owner."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import structlog

from sealward.errors import IntegrityError, Reason, Refused
from sealward.formats.fault import FormatError
from sealward.formats.ids import ULID
from sealward.gateway.clients import Client
from sealward.journal.reader import Row
from sealward.journal.writer import Writer

Message = dict[str, Any]


class Library:
    """Answers `receipt` and `read`. Needs a running loop; two look-ups run at a time, up to MAX_WAITING wait."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._threads = ThreadPoolExecutor(2, "library")
        self._tasks: set[asyncio.Task[None]] = set()

    def receipt(self, client: Client, message: Message) -> None:
        """`{n, op: receipt, req, subject}` → `{n, receipt}`, `{n, pending}`, or `{n, refused: not_found}`: also for others'."""
        self._start(client, message, self._receipt(client, message))

    def read(self, client: Client, message: Message) -> None:
        """`{n, op: read, query, at}` → `{n, row}`…, `{n, done}`; `at`: index of its `journal.read`.

        With `follow` rows come until the client goes.
        """
        self._start(client, message, self._read(client, message))

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._threads.shutdown()

    def _start(self, client: Client, message: Message, answer: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= MAX_WAITING:
            answer.close()
            client.say({"n": message["n"], "refused": Reason.OVERLOADED})
            return
        task = asyncio.get_running_loop().create_task(self._guarded(client, message, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, client: Client, message: Message, answer: Coroutine[Any, Any, None]) -> None:
        try:
            await answer
        except Refused as refused:
            client.say({"n": message["n"], "refused": refused.reason})
        except (IntegrityError, OSError) as error:
            LOG.error("the journal cannot be read", cause=str(error))  # noqa: TRY400 - its words say it all
            client.say({"n": message["n"], "refused": Reason.JOURNAL_IO})

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

    async def _read(self, client: Client, message: Message) -> None:
        loop = asyncio.get_running_loop()
        try:
            query = Query.parse(message.get("query"), message["at"])
        except FormatError as error:
            client.say({"n": message["n"], "refused": Reason.BODY_FIELD, "detail": error.detail})
            return
        at = query.start
        while True:
            rows = self._writer.reader.rows(at)
            while some := await loop.run_in_executor(self._threads, _some, rows, query.end):
                for row in some:
                    if query.wants(row):
                        client.say({"n": message["n"], "row": row.as_json()})
                at = some[-1].index + 1
                await client.drained()
            if not query.follow or at >= query.end:
                break
            while self._writer.size <= at:
                await asyncio.sleep(FOLLOW_S)
                await client.drained()
        client.say({"n": message["n"], "done": True})


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows an owner reads: from `start` to before `end`, of `types` and of `subject` where these are given."""

    start: int
    end: int
    types: frozenset[str] | None
    subject: str | None
    follow: bool

    @classmethod
    def parse(cls, query: Any, size: int) -> Query:
        """`{from?, to?, last?, types?, subject?, follow?}`; FormatError("malformed") for anything else."""
        if not isinstance(query, dict) or not query.keys() <= {"from", "to", "last", "types", "subject", "follow"}:
            raise FormatError("malformed", "a query has from, to, last, types, subject, follow")
        numbers = {name: query.get(name) for name in ("from", "to", "last")}
        if any(value is not None and (type(value) is not int or value < 0) for value in numbers.values()):
            raise FormatError("malformed", "from, to and last are indices")
        types, subject = query.get("types"), query.get("subject")
        if not (types is None or (isinstance(types, list) and all(isinstance(each, str) for each in types))):
            raise FormatError("malformed", "types is a list of event types")
        start = max(numbers["from"] or 0, size - numbers["last"] if numbers["last"] is not None else 0)
        end = FOREVER if numbers["to"] is None and query.get("follow") is True else numbers["to"] or size
        return cls(start, end, None if types is None else frozenset(types), subject, query.get("follow") is True)

    def wants(self, row: Row) -> bool:
        if row.event is None:
            return self.types is None and self.subject is None
        right_type = self.types is None or row.event["type"] in self.types
        return right_type and (self.subject is None or row.event["subject"]["id"] == self.subject)


def _some(rows: Iterator[Row], end: int) -> list[Row]:
    return [row for row in islice(rows, ROWS) if row.index < end]


LOG = structlog.get_logger()
NOT_FOUND: Message = {"refused": "not_found"}
MAX_WAITING = 64
ROWS = 256
FOLLOW_S = 0.2
FOREVER = 1 << 63
