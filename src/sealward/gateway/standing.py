"""What a worker decides from now: the served snapshot and the access rules made of it, replaced together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sealward.errors import Refused
from sealward.formats.snapshot import Snapshot
from sealward.gateway.flight import Wait
from sealward.gateway.ticker import Ticker
from sealward.identity.access import Access
from sealward.keyring.secret import Secret


class Source(Protocol):
    """A follower: `serving` gives the snapshot or raises Refused(no_heartbeat | no_snapshot); `wake` makes it ask now."""

    def serving(self) -> Snapshot: ...

    def wake(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """One snapshot and its rules."""

    snapshot: Snapshot
    access: Access


class Standing:
    """Builds the rules when the snapshot changes. `on_change` is called with the new ground, before anything else happens."""

    def __init__(self, source: Source, pepper: Secret, environment: str, ticker: Ticker) -> None:
        self._source, self._pepper, self._environment, self._ticker = source, pepper, environment, ticker
        self._ground: Ground | None = None
        self._waiting: dict[Wait[bool], float] = {}
        self.on_change: Callable[[Ground], None] = lambda _: None
        self.deadline = 0.0
        ticker.watch(self)

    def ground(self) -> Ground:
        """To decide from now. Refused: no_heartbeat, no_snapshot."""
        snapshot = self._source.serving()
        ground = self._ground
        return ground if ground is not None and ground.snapshot is snapshot else self._replace(snapshot)

    @property
    def serving(self) -> bool:
        try:
            self.ground()
        except Refused:
            return False
        return True

    def changed(self, old: Snapshot, new: Snapshot) -> None:
        """The follower's callback."""
        del old
        self._replace(new)

    def moved(self, since: Ground, within_s: float) -> Wait[bool]:
        """Ask the signer now, and wait until there is another ground than `since`: True; False when `within_s` is over."""
        wait: Wait[bool] = Wait()
        if self._ground is not since:
            wait.set(True)
        else:
            self._waiting[wait] = self._ticker.after(within_s)
            self._source.wake()
        return wait

    def expire(self, now: float) -> None:
        """The ticker's."""
        for wait in [wait for wait, until in self._waiting.items() if until <= now]:
            del self._waiting[wait]
            wait.set(False)

    def _replace(self, snapshot: Snapshot) -> Ground:
        before = self._ground.access if self._ground is not None else None
        ground = self._ground = Ground(snapshot, Access.build(snapshot, self._pepper, self._environment, before))
        self.on_change(ground)
        waiting, self._waiting = self._waiting, {}
        for wait in waiting:
            wait.set(True)
        return ground
