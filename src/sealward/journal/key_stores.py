"""Every key store that an erasure reaches: the journal's own, the copies of it, and those of the logs before this one.

OSError wherever something is written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from sealward.clock import Clock
from sealward.journal.body_keys import BODY_STORE, BodyKeys, BodyObjects
from sealward.journal.durable import Disk, OsDisk
from sealward.journal.index import discard
from sealward.journal.key_copies import KeyCopies
from sealward.journal.keys import STORE, SubjectKeys, load_purpose_key


class KeyStore:
    """The event keys of one log, the keys of captured bodies that go with them, and the copies of both."""

    def __init__(self, disk: Disk, keys: SubjectKeys, clock: Clock) -> None:
        self.bodies, self.objects = BodyKeys(disk), BodyObjects(disk)
        self._keys, self._copies = keys, KeyCopies(disk, [STORE, BODY_STORE], clock.now)
        self._swept = False

    def kids_of(self, service: str, user: str | None) -> list[str]:
        """Of event keys, and of the body keys that go with them."""
        kids = self._keys.kids_of(service, user)
        return kids + self.bodies.kids_of(kids)

    def drop(self, kids: Collection[str]) -> set[str]:
        """Nothing opens under them here. The subjects whose they were."""
        self.bodies.drop(kids)
        return self._keys.drop(kids)

    def erase(self, kids: Collection[str]) -> None:
        """The files are rid of them on return; copies, and objects sealed to them, with the next `keep`."""
        here = [kid for kid in kids if self._keys.on_disk(kid) or self.bodies.on_disk(kid)]
        if here:
            self._copies.erase(here, lambda: self._erase(here))
            self._swept = False

    def keep(self) -> None:
        """Makes, hunts and drops copies, and sweeps objects, as far as that is due."""
        self._copies.keep()
        if not self._swept:
            self._swept = True
            self.objects.sweep(self.bodies.on_disk)

    def close(self) -> None:
        self.bodies.close()

    def _erase(self, kids: Collection[str]) -> None:
        self._keys.erase(kids)
        if any(self.bodies.on_disk(kid) for kid in kids):
            self.bodies.erase(kids)


class KeyStores:
    """One log's own store first, then those of the logs before it, to which nothing is added any more."""

    def __init__(self, own: KeyStore, elders: Sequence[KeyStore]) -> None:
        self.own = own
        self._all = (own, *elders)

    def kids_of(self, service: str, user: str | None) -> list[str]:
        return [kid for store in self._all for kid in store.kids_of(service, user)]

    def drop(self, kids: Collection[str]) -> set[str]:
        return {subject for store in self._all for subject in store.drop(kids)}

    def erase(self, kids: Collection[str]) -> None:
        for store in self._all:
            store.erase(kids)

    def keep(self) -> None:
        for store in self._all:
            store.keep()


def elders_of(journal: Path, clock: Clock) -> list[KeyStore]:
    """Those of the logs that lie beside `journal` as journal.1, journal.2, … Raises as `load_purpose_key`, and IntegrityError.

    Their side indices are thrown away: they would have to forget too.
    """
    folders = sorted(journal.parent.glob(f"{journal.name}.[0-9]*"))
    found = [(OsDisk(folder), load_purpose_key(folder)) for folder in folders if (folder / STORE).exists()]
    for disk, _ in found:
        with suppress(OSError):  # a full disk keeps nobody from starting; the next start tries again
            discard(disk)
    return [KeyStore(disk, SubjectKeys(disk, purpose_key), clock) for disk, purpose_key in found]
