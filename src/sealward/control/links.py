"""Control's way to the recorder, as the publisher wants it."""

from __future__ import annotations

from sealward.control.publisher import OpenIntent
from sealward.errors import UnreachableError
from sealward.events import Event
from sealward.formats.b64 import unb64url
from sealward.formats.change import Intent
from sealward.journal.client import RecorderClient


class RecorderJournal:
    """`publisher.Journal` over the recorder's socket. Only an entry with a commitment has a promise."""

    def __init__(self, client: RecorderClient) -> None:
        self._client = client

    async def record(self, event: Event) -> Intent:
        said = await self._client.write(event)
        try:
            return Intent(said["index"], bytes.fromhex(said["leaf"]), unb64url(said.get("promise", "")))
        except (KeyError, TypeError, ValueError) as error:
            raise UnreachableError("the recorder's answer is not one") from error

    async def intents(self) -> list[OpenIntent]:
        said = await self._client.ask({"op": "intents"}, within=60.0)
        return [OpenIntent(row["index"], row["digest"].removeprefix("sha256:"), row["event"]) for row in said["intents"]]
