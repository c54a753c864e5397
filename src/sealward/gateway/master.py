"""Keeps the workers of one process: forks them, starts dead ones again, ends all of them.

The master only forks and waits. It has no loop and no threads, so that a fork copies nothing that is at work; what the workers
share (the TLS context, the listening socket) was made before.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import structlog

from sealward.process import die_with_parent


@dataclass(frozen=True, slots=True)
class Crew:
    """`work(number, ready)` is a worker's life: it calls `ready` when it serves and returns after SIGTERM."""

    count: int
    work: Callable[[int, Callable[[], None]], None]
    drain_s: float

    def run(self, ready: Callable[[], None]) -> None:
        """Until SIGTERM or SIGINT and the end of all workers; `ready` is called when the first ones all serve."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        gc.freeze()  # what is there now is never garbage: no collection touches it, no page of it is copied
        told, tell = os.pipe()
        serving = _Serving(self, tell)
        for number in range(1, self.count + 1):
            serving.fork(number)
        serving.first(told, ready)
        serving.keep()


class _Serving:
    """The workers by process id, and when a dead one may be started again."""

    def __init__(self, crew: Crew, tell: int) -> None:
        self._crew, self._tell = crew, tell
        self._workers: dict[int, int] = {}
        self._due: dict[int, float] = {}
        self._delay: dict[int, float] = {}
        self._began: dict[int, float] = {}

    def fork(self, number: int) -> None:
        master = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._be(number, master)
        self._workers[pid] = number
        self._began[number] = time.monotonic()

    def first(self, told: int, ready: Callable[[], None]) -> None:
        """Wait until every worker has said that it serves; one that dies before gives up the whole process."""
        os.set_blocking(told, False)
        heard = 0
        while heard < self._crew.count:
            found = signal.sigtimedwait(SIGNALS, LOOK_S)
            if found is not None and (found.si_signo != signal.SIGCHLD or self._reap()):
                self._end()
                raise SystemExit(0 if found.si_signo != signal.SIGCHLD else 1)
            try:
                heard += len(os.read(told, self._crew.count))
            except BlockingIOError:
                continue
        ready()

    def keep(self) -> None:
        while True:
            now = time.monotonic()
            for number in [number for number, due in self._due.items() if due <= now]:
                del self._due[number]
                self.fork(number)
            found = signal.sigtimedwait(SIGNALS, LOOK_S if self._due else FOREVER_S)
            if found is not None and found.si_signo != signal.SIGCHLD:
                self._end()
                return
            for number in self._reap():
                steady = time.monotonic() - self._began[number] > STEADY_S
                delay = FIRST_DELAY_S if steady else self._delay.get(number, FIRST_DELAY_S)
                self._due[number], self._delay[number] = time.monotonic() + delay, min(delay * 2, LONGEST_DELAY_S)
                structlog.get_logger().error("worker ended", worker=number, again_in_s=delay)

    def _reap(self) -> list[int]:
        ended = [pid for pid in self._workers if os.waitpid(pid, os.WNOHANG)[0]]
        return [self._workers.pop(pid) for pid in ended]

    def _end(self) -> None:
        for pid in self._workers:
            os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + self._crew.drain_s
        while self._workers and time.monotonic() < until:
            signal.sigtimedwait({signal.SIGCHLD}, LOOK_S)
            self._reap()
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _serves(self) -> None:
        os.write(self._tell, b".")

    def _be(self, number: int, master: int) -> NoReturn:
        """The worker's side of the fork; never returns to the master's code."""
        status = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            die_with_parent(master)
            # What a request leaves is freed when it ends; the collector has little to find and need not look often.
            gc.set_threshold(20_000, 20, 50)
            self._crew.work(number, self._serves)
            status = 0
        except Exception as fault:  # noqa: BLE001 - the rim of a process: whatever it was, this worker ends and says so
            structlog.get_logger().exception("worker failed", worker=number, error=type(fault).__name__)
        finally:
            os._exit(status)


SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
LOOK_S, FOREVER_S = 0.05, 3600.0
FIRST_DELAY_S, LONGEST_DELAY_S, STEADY_S = 0.1, 10.0, 10.0
