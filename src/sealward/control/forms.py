"""What the admin API takes: closed forms, every member checked before anything is looked up."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictInt, StringConstraints

from sealward.formats.ids import rfc3339
from sealward.identity.admin_routes import SEGMENT


class Form(BaseModel):
    """Unknown members are errors; values of the caller never stand in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Ident = Annotated[str, StringConstraints(pattern=f"^{SEGMENT}$")]
Party = Annotated[str, StringConstraints(pattern=f"^(subject|group|role):{SEGMENT}$")]
Digest = Annotated[str, StringConstraints(pattern="^sha256:[0-9a-f]{64}$")]
Minute = Annotated[str, StringConstraints(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Action = Literal["model:chat", "model:list"]
Count = Annotated[StrictInt, Field(ge=1, le=2**53 - 1)]
Reason = Annotated[str, Field(max_length=256)]


class Capture(Form):
    """The most that is captured."""

    level: Literal["none", "digest", "body"]


class Purpose(Form):
    """Why a body is read: it stands in the journal."""

    because: Annotated[str, StringConstraints(min_length=1, max_length=1024, strip_whitespace=True)]


class NewSubject(Form):
    """Of a person the id is opaque, never a name or an address: it is written into the journal."""

    id: Ident
    groups: Annotated[list[Ident], Field(max_length=64)] = []


class Hours(Form):
    """UTC; over midnight when `start` is later than `end`. `days`: 1 = Monday."""

    start: Minute
    end: Minute
    days: Annotated[list[Annotated[StrictInt, Field(ge=1, le=7)]], Field(min_length=1, max_length=7)] | None = None

    def row(self) -> dict[str, Any]:
        return {"from": self.start, "to": self.end} | ({"days": sorted(set(self.days))} if self.days else {})


class Bindings(Form):
    """What the key is tied to; use outside is refused."""

    models: Annotated[list[Ident], Field(min_length=1, max_length=256)] | None = None
    actions: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=64)] | None = None
    certificate: Digest | None = None
    cidrs: Annotated[list[IPv4Network | IPv6Network], Field(min_length=1, max_length=64)] | None = None
    hours: Hours | None = None

    def row(self) -> dict[str, Any]:
        """As in the snapshot's schema; lists without doubles."""
        found: dict[str, Any] = {name: _once(value) for name, value in self if isinstance(value, list)}
        found |= {"certificate": self.certificate} if self.certificate else {}
        return found | ({"hours": self.hours.row()} if self.hours else {})


class NewKey(Form):
    """Without `expires` it lives as long as the settings allow."""

    owner: Ident
    expires: AwareDatetime | None = None
    bindings: Bindings | None = None


class Rotation(Form):
    """How long the secret before lives on, in seconds."""

    overlap_s: Annotated[StrictInt, Field(ge=0, le=30 * 86400)] = 7 * 86400


class Assignment(Form):
    """Who is to have the role."""

    subject: Ident


class NewGrant(Form):
    """Whom (`subject:ID`, `group:ID`, `role:ID`), which model, what, until when."""

    to: Party
    model: Ident
    actions: Annotated[list[Action], Field(min_length=1)] = ["model:chat", "model:list"]
    until: AwareDatetime | None = None

    def row(self) -> dict[str, Any]:
        row = {"to": self.to, "model": self.model, "actions": _once(self.actions)}
        return row | ({"until": canonical_time(self.until)} if self.until else {})


class NewToken(Form):
    """For a service or workload; `scope` as docs/reference/tokens.md has it."""

    subject: Ident
    scope: Annotated[str, Field(max_length=4096)] | None = None
    lifetime_s: Annotated[StrictInt, Field(ge=1, le=900)] | None = None


class Revocation(Form):
    """One token or session of an issuer, by its `jti` or `sid`; `everything`: all that were made until now."""

    issuer: Ident = "sealward"
    token: Annotated[str, StringConstraints(pattern="^[!-~]{1,255}$")] | None = None
    everything: bool = False


class Approval(Form):
    """A new digest, where the one of now is not meant."""

    digest: Digest | None = None


class Limits(Form):
    """At least one of them."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    tokens_per_day: Count | None = None
    concurrent: Count | None = None


def microseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - _EPOCH) // datetime.resolution


def canonical_time(moment: datetime) -> str:
    """The one spelling that the formats know."""
    return rfc3339(microseconds(moment))


def _once(values: list[Any]) -> list[Any]:
    return list(dict.fromkeys(map(str, values)))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
