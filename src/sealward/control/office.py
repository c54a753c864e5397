"""What one control process holds in memory: the newest snapshot's access decisions, and the way to change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sealward.control.acts import Act
from sealward.control.author import Author
from sealward.control.bodies import Bodies
from sealward.control.call import Call
from sealward.control.minting import Mint
from sealward.control.publisher import Published, Publisher
from sealward.errors import Reason, Refused
from sealward.events import EventSink
from sealward.formats.snapshot import Snapshot
from sealward.identity.access import Access
from sealward.keyring.secret import Secret
from sealward.settings import Settings


@dataclass(slots=True)
class Office:
    """`sink` takes refusals and reads; changes go through `publisher`, tokens through `mint`, captured bodies out of `bodies`.

    `access` is None until there is a snapshot.
    """

    settings: Settings
    pepper: Secret
    author: Author
    sink: EventSink
    publisher: Publisher
    mint: Mint
    access: Access | None = None
    bodies: Bodies | None = None

    @property
    def snapshot(self) -> Snapshot:
        return self.publisher.snapshot

    def hold(self, snapshot: Snapshot) -> None:
        """Decide by `snapshot` from now on."""
        self.access = Access.build(snapshot, self.pepper, self.settings.identity.environment, self.access)

    def decided_by(self) -> Access:
        """The access decisions of now; Refused(no_snapshot) before the first change is through."""
        if self.access is None:
            raise Refused(Reason.NO_SNAPSHOT)
        return self.access

    async def change(self, call: Call, make: Callable[[Snapshot], Act]) -> Published:
        """Carries out a verb and leaves its event, by the caller of `call`."""

        def event(act: Act) -> dict[str, object]:
            told = {"target": act.target, "action": act.action}
            told |= {name: text for name, text in (("before", act.before), ("after", act.after)) if text}
            members = call.members() | {"change": told, "model": act.model}
            return self.author.event(act.event, call.principal.subject(), **members)

        return await self.publisher.publish(call.principal.id, make, event)
