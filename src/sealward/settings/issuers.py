"""`identity.issuers`: whose tokens and certificates are believed besides our own (contracts.md section 6).

Control carries these rows into the snapshot when it starts. Keys come from a file (air-gapped), from an address, or from where
the issuer's own discovery document says they are.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from sealward.formats.pins import fault_of_pins
from sealward.settings.kinds import File, Id, Seconds, Section

OWN = "sealward"  # the id of the row of our own tokens
Text = Annotated[str, Field(pattern=r"^[!-~]{1,255}$")]
Https = Annotated[str, Field(pattern=r"^https://[!-~]+$", max_length=512)]
Algorithm = Literal["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "Ed25519"]


class Principal(Section):
    """Whoever has all these claims is this subject; a dot steps into an object (`kubernetes.io.serviceaccount.uid`)."""

    subject: Id
    pins: Annotated[dict[Text, Annotated[str, Field(min_length=1, max_length=512)]], Field(min_length=1, max_length=16)]


class Issuer(Section):
    """One issuer, for one door. `algorithms`: one a type of key; `keys_max_age`: after so long without an answer they stop."""

    id: Id
    issuer: Text
    profile: Literal["rfc9068", "kubernetes", "github", "jwt-svid", "x509-svid"]
    door: Literal["inference", "management"] = "inference"
    jwks_url: Https | None = None
    jwks_file: File | None = None
    bundle_file: File | None = None
    ca_file: File | None = None
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1, max_length=3)] = ("RS256", "ES256")
    max_age: Annotated[Seconds, Field(ge=1, le=3700)] | None = None
    keys_max_age: Annotated[Seconds, Field(ge=60, le=30 * 86400)] = 86400
    principals: Annotated[tuple[Principal, ...], Field(min_length=1, max_length=256)]

    @model_validator(mode="after")
    def _sound(self) -> Self:
        certificates = self.profile == "x509-svid"
        if certificates != (self.bundle_file is not None) or (certificates and (self.jwks_url or self.jwks_file)):
            raise PydanticCustomError("bundle", "`bundle_file` belongs to `profile: x509-svid`, and nothing else does")
        if self.jwks_url and self.jwks_file:
            raise PydanticCustomError("two_sources", "give `jwks_url` or `jwks_file`, not both")
        if not certificates and not self.jwks_url and not self.jwks_file and not self.issuer.startswith("https://"):
            raise PydanticCustomError("no_source", "without `jwks_url` and `jwks_file` the issuer must be an https:// address")
        if len({_kind(alg) for alg in self.algorithms}) != len(self.algorithms):
            raise PydanticCustomError("algorithms", "one algorithm a type of key (RSA, EC, Ed25519)")
        fault = fault_of_pins(self.profile, [(each.subject, each.pins) for each in self.principals])
        if fault:
            raise PydanticCustomError("pins", "{fault}", {"fault": fault})
        return self

    @property
    def longest(self) -> int:
        """How long a token may live, in seconds."""
        return self.max_age or (3700 if self.profile in {"kubernetes", "jwt-svid", "x509-svid"} else 900)


def _kind(alg: str) -> str:
    return "RSA" if alg[0] in "RP" else alg[:2]
