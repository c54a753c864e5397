"""A whole deployment with every real process, in front of a model server that a thread of the test plays."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sealward.host.users import role_users
from uids import processes_of

MODEL = "mock"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello"}], "max_tokens": 8}


class MockRuntime(http.server.BaseHTTPRequestHandler):
    """An OpenAI-compatible server that always says hello."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        answer = {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def served_by_thread(path: Path | None) -> tuple[socketserver.BaseServer, str]:
    """The model server, not yet serving, and its url."""
    if path is None:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), MockRuntime)
        return server, f"http://127.0.0.1:{server.server_port}"
    guarded = socketserver.ThreadingUnixStreamServer(str(path), MockRuntime)
    guarded.daemon_threads = True
    path.chmod(0o600)
    os.chown(path, role_users()["sidecar"].uid, -1)
    return guarded, f"unix:{path}"


class Living:
    """`sealward init` and `up` in `home` (in an open folder), as a person types them. `owner`: whose `sealward.yaml` is.

    `edit` may change the text of `sealward.yaml` before the first `up`; `model`: a unix socket for the model server that only
    the sidecar may open, else it listens on loopback.
    """

    def __init__(self, home: Path, owner: int = -1, edit: Callable[[str], str] = str, model: Path | None = None) -> None:
        self.home = home
        self.runtime, url = served_by_thread(model)
        threading.Thread(target=self.runtime.serve_forever, daemon=True).start()
        self.sealward("init", str(home), "--runtime", f"{MODEL}={url}")
        file = home / "sealward.yaml"
        text = file.read_text().replace("127.0.0.1:8443", "127.0.0.1:0").replace("127.0.0.1:9443", "127.0.0.1:0")
        file.write_text(edit(text))
        if owner >= 0:
            os.chown(file, owner, owner)
        self.sealward("init", str(home))
        self.up()

    def up(self) -> None:
        """Starts every process and waits until all serve."""
        with (self.home / "up.log").open("ab") as log:
            command = [sys.executable, "-P", "-m", "sealward", "--home", str(self.home), "up"]
            self.supervisor = subprocess.Popen(command, stderr=log)
        self.until(lambda: self.supervisor.poll() is not None or self.status()["ok"])
        assert self.supervisor.poll() is None, self.log()

    def sealward(self, *arguments: str) -> str:
        """What a command prints; it must succeed."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "sealward", "--home", str(self.home), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        """`sealward status --json`, whatever its exit code."""
        command = [sys.executable, "-P", "-m", "sealward", "--home", str(self.home), "status", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        value: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode == 0) == value["ok"]
        return value

    def report(self) -> dict[str, dict[str, Any]]:
        """The supervisor's own report, by process."""
        value = json.loads((self.home / "run/supervisor.json").read_text())
        return {process["name"]: process for process in value["processes"]}

    def key(self, name: str = "app") -> str:
        """The API key of a new service that may use the model."""
        self.sealward("service", "create", name)
        self.sealward("role", "assign", "consumer", name)
        self.sealward("grant", "add", f"subject:{name}", MODEL)
        key: str = json.loads(self.sealward("apikey", "create", name, "--json"))["key"]
        return key

    def ask(self, key: str, door: str = "inference", path: str = "/v1/chat/completions") -> tuple[int, Any]:
        """(status, JSON) of one chat request over TLS."""
        address = json.loads((self.home / "run/supervisor.json").read_text())["listening"][door]
        url = f"https://localhost:{address.rpartition(':')[2]}{path}"
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        request = urllib.request.Request(url, json.dumps(CHAT).encode(), headers)
        context = ssl.create_default_context(cafile=self.home / "tls/ca.pem")
        try:
            with urllib.request.urlopen(request, timeout=20, context=context) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def until(self, condition: Callable[[], bool], seconds: float = 40) -> None:
        """Waits for `condition`."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def log(self) -> str:
        """What the processes said last."""
        return (self.home / "up.log").read_text()[-8000:]

    def processes(self) -> list[int]:
        """Every process that mentions this deployment."""
        return processes_of(self.home)

    def close(self) -> None:
        """Ends the supervisor, which ends the rest, and the model server."""
        self.supervisor.terminate()
        self.supervisor.wait(60)
        self.runtime.shutdown()
        self.runtime.server_close()
