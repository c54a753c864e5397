"""The signer, seen from another process: one connection that comes back, numbered questions, pushed deltas."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealward.errors import UnreachableError
from sealward.formats.b64 import b64url
from sealward.formats.change import Intent
from sealward.formats.fault import FormatError
from sealward.formats.frames import Frames, frame
from sealward.formats.heartbeat import Heartbeat
from sealward.formats.snapshot import Point
from sealward.process import socket_address

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Signed:
    """What the signer made of a proposal. `delta` is empty for the first snapshot: fetch it whole."""

    named: Point
    delta: bytes


class SignerLink:
    """Run `run` as a task. `on_up` is called at each new connection, `on_delta` with each pushed delta.

    An empty delta stands for the first snapshot: fetch it. Every question raises UnreachableError without an answer in time
    and FormatError(reason) when the signer refuses.
    """

    def __init__(
        self,
        path: Path,
        on_up: Callable[[], None] = lambda: None,
        on_delta: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self.on_up, self.on_delta = on_up, on_delta
        self._path = path
        self._writer: asyncio.StreamWriter | None = None
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._n = 0

    async def run(self) -> None:
        """Connects and reads, until it is cancelled; a lost connection is tried again after 20 ms to 1 s."""
        failed = 0
        while True:
            with contextlib.suppress(OSError, FormatError):
                await self._session()
                failed = 0
            await asyncio.sleep(PAUSES_S[min(failed, len(PAUSES_S) - 1)])
            failed += 1

    async def heartbeat(self, nonce: bytes) -> Heartbeat:
        """The answer to `nonce`, unchecked. FormatError("no_snapshot"): nothing is signed yet."""
        said = await self._ask({"op": "heartbeat", "nonce": b64url(nonce)})
        return Heartbeat(Point(_int(said, "epoch"), _text(said, "digest")), _int(said, "ttl_ms"), _text(said, "heartbeat"))

    async def snapshot(self) -> bytes:
        """The signed snapshot, unchecked; empty when nothing is signed yet."""
        return _text(await self._ask({"op": "snapshot"}, 60.0), "snapshot").encode()

    async def intent(self) -> tuple[int, str, int] | None:
        """Epoch, digest (hex) and index of the change that was signed last: what control may have missed. None: nothing yet."""
        said = await self._ask({"op": "intent"})
        return (_int(said, "epoch"), _text(said, "change"), _int(said, "index")) if _int(said, "epoch") else None

    async def deltas(self, epoch: int) -> list[bytes]:
        """The signed deltas from `epoch` on, unchecked. FormatError("gone"): too old, fetch the snapshot."""
        said = await self._ask({"op": "deltas", "from": epoch}, 60.0)
        return [str(delta).encode() for delta in said.get("deltas", [])]

    async def propose(self, change: bytes, intent: Intent) -> Signed:
        """FormatError: malformed, promise, previous, op. UnreachableError: perhaps it was signed, ask for `intent`."""
        place = {"index": intent.index, "leaf": intent.leaf.hex(), "promise": b64url(intent.promise)}
        said = await self._ask({"op": "propose", "change": change.decode()} | place)
        return Signed(Point(_int(said, "epoch"), _text(said, "digest")), _text(said, "delta").encode())

    async def token(self, request: bytes, intent: Intent) -> str:
        """The signed token. FormatError: malformed (also: no key for tokens), promise, issuer, subject, lifetime."""
        place = {"index": intent.index, "leaf": intent.leaf.hex(), "promise": b64url(intent.promise)}
        return _text(await self._ask({"op": "token", "change": request.decode()} | place), "token")

    async def token_key(self) -> dict[str, str]:
        """The public key of our tokens, as a row holds it. FormatError("malformed"): there is none."""
        said = (await self._ask({"op": "token_key"})).get("jwk")
        if not isinstance(said, dict):
            raise FormatError("malformed", "no key")
        return said

    async def _ask(self, message: Message, within: float = 5.0) -> Message:
        if self._writer is None:
            raise UnreachableError("the signer is not connected", remedy="sealward status")
        self._n += 1
        n = self._n
        answer = self._asked[n] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(frame(message | {"n": n}))
            async with asyncio.timeout(within):
                said: Message = await answer
        except TimeoutError as error:
            raise UnreachableError("the signer does not answer", remedy="sealward status") from error
        finally:
            self._asked.pop(n, None)
        if "refused" in said:
            raise FormatError(str(said["refused"]))
        return said

    async def _session(self) -> None:
        with socket_address(self._path) as address:
            reader, self._writer = await asyncio.open_unix_connection(address)
        frames = Frames(limit=1 << 28)  # a snapshot of some 100,000 keys and policies
        try:
            self.on_up()
            while data := await reader.read(1 << 18):
                for message in frames.feed(data):
                    self._received(message)
        finally:
            self._writer.close()
            self._writer = None
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(UnreachableError("the signer's connection ended"))

    def _received(self, message: Message) -> None:
        if message.get("push") == "delta":
            self.on_delta(_text(message, "delta").encode())
            return
        answer = self._asked.get(_int(message, "n"))
        if answer is not None and not answer.done():
            answer.set_result(message)


def _int(message: Message, name: str) -> int:
    value = message.get(name)
    if type(value) is not int:
        raise FormatError("malformed", f"no number {name}")
    return value


def _text(message: Message, name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise FormatError("malformed", f"no text {name}")
    return value


PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
