"""The callers that checks send: a service for each built-in role and one without any, with keys for as long as they are needed.

At rest each `rollout-probe.ROLE` is disabled and has no key. On stage it has one that lives ten minutes at most, is good from
this machine's address only and is held in memory alone. Whatever an interrupted run has left is taken away by the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from sealward.errors import Reason, Refused, UnreachableError
from sealward.formats.ids import rfc3339
from sealward.keyring.secret import Secret
from sealward.rollout.asking import Answer, Caller
from sealward.rollout.site import Listener


@dataclass(frozen=True, slots=True)
class Actor:
    """`role` is empty for the service that has none; `request`: that of its key's creation."""

    role: str
    service: str
    key: Secret = field(repr=False)
    request: str

    def at(self, door: Listener) -> Caller:
        """Close it."""
        return door.caller(self.key, PATIENCE_S)


class Cast:
    """Made by whoever `owner` is: needs the rights of a model-admin. `now_us`: the clock's."""

    def __init__(self, owner: Caller, now_us: int) -> None:
        self._owner, self._now_us = owner, now_us

    @contextmanager
    def on_stage(self, roles: Sequence[str], address: str) -> Iterator[Mapping[str, Actor]]:
        """The actors by role. Refused: the owner may not make them."""
        self._sweep()
        services = {row["id"]: row for row in self.ask("GET", "services").value}
        with ExitStack() as after:
            yield {role: self._enter(role, services.get(name_of(role)), address, after) for role in ("", *roles)}

    def grant(self, actor: Actor, model: str, after: ExitStack) -> None:
        """The model, until `after` ends; ten minutes at most."""
        grant = {"to": f"subject:{actor.service}", "model": model, "until": self._until}
        made = self.ask("POST", "grants", grant).value["id"]
        after.callback(self.ask, "DELETE", f"grants/{made}")

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Of the admin API. Refused when it says no."""
        answer = self._owner.ask(method, f"/api/v1/{path}", body)
        if answer.ok:
            return answer
        told = answer.value.get("detail", "") if isinstance(answer.value, dict) else ""
        words = f"{method} {path}: {answer.status} {told}".strip()
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise UnreachableError(words, remedy="sealward status")
        raise Refused(
            Reason.ACTION_NOT_GRANTED, words, remedy="a check needs the owner's rights: it makes services to probe with"
        )

    @property
    def _until(self) -> str:
        return rfc3339(self._now_us + LIFE_US)

    def _enter(self, role: str, row: Mapping[str, Any] | None, address: str, after: ExitStack) -> Actor:
        service = name_of(role)
        if row is None:
            self.ask("POST", "services", {"id": service})
        elif row.get("disabled"):
            self.ask("POST", f"services/{service}/enable")
        after.callback(self.ask, "POST", f"services/{service}/disable")
        given = [] if row is None else row["roles"]
        for other in set(given) - {role}:
            self.ask("DELETE", f"roles/{other}/subjects/{service}")
        if role and role not in given:
            self.ask("POST", f"roles/{role}/subjects", {"subject": service})
        wanted = {"owner": service, "expires": self._until, "bindings": {"cidrs": [address]}}
        made = self.ask("POST", "apikeys", wanted)
        after.callback(self.ask, "POST", f"apikeys/{made.value['id']}/revoke")
        return Actor(role, service, Secret(made.value["key"].encode()), made.request)

    def _sweep(self) -> None:
        """Keys and grants of a run that was ended before its own end."""
        left = [row["id"] for row in self.ask("GET", "apikeys").value if row["owner"].startswith(PREFIX)]
        for key in left:
            self.ask("POST", f"apikeys/{key}/revoke")
        for row in self.ask("GET", "grants").value:
            if row["to"].startswith(f"subject:{PREFIX}"):
                self.ask("DELETE", f"grants/{row['id']}")


def name_of(role: str) -> str:
    """The service that stands for a role."""
    return f"{PREFIX}{role or 'nobody'}"


PREFIX = "rollout-probe."
LIFE_US = 600_000_000
PATIENCE_S = 3.0
