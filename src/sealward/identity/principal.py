"""The proven caller: what authentication gives and every later stage asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sealward.identity.bindings import Bindings
from sealward.identity.scope import Scope


@dataclass(frozen=True, slots=True)
class OnBehalf:
    """The user a service names: a label for limits and monitoring, never a principal (contracts.md section 9)."""

    id: str
    proof: Literal["header", "assertion"]


@dataclass(frozen=True, slots=True)
class Principal:
    """A subject and how it was proven. `expires_us`: when the proof ends and whatever runs on it is cut.

    `issued_us` is when the credential was made (its age is what policies ask), `bindings` what it is tied to, `scope` what it was
    narrowed to; `proof` is what a later snapshot is asked about a token or certificate. A token that was made of an API key names
    that key: its limits and bindings go on.
    """

    id: str
    kind: str
    groups: tuple[str, ...]
    roles: tuple[str, ...]
    authn: str
    key_id: str | None = None
    key_state: Literal["current", "retiring"] | None = None
    issuer: str | None = None
    issued_us: int | None = None
    expires_us: int | None = None
    bindings: Bindings | None = None
    on_behalf_of: OnBehalf | None = None
    token_id: str | None = None
    cert_thumbprint: str | None = None
    spiffe_id: str | None = None
    scope: Scope | None = None
    proof: Any = field(default=None, repr=False, compare=False)

    def subject(self) -> dict[str, Any]:
        """The `subject` of an event; of groups and roles the first 64, which is what an entry can hold."""
        found: dict[str, Any] = {"id": self.id, "kind": self.kind, "authn": self.authn}
        if self.groups:
            found["groups"] = list(self.groups[:EVENT_LIST])
        if self.roles:
            found["roles"] = list(self.roles[:EVENT_LIST])
        for name in WORDS:
            word = getattr(self, name)
            if word is not None:
                found[name] = word
        if self.on_behalf_of is not None:
            found["on_behalf_of"] = {"id": self.on_behalf_of.id, "proof": self.on_behalf_of.proof}
        return found


EVENT_LIST = 64
WORDS = ("key_id", "key_state", "issuer", "token_id", "cert_thumbprint", "spiffe_id")
