"""Control's reader of captured bodies: it makes the key pairs that doors seal to, and opens a body for a named purpose.

    state/control/bodies.kek        key-encryption key of provider `file`
    state/control/bodies.json       {"journal-bodies": wrapped purpose key}

The recorder keeps rows and objects and can open neither; here is the one key that opens rows, on a lease. Who reads is in the
journal before anything is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import orjson
import structlog

from sealward.clock import Clock
from sealward.errors import IntegrityError, Reason, Refused, UnreachableError
from sealward.events import Event
from sealward.formats.b64 import b64url, unb64url
from sealward.formats.body import Place, body_key, open_body, public_half
from sealward.formats.fault import FormatError
from sealward.formats.subject_key import SubjectKey, open_row, wrap_row
from sealward.keyring.provider import KekFile, Lease
from sealward.keyring.secret import Secret

Message = dict[str, Any]
Side = Literal["input", "output"]


class Recorder(Protocol):
    """A RecorderClient is one. Refused, UnreachableError."""

    async def ask(self, message: Message, within: float = 5.0) -> Message: ...
    async def write(self, event: Event) -> Message: ...


class Bodies:
    """`unwrap` asks the provider for the purpose key: Refused(key_unavailable)."""

    def __init__(self, recorder: Recorder, unwrap: Callable[[], Secret], clock: Clock, random: Callable[[int], bytes]) -> None:
        self._recorder, self._unwrap, self._clock, self._random = recorder, unwrap, clock, random
        self._lease: Lease | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def pushed(self, message: Message) -> None:
        """What the recorder tells: keys that it wants are made."""
        if message.get("push") == "body_keys":
            task = asyncio.get_running_loop().create_task(self._make(message["wanted"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def read(self, request: str, event: Event) -> dict[Side, bytes]:
        """What was captured of a request, after `event` is durable. Refused: key_unavailable; 404: nothing is there."""
        await self._recorder.write(event)
        key = self._key()
        try:
            found = await self._recorder.ask({"op": "bodies", "req": request}, within=60.0)
            opened: dict[Side, bytes] = {}
            for side, about in found["objects"].items():
                sealed = await self._object(about)
                row = {name: about[name] for name in ("kid", "wrapped")}
                pair = body_key(open_row(row, purpose=PURPOSE, purpose_key=key.reveal()).key)
                opened[side] = open_body(sealed, pair, Place(found["origin"], about["kid"], request, side))
        except FormatError as error:
            raise IntegrityError("body", f"it does not open: {error}") from error
        except Refused as refused:
            if refused.detail != "not_found":
                raise
            raise Refused(Reason.BODY_FIELD, f"nothing was captured of {request}, or it was erased", status=404) from None
        return opened

    async def _object(self, about: Message) -> bytes:
        data = b""
        while True:
            part = await self._recorder.ask({"op": "body_part", "kid": about["kid"], "ref": about["ref"], "at": len(data)})
            data += unb64url(part["data"])
            if len(data) >= part["size"] or not part["data"]:
                return data

    async def _make(self, wanted: list[Message]) -> None:
        try:
            for start in range(0, len(wanted), AT_ONCE):
                rows = [self._row(**each) for each in wanted[start : start + AT_ONCE]]
                await self._recorder.ask({"op": "body_keys", "rows": rows})
        except (Refused, UnreachableError) as error:
            LOG.warning("no keys for captured bodies", cause=error.detail)

    def _row(self, of: str, subject: str, month: str) -> Message:
        seed = self._random(32)
        found = SubjectKey(self._random(9).hex(), subject, month, seed)
        row = wrap_row(found, purpose=PURPOSE, purpose_key=self._key().reveal(), nonce=self._random(12))
        return {**row, "of": of, "public": b64url(public_half(seed))}

    def _key(self) -> Secret:
        now = self._clock.boot()
        if self._lease is None:
            self._lease = Lease(self._unwrap, now)
        elif self._lease.due(now):
            self._lease.renew(now)
        self._lease.check(now)
        return self._lease.key(now)


def purpose_key_of(folder: Path) -> Callable[[], Secret]:
    """Asks for the purpose key of bodies in `folder`. Refused(key_unavailable): it has none, or the provider does not give it."""
    return partial(_unwrapped, folder)


def make_purpose_key(folder: Path, random: Callable[[int], bytes]) -> bytes:
    """What `bodies.json` holds: a new purpose key, wrapped by the KEK that lies there."""
    return orjson.dumps({PURPOSE: KekFile(folder / KEK).wrap(PURPOSE, Secret(random(32)))})


def _unwrapped(folder: Path) -> Secret:
    try:
        wrapped = orjson.loads((folder / WRAPPED).read_bytes())[PURPOSE]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise Refused(Reason.KEY_UNAVAILABLE, f"{WRAPPED}: {error}", remedy="sealward init adds what is missing") from error
    return KekFile(folder / KEK).unwrap(PURPOSE, cast("str", wrapped))


LOG = structlog.get_logger()
PURPOSE = "journal-bodies"
KEK, WRAPPED = "bodies.kek", "bodies.json"
AT_ONCE = 64
