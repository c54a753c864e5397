"""What the owner reads: the recorder writes down the question, the catalogue's process answers, packets pass through here."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Collection
from functools import partial
from typing import Any

import structlog

from sealward.errors import IntegrityError, Reason, Refused
from sealward.formats.fault import FormatError
from sealward.gateway.catalogue import END, PACKET, Catalogue
from sealward.gateway.clients import Client
from sealward.gateway.errands import Errands
from sealward.journal.query import Find, Read
from sealward.journal.writer import Writer

Message = dict[str, Any]


class Readings:
    """Answers `read` and `query`. Needs a running loop from `begin` on."""

    def __init__(self, writer: Writer, catalogue: Catalogue) -> None:
        self._writer, self._catalogue, self._errands = writer, catalogue, Errands()
        self._told, self._ended, self._quiet_until = 0, False, 0.0
        writer.on_erased.append(self._erased)

    def begin(self) -> None:
        """The reader's questions are answered from here on."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._catalogue.keys, self._answer_keys)
        self._quiet_until = loop.time() + QUIET_S

    def read(self, client: Client, message: Message) -> None:
        """`{n, op: read | query, query, at}` → `{n, row}`…, `{n, done}`; `at`: index of its `journal.read`.

        With `follow` rows come until the client goes.
        """
        self._errands.start(client, message, self._read(client, message))

    def grown(self) -> None:
        """About ten times a second: the reader learns how long the log is. The first seconds belong to those who wait."""
        wanted = self._errands or asyncio.get_running_loop().time() >= self._quiet_until
        if wanted and self._writer.size != self._told and not self._ended:
            with contextlib.suppress(OSError):  # it has enough to do
                self._catalogue.tell({"size": self._writer.size})
                self._told = self._writer.size

    def close(self) -> None:
        """Also at the end of a lease: no process of ours holds a key for reading any more."""
        self._errands.close()
        if not self._ended:
            self._ended = True
            asyncio.get_running_loop().remove_reader(self._catalogue.keys)
            self._catalogue.end()

    async def _read(self, client: Client, message: Message) -> None:
        try:
            check = Find.parse if message["op"] == "query" else partial(Read.parse, size=message["at"])
            check(message.get("query"))
        except FormatError as error:
            client.say({"n": message["n"], "refused": Reason.BODY_FIELD, "detail": error.detail})
            return
        try:
            answer = self._catalogue.ask(message | {"size": self._writer.size})
        except BlockingIOError as error:
            raise Refused(Reason.OVERLOADED) from error
        with answer:
            while (packet := await _packet(client, answer)) != END:
                if not packet:
                    raise IntegrityError("reader", "the process that reads ended")
                client.say(packet)
                await client.drained()

    def _answer_keys(self) -> None:
        try:
            self._catalogue.answer_keys(self._writer.reader.key)
        except (Refused, OSError) as error:
            LOG.warning("nothing is read any more", cause=str(error))
            self.close()

    def _erased(self, kids: Collection[str]) -> None:
        """What the reader holds of them goes within the live clock; nobody waits, it may have a question to us first."""
        with contextlib.suppress(OSError):  # then it holds nothing, and compares its files with the keys when it opens them
            self._catalogue.tell({"size": self._writer.size, "erased": list(kids)})


async def _packet(client: Client, answer: socket.socket) -> bytes:
    """The next one. ConnectionResetError: the client is gone meanwhile."""
    loop = asyncio.get_running_loop()
    receiving = loop.create_task(loop.sock_recv(answer, PACKET))
    try:
        while not (await asyncio.wait({receiving}, timeout=LOOK_S))[0]:
            await client.drained()
    finally:
        receiving.cancel()
    return receiving.result()


LOG = structlog.get_logger()
LOOK_S, QUIET_S = 1.0, 10.0
