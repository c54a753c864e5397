"""Which claims must be pinned before a token of somebody else's is a subject of ours (knowledge/identity.md section 5).

A name can be given up and registered again by another; an id cannot. So a row that pins names alone proves nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def fault_of_pins(profile: str, principals: Iterable[tuple[str, Iterable[str]]]) -> str:
    """Why nobody can be proven by these (subject, pinned claims) of one issuer; empty where they are sound."""
    for subject, claims in principals:
        pinned = set(claims)
        if not pinned - {"iss", "aud"}:
            return f"{subject}: no claim is pinned besides iss and aud"
        missing = NEEDED.get(profile, frozenset()) - pinned
        if missing:
            return f"{subject}: {min(missing)} is not pinned, so what was deleted and made again would pass"
    return ""


NEEDED: Mapping[str, frozenset[str]] = {
    "kubernetes": frozenset({
        "kubernetes.io.namespace", "kubernetes.io.serviceaccount.name", "kubernetes.io.serviceaccount.uid",
    }),
    "github": frozenset({"repository_id", "repository_owner_id", "job_workflow_ref"}),
    "jwt-svid": frozenset({"sub"}),
    "x509-svid": frozenset({"sub"}),
}  # fmt: skip
