"""A whole deployment under attack: real processes, real sockets, a model server that counts, a journal that is read back.

Every hostile case leaves from a request that is served, changes one thing, and is judged by `Siege.refused`: its answer, exactly
one entry with the exact reason, no byte at the model, no secret in any log or entry.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from living import Living
from sealward.host.deployment import Deployment
from sealward.journal.client import read_rows
from siege_runtime import CountingRuntime
from siege_slow import Slow
from siege_wire import Answer, Line, Request, client_tls, read_answer

Event = dict[str, Any]
MODELS = ("mock", "hidden", "spare")
Cast = tuple[tuple[str, str, tuple[str, ...]], ...]
CAST: Cast = (
    ("app", "consumer", ("mock",)),
    ("other", "consumer", ("mock", "hidden")),
    ("adm", "model-admin", ()),
    ("ops", "operator", ()),
    ("aud", "auditor", ()),
    ("idle", "", ()),
)
CANARY = "prompt-canary-7f3a9c"
"""Stands in every prompt: where it turns up outside the model, a prompt has leaked."""


@dataclass
class Watch:
    """What the journal got between two marks; filled when the watch is over."""

    door: str
    events: list[Event] = field(default_factory=list)

    def of(self, port: int) -> list[Event]:
        """Of one connection of ours; another door may have one from the same port."""
        others = ("door",) if self.door == "management" else ("admin", "control")
        found = [event for event in self.events if event.get("source", {}).get("port") == port]
        return [event for event in found if not event["instance"].startswith(others)]


class Siege(Living):
    """Models `mock` (the control's), `hidden` and `spare`; keys by service: app, other, adm, ops, aud, idle (`Siege.keys`)."""

    def __init__(self, home: Path, *, workers: int = 1, models: str = "") -> None:
        self.home = home
        self.model = CountingRuntime()
        ours = "".join(f"  {name}: {{runtime: {{kind: openai, url: {self.model.url!r}}}}}\n" for name in MODELS)
        home.mkdir(mode=0o755)
        (home / "sealward.yaml").write_text(SETTINGS.format(models=models or ours, workers=workers))
        self.sealward("init", str(home))
        self.keys: dict[str, str] = {}
        self._numbers, self._read_to, self._log_at = count(1), 0, 0
        self._markers: dict[str, Any] = {}
        self.here = 0
        self._lines: list[Line] = []
        self.slow = Slow(self)
        self.rude = False  # a test says things that no process of ours would: the recorder may say that it refused a message

    def begin(self, cast: Cast = CAST) -> None:
        """Starts everything and fills in the cast."""
        self.up()
        for name, role, models in cast:
            self.admin("POST", "services", {"id": name})
            if role:
                self.admin("POST", f"roles/{role}/subjects", {"subject": name})
            for model in models:
                self.admin("POST", "grants", {"to": f"subject:{name}", "model": model})
            self.keys[name] = self.new_key(name)

    # -- the owner's hands --

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the admin API at the owner's socket; it must succeed."""
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(15)
            raw.connect(str(self.home / "run/control.owner.sock"))
            request = Request(method.encode(), f"/api/v1/{path}".encode(), ((b"host", b"control"),))
            if method != "GET":
                data = json.dumps(body or {}).encode()
                request = request.but(content_type=b"application/json", content_length=b"%d" % len(data), body=data)
            raw.sendall(request.raw)
            answer = read_answer(raw, method.encode())
        assert 200 <= answer.status < 300, (method, path, answer)
        return answer.json

    def new_key(self, owner: str, **more: Any) -> str:
        made: str = self.admin("POST", "apikeys", {"owner": owner} | more)["key"]
        return made

    def rows(self, start: int) -> list[tuple[int, Event]]:
        """The durable entries from `start` on."""
        found = read_rows(self.home / "run/recorder.owner.sock", {"from": start})
        assert found is not None
        return [(row["index"], row["event"]) for row in found]

    def pid(self, role: str) -> int:
        pid: int = self.report()[role]["pid"]
        return pid

    def workers(self, role: str = "door") -> list[int]:
        """The processes that a master has forked."""
        text = Path(f"/proc/{self.pid(role)}/task/{self.pid(role)}/children").read_text()
        return [int(word) for word in text.split()]

    # -- callers --

    def port(self, door: str = "inference") -> int:
        address = json.loads((self.home / "run/supervisor.json").read_text())["listening"][door]
        return int(address.rpartition(":")[2])

    @cached_property
    def ports(self) -> dict[str, int]:
        return {door: self.port(door) for door in ("inference", "management")}

    @cached_property
    def tls(self) -> ssl.SSLContext:
        return client_tls(str(self.home / "tls/ca.pem"))

    @cached_property
    def loose_tls(self) -> ssl.SSLContext:
        """For hellos that name another host, or none."""
        return client_tls(str(self.home / "tls/ca.pem"), verify=False)

    def line(self, door: str = "inference", sni: str | None = "localhost", tls: ssl.SSLContext | None = None) -> Line:
        return self.keep(Line(self.ports[door], tls or self.tls, sni))

    def keep(self, line: Line) -> Line:
        """It is closed with the test, whatever becomes of that."""
        self._lines.append(line)
        return line

    def arrive(self) -> None:
        """A test begins."""
        self.here = self._read_to

    def hang_up(self) -> None:
        """Ends every connection of this test."""
        for line in self._lines:
            line.close()
        self._lines.clear()

    def chat(self, how: str = "hello", key: str = "", **more: Any) -> Request:
        """The control: a chat request that is served."""
        body = CHAT | {"messages": [{"role": "user", "content": f"{how} {CANARY}"}]} | more
        data = json.dumps(body).encode()
        headers = (
            *self.head(key or self.keys["app"]),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(data)),
        )
        return Request(b"POST", b"/v1/chat/completions", headers, data)

    def get(self, target: str, key: str = "") -> Request:
        return Request(b"GET", target.encode(), self.head(key or self.keys["app"]))

    def change(self, method: str, target: str, body: Any, key: str) -> Request:
        """A request of the admin API with a body."""
        data = json.dumps(body).encode()
        headers = (*self.head(key), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(data)))
        return Request(method.encode(), target.encode(), headers, data)

    @staticmethod
    def head(key: str) -> tuple[tuple[bytes, bytes], ...]:
        return (b"host", b"localhost"), (b"authorization", b"Bearer " + key.encode())

    def ask_raw(self, request: Request, door: str = "inference") -> Answer:
        """One request on a connection of its own."""
        line = Line(self.ports[door], self.tls)
        with contextlib.closing(line):
            line.send(request.raw)
            return line.answer(request.method)

    # -- judging --

    def refused(
        self, data: Request | bytes, status: int, reason: str, *, door: str = "inference", method: bytes = b"POST", **how: Any
    ) -> Answer:
        """Send it; the answer, once everything that is promised of a refusal was found true. `how`: of `line`, and `stage`."""
        stage = how.pop("stage", None)
        if isinstance(data, Request):
            method, data = data.method, data.raw
        with self.watch(door) as watch:
            line = self.line(door, **how)
            with contextlib.closing(line):
                line.send(data)
                answer = line.answer(method)
        judge(answer, watch.of(line.port), status, reason, stage)
        return answer

    @contextlib.contextmanager
    def watch(self, door: str = "inference", *, served: bool = False) -> Iterator[Watch]:
        """What was written of what happened inside, by `door` at least. Unless `served`, no byte reaches the model.

        A caller's connection is known by its port, so the last mark will do; at the sidecar all look alike.
        """
        start, before = self.mark(door) if door == "sidecar" else self._read_to, self.model.bytes
        watch = Watch(door)
        yield watch
        self.collect(watch, start, door)
        assert served or self.model.bytes == before, "bytes reached the model"

    def collect(self, watch: Watch, start: int, door: str) -> None:
        end = self.mark(door)
        watch.events[:] = [event for index, event in self.rows(start + 1) if index < end and event["type"] != "journal.read"]
        self.check_secrets(json.dumps(watch.events))

    def mark(self, door: str = "inference") -> int:
        """The index of an entry that whoever keeps `door` writes after everything it has written so far."""
        if door == "management":
            self._mark_control()
        target = f"/mark/{next(self._numbers)}"
        self._ask_marker(door, Request(b"GET", target.encode(), ((b"host", b"localhost"),)))
        return self.find(lambda event: event.get("refusal", {}).get("target") == target)

    def find(self, wanted: Callable[[Event], object], seconds: float = 10) -> int:
        """The index of the first entry like this; it may still be on its way."""
        deadline = time.monotonic() + seconds
        start = self._read_to
        while time.monotonic() < deadline:
            for index, event in self.rows(start):
                if wanted(event):
                    self._read_to = index
                    return index
            time.sleep(0.002)
        raise AssertionError("no such entry")

    def event(self, wanted: Callable[[Event], object], start: int | None = None, seconds: float = 10) -> Event:
        """The first entry like this from `start` on, else of this test: ports are used again."""
        start = self.here if start is None else start
        found: list[Event] = []

        def there() -> bool:
            found[:] = [event for _, event in self.rows(start) if wanted(event)]
            return bool(found)

        self.until(there, seconds)
        return found[0]

    def _mark_control(self) -> None:
        answer = self._ask_marker("management", self.get("/api/v1/status", self.keys["adm"]))
        request = answer.headers["x-sealward-request"]
        self.find(lambda event: event["type"] == "access.read" and event["link"]["request"] == request)

    def _ask_marker(self, door: str, request: Request) -> Answer:
        """On one connection that is kept."""
        for _ in range(2):
            if door not in self._markers:
                self._markers[door] = self.sidecar() if door == "sidecar" else Line(self.ports[door], self.tls).sock
            with contextlib.suppress(OSError):
                self._markers[door].sendall(request.raw)
                answer = read_answer(self._markers[door], request.method)
                if answer.status:
                    return answer
            self._markers.pop(door).close()
        raise AssertionError(f"{door} does not answer a mark")

    def sidecar(self) -> socket.socket:
        """A connection to the sidecar, as a door has it (root may)."""
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(15)
        raw.connect(str(self.home / "run/sidecar.door.sock"))
        return raw

    def at_control(self, request: Request, door: str = "admin") -> Answer:
        """One request at control's socket for a door, by default the management door, as a taken one makes it (root may)."""
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(15)
            raw.connect(str(self.home / f"run/control.{door}.sock"))
            raw.sendall(request.raw)
            return read_answer(raw, request.method)

    def check_log(self) -> None:
        """What every process wrote to stderr since the last look: no secret, no prompt, no raw control character."""
        with (self.home / "up.log").open("rb") as log:
            log.seek(self._log_at)
            data = log.read()
            self._log_at = log.tell()
        self.check_secrets(data.decode())
        assert not any(byte < 32 and byte != 10 for byte in data), data
        assert b"Traceback" not in data, data.decode()
        assert self.rude or b"refused a message" not in data, data.decode()
        self.rude = False
        assert b"stage crashed" not in data, data.decode()

    def check_secrets(self, text: str) -> None:
        assert CANARY not in text, "a prompt has leaked"
        for key in self.keys.values():
            assert key[16:] not in text, "a key has leaked"

    def well(self, seconds: float = 40) -> None:
        """The control is served again."""
        self.until(self._serves, seconds)

    def _serves(self) -> bool:
        try:
            return self.ask_raw(self.chat()).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def close(self) -> None:
        for marker in self._markers.values():
            marker.close()
        self.slow.over = True
        self.model.release.set()
        self.supervisor.terminate()
        self.supervisor.wait(60)
        self.model.close()


def judge(answer: Answer, events: list[Event], status: int, reason: str, stage: str | None = None) -> None:
    """The answer of its class, and exactly one entry that says why."""
    said = [(event["type"], event.get("decision", {}).get("reason"), event.get("refusal", {}).get("stage")) for event in events]
    assert answer.status == status, (answer, said)
    assert [reason] == [each[1] for each in said], said
    assert stage is None or said[0][2] == stage, said
    if status:
        check_face(answer)


def check_face(answer: Answer) -> None:
    """What a refused caller may see: no fault of ours, never a way onwards, nothing of the house, one shape per family."""
    assert 400 <= answer.status < 500 or answer.status in {501, 505}
    assert not {"server", "set-cookie", "location", "x-powered-by"} & answer.headers.keys()
    assert answer.headers["x-sealward-request"]
    assert (answer.status == 401) == ("www-authenticate" in answer.headers)
    if not answer.body:
        return
    if answer.headers["content-type"] == "application/problem+json":
        assert answer.json["status"] == answer.status
    else:
        assert answer.headers["content-type"] == "application/json"
        error = answer.json["error"]  # OAuth's is one word (RFC 6749 section 5.2)
        assert isinstance(error, str) or set(error) == {"message", "type", "param", "code"}


def users_of(siege: Siege) -> dict[str, int]:
    """The uid of each role."""
    return {role: user.uid for role, user in Deployment.at(siege.home).users.items()}


def openssl(*arguments: str, data: bytes = b"") -> str:
    """What `openssl …` says: a client that is not ours."""
    done = subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=False, timeout=20)
    return (done.stdout + done.stderr).decode(errors="replace")


def rss_mib(pid: int) -> float:
    """The resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


CHAT: dict[str, Any] = {"model": "mock", "max_tokens": 8}
SETTINGS = """\
version: 1
doors:
  inference: {{listen: "127.0.0.1:0", workers: {workers}}}
  management: {{listen: "127.0.0.1:0", workers: 1}}
models:
{models}
limits:
  default: {{requests_per_minute: 1000000, tokens_per_minute: 1000000000, concurrent: 1000}}
journal: {{origin: siege.example/1}}
refusals:
  {{burst: 1000000, per_second: 1000000, anonymous_per_second: 1000000, proven_per_second: 1000000}}
"""
