"""A token names a key that its issuer does not have in the snapshot: perhaps it was rotated just now (attack rows 32 and 33).

The door fetches nothing itself. It asks control, once for all requests that wait, and goes on when the new keys have come by the
snapshot. Anybody can make up key ids: an issuer is asked about at most once in 30 s, everybody else is refused at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from sealward.errors import Reason
from sealward.gateway.flight import Wait

if TYPE_CHECKING:
    from sealward.gateway.standing import Ground, Standing
    from sealward.gateway.ticker import Ticker
    from sealward.gateway.upstream import Pool


class Rotation:
    """The questions of one worker, by the id of the issuer's row."""

    def __init__(self, control: Pool | None, standing: Standing, ticker: Ticker) -> None:
        self._control, self._standing, self._ticker = control, standing, ticker
        self._until: dict[str, float] = {}
        self._waiting: dict[str, list[Wait[bool]]] = {}

    def fetched(self, issuer: str) -> Wait[bool]:
        """Whether there is a newer snapshot now that may hold the key."""
        wait: Wait[bool] = Wait()
        waiting = self._waiting.get(issuer)
        if waiting is not None and len(waiting) < MAX_WAITING:
            waiting.append(wait)
        elif waiting is not None or self._control is None or self._ticker.now < self._until.get(issuer, 0.0):
            wait.set(False)
        else:
            self._until[issuer] = self._ticker.now + EVERY_S
            self._waiting[issuer] = [wait]
            body = orjson.dumps({"issuer": issuer})
            self._control.send(REQUEST % (len(body), body), _Answer(self, issuer, self._standing.ground()))
        return wait

    def answered(self, issuer: str, since: Ground, *, changed: bool) -> None:
        """Control's word. The delta comes by the signer, perhaps a little later."""
        if not changed and self._standing.ground() is since:
            self._tell(issuer, False)
            return
        moved = self._standing.moved(since, DELTA_S)
        if moved.done:
            self._tell(issuer, moved.result())
        else:
            moved.wake = lambda: self._tell(issuer, moved.result())

    def _tell(self, issuer: str, found: bool) -> None:
        for wait in self._waiting.pop(issuer, ()):
            wait.set(found)


class _Answer:
    """Control's answer to one question."""

    def __init__(self, rotation: Rotation, issuer: str, since: Ground) -> None:
        self._rotation, self._issuer, self._since = rotation, issuer, since
        self._body = b""

    def answered(self, status: int, headers: dict[bytes, bytes]) -> None:
        del status, headers

    def received(self, content: bytes) -> None:
        self._body = (self._body + content)[:MAX_ANSWER]

    def ended(self, content: bytes = b"") -> None:
        self.received(content)
        self._rotation.answered(self._issuer, self._since, changed=self._body == CHANGED)

    def broken(self, reason: Reason) -> None:
        del reason
        self._rotation.answered(self._issuer, self._since, changed=False)


EVERY_S, DELTA_S = 30.0, 1.0
MAX_WAITING, MAX_ANSWER = 256, 64
CHANGED = b'{"changed":true}'
REQUEST = b"POST /sealward/v1/keys HTTP/1.1\r\nhost: control\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
