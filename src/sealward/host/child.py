"""One process that we started: its end is seen by its pidfd, and nothing of its process group outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Child:
    """A running process. `ended` is its exit status (negative: the signal)."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int], folder: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._popen = subprocess.Popen(  # noqa: S603 - our own program, no shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            pass_fds=descriptors,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
        self.pid = self._popen.pid
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    async def stop(self, drain_s: float, hurry: asyncio.Event) -> int:
        """SIGTERM; after `drain_s`, or at once when `hurry` is set, SIGKILL to its whole group. Its exit status."""
        self._send(signal.SIGTERM)
        await first([self.ended], hurry, within_s=drain_s)
        if not self.ended.done():
            self.kill()
        return await self.ended

    def kill(self) -> None:
        """End the process and its group now."""
        if not self.ended.done():
            os.killpg(self.pid, signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if not self.ended.done():
            signal.pidfd_send_signal(self._pidfd, number)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        # not waited for yet, so its number is still its own: the group cannot be anybody else's
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        status = self._popen.wait()
        os.close(self._pidfd)
        self.ended.set_result(status)


def reap(group: int) -> None:
    """Bury what a process of ours left when it ended, where we are process 1 and so its children's parent."""
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG):
            pass


async def first(futures: Sequence[asyncio.Future[Any]], event: asyncio.Event, within_s: float | None = None) -> None:
    """Returns when one of `futures` is done, `event` is set or the time is up. None of them is cancelled."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([*futures, waiting], timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
