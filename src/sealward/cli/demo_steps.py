"""What `sealward demo` shows, one function a line: each makes real requests and raises `Failed` where a promise does not hold."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai

from sealward.formats.fault import FormatError
from sealward.formats.note import Verifier
from sealward.formats.receipt import verify_receipt
from sealward.process import socket_address

PROMPT = "Name three colours of the rainbow."


class Failed(Exception):  # noqa: N818 - a line of the demo that did not hold, not a fault of the program
    """A shown line did not hold; the text says what came instead."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer as its caller holds it: the bytes both ways, the text, and what the headers promised."""

    sent: bytes
    got: bytes
    text: str
    request: str
    pass_: str


@dataclass(slots=True)
class Stage:
    """The running deployment as the demo's caller sees it, and what the lines found out so far."""

    home: Path
    base_url: str
    management_url: str
    model: str
    hidden_model: str
    api_key: str
    sent: bytes = b""
    answered: Answered | None = None
    receipt: bytes = b""
    expected: list[tuple[str, str, str]] = field(default_factory=list)  # (what, event type, reason) that the journal must hold

    @property
    def address(self) -> tuple[str, int]:
        url = httpx.URL(self.base_url)
        return url.host, url.port or 443

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.home / "tls/ca.pem")

    def client(self, key: str | None = None) -> openai.OpenAI:
        """The official client, trusting only the deployment's own CA; it keeps the bytes of the last exchange."""
        hooks: Mapping[str, list[Callable[..., Any]]] = {"request": [self._keep]}
        http_client = httpx.Client(verify=self.tls(), event_hooks=hooks, timeout=60)
        return openai.OpenAI(base_url=self.base_url, api_key=key or self.api_key, http_client=http_client, max_retries=0)

    def _keep(self, request: httpx.Request) -> None:
        self.sent = request.read()


def chat(stage: Stage) -> str:
    """A chat answer over TLS 1.3."""
    messages: Any = [{"role": "user", "content": PROMPT}]
    with stage.client() as client:
        raw = client.chat.completions.with_raw_response.create(model=stage.model, messages=messages, max_tokens=32, temperature=0)
    answer = raw.parse()
    text = answer.choices[0].message.content or ""
    if not text or answer.model != stage.model:
        raise Failed(f"no answer of {stage.model}")
    request, promised = raw.headers["x-sealward-request"], raw.headers["x-sealward-receipt"]
    stage.answered = Answered(stage.sent, raw.content, text, request, promised)
    stage.expected += [("answer", "inference.admitted", ""), ("answer", "inference.completed", "")]
    return f"“{_short(text)}” ({answer.usage.completion_tokens if answer.usage else '?'} tokens)"


def stream(stage: Stage) -> str:
    """A streamed answer over TLS 1.3."""
    messages: Any = [{"role": "user", "content": "Count from one to five."}]
    with stage.client() as client:
        parts = [
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(
                model=stage.model, messages=messages, max_tokens=24, temperature=0, stream=True
            )
            if chunk.choices
        ]
    if sum(map(bool, parts)) < 2:  # noqa: PLR2004 - one part would not be a stream
        raise Failed(f"the answer came in {len(parts)} part(s)")
    return f"“{_short(''.join(parts))}” in {len(parts)} parts"


def no_key(stage: Stage) -> str:
    """No key → 401."""
    status, _ = _request(stage, "POST", "/v1/chat/completions", body=b"{}")
    stage.expected.append(("no key", "request.refused", "credential_missing"))
    return _expect(status, 401)


def hidden(stage: Stage) -> str:
    """A model the caller was not granted → 403, and it is absent from /v1/models."""
    body = json.dumps({"model": stage.hidden_model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    status, _ = _request(stage, "POST", "/v1/chat/completions", key=stage.api_key, body=body)
    with stage.client() as client:
        listed = [model.id for model in client.models.list()]
    if listed != [stage.model]:
        raise Failed(f"/v1/models shows {listed}")
    stage.expected.append(("hidden model", "inference.denied", "model_not_granted"))
    return _expect(status, 403) + f", /v1/models shows only {stage.model}"


def administration(stage: Stage) -> str:
    """An admin route as a consumer → 403."""
    status, _ = _request(stage, "GET", "/api/v1/apikeys", key=stage.api_key, url=stage.management_url)
    stage.expected.append(("admin route", "admin.denied", "action_not_granted"))
    return _expect(status, 403)


def old_tls(stage: Stage) -> str:
    """TLS 1.2 and plaintext → refused at the handshake."""
    context = stage.tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with socket.create_connection(stage.address, 5) as raw, context.wrap_socket(raw, server_hostname=stage.address[0]):
            raise Failed("TLS 1.2 was accepted")
    except (ssl.SSLError, ConnectionError) as error:
        refused = type(error).__name__
    with socket.create_connection(stage.address, 5) as raw:
        raw.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            answered = raw.recv(100)
        except ConnectionError:
            answered = b""
    if answered.startswith(b"HTTP"):
        raise Failed("plaintext was answered")
    stage.expected += [("TLS 1.2", "request.refused", "tls_version"), ("plaintext", "request.refused", "tls_plaintext")]
    return f"TLS 1.2: {refused}; plaintext: closed"


def without_pass(stage: Stage) -> str:
    """The sidecar asked without a pass → refused."""
    body = json.dumps({"model": stage.model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    with socket.socket(socket.AF_UNIX) as raw, socket_address(stage.home / "run/sidecar.door.sock") as address:
        raw.settimeout(5)
        raw.connect(address)
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: sidecar\r\ncontent-type: application/json\r\n"
        raw.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = http.client.HTTPResponse(raw)
        answer.begin()
    stage.expected.append(("no pass", "request.refused", "pass_missing"))
    return _expect(answer.status, 401)


def entries(stage: Stage) -> str:
    """The journal holds an entry for each of these, the refused ones included."""
    deadline = time.monotonic() + 5
    while True:
        lines = sealward(stage.home, "journal", "tail", "--lines", "100", "--json").splitlines()
        events = [json.loads(line).get("event", {}) for line in lines]
        held = [(event.get("type"), event.get("decision", {}).get("reason", "")) for event in events]
        missing = [what for what, kind, reason in stage.expected if (kind, reason) not in held]
        if not missing:
            return f"{len(stage.expected)} entries found"
        if time.monotonic() > deadline:
            raise Failed(f"no entry for: {', '.join(missing)}")
        time.sleep(0.1)


def receipt(stage: Stage) -> str:
    """The receipt of the answer, verified offline against the prompt that was sent and the text that came back."""
    answered = stage.answered
    if answered is None:
        raise Failed("there was no answer")
    deadline = time.monotonic() + 5
    status, found = _request(stage, "GET", f"/sealward/v1/receipts/{answered.request}", key=stage.api_key)
    while status == http.client.ACCEPTED and time.monotonic() < deadline:
        time.sleep(0.1)
        status, found = _request(stage, "GET", f"/sealward/v1/receipts/{answered.request}", key=stage.api_key)
    _expect(status, 200)
    log = Verifier.parse((stage.home / "trust/log.vkey").read_text())
    try:
        verify_receipt(found, log=log, pass_=answered.pass_, input=answered.sent, output=answered.got, texts=[answered.text])
    except FormatError as error:
        raise Failed(f"the receipt does not verify: {error}") from error
    stage.receipt = found
    return f"prompt, answer and model are bound to {log.name}; {len(found):,} bytes"


def receipt_in_go(stage: Stage) -> str:
    """The same receipt, verified offline by a Go program that shares no code with sealward."""
    answered = stage.answered
    if answered is None or not stage.receipt:
        raise Failed("there is no receipt")
    with tempfile.TemporaryDirectory(prefix="sealward-demo-") as name:
        folder = Path(name)
        for file, data in {"receipt": stage.receipt, "input": answered.sent, "output": answered.got}.items():
            (folder / file).write_bytes(data)
        log = (stage.home / "trust/log.vkey").read_text().strip()
        files = ["-input", f"{name}/input", "-output", f"{name}/output", f"{name}/receipt"]
        environment = {"PATH": os.environ["PATH"], "HOME": name, "GO111MODULE": "off", "GOPROXY": "off"}
        command = ["go", "run", str(GO_PROGRAM), *files, log]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - our own program
    if ran.returncode != 0:
        raise Failed(ran.stdout.strip() or ran.stderr.strip()[-500:])
    return ran.stdout.strip()


def tampering(stage: Stage) -> str:
    """One byte flipped in a copy of the journal → detected and located."""
    with tempfile.TemporaryDirectory(prefix="sealward-demo-") as folder:
        copy = Path(folder) / "journal"
        shutil.copytree(stage.home / "journal", copy, ignore=shutil.ignore_patterns("private"))
        log = (stage.home / "trust/log.vkey").read_text().strip()
        sealward(stage.home, "journal", "verify", str(copy), "--vkey", log, "--json")
        bundle = max(
            (path for path in (copy / "tile/entries").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
        )
        data = bytearray(bundle.read_bytes())
        data[len(data) // 2] ^= 1
        bundle.write_bytes(data)
        found = sealward(stage.home, "journal", "verify", str(copy), "--vkey", log, "--json", expect=1)
    errors = json.loads(found.splitlines()[-1])["errors"]
    if not errors:
        raise Failed("a flipped byte was not found")
    return f"{errors[0]['code']}: {errors[0]['detail']}"


def rollout(stage: Stage) -> str:
    """`rollout check` shows phase 1 done: every route, role and record tried live."""
    found = json.loads(sealward(stage.home, "rollout", "check", "--phase", "1", "--json"))
    return "; ".join(f"{task['name']}: {task['state']}" for task in found["phases"][0]["tasks"])


def steps() -> tuple[Callable[[Stage], str], ...]:
    """The lines that this machine can show: the one in Go needs Go, and its program lies in the repository."""
    in_go = shutil.which("go") is not None and GO_PROGRAM.exists()
    return tuple(step for step in STEPS if step is not receipt_in_go or in_go)


GO_PROGRAM = Path(__file__).parents[3] / "tests/foreign/receipt/receipt.go"
STEPS: tuple[Callable[[Stage], str], ...] = (
    chat,
    stream,
    no_key,
    hidden,
    administration,
    old_tls,
    without_pass,
    entries,
    receipt,
    receipt_in_go,
    tampering,
    rollout,
)


def sealward(home: Path, *arguments: str, expect: int = 0) -> str:
    """One command line of ours, as a user would type it; its stdout."""
    command = [sys.executable, "-m", "sealward", "--home", str(home), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program, no shell
    if ran.returncode != expect:
        raise Failed(f"`sealward {' '.join(arguments)}` ended with {ran.returncode}: {ran.stderr.strip()[-500:]}")
    return ran.stdout


def _request(stage: Stage, method: str, path: str, *, key: str = "", body: bytes = b"", url: str = "") -> tuple[int, bytes]:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    origin = httpx.URL(url or stage.base_url).copy_with(path=path)
    answer = httpx.request(method, origin, headers=headers, content=body or None, verify=stage.tls(), timeout=10)
    return answer.status_code, answer.content


def _expect(status: int, wanted: int) -> str:
    if status != wanted:
        raise Failed(f"{status} instead of {wanted}")
    return str(status)


def _short(text: str, most: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
