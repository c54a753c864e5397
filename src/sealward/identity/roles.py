"""The built-in roles: which kinds of acts each carries. On which model is a grant's business."""

from __future__ import annotations

from collections.abc import Mapping

from sealward.identity.actions import MODEL_ACTIONS, OWN_ACTIONS
from sealward.identity.principal import Principal


def local_admin() -> Principal:
    """The deployment's owner at the owner's socket: a model-admin until an administrator's passkey is enrolled."""
    return Principal(id=LOCAL_ADMIN, kind="human", groups=(), roles=("model-admin",), authn="local")


READS = (
    *("apikey:list", "user:list", "service:list", "role:list", "grant:list", "model:show", "limit:list", "capture:list"),
    "status:read",
)
CHANGES = (
    *("apikey:create", "apikey:rotate", "apikey:revoke", "user:create", "user:disable", "service:create", "service:disable"),
    *("role:assign", "role:remove", "grant:add", "grant:remove", "model:approve", "model:deploy", "model:retire", "limit:set"),
    "capture:set",
    *("token:mint", "token:revoke"),
)
BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "model-admin": (*CHANGES, *READS, "policy:read", "journal:read", "journal:body", "journal:verify"),
    "operator": ("model:deploy", "model:retire", "model:show", "limit:list", "status:read", "journal:verify"),
    "consumer": (*MODEL_ACTIONS, *OWN_ACTIONS),
    "auditor": (*READS, "policy:read", "journal:read", "journal:verify"),
}
LOCAL_ADMIN = "local-admin"
RESERVED = frozenset({LOCAL_ADMIN, "anonymous", "init", "control", "signer", "recorder", "supervisor", "system"})
