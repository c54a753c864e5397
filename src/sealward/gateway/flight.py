"""How an exchange runs: a coroutine that protocol callbacks carry on at once, without a task and a turn of the loop each time.

A stage awaits a `Wait`; whoever has the answer calls `set` or `fail`, and the stage continues inside that call. One flight is
one coroutine; `interrupt` raises in the place where it stands (the client went away, its right ended).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

import structlog

T = TypeVar("T")
S = TypeVar("S")


class Wait(Generic[T]):
    """One answer that is not there yet. Only the first `set` or `fail` counts; at most one flight awaits it."""

    __slots__ = ("_error", "_value", "done", "wake")

    def __init__(self) -> None:
        self.done = False
        self.wake: Callable[[], None] | None = None
        self._value: T | None = None
        self._error: BaseException | None = None

    def set(self, value: T) -> None:
        if not self.done:
            self.done, self._value = True, value
            if self.wake is not None:
                self.wake()

    def fail(self, error: BaseException) -> None:
        if not self.done:
            self.done, self._error = True, error
            if self.wake is not None:
                self.wake()

    def __await__(self) -> Generator[Wait[T], None, T]:
        if not self.done:
            yield self
        if self._error is not None:
            raise self._error
        return cast("T", self._value)

    def result(self) -> T:
        """What was set, or the error; only when `done`."""
        if self._error is not None:
            raise self._error
        return cast("T", self._value)


class Flight(Generic[S]):
    """Carries one coroutine to its end. `crashed(subject)` is called when it raises: it must end the exchange closed."""

    __slots__ = ("_coroutine", "_crashed", "_pending", "_running", "_subject", "_wait", "over")

    def __init__(self, coroutine: Coroutine[Wait[Any], None, None], crashed: Callable[[S], None], subject: S) -> None:
        self._coroutine, self._crashed, self._subject = coroutine, crashed, subject
        self._wait: Wait[Any] | None = None
        self._pending: BaseException | None = None
        self._running = self.over = False

    def interrupt(self, error: BaseException) -> None:
        """Raise `error` where the coroutine stands, or at its next wait if it is running right now."""
        if self.over:
            return
        if self._running:
            self._pending = error
            return
        self.go(error)

    def go(self, error: BaseException | None = None) -> None:
        """To the next place where there is something to wait for; `error` is raised where it stands."""
        if self._wait is not None:
            self._wait.wake, self._wait = None, None
        self._running = True
        try:
            while True:
                wait = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
                error, self._pending = self._pending, None
                if error is None and not wait.done:
                    break
            wait.wake, self._wait = self.go, wait
        except StopIteration:
            self.over = True
        except Exception as fault:  # noqa: BLE001 - the rim: a crashed stage refuses, and the other exchanges go on
            self.over = True
            # Where, never what: an exception's words may hold a prompt.
            places = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(fault.__traceback__)]
            structlog.get_logger().error("stage crashed", error=type(fault).__name__, at=places[-4:])
            self._crashed(self._subject)
        finally:
            self._running = False
