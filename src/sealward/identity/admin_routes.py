"""Every route of the admin API, closed: the management door routes by this table, control serves and decides by it.

A route that changes something names the event it leaves; every other one leaves `access.read`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sealward.errors import Reason, Refused


@dataclass(frozen=True, slots=True)
class AdminRoute:
    """`name` is the operation in events, `action` what is decided, `event` the type of the entry that it leaves."""

    method: str
    path: str
    name: str
    action: str
    event: str = "access.read"

    @property
    def changes(self) -> bool:
        return self.event not in {"access.read", "journal.read"}


def match(method: str, path: str) -> tuple[AdminRoute, Mapping[str, str]]:
    """The route of an exact path, and what stands in its braces; Refused(route_unknown | route_method)."""
    found = [(route, form) for route, form in _FORMS if form.fullmatch(path)]
    for route, form in found:
        if route.method == method:
            values = form.fullmatch(path)
            return route, values.groupdict() if values else {}
    raise Refused(Reason.ROUTE_METHOD if found else Reason.ROUTE_UNKNOWN)


def _form(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", rf"(?P<\1>{SEGMENT})", re.escape(path)))


SEGMENT = "[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}"  # ids with a slash have no address here
ROUTES = (
    AdminRoute("GET", "/api/v1/openapi.json", "openapi.get", "status:read"),
    AdminRoute("GET", "/api/v1/status", "status.get", "status:read"),
    AdminRoute("GET", "/api/v1/users", "user.list", "user:list"),
    AdminRoute("POST", "/api/v1/users", "user.create", "user:create", "subject.created"),
    AdminRoute("POST", "/api/v1/users/{id}/enable", "user.enable", "user:create", "subject.changed"),
    AdminRoute("POST", "/api/v1/users/{id}/disable", "user.disable", "user:disable", "subject.disabled"),
    AdminRoute("GET", "/api/v1/services", "service.list", "service:list"),
    AdminRoute("POST", "/api/v1/services", "service.create", "service:create", "subject.created"),
    AdminRoute("POST", "/api/v1/services/{id}/enable", "service.enable", "service:create", "subject.changed"),
    AdminRoute("POST", "/api/v1/services/{id}/disable", "service.disable", "service:disable", "subject.disabled"),
    AdminRoute("GET", "/api/v1/apikeys", "apikey.list", "apikey:list"),
    AdminRoute("POST", "/api/v1/apikeys", "apikey.create", "apikey:create", "apikey.created"),
    AdminRoute("POST", "/api/v1/apikeys/{id}/rotate", "apikey.rotate", "apikey:rotate", "apikey.rotated"),
    AdminRoute("POST", "/api/v1/apikeys/{id}/suspend", "apikey.suspend", "apikey:revoke", "apikey.suspended"),
    AdminRoute("POST", "/api/v1/apikeys/{id}/confirm", "apikey.confirm", "apikey:create", "config.changed"),
    AdminRoute("POST", "/api/v1/apikeys/{id}/revoke", "apikey.revoke", "apikey:revoke", "apikey.revoked"),
    AdminRoute("POST", "/api/v1/tokens", "token.mint", "token:mint", "token.minted"),
    AdminRoute("POST", "/api/v1/tokens/revoke", "token.revoke", "token:revoke", "token.revoked"),
    AdminRoute("GET", "/api/v1/roles", "role.list", "role:list"),
    AdminRoute("POST", "/api/v1/roles/{role}/subjects", "role.assign", "role:assign", "role.granted"),
    AdminRoute("DELETE", "/api/v1/roles/{role}/subjects/{id}", "role.remove", "role:remove", "role.removed"),
    AdminRoute("GET", "/api/v1/grants", "grant.list", "grant:list"),
    AdminRoute("POST", "/api/v1/grants", "grant.add", "grant:add", "grant.added"),
    AdminRoute("DELETE", "/api/v1/grants/{id}", "grant.remove", "grant:remove", "grant.removed"),
    AdminRoute("GET", "/api/v1/models", "model.list", "model:show"),
    AdminRoute("GET", "/api/v1/models/{id}", "model.show", "model:show"),
    AdminRoute("POST", "/api/v1/models/{id}/approve", "model.approve", "model:approve", "model.approved"),
    AdminRoute("POST", "/api/v1/models/{id}/deploy", "model.deploy", "model:deploy", "model.deployed"),
    AdminRoute("POST", "/api/v1/models/{id}/retire", "model.retire", "model:retire", "model.withdrawn"),
    AdminRoute("GET", "/api/v1/limits", "limit.list", "limit:list"),
    AdminRoute("PUT", "/api/v1/limits/{id}", "limit.set", "limit:set", "limit.changed"),
    AdminRoute("DELETE", "/api/v1/limits/{id}", "limit.unset", "limit:set", "limit.changed"),
    AdminRoute("GET", "/api/v1/capture", "capture.list", "capture:list"),
    AdminRoute("PUT", "/api/v1/capture/{id}", "capture.set", "capture:set", "capture.changed"),
    AdminRoute("DELETE", "/api/v1/capture/{id}", "capture.unset", "capture:set", "capture.changed"),
    AdminRoute("POST", "/api/v1/journal/bodies/{id}", "journal.body", "journal:body", "journal.read"),
    AdminRoute("GET", "/api/v1/policies", "policy.list", "policy:read"),
)
_FORMS = tuple((route, _form(route.path)) for route in ROUTES)
