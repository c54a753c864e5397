"""The admin API's table: closed, unambiguous, and each change named by its event."""

from __future__ import annotations

import pytest

from sealward.errors import Reason, Refused
from sealward.identity.admin_routes import ROUTES, AdminRoute, match
from sealward.identity.roles import BUILT_IN


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_each_route_is_found_by_its_own_path(route: AdminRoute) -> None:
    """No route hides another, and its action is one that some role carries."""
    path = route.path.replace("{id}", "a.b:c").replace("{role}", "consumer")
    found, values = match(route.method, path)
    assert found is route
    assert set(values) == {name for name in ("id", "role") if "{" + name + "}" in route.path}
    assert route.action in BUILT_IN["model-admin"]


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/api/v1", "/api/v1/users/", "/api/v2/users", "/API/v1/users", "/api/v1/users?x=1", "/api/v1/users/a/b/disable"),
        *("/api/v1/users/%61/disable", "/api/v1/users/../disable", "/api/v1/users/a/disable\n", "//api/v1/users"),
    ],
)
def test_other_paths_are_unknown(path: str) -> None:
    """Attack row 82."""
    with pytest.raises(Refused) as refused:
        match("POST", path)
    assert refused.value.reason is Reason.ROUTE_UNKNOWN


def test_another_method_of_a_known_path_is_told_apart() -> None:
    """405, not 404."""
    with pytest.raises(Refused) as refused:
        match("PATCH", "/api/v1/users")
    assert refused.value.reason is Reason.ROUTE_METHOD
