"""What a credential is tied to. Use outside is refused as `credential_binding`: it looks like a stolen key.

An address, certificate or hour that cannot be read is outside.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sealward.errors import Reason, Refused

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Hours:
    """Minutes of the day in UTC, `start` included, `end` not; over midnight when `start` is later. `days`: 1 = Monday."""

    start: int
    end: int
    days: frozenset[int]

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Hours:
        return cls(_minute(row["from"]), _minute(row["to"]), frozenset(row.get("days", range(1, 8))))

    def hold(self, now_us: int) -> bool:
        now = datetime.fromtimestamp(now_us // 1_000_000, UTC)
        minute = now.hour * 60 + now.minute
        inside = self.start <= minute < self.end if self.start <= self.end else minute >= self.start or minute < self.end
        return inside and now.isoweekday() in self.days


@dataclass(frozen=True, slots=True)
class Bindings:
    """None = not tied in this respect."""

    models: frozenset[str] | None = None
    actions: frozenset[str] | None = None
    networks: tuple[Network, ...] | None = None
    certificate: str | None = None
    hours: Hours | None = None

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Bindings:
        """The `bindings` of a key's row (snapshot.schema.json); ValueError where a network is none."""
        return cls(
            models=frozenset(row["models"]) if "models" in row else None,
            actions=frozenset(row["actions"]) if "actions" in row else None,
            networks=tuple(map(ipaddress.ip_network, row["cidrs"])) if "cidrs" in row else None,
            certificate=row.get("certificate"),
            hours=Hours.parse(row["hours"]) if "hours" in row else None,
        )

    def check_caller(self, source_addr: str, certificate: str | None, now_us: int) -> None:
        """Where from, with which client certificate (`sha256:` of its DER), and when."""
        if self.networks is not None and not _inside(source_addr, self.networks):
            raise Refused(Reason.CREDENTIAL_BINDING, "address")
        if self.certificate is not None and certificate != self.certificate:
            raise Refused(Reason.CREDENTIAL_BINDING, "certificate")
        if self.hours is not None and not self.hours.hold(now_us):
            raise Refused(Reason.CREDENTIAL_BINDING, "hours")

    def check_use(self, action: str, model: str | None) -> None:
        """For what. Only actions on a model are tied to models."""
        if self.actions is not None and action not in self.actions:
            raise Refused(Reason.CREDENTIAL_BINDING, "action")
        if self.models is not None and model is not None and model not in self.models:
            raise Refused(Reason.CREDENTIAL_BINDING, "model")


def _inside(source_addr: str, networks: tuple[Network, ...]) -> bool:
    try:
        address = ipaddress.ip_address(source_addr)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])
