"""Who is asking and may he: everything a door decides from one snapshot, as one object that is replaced with the epoch.

Decisions are cached per (subject, proof, action, model, age of the key in days); the epoch is the object itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sealward.errors import Reason, Refused
from sealward.formats.snapshot import Snapshot
from sealward.identity.actions import MODEL_ACTIONS
from sealward.identity.certificate import ClientCertificate
from sealward.identity.grants import FOREVER_US, Grants, Reach
from sealward.identity.issuers import Issuers
from sealward.identity.keys import Keys, Rows
from sealward.identity.policies import Policies
from sealward.identity.principal import Principal
from sealward.identity.tokens import Shown, Tokens
from sealward.keyring.secret import Secret


@dataclass(frozen=True, slots=True)
class Grant:
    """An allowed act: which policies said so, and what they ask in return."""

    policy_ids: tuple[str, ...]
    obligations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Decided:
    """A grant, or the reason of its refusal, and until when it holds."""

    grant: Grant | None
    reason: Reason | None
    until_us: int
    policy_ids: tuple[str, ...] = ()


class Denied(Refused):
    """A refused decision that names the policies behind it."""

    def __init__(self, reason: Reason, policy_ids: tuple[str, ...]) -> None:
        super().__init__(reason)
        self.policy_ids = policy_ids


class Access:
    """Decisions under one snapshot. `fault` is not empty when its policies do not load: then every decision is a deny."""

    def __init__(self, snapshot: Snapshot, keys: Keys, tokens: Tokens, policies: Policies, grants: Grants) -> None:
        self.epoch = snapshot.epoch
        self.policy_digest = snapshot.policy_digest
        self.fault = policies.fault
        self._sections = snapshot.sections
        self._keys, self._tokens = keys, tokens
        self.policies = policies
        self.grants = grants
        self._names = _names(snapshot.sections["models"])
        self._decided: dict[tuple[str, str, str, str | None, int], _Decided] = {}

    @classmethod
    def build(cls, snapshot: Snapshot, pepper: Secret, environment: str, before: Access | None = None) -> Access:
        """From a verified snapshot. What `before` (of an earlier epoch) has parsed and did not change is used again."""
        rows = snapshot.sections
        same = before is not None and before.policy_digest == snapshot.policy_digest
        policies = before.policies if before is not None and same else Policies.load(rows["policies"])
        kept = before is not None and before.grants.rows is rows["grants"]
        grants = before.grants if before is not None and kept else Grants.of(rows["grants"])

        def roles_of(subject: Mapping[str, Any]) -> tuple[str, ...]:
            return _roles_of(subject, rows["roles"])

        known = before is not None and before.issuers.rows is rows["issuers"]
        issuers = before.issuers if before is not None and known else Issuers.of(rows["issuers"])
        keys = Keys(rows["keys"], rows["subjects"], roles_of, pepper, environment)
        return cls(snapshot, keys, Tokens(issuers, rows["subjects"], roles_of, keys), policies, grants)

    @property
    def issuers(self) -> Issuers:
        """Whose tokens and certificates are believed."""
        return self._tokens.issuers

    def authenticate(
        self,
        authorization: Sequence[bytes],
        *,
        source_addr: str,
        now_us: int,
        certificate: ClientCertificate | None = None,
        audience: str | None = None,
    ) -> Principal:
        """The caller whom one credential proves: an API key, a token, or without a header the client certificate.

        `audience`: this door, as tokens name it; without one no token is taken. Refused: credential_*, token_*.
        """
        if authorization and b"." not in authorization[0]:  # no API key has a dot, every token two
            thumbprint = certificate.thumbprint if certificate is not None else None
            return self._keys.authenticate(authorization, source_addr, thumbprint, now_us)
        shown = Shown(source_addr, certificate, audience, now_us)
        if authorization:
            return self._tokens.authenticate(authorization, shown)
        if certificate is None:
            raise Refused(Reason.CREDENTIAL_MISSING)
        return self._tokens.of_certificate(certificate, shown)

    def renew(self, principal: Principal, *, now_us: int) -> Principal:
        """A caller that was proven under an earlier snapshot, as this one sees it; Refused where the proof holds no longer."""
        if principal.proof is not None:
            return self._tokens.renew(principal, now_us)
        if principal.key_id is None:
            return principal
        return self._keys.standing(principal, principal.key_id, now_us)

    def lineage(self, principal: Principal) -> list[dict[str, Any]]:
        """What a token made for this caller must say that it was made of, so that it ends with that."""
        return self._tokens.lineage(principal)

    def resolve_model(self, name: str) -> str | None:
        """The id of a model by its exact id or one of its aliases."""
        return self._names.get(name)

    def visible_models(self, principal: Principal, *, now_us: int) -> list[str]:
        """Ids of the models that this caller may see, sorted."""
        return [model for model in sorted(self._sections["models"]) if self._lists(principal, model, now_us)]

    def decide(self, principal: Principal, action: str, model_id: str | None = None, *, now_us: int) -> Grant:
        """The grant of one act, else Denied: model_not_granted (also for unknown models), action_not_granted, policy_*, model_*.

        `model_id`: what `resolve_model` gave, also None; management actions have no model. Use outside the key's bindings is
        Refused(credential_binding); outside a token's scope it is as if it was not granted.
        """
        if principal.scope is not None:
            principal.scope.check(action, model_id)
        if principal.bindings is not None:
            principal.bindings.check_use(action, model_id)
        age = 0 if principal.issued_us is None else (now_us - principal.issued_us) // DAY_US
        place = (principal.id, principal.authn, action, model_id, age)
        decided = self._decided.get(place)
        if decided is None or now_us >= decided.until_us:
            decided = self._evaluate(principal, action, model_id, age, now_us)
            if len(self._decided) >= CACHE:
                self._decided.clear()
            self._decided[place] = decided
        if decided.grant is None:
            raise Denied(decided.reason or Reason.POLICY_DENIED, decided.policy_ids)
        return decided.grant

    def _lists(self, principal: Principal, model: str, now_us: int) -> bool:
        try:
            self.decide(principal, "model:list", model, now_us=now_us)
        except Refused:
            return False
        return True

    def _evaluate(self, principal: Principal, action: str, model_id: str | None, age: int, now_us: int) -> _Decided:
        """One cold decision. An unknown model takes the same way as a known one that nobody was granted."""
        parties = self._parties(principal)
        granted = self.grants.on(model_id, now_us) if action in MODEL_ACTIONS else _NOTHING
        stage = self._sections["models"].get(model_id or "", _UNKNOWN)["stage"]
        target = {"type": "Model", "id": model_id or ""} if action in MODEL_ACTIONS else _DEPLOYMENT
        caller = {"type": "Subject", "id": principal.id}
        entities: list[dict[str, Any]] = [
            {"uid": caller, "attrs": {"kind": principal.kind}, "parents": [{"type": "Party", "id": party} for party in parties]}
        ]
        if action in MODEL_ACTIONS:
            lists = {"chat": _parties(granted.holders("model:chat")), "list": _parties(granted.holders("model:list"))}
            entities.append({"uid": target, "attrs": {"stage": stage} | lists, "parents": []})
        context = _context(principal.authn, age, self._holders(action))
        request = {"principal": caller, "action": {"type": "Action", "id": action}, "resource": target, "context": context}
        verdict = self.policies.ask(request, entities)
        if verdict.outcome == "allow":
            return _Decided(Grant(verdict.policy_ids), None, granted.until_us)
        if verdict.outcome == "error":
            return _Decided(None, Reason.POLICY_ERROR, now_us)
        if action in MODEL_ACTIONS and not granted.includes(parties):
            return _Decided(None, Reason.MODEL_NOT_GRANTED, granted.until_us)
        return _Decided(None, _why(verdict.policy_ids, stage), granted.until_us, verdict.policy_ids)

    def _parties(self, principal: Principal) -> list[str]:
        """What grants may name him by, as this snapshot sees him; nobody who is not in it or disabled is anything."""
        groups, roles = principal.groups, principal.roles
        if principal.authn != "local":
            row = self._sections["subjects"].get(principal.id, _GONE)
            if "disabled" in row:
                return []
            groups, roles = row["groups"], _roles_of(row, self._sections["roles"])
        return [f"subject:{principal.id}", *(f"group:{name}" for name in groups), *(f"role:{name}" for name in roles)]

    def _holders(self, action: str) -> list[str]:
        return [f"role:{name}" for name, row in self._sections["roles"].items() if action in row["actions"]]


def _context(authn: str, key_age_days: int, holders: Sequence[str]) -> dict[str, Any]:
    """The whole context of every request, in one place: a missing member would switch off the forbid that reads it."""
    return {"authn": authn, "key_age_days": key_age_days, "holders": _parties(holders)}


def _parties(names: Sequence[str]) -> list[dict[str, Any]]:
    return [{"__entity": {"type": "Party", "id": name}} for name in names]


def _roles_of(subject: Mapping[str, Any], roles: Rows) -> tuple[str, ...]:
    """Given by name, or to a group he is in."""
    groups = set(subject["groups"])
    by_group = [
        name for name, row in roles.items() if name not in subject["roles"] and not groups.isdisjoint(row.get("groups", ()))
    ]
    return (*subject["roles"], *by_group)


def _names(models: Rows) -> dict[str, str]:
    """Exact names only: no case folding, no `:latest`, no normalisation. An id beats an alias of the same spelling."""
    aliases = {alias: model for model, row in models.items() for alias in row.get("aliases", ())}
    return aliases | {model: model for model in models}


def _why(policy_ids: tuple[str, ...], stage: str) -> Reason:
    """The reason of a clean deny whose caller reaches the model: no policy named = nothing permitted it."""
    if not policy_ids:
        return Reason.ACTION_NOT_GRANTED
    if policy_ids == (STAGE_POLICY,):
        return Reason.MODEL_WITHDRAWN if stage == "retired" else Reason.MODEL_UNAPPROVED
    return Reason.POLICY_DENIED


CACHE = 100_000
DAY_US = 86_400_000_000
STAGE_POLICY = "only-approved-models-serve"
_NOTHING = Reach((), FOREVER_US)
_UNKNOWN = {"stage": "candidate"}
_GONE: Mapping[str, Any] = {"disabled": True}
_DEPLOYMENT = {"type": "Deployment", "id": "self"}
