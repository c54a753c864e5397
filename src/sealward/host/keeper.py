"""Keeps one process running: starts it, waits until it says READY=1, starts it again when it ends by itself.

What a role is stands in `ROLES`: its sockets by client, how long it may take to be ready, how long to drain.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sealward.errors import UnreachableError
from sealward.host.child import Child, first, reap

State = Literal["starting", "ready", "failed", "stopping", "stopped"]


@dataclass(frozen=True, slots=True)
class Role:
    """One process of the deployment; `door` names its address in the settings."""

    name: str
    clients: tuple[str, ...] = ()
    door: Literal["", "inference", "management"] = ""
    ready_s: float = 30
    drain_s: float = 10


@dataclass(frozen=True, slots=True)
class Program:
    """What a role is started with: its command, environment, inherited descriptors, working folder, and where it says READY."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    descriptors: Sequence[int]
    folder: Path
    notify: socket.socket


class Keeper:
    """One role's process. `told(keeper, status)` is called at every change of `state`; `status` is that of an end, else None."""

    def __init__(self, role: Role, program: Program, told: Callable[[Keeper, int | None], None]) -> None:
        self.role = role
        self.state: State = "stopped"
        self.pid = 0
        self.restarts = -1
        self._program, self._told = program, told
        self._ready, self._served, self._stopping = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._child: Child | None = None
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the process is ready. UnreachableError when it does not get there."""
        asyncio.get_running_loop().add_reader(self._program.notify, self._notified)
        self.task = asyncio.create_task(self._keep())
        await first([self.task], self._served)
        if self.task.done():
            self.task.result()

    async def stop(self, hurry: asyncio.Event) -> None:
        """Drains and ends the process; it is not started again."""
        self._stopping.set()
        if self.task is None:
            return
        status: int | None = None
        if self._child and not self._child.ended.done():
            self._tell("stopping")
            status = await self._child.stop(self.role.drain_s, hurry)
        await asyncio.wait([self.task])
        asyncio.get_running_loop().remove_reader(self._program.notify)
        self._tell("stopped", status)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY_S
        while True:
            child = self._begin()
            await first([child.ended], self._ready, within_s=self.role.ready_s)
            if self._ready.is_set() and not child.ended.done():
                self._served.set()
                self._tell("ready")
                since = loop.time()
                status = await child.ended
                delay = FIRST_DELAY_S if loop.time() - since > STEADY_S else delay
            else:
                child.kill()
                status = await child.ended
            if self._stopping.is_set():
                return
            self._tell("failed", status)
            if not self._served.is_set() and (status in HOPELESS or self.restarts == LAST_RESTART):
                raise _did_not_start(self.role, status)
            await first([], self._stopping, within_s=delay)
            if self._stopping.is_set():
                return
            delay = min(delay * 2, LONGEST_DELAY_S)

    def _begin(self) -> Child:
        self._ready.clear()
        if self.pid:
            reap(self.pid)
        program = self._program
        self._child = Child(program.argv, program.environment, program.descriptors, program.folder)
        self.pid = self._child.pid
        self.restarts += 1
        self._tell("starting")
        return self._child

    def _notified(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if b"READY=1" in self._program.notify.recv(NOTIFY_BYTES).split(b"\n"):
                self._ready.set()

    def _tell(self, state: State, status: int | None = None) -> None:
        self.state = state
        self._told(self, status)


def _did_not_start(role: Role, status: int) -> UnreachableError:
    error = UnreachableError(f"{role.name} did not start (exit status {status})", remedy="its own words stand above")
    error.exit_code = status if status in HOPELESS else error.exit_code
    return error


FIRST_DELAY_S, LONGEST_DELAY_S, STEADY_S = 0.1, 10.0, 10.0
LAST_RESTART = 4
HOPELESS = {2, 3, 5}  # usage, configuration, integrity: another try ends the same way
NOTIFY_BYTES = 4096
