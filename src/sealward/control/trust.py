"""The rows of section `issuers`: our own, and those of the settings with the keys that files, addresses or discovery give.

Settings say who is believed; control carries it into the snapshot when it starts and whenever an issuer's keys have changed, as
any other change: an entry, an epoch, the same keys at every door. Doors fetch nothing (ADR 2). Keys that were fetched carry the
time when they stop, so that doors drop them also when control or the issuer is gone.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sealward.control.acts import Act, Op
from sealward.errors import ConfigurationError
from sealward.formats.b64 import b64url
from sealward.formats.fault import FormatError
from sealward.formats.ids import parse_rfc3339, rfc3339
from sealward.formats.snapshot import Snapshot
from sealward.identity.jwk import read_key_set
from sealward.settings import Settings
from sealward.settings.issuers import OWN, Issuer

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """One issuer of the settings, for the door called `audience`.

    `keys`: as its row holds them, where a file says so; else they are fetched with `context`.
    """

    issuer: Issuer
    audience: str
    keys: Row | None = None
    context: ssl.SSLContext | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Found:
    """What was fetched from where: rows of `read_key_set`."""

    url: str
    jwks: list[dict[str, str]]


def read_sources(settings: Settings) -> list[Source]:
    """With everything that files hold; they are read with the rights of the start. ConfigurationError names the file."""
    return [_source(issuer, settings.doors.audience(issuer.door)) for issuer in settings.identity.issuers]


def own_row(settings: Settings, jwk: Mapping[str, str]) -> Row:
    """The row of our own tokens. They are for the inference door, and call it what it is called."""
    audience = settings.doors.audience("inference")
    return {"profile": "sealward", "issuer": audience, "audience": audience, "keys": {"jwks": [dict(jwk)]}, "max_age": LONGEST_S}


def wanted_row(source: Source, found: Found | None, now_us: int, before: Mapping[str, Any] | None) -> Row | None:
    """The row of one issuer; None as long as nobody knows where its keys are.

    Keys that were fetched before go on until their end; the end moves when new ones come or half their time is over.
    """
    issuer = source.issuer
    row: Row = {"profile": issuer.profile, "issuer": issuer.issuer, "audience": source.audience}
    row |= {"max_age": issuer.longest, "principals": [{"pins": each.pins, "subject": each.subject} for each in issuer.principals]}
    if before is not None:
        row |= {name: before[name] for name in KEPT if name in before}
    if source.keys is not None:
        return row | {"keys": source.keys}
    held = before["keys"] if before is not None and "jwks_url" in before["keys"] else {}
    url = found.url if found is not None else issuer.jwks_url or held.get("jwks_url")
    if url is None:
        return None
    keys: Row = {"jwks_url": url, "algorithms": list(issuer.algorithms)}
    if found is not None and (found.jwks != held.get("jwks") or _half_over(held, issuer, now_us)):
        keys |= {"jwks": found.jwks, "until": rfc3339(now_us + issuer.keys_max_age * 1_000_000)}
    elif held.get("jwks_url") == url and "jwks" in held:
        keys |= {"jwks": held["jwks"], "until": held["until"]}
    return row | {"keys": keys}


def to_rows(snapshot: Snapshot, rows: Mapping[str, Row], ours: Iterable[str]) -> Act | None:
    """What makes the section hold `rows` and no other; None where it does. `ours`: ids that are left as they are."""
    held = snapshot.sections["issuers"]
    ops: list[Op] = [["put", "issuers", ident, row] for ident, row in rows.items() if held.get(ident) != row]
    ops += [["del", "issuers", ident] for ident in held if ident not in rows and ident not in set(ours)]
    if not ops:
        return None
    told = ", ".join(f"{op[0]} {op[2]}{_kids(op)}" for op in ops)
    return Act("config.changed", "issuers", "trust", tuple(ops), after=told[:MAX_TOLD])


def _source(issuer: Issuer, audience: str) -> Source:
    try:
        if issuer.bundle_file is not None:
            return Source(issuer, audience, {"certificates": _bundle(issuer.bundle_file.read_bytes())})
        if issuer.jwks_file is not None:
            return Source(issuer, audience, {"jwks": read_key_set(issuer.jwks_file.read_bytes(), issuer.algorithms)})
        return Source(issuer, audience, context=ssl.create_default_context(cafile=issuer.ca_file))
    except (OSError, ssl.SSLError, FormatError, ValueError) as error:
        raise ConfigurationError(f"identity.issuers: {issuer.id}: {error}", remedy="correct the file that it names") from error


def _bundle(pem: bytes) -> list[str]:
    found = [b64url(each.public_bytes(Encoding.DER)) for each in x509.load_pem_x509_certificates(pem)]
    if len(found) > MAX_ROOTS:
        raise ValueError(f"over {MAX_ROOTS} certificates")
    return found


def _half_over(held: Mapping[str, Any], issuer: Issuer, now_us: int) -> bool:
    return "until" in held and parse_rfc3339(held["until"]) - now_us < issuer.keys_max_age * 500_000


def _kids(op: Op) -> str:
    keys = op[3]["keys"].get("jwks", ()) if op[0] == "put" else ()
    return f" ({' '.join(key['kid'] for key in keys)})" if keys else ""


__all__ = ["KEPT", "OWN", "Found", "Row", "Source", "own_row", "read_sources", "to_rows", "wanted_row"]
KEPT = ("not_before", "revoked")
LONGEST_S = 900
MAX_ROOTS, MAX_TOLD = 16, 2000
