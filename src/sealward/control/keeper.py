"""Keeps the rows of trusted issuers fresh: fetches keys in the background, publishes what changed, raises an alarm for the rest.

At most one fetch an issuer every 30 s, whoever asks and however often: a flood of made-up key ids costs one look-up. An answer
that is not acceptable changes nothing; the old keys stay until their own end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog
from starlette.responses import JSONResponse, Response

from sealward.control.acts import Act
from sealward.control.call import Heard
from sealward.control.fetch import fetch
from sealward.control.office import Office
from sealward.control.trust import KEPT, OWN, Found, Row, Source, own_row, to_rows, wanted_row
from sealward.errors import Reason, Refused, SealwardError, UnreachableError
from sealward.events import Event, system_subject
from sealward.formats.fault import FormatError
from sealward.formats.snapshot import Snapshot
from sealward.identity.jwk import read_key_set
from sealward.identity.strict_json import parse_object

Fetch = Callable[[str, Any, float], bytes]


class Keeper:
    """`run` it as a task once changes are settled. `jwk`: asks the signer for the key of our own tokens."""

    def __init__(
        self, office: Office, sources: Sequence[Source], jwk: Callable[[], Awaitable[dict[str, str]]], get: Fetch = fetch
    ) -> None:
        self._office, self._jwk, self._get = office, jwk, get
        self._sources = {source.issuer.id: source for source in sources}
        self._found: dict[str, Found] = {}
        self._tried: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[bool]] = {}
        self._failing: dict[str, float] = {}
        self._own: Mapping[str, str] | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for ident, source in self._sources.items():
                if source.keys is None:
                    await self.refresh(ident, EVERY_S)
            await asyncio.sleep(LOOK_S)

    async def sync(self) -> bool:
        """Make the section what it has to be; whether anything changed."""
        try:
            self._own = await self._jwk()
        except (FormatError, UnreachableError) as error:
            LOG.warning("no key for our own tokens", cause=str(error))
        return await self._publish()

    async def refresh(self, ident: str, at_most_every_s: float) -> bool:
        """Fetch an issuer's keys, unless that was tried just now; whether other ones are published than before.

        Whoever asks while they are being fetched waits for that.
        """
        if ident not in self._running:
            task = self._running[ident] = asyncio.create_task(self._refreshed(ident, at_most_every_s))
            task.add_done_callback(lambda _: self._running.pop(ident, None))
        return await asyncio.shield(self._running[ident])

    async def _refreshed(self, ident: str, at_most_every_s: float) -> bool:
        source, now = self._sources.get(ident), self._office.author.clock.boot()
        if source is None or source.keys is not None or now - self._tried.get(ident, -NEVER) < at_most_every_s:
            return False
        self._tried[ident] = now
        try:
            self._found[ident] = await self._fetched(source)
        except (UnreachableError, FormatError) as error:
            self._alarm(ident, str(error), now)
            return False
        self._failing.pop(ident, None)
        return await self._publish()

    async def answer(self, heard: Heard, body: bytes) -> Response:
        """A door has met a key id that it does not know: `{"issuer": id}` → `{"changed": bool}`."""
        del heard
        try:
            ident = parse_object(body).get("issuer")
        except FormatError:
            raise Refused(Reason.BODY_MALFORMED) from None
        return JSONResponse({"changed": type(ident) is str and await self.refresh(ident, ASKED_S)})

    async def _fetched(self, source: Source) -> Found:
        issuer = source.issuer
        url = issuer.jwks_url or await self._discovered(source)
        document = await self._document(url, source)
        return Found(url, read_key_set(document, issuer.algorithms))

    async def _discovered(self, source: Source) -> str:
        """OpenID Connect Discovery 4.3: the document must name the issuer that we asked, letter by letter."""
        name = source.issuer.issuer
        document = parse_object(await self._document(f"{name.rstrip('/')}/.well-known/openid-configuration", source))
        url = document.get("jwks_uri")
        if document.get("issuer") != name or type(url) is not str or not url.startswith("https://") or len(url) > MAX_URL:
            raise FormatError("discovery", "of another issuer, or without an https address of its keys")
        return url

    async def _document(self, url: str, source: Source) -> bytes:
        try:
            async with asyncio.timeout(FETCH_S + 1):
                return await asyncio.to_thread(self._get, url, source.context, FETCH_S)
        except TimeoutError:
            raise UnreachableError("no answer in time") from None

    async def _publish(self) -> bool:
        rows = self._rows(self._office.snapshot)
        if to_rows(self._office.snapshot, rows, self._left_alone()) is None:
            return False
        try:
            await self._office.publisher.publish("control", self._act, self._event)
        except SealwardError as error:
            LOG.warning("the rows of issuers are not published", cause=error.detail)
            return False
        return True

    def _act(self, snapshot: Snapshot) -> Act:
        act = to_rows(snapshot, self._rows(snapshot), self._left_alone())
        if act is None:
            raise Refused(Reason.BODY_FIELD, "there is nothing to change", status=409)
        return act

    def _rows(self, snapshot: Snapshot) -> dict[str, Row]:
        settings, held, now_us = self._office.settings, snapshot.sections["issuers"], self._office.author.clock.now()
        rows: dict[str, Row] = {}
        if self._own is not None:
            rows[OWN] = own_row(settings, self._own) | {name: held[OWN][name] for name in KEPT if name in held.get(OWN, {})}
        for ident, source in self._sources.items():
            row = wanted_row(source, self._found.get(ident), now_us, held.get(ident))
            if row is not None:
                rows[ident] = row
        return rows

    def _left_alone(self) -> tuple[str, ...]:
        return (OWN,) if self._own is None else ()

    def _event(self, act: Act) -> Event:
        told = {"target": act.target, "action": act.action, "after": act.after}
        return self._office.author.event(act.event, system_subject("control"), change=told)

    def _alarm(self, ident: str, cause: str, now: float) -> None:
        """The first failure, and one an hour as long as it lasts."""
        LOG.warning("an issuer's keys were not fetched", issuer=ident, cause=cause)
        if now - self._failing.get(ident, -NEVER) < ALARM_S:
            return
        self._failing[ident] = now
        key = {"id": ident, "kind": "token", "purpose": "jwks"}
        event = self._office.author.event("key.unavailable", system_subject("control"), key=key, ext={"cause": _words(cause)})
        self._office.sink.record(event)


def _words(cause: str) -> str:
    """What a stranger's server may have had a part in."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cause)[:MAX_CAUSE]


LOG = structlog.get_logger()
LOOK_S, EVERY_S, ASKED_S, ALARM_S, FETCH_S = 10.0, 300.0, 30.0, 3600.0, 5.0
NEVER = float("inf")
MAX_URL, MAX_CAUSE = 512, 256
