"""The signer as a process: one unix socket per client role, no network, no parsing of anything but our own frames.

The `control` socket proposes; door, admin, recorder and runtime ask for heartbeats, snapshots and deltas and are pushed
every delta. A client that does not read is dropped: it connects again and fetches what it missed.
"""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealward.clock import SystemClock
from sealward.errors import ConfigurationError, IntegrityError
from sealward.formats.fault import FormatError
from sealward.formats.frames import Frames, frame
from sealward.formats.note import Verifier
from sealward.formats.passes import Log
from sealward.keyring.disk import Folder
from sealward.keyring.secret import read_key
from sealward.keyring.signer import Message, Signer
from sealward.keyring.token_key import TokenKey
from sealward.process import Start, peer_uid


def main(start: Start) -> None:
    """Role `signer`: reads trust/log.vkey and state/signer/ of the deployment, serves until SIGTERM."""
    folder = (start.home / "state" / "signer").resolve()  # later it may not be reachable through the home folder
    try:
        log = Log.of(Verifier.parse((start.home / "trust" / "log.vkey").read_text("utf-8")))
    except (OSError, FormatError) as error:
        raise ConfigurationError(f"trust/log.vkey: {error}", remedy="`sealward init` pins it") from error
    start.drop()
    key = Ed25519PrivateKey.from_private_bytes(read_key(folder / "snapshot.key").reveal())
    tokens = TokenKey(read_key(folder / "token.key")) if (folder / "token.key").exists() else None
    asyncio.run(serve(start, Signer(Folder(folder), SystemClock(), key, log, tokens)))


async def serve(start: Start, signer: Signer) -> None:
    """Until SIGTERM or SIGINT; raises what made the signer unable to go on."""
    loop = asyncio.get_running_loop()
    office = Office(signer, loop.create_future())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, office.end)
    servers = []
    for name, listener in start.listeners.items():
        role = name.partition(".")[2]
        servers.append(await loop.create_unix_server(partial(_Client, office, role, start.peers[role]), sock=listener))
    start.ready()
    try:
        await office.ended
    finally:
        for server in servers:
            server.close()
        for client in tuple(office.clients):
            client.close()


class Office:
    """The signer and those connected to it. `ended` is done when it is over, with the damage if there was one."""

    def __init__(self, signer: Signer, ended: asyncio.Future[None]) -> None:
        self._signer, self.ended = signer, ended
        self.clients: set[_Client] = set()

    def end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def handle(self, client: _Client, message: Message) -> None:
        """Answers `client`, after everybody was pushed what it changed. Damage ends the process: the next start knows more."""
        if self.ended.done():
            return
        try:
            answer = self._signer.handle(client.role, message)
        except (IntegrityError, OSError) as error:
            self.ended.set_exception(error)
            return
        if answer.push is not None:
            for each in tuple(self.clients):
                each.send(answer.push)
        client.send(answer.reply)


class _Client(asyncio.Protocol):
    """One connection. Whoever is not the user of the socket's role, or root, is gone before it can say a word."""

    def __init__(self, office: Office, role: str, uid: int) -> None:
        self.role = role
        self._office, self._uid = office, uid
        self._frames = Frames(PROPOSAL_LIMIT if role == "control" else QUESTION_LIMIT)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if peer_uid(transport.get_extra_info("socket")) not in {0, self._uid}:
            self._transport.abort()
            return
        self._office.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._office.clients.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._frames.feed(data)
        except FormatError:
            self._transport.abort()
            return
        for message in messages:
            self._office.handle(self, message)

    def pause_writing(self) -> None:
        """Whoever does not read its answers asks nothing more."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def send(self, message: Message) -> None:
        if self._transport.get_write_buffer_size() > UNREAD_LIMIT:
            self._transport.abort()
        elif not self._transport.is_closing():
            self._transport.write(frame(message))

    def close(self) -> None:
        self._transport.close()


QUESTION_LIMIT = 1 << 12
PROPOSAL_LIMIT = 1 << 24
UNREAD_LIMIT = 1 << 26
