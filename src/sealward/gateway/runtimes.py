"""The model servers behind a sidecar: what is presented under which digest, and the runtime that is started as its child.

The sidecar opens the weights, hashes what it opened and hands over that descriptor, never a path. The child is forked, not
executed (after the drop its user may not be able to read the interpreter), before there are threads or a loop. It keeps no
descriptor of ours, no variable of our environment (`LLAMA_SERVER_SLOTS_DEBUG` would show everybody's prompts) and no right.

KNOWN: whoever may write the weights file may change it after it was hashed; sealed weights come with the models chapter.
KNOWN: a runtime started by others (`url`) is hashed where `weights` is given, but what it really serves is not proven.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import secrets
import signal
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from sealward.errors import ConfigurationError
from sealward.formats import canonical
from sealward.gateway.upstream import Address
from sealward.process import Start, socket_address
from sealward.settings import Model, Runtime


@dataclass(frozen=True, slots=True)
class Child:
    """A runtime of ours. `stages` gives one byte a stage of its start (`STAGES`), and its end when it has ended."""

    pid: int
    stages: int

    def stop(self) -> int:
        """End it, and its exit code or the negative number of its signal. It has nothing to save."""
        os.kill(self.pid, signal.SIGKILL)  # nobody else waits for it, so the number is still its own
        os.close(self.stages)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@dataclass(frozen=True, slots=True)
class Presented:
    """One model this sidecar serves. `digest`: `sha256:…` of its weights, else of canonical {id, kind, url}."""

    id: str
    kind: str
    digest: str
    address: Address
    child: Child | None = None


def present(model_id: str, model: Model, start: Start) -> Presented:
    """Hash a model and start its runtime if it is ours to start. Before any thread or loop, with the rights of the start."""
    runtime = model.runtime
    if runtime.url is not None:
        return Presented(model_id, runtime.kind, _digest_of_url(model_id, model), _address(runtime.url))
    if importlib.util.find_spec(XLLAMACPP) is None:
        raise ConfigurationError("the runtime xllamacpp is not installed", remedy="pip install 'sealward[demo]'")
    weights = _open(model.weights)
    digest = _sha256(weights)
    folder = (start.home / "state" / "runtime").resolve()  # later it may not be reachable through the home folder
    socket = folder / f"{secrets.token_hex(8)}.sock"
    child = _fork(start, Order(model_id, runtime, weights, socket))
    os.close(weights)
    return Presented(model_id, runtime.kind, digest, socket, child)


@dataclass(frozen=True, slots=True)
class Order:
    """What a child is to serve, from which descriptor, and where."""

    model_id: str
    runtime: Runtime
    weights: int
    socket: Path


def sweep(home: Path) -> None:
    """Sockets that earlier runtimes left: nobody listens there, and every start takes a fresh name."""
    for left in (home / "state" / "runtime").glob("*.sock"):
        left.unlink(missing_ok=True)


def _digest_of_url(model_id: str, model: Model) -> str:
    if model.weights is None:
        named = {"id": model_id, "kind": model.runtime.kind, "url": model.runtime.url}
        return "sha256:" + hashlib.sha256(canonical.dumps(named)).hexdigest()
    weights = _open(model.weights)
    try:
        return _sha256(weights)
    finally:
        os.close(weights)


def _address(url: str) -> Address:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return Path(parts.path)
    if parts.scheme != "http" or parts.path.strip("/") or parts.query:
        raise ConfigurationError("a local runtime's url is http://127.0.0.1:PORT or unix:/path", remedy="correct `runtime.url`")
    return parts.hostname or "", parts.port or HTTP_PORT


def _open(path: Path | None) -> int:
    try:
        weights = os.open(path or "", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # else a FIFO would hold us here
    except OSError as error:
        raise ConfigurationError(f"the weights cannot be opened: {error.strerror}", remedy="correct `weights`") from error
    if not stat.S_ISREG(os.fstat(weights).st_mode):
        os.close(weights)
        raise ConfigurationError("the weights are no regular file", remedy="correct `weights`")
    return weights


def _sha256(descriptor: int) -> str:
    with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _fork(start: Start, order: Order) -> Child:
    stages, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _be_runtime(start, parent, order, tell)
        finally:
            os._exit(1)  # never back into the sidecar's code
    os.close(tell)
    return Child(pid, stages)


def _be_runtime(start: Start, parent: int, order: Order, tell: int) -> NoReturn:
    """The child, from its first instruction. Each byte on `tell` says that a stage is behind it."""
    os.environ.clear()
    os.environ["SEALWARD_SUPERVISOR"] = str(parent)  # whose end is ours: read and removed by the drop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the sidecar drains first, then ends us
    _keep_only(order.weights, tell)
    llama = importlib.import_module(XLLAMACPP)  # 100 MB that no other process of ours needs
    os.write(tell, b"i")
    start.drop()
    os.write(tell, b"d")
    parameters = _parameters(llama, order)
    with socket_address(order.socket) as path:
        parameters.hostnames = [path]  # a name that ends in .sock is a unix socket, and follows the umask
        server = llama.Server(parameters)  # returns when the model is loaded
    os.write(tell, b"r")
    while server is not None:
        signal.pause()
    raise SystemExit(1)


def _keep_only(*kept: int) -> None:
    """No descriptor but these: a taken runtime must not accept callers in the sidecar's place. Its words go nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    low = 3
    for descriptor in sorted(kept):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _parameters(llama: Any, order: Order) -> Any:
    found = llama.CommonParams()
    found.model.path = f"/proc/self/fd/{order.weights}"
    found.model_alias = {order.model_id}  # else answers show a path as the model
    found.n_ctx, found.n_parallel = order.runtime.context, order.runtime.slots  # the context is divided by the slots
    # More threads than idle cores and they spin on each other: 165 tokens/s become 3.
    found.cpuparams.n_threads = found.cpuparams_batch.n_threads = order.runtime.threads
    found.ui = found.endpoint_slots = found.cache_prompt = False
    found.cache_ram_mib, found.verbosity = 0, -1
    return found


XLLAMACPP = "xllamacpp"
STAGES = {b"": "its library", b"i": "giving up rights", b"id": "loading the model", b"idr": "serving"}
"""What a child was at when it had told so much."""
HTTP_PORT = 80
