"""No entry, no service: what stands between a door and a model (design/contracts.md section 4).

Pure: the sidecar gives it the snapshot, the moment and the bytes; it says which model they may go to, once.
"""

from __future__ import annotations

from collections.abc import Mapping

from sealward.errors import Reason, Refused
from sealward.formats.fault import FormatError
from sealward.formats.note import ED25519, Verifier
from sealward.formats.passes import SKEW, Log, Pass, Place, check_here
from sealward.formats.snapshot import Snapshot


class PassGate:
    """The gate of one run. `name` = id:run; `presented` = model id → digest of what this sidecar serves."""

    def __init__(self, name: str, presented: Mapping[str, str]) -> None:
        self.name = name
        self._presented = frozenset(presented.values())
        self._approved: frozenset[str] = frozenset()
        self._log: Log | None = None
        self._vkey = ""
        self._used: dict[str, tuple[int, int]] = {}  # req → (when its pass is over, Unix seconds; its index)
        self._floor = -1

    def follow(self, snapshot: Snapshot) -> None:
        """Whose promises count and which models are approved, from now on."""
        vkey = snapshot.sections["trust"].get("log", {}).get("vkey", "")
        if vkey != self._vkey:
            self._vkey, self._log = vkey, _log_of(vkey)
            self._used.clear()
            self._floor = -1
        models = snapshot.sections["models"].values()
        self._approved = frozenset(row["digest"] for row in models if row["stage"] in SERVED)

    def check(self, text: str, path: str, body: bytes, now: int) -> Pass:
        """The pass, now used. Refused: pass_missing, or pass_invalid with the reason of the pass vectors as detail.

        `now` in Unix seconds. What is refused is not used up: another door's honest request may still come.
        """
        if not text:
            raise Refused(Reason.PASS_MISSING)
        if self._log is None:
            raise Refused(Reason.PASS_INVALID, "signature")
        self._forget(now)
        try:
            found = self._log.check_pass(text)
            check_here(found, self._place(found, path, now), body)
        except FormatError as error:
            raise Refused(Reason.PASS_INVALID, error.reason) from None
        # The clock may be set back to before a pass that was used and forgotten: indices only grow, clocks do not.
        if found.index <= self._floor:
            raise Refused(Reason.PASS_INVALID, "used")
        self._used[found.admission["req"]] = (found.admission["exp"] + SKEW, found.index)
        return found

    def _place(self, found: Pass, path: str, now: int) -> Place:
        model = found.admission["model"]
        presented = model if model in self._presented else ""
        return Place(self.name, path, now, presented, self._approved, self._used.keys())

    def _forget(self, now: int) -> None:
        """Passes that their time refuses already: the table holds at most what 40 seconds admitted."""
        while self._used:
            req, (over, index) = next(iter(self._used.items()))
            if now < over:
                return
            del self._used[req]
            self._floor = max(self._floor, index)


def _log_of(vkey: str) -> Log | None:
    """The log of a vkey; nothing is believed where there is none."""
    try:
        verifier = Verifier.parse(vkey)
    except FormatError:
        return None
    return Log.of(verifier) if verifier.kind == ED25519 else None


SERVED = frozenset({"approved", "deployed"})
