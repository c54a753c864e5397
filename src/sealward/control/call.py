"""One call of the admin API by a proven caller who may make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sealward.identity.access import Grant
from sealward.identity.admin_routes import AdminRoute
from sealward.identity.certificate import ClientCertificate
from sealward.identity.principal import Principal


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of the socket, as the kernel says: one of the doors, or the deployment's owner (or root)."""

    role: Literal["admin", "owner", "door"]
    uid: int


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of a request before its caller is proven. `source`: as in events; only a door may say it."""

    request: str
    source: Mapping[str, Any]
    authorization: tuple[bytes, ...]
    certificate: ClientCertificate | None = None

    @property
    def addr(self) -> str:
        return str(self.source.get("addr", ""))


@dataclass(frozen=True, slots=True)
class Call:
    """`request` is the ULID that the caller can name."""

    heard: Heard
    route: AdminRoute
    principal: Principal
    grant: Grant
    epoch: int
    policy_digest: str

    def members(self) -> dict[str, Any]:
        """What every event of this call says besides its subject."""
        decision = {"outcome": "allow", "epoch": self.epoch, "policy_digest": self.policy_digest}
        return {
            "source": dict(self.heard.source),
            "operation": operation(self.route),
            "decision": decision | {"policy_ids": list(self.grant.policy_ids)},
            "link": {"request": self.heard.request},
        }


def operation(route: AdminRoute) -> dict[str, str]:
    """The `operation` of an event."""
    return {"name": route.name, "method": route.method, "route": route.path}
