"""A model server that counts: every byte, every request, every caller that went away; and misbehaves on demand."""

from __future__ import annotations

import hashlib
import json
import select
import socket
import socketserver
import threading
from dataclasses import dataclass, field
from typing import Any, cast


@dataclass
class Asked:
    """One request that reached the model, its body with its SHA-256.

    `gone` is set when whoever asked closed before the answer was complete.
    """

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    sha256: str
    gone: threading.Event = field(default_factory=threading.Event)
    sent: int = 0

    @property
    def words(self) -> list[str]:
        """The last message: its first word says how to answer."""
        return str(self.body["messages"][-1]["content"]).split()


class CountingRuntime:
    """OpenAI chat. `hello`: at once; `hold`: two tokens, then silence until `release`; `flood`: tokens for ever."""

    def __init__(self) -> None:
        self.bytes = 0
        self.asked: list[Asked] = []
        self.release = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.runtime = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def find(self, mark: str) -> list[Asked]:
        """The requests whose prompt holds `mark`."""
        return [asked for asked in list(self.asked) if mark in asked.words]

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 256
    runtime: CountingRuntime


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.runtime = cast("_Server", self.server).runtime
        sock: socket.socket = self.request
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    data += self._more(sock)
                head, _, data = data.partition(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                length = int(headers["content-length"])
                while len(data) < length:
                    data += self._more(sock)
                asked = Asked(first.split()[1], headers, json.loads(data[:length]), hashlib.sha256(data[:length]).hexdigest())
                data = data[length:]
                self.runtime.asked.append(asked)
                self._answer(sock, asked)
        except (OSError, EOFError):
            return

    def _more(self, sock: socket.socket) -> bytes:
        data = sock.recv(1 << 16)
        if not data:
            raise EOFError
        self.runtime.bytes += len(data)
        return data

    def _answer(self, sock: socket.socket, asked: Asked) -> None:
        how = asked.words[0]
        try:
            if asked.body.get("stream"):
                self._stream(sock, asked, how)
                return
            if how == "hold":
                self._hold(sock, asked)
            body = json.dumps(WHOLE).encode()
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        except (OSError, EOFError):
            asked.gone.set()
            raise

    def _stream(self, sock: socket.socket, asked: Asked, how: str) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        self._token(sock, asked, "a")
        self._token(sock, asked, "b")
        if how == "hold":
            self._hold(sock, asked)
        while how == "flood":
            self._token(sock, asked, PAGE)
        end = b"data: " + json.dumps(_chunk("", "stop") | {"usage": USAGE}).encode() + b"\n\ndata: [DONE]\n\n"
        sock.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))

    def _token(self, sock: socket.socket, asked: Asked, text: str) -> None:
        data = b"data: " + json.dumps(_chunk(text, None)).encode() + b"\n\n"
        sock.sendall(b"%x\r\n%b\r\n" % (len(data), data))
        asked.sent += len(data)

    def _hold(self, sock: socket.socket, asked: Asked) -> None:
        """Silence, until it is released or the other side goes."""
        while not self.runtime.release.is_set():
            if select.select([sock], [], [], 0.02)[0] and not sock.recv(1, socket.MSG_PEEK):
                raise EOFError


def _chunk(text: str, finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "/srv/m.gguf", "choices": [choice]}


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
WHOLE = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "/srv/m.gguf",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
PAGE = "x" * 8192
