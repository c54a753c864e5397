"""Clients that take their time. They begin with the deployment, so that nobody waits for their deadlines."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealward.events import Event
from sealward.formats.ids import rfc3339
from sealward.formats.passes import SKEW, parse_pass
from siege_door import Recorder, present
from siege_wire import NOTHING, Answer, Line, read_answer

if TYPE_CHECKING:
    from siege import Siege


@dataclass
class Outcome:
    """What became of one: its answer, and the port that the journal knows it by, while it was this one's."""

    answer: Answer = NOTHING
    port: int = 0
    began: str = ""
    ended: str = ""

    def was(self, event: Event) -> bool:
        """Whether the event tells of this client: ports are used again."""
        return bool(event.get("source", {}).get("port") == self.port and self.began <= event["time"] <= self.ended)


class Slow:
    """`end(name)` waits for the end of one; `over`: they give up."""

    def __init__(self, siege: Siege) -> None:
        self._siege, self.over = siege, False
        self._outcomes = {play.__name__: Outcome() for play in PLAYS}
        self._threads = {
            play.__name__: threading.Thread(target=self._run, args=(play, self._outcomes[play.__name__]), daemon=True)
            for play in PLAYS
        }

    def begin(self) -> None:
        for thread in self._threads.values():
            thread.start()

    def end(self, name: str) -> Outcome:
        self._threads[name].join(60)
        assert not self._threads[name].is_alive(), "the door waits for ever"
        return self._outcomes[name]

    def _run(self, play: Callable[[Siege, Outcome], None], outcome: Outcome) -> None:
        outcome.began = rfc3339(time.time_ns() // 1000)
        play(self._siege, outcome)
        outcome.ended = rfc3339(time.time_ns() // 1000 + CLOSING_US)


def silent_connection(siege: Siege, outcome: Outcome) -> None:
    """Connects and says nothing."""
    _plain(siege, outcome, b"")


def half_a_hello(siege: Siege, outcome: Outcome) -> None:
    """Begins a handshake and falls silent."""
    hello = first_hello(siege)
    _plain(siege, outcome, hello[: len(hello) // 2])


def silent_after_the_handshake(siege: Siege, outcome: Outcome) -> None:
    """Secured, and then nothing."""
    _secured(siege, outcome, b"", b"")


def slow_head(siege: Siege, outcome: Outcome) -> None:
    """A header line in small pieces that never ends: each piece in time, the whole not."""
    _secured(siege, outcome, siege.get("/v1/models").raw[:-2] + b"x-a: ", b"y")


def slow_body(siege: Siege, outcome: Outcome) -> None:
    """A proven caller whose body never ends."""
    _secured(siege, outcome, siege.chat().but(body=b"", content_length=b"100000").raw, b" ")


def expired_pass(siege: Siege, outcome: Outcome) -> None:
    """An honest pass, presented a second after its time (its `exp` and five seconds)."""
    with Recorder(siege) as door:
        admitted = door.admit()
        over = parse_pass(admitted.text).admission["exp"] + SKEW
        while time.time() < over and not siege.slow.over:
            time.sleep(0.2)
        outcome.answer = present(siege, admitted.text, host=b"localhost")


def first_hello(siege: Siege, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """The first flight of a client's handshake."""
    tls = ssl.create_default_context(cafile=siege.home / "tls/ca.pem")
    tls.maximum_version = version
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost").do_handshake()
    return out.read()


def _plain(siege: Siege, outcome: Outcome, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", siege.ports["inference"]), 5) as raw:
        outcome.port = raw.getsockname()[1]
        raw.sendall(data)
        raw.settimeout(50)
        outcome.answer = read_answer(raw)


def _secured(siege: Siege, outcome: Outcome, first: bytes, again: bytes) -> None:
    """Sends `first`, then `again` every half second until there is an answer."""
    line = Line(siege.ports["inference"], siege.tls)
    outcome.port = line.port
    with contextlib.closing(line):
        line.send(first)
        line.sock.settimeout(0.5)
        for _ in range(120):
            try:
                head = line.sock.recv(1 << 16)
            except TimeoutError:
                if siege.slow.over:
                    return
                line.send(again)
                continue
            except ConnectionError:
                return
            status = int(head.split()[1]) if head else 0
            outcome.answer = Answer(status, {}, head)
            return


CLOSING_US = 1_000_000  # the entry of a connection may be made just after it is closed
PLAYS = (silent_connection, half_a_hello, silent_after_the_handshake, slow_head, slow_body, expired_pass)
