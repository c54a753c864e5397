"""`sealward up`: binds every socket, starts every process in order, starts again what fails, ends all of them in order.

signer → recorder → control → sidecar → doors; each next one starts when the one before is ready. A process that ends by
itself is started again after 0.1 s, doubling up to 10 s. On SIGTERM or Ctrl-C the doors drain first and the recorder ends
last, so that the journal knows of every other end. A second signal ends everything at once.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import orjson
import structlog

from sealward.clock import Clock
from sealward.errors import SealwardError
from sealward.events import Event, system_subject
from sealward.formats.ids import rfc3339, ulid
from sealward.host.child import first
from sealward.host.deployment import Deployment
from sealward.host.files import put
from sealward.host.keeper import Keeper, Program, Role
from sealward.host.sockets import listen_tcp, listen_unix, notify_socket
from sealward.process import User
from sealward.settings import FILE, Address, Doors


class Sink(Protocol):
    """Where the life of processes is recorded; `drain` waits until the recorder has what was given, as long as it answers."""

    def record(self, event: Event) -> None: ...

    async def drain(self) -> None: ...


class Supervisor:
    """All processes of one deployment. `run` returns when they have ended on a signal."""

    def __init__(
        self,
        deployment: Deployment,
        doors: Doors,
        *,
        clock: Clock,
        sink: Sink,
        roles: Sequence[Role] | None = None,
        command: Callable[[str, Path], Sequence[str]] | None = None,
    ) -> None:
        self._deployment, self._doors = deployment, doors
        self._clock, self._sink = clock, sink
        self._roles = ROLES if roles is None else roles
        self._command = command or _command
        self._keepers: list[Keeper] = []
        self._since: dict[str, int] = {}
        self._listening: dict[str, str] = {}
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """SealwardError when another supervisor is there or a process does not start; then everything has ended too."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
        with only_one(self._deployment.base), ExitStack() as sockets:
            try:
                self._keepers = [Keeper(role, self._program(role, sockets), self._told) for role in self._roles]
                await self._serve()
            finally:
                await self._end()

    async def _serve(self) -> None:
        for keeper in self._keepers:
            if self._stop.is_set():
                return
            starting = asyncio.ensure_future(keeper.start())
            await first([starting], self._stop)
            if not starting.done():
                starting.cancel()
                return
            starting.result()
        LOG.info("serving", **self._listening)
        tasks = [keeper.task for keeper in self._keepers if keeper.task]
        await first(tasks, self._stop)
        for task in tasks:
            if task.done():
                task.result()

    async def _end(self) -> None:
        recorder = [keeper for keeper in self._keepers if keeper.role.name == "recorder"]
        for keeper in reversed([keeper for keeper in self._keepers if keeper not in recorder]):
            await keeper.stop(self._hurry)
        for keeper in recorder:
            if keeper.state == "ready":
                await self._sink.drain()
            await keeper.stop(self._hurry)

    def _signalled(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _program(self, role: Role, sockets: ExitStack) -> Program:
        deployment = self._deployment
        user = deployment.users[role.name]
        run = deployment.base / "run"
        listeners: dict[str, socket.socket] = {}
        for client in role.clients:
            name = f"{role.name}.{client}"
            listeners[name] = sockets.enter_context(listen_unix(run / f"{name}.sock", deployment.peers[client]))
        if role.door:
            listeners["tcp"] = sockets.enter_context(listen_tcp(self._address(role.door)))
            self._listening[role.door] = "{}:{}".format(*listeners["tcp"].getsockname())
        notify = run / f"notify.{role.name}.sock"
        descriptors = [listener.fileno() for listener in listeners.values()]
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {
            "LISTEN_FDS": str(len(listeners)),
            "LISTEN_FDNAMES": ":".join(listeners),
            "SEALWARD_FDS": ",".join(map(str, descriptors)),
            "SEALWARD_USER": f"{user.uid}:{user.gid}",
            "SEALWARD_PEERS": ",".join(f"{client}={uid}" for client, uid in deployment.peers.items()),
            "SEALWARD_SUPERVISOR": str(os.getpid()),
            "NOTIFY_SOCKET": str(notify),
        }
        notified = sockets.enter_context(notify_socket(notify, user.uid))
        return Program(self._command(role.name, deployment.base), environment, descriptors, deployment.base, notified)

    def _address(self, door: str) -> Address:
        return self._doors.inference.listen if door == "inference" else self._doors.management.listen

    def _told(self, keeper: Keeper, status: int | None) -> None:
        self._since[keeper.role.name] = self._clock.now()
        LOG.info(keeper.state, role=keeper.role.name, pid=keeper.pid, **({} if status is None else {"status": status}))
        self._report()
        kind = EVENTS.get(keeper.state)
        own_end = keeper.role.name == "recorder" and keeper.state == "stopped"  # it wrote that itself
        if kind and not own_end:
            self._sink.record(self._event(kind, keeper, status))

    def _event(self, kind: str, keeper: Keeper, status: int | None) -> Event:
        now = self._clock.now()
        process = {"name": keeper.role.name, "pid": keeper.pid} | ({} if status is None else {"exit": status})
        return {
            "v": 1,
            "id": ulid(now, os.urandom(10)),
            "type": kind,
            "time": rfc3339(now),
            "instance": "supervisor",
            "tenant": "default",
            "subject": dict(system_subject("supervisor")),
            "process": process,
        }

    def _report(self) -> None:
        processes = [
            {"name": keeper.role.name, "pid": keeper.pid, "state": keeper.state, "restarts": max(keeper.restarts, 0)}
            | {"since": rfc3339(self._since[keeper.role.name])}
            for keeper in self._keepers
            if keeper.role.name in self._since
        ]
        value = {"pid": os.getpid(), "listening": self._listening, "processes": processes}
        put(self._deployment.base / REPORT, orjson.dumps(value) + b"\n", User(os.geteuid(), os.getegid()), 0o644, replace=True)


@contextmanager
def only_one(base: Path) -> Iterator[None]:
    """One supervisor a deployment; the lock goes with the process that holds it. Only root and the owner can take it."""
    descriptor = os.open(base / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if os.geteuid() == 0:
            os.fchown(descriptor, (base / FILE).stat().st_uid, -1)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SealwardError("this deployment is already up", remedy="`sealward status` shows its processes") from error
        yield
    finally:
        os.close(descriptor)


def supervised(base: Path) -> bool:
    """Whether a supervisor holds the lock."""
    try:
        with only_one(base):
            return False
    except SealwardError:
        return True


def _command(role: str, base: Path) -> Sequence[str]:
    # -P: whatever lies in the working folder is no module of ours
    return [sys.executable, "-P", "-m", "sealward", "run", role, "--home", str(base)]


ROLES = (
    Role("signer", ("door", "admin", "recorder", "runtime", "control")),
    Role("recorder", ("door", "admin", "control", "runtime", "supervisor", "owner"), drain_s=15),
    Role("control", ("admin", "owner", "door")),
    Role("sidecar", ("door",), ready_s=180),
    Role("door", door="inference", drain_s=40),
    Role("admin", door="management", drain_s=40),
)
EVENTS = {"ready": "process.started", "failed": "process.failed", "stopped": "process.stopped"}
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "PYTHONWARNINGS")
LOCK, REPORT = "run/supervisor.lock", "run/supervisor.json"
LOG = structlog.get_logger()
