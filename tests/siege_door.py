"""A door that was taken: whoever has its user can speak to the recorder and to the sidecar as it can, and no further."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from sealward.formats.frames import Frames, frame
from sealward.formats.ids import ulid
from siege_wire import Answer, Headers, Request, read_answer

if TYPE_CHECKING:
    from siege import Siege

Message = dict[str, Any]
BODY = b'{"max_tokens":8,"messages":[{"content":"hello taken","role":"user"}],"model":"mock"}'
PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Admitted:
    """A pass as a door has it, and what it was made for."""

    req: str
    index: int
    text: str
    body: bytes


class Recorder:
    """One connection to the recorder, by the socket of `client`."""

    def __init__(self, siege: Siege, client: str = "door") -> None:
        self._siege = siege
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(siege.home / f"run/recorder.{client}.sock"))
        self._frames, self._n = Frames(), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def ask(self, message: Message) -> Message:
        """Its answer; `{}` when the recorder hangs up instead."""
        self._n += 1
        try:
            self.sock.sendall(frame(message | {"n": self._n}))
            while True:
                data = self.sock.recv(1 << 16)
                if not data:
                    return {}
                for answer in self._frames.feed(data):
                    if answer.get("n") == self._n:
                        return answer
        except ConnectionError:
            return {}

    def admission(self, *, event: Message | None = None, **changes: Any) -> Message:
        """An honest `admit`, with changes."""
        siege = self._siege
        req = changes.get("req") or fresh_ulid()
        body = changes.pop("content", BODY)
        whole: Message = {
            "v": 1, "id": fresh_ulid(), "instance": "door-1", "tenant": "default",
            "subject": {"id": "app", "kind": "service", "authn": "apikey", "key_id": siege.keys["app"][9:20]},
            "source": {"addr": "203.0.113.9", "port": 40000, "tls_version": "1.3"},
            "decision": {"outcome": "allow", "epoch": 1, "policy_digest": "sha256:" + "0" * 64, "policy_ids": ["p"]},
            "operation": {"name": "chat", "route": PATH, "method": "POST", "stream": False},
            "model": {"alias": "mock", "id": "mock"}, "request": {"max_tokens": 8},
            "content": {"input": {"bytes": len(body), "capture": "digest", "messages": 1}}, "link": {"request": req},
        } | (event or {})  # fmt: skip
        return {
            "op": "admit", "event": whole, "req": req, "input": hashlib.sha256(body).hexdigest(),
            "body": hashlib.sha256(body).hexdigest(), "path": PATH, "sidecar": name_of_sidecar(siege), "tokens": 64,
            "epoch": epoch(siege),
        } | changes  # fmt: skip

    def admit(self, **changes: Any) -> Admitted:
        """A pass; it must be given."""
        body = changes.get("content", BODY)
        message = self.admission(**changes)
        answer = self.ask(message)
        assert "pass" in answer, answer
        return Admitted(message["req"], answer["index"], answer["pass"], body)

    def close(self, req: str, outcome: str = "aborted", **event: Any) -> Message:
        how: Message = {"status": 200} | ({"aborted_by": "door"} if outcome == "aborted" else {})
        return self.ask({"op": "close", "req": req, "outcome": outcome, "event": {"outcome": how} | event})


def present(siege: Siege, text: str | None, body: bytes = BODY, *, target: str = PATH, host: bytes = b"sidecar") -> Answer:
    """What the sidecar answers to a pass."""
    headers: Headers = ((b"host", host), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)))
    if text is not None:
        headers += ((b"x-sealward-pass", text.encode()),)
    with siege.sidecar() as raw:
        raw.sendall(Request(b"POST", target.encode(), headers, body).raw)
        return read_answer(raw)


def name_of_sidecar(siege: Siege) -> str:
    """`id:run`, by its health answer."""
    with siege.sidecar() as raw:
        raw.sendall(Request(b"GET", b"/sealward/v1/health", ((b"host", b"sidecar"),)).raw)
        found = read_answer(raw, b"GET").json
    return f"{found['id']}:{found['run']}"


def epoch(siege: Siege) -> int:
    """The one that the recorder holds."""
    with Recorder(siege, "owner") as owner:
        found: int = owner.ask({"op": "status"})["epoch"]
    return found


def fresh_ulid(age_s: float = 0) -> str:
    """Of now, or of `age_s` ago."""
    return ulid(int((time.time() - age_s) * 1_000_000), os.urandom(10))
