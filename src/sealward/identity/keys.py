"""The API keys of one snapshot: who holds which, proven in constant work.

`authenticate` costs one HMAC, known id or not; a key that was proven before is recognised by the SHA-256 of the whole header
(never a part of it: CVE-2026-35030 was a collision of shortened cache keys) and only its standing is checked again.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sealward.errors import Reason, Refused
from sealward.formats.ids import parse_rfc3339
from sealward.identity.apikey import key_id_of, stored_digest
from sealward.identity.bindings import Bindings
from sealward.identity.credential import bearer
from sealward.identity.principal import Principal
from sealward.keyring.secret import Secret

Rows = Mapping[str, Mapping[str, Any]]
RolesOf = Callable[[Mapping[str, Any]], tuple[str, ...]]


class Keys:
    """Immutable but for its caches; a new snapshot gets a new one."""

    def __init__(self, keys: Rows, subjects: Rows, roles_of: RolesOf, pepper: Secret, environment: str) -> None:
        self._rows = keys
        self._subjects = subjects
        self._roles_of = roles_of
        self._pepper = pepper
        self._environment = environment
        self._known: dict[str, _Key] = {}
        self._proven: dict[bytes, tuple[_Key, bool]] = {}

    def authenticate(self, authorization: Sequence[bytes], source_addr: str, certificate: str | None, now_us: int) -> Principal:
        """The holder of the one key that the header values present; Refused(credential_*) for everything else."""
        found = self._proven.get(hashlib.sha256(authorization[0]).digest()) if len(authorization) == 1 else None
        if found is None:
            found = self._prove(bearer(authorization))
            if len(self._proven) >= CACHE:
                self._proven.clear()
            self._proven[hashlib.sha256(authorization[0]).digest()] = found
        key, retiring = found
        principal = key.standing(retiring, now_us)
        if key.bindings is not None:
            key.bindings.check_caller(source_addr, certificate, now_us)
        return principal

    def standing(self, principal: Principal, key_id: str, now_us: int) -> Principal:
        """The holder of a key that was proven under an earlier snapshot, as this one sees it.

        A secret made before the row's own was current once and was rotated away since.
        """
        row = self._rows.get(key_id)
        if row is None:
            raise Refused(Reason.CREDENTIAL_REVOKED, "key")
        key = self._key(key_id, row)
        return key.standing(principal.key_state == "retiring" or principal.issued_us != key.current.issued_us, now_us)

    def held(self, key_id: str) -> Principal:
        """The holder of a key that a token was made of; Refused(credential_revoked) where the key proves nothing any more."""
        row = self._rows.get(key_id)
        if row is None:
            raise Refused(Reason.CREDENTIAL_REVOKED, "key")
        key = self._key(key_id, row)
        if key.fault:
            raise Refused(Reason.CREDENTIAL_REVOKED, key.fault)
        return key.current

    def _prove(self, presented: bytes) -> tuple[_Key, bool]:
        key_id = key_id_of(presented, self._environment)
        row = self._rows.get(key_id)
        key = self._key(key_id, row) if row is not None and row["environment"] == self._environment else NOBODY
        shown = stored_digest(self._pepper, presented)
        current = hmac.compare_digest(shown, key.digest)
        retiring = hmac.compare_digest(shown, key.old_digest)
        if key is NOBODY or not (current or retiring):
            raise Refused(Reason.CREDENTIAL_UNKNOWN)
        return key, not current

    def _key(self, key_id: str, row: Mapping[str, Any]) -> _Key:
        key = self._known.get(key_id)
        if key is None:
            owner = self._subjects.get(row["owner"])
            key = self._known[key_id] = _read(key_id, row, owner, self._roles_of(owner) if owner else ())
        return key


@dataclass(frozen=True, slots=True)
class _Key:
    """One row, read. `fault`: why it proves nothing at all although the secret is right."""

    digest: bytes
    old_digest: bytes
    retires_us: int
    expires_us: int
    fault: str
    bindings: Bindings | None
    current: Principal
    retiring: Principal

    def standing(self, retiring: bool, now_us: int) -> Principal:
        if self.fault:
            raise Refused(Reason.CREDENTIAL_REVOKED, self.fault)
        if now_us >= self.expires_us:
            raise Refused(Reason.CREDENTIAL_EXPIRED)
        if not retiring:
            return self.current
        if now_us >= self.retires_us:
            raise Refused(Reason.CREDENTIAL_RETIRED)
        return self.retiring


def _read(key_id: str, row: Mapping[str, Any], owner: Mapping[str, Any] | None, roles: tuple[str, ...]) -> _Key:
    fault = "owner removed" if owner is None else "owner disabled" if "disabled" in owner else ""
    fault = "key suspended" if "suspended" in row else fault
    bindings = None
    try:
        bindings = Bindings.parse(row["bindings"]) if "bindings" in row else None
    except ValueError:
        fault = "bindings unreadable"
    old = row.get("old")
    expires_us = parse_rfc3339(row["expires"])
    retires_us = min(parse_rfc3339(old["retires_at"]), expires_us) if old else 0
    current = Principal(
        id=row["owner"],
        kind=owner["kind"] if owner else "human",
        groups=tuple(owner["groups"]) if owner else (),
        roles=roles,
        authn="apikey",
        key_id=key_id,
        key_state="current",
        issued_us=parse_rfc3339(row["created"]),
        expires_us=expires_us,
        bindings=bindings,
    )
    return _Key(
        digest=bytes.fromhex(row["hmac"]),
        old_digest=bytes.fromhex(old["hmac"]) if old else NO_DIGEST,
        retires_us=retires_us,
        expires_us=expires_us,
        fault=fault,
        bindings=bindings,
        current=current,
        retiring=replace(current, key_state="retiring", expires_us=retires_us),
    )


CACHE = 10_000  # proven keys; only right secrets get in, so nobody without one can fill it
NO_DIGEST = bytes(32)  # no HMAC anybody can find equals it
_NO_ONE = Principal(id="anonymous", kind="anonymous", groups=(), roles=(), authn="none")
NOBODY = _Key(NO_DIGEST, NO_DIGEST, 0, 0, "nobody", None, _NO_ONE, _NO_ONE)
