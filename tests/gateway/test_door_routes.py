"""The closed route tables."""

from __future__ import annotations

import pytest

from sealward.errors import Reason, Refused
from sealward.gateway.routes import INFERENCE, MANAGEMENT, Route, Table
from sealward.identity.admin_routes import ROUTES
from shared import shared


def test_a_table_has_each_row_once() -> None:
    """Two rows for one request would be two opinions about it."""
    row = Route("GET", "/x", "models", "x")
    with pytest.raises(ValueError, match="twice"):
        Table.of([row, row])


def test_a_parameter_holds_a_slash_only_where_it_may() -> None:
    """Ids of models do; nothing of the admin API does."""
    assert INFERENCE.find("GET", b"/v1/models/org/name").parameter == "org/name"
    with pytest.raises(Refused) as caught:
        MANAGEMENT.find("POST", b"/api/v1/users/a/b/disable")
    assert caught.value.reason is Reason.ROUTE_UNKNOWN


def test_every_row_of_the_admin_api_is_a_row_of_the_management_door() -> None:
    """The same table, so neither can have a route that the other does not know."""
    assert {(each.method, each.path) for each in ROUTES} <= {(each.method, each.template) for each in MANAGEMENT.all()}


def test_no_route_of_a_runtime_is_reached_but_those_we_serve() -> None:
    """168 routes of vLLM, Ollama, llama.cpp and TGI: what is marked `deny` is unknown here, in every spelling."""
    path = shared("vectors", "gateway", "runtime-routes.tsv")
    if path is None:
        print("LEFT OUT: vectors/gateway/runtime-routes.tsv is not there")
        return
    names, *rows = [line.split("\t") for line in path.read_text().splitlines() if line and not line.startswith("#")]
    denied = [row for each in rows if (row := dict(zip(names, each, strict=False)))["door"] in {"deny", "monitor"}]
    assert len(denied) > 50
    for row in denied:
        target = row["path"].replace("{", "").replace("}", "").replace("*", "x").encode()
        for spelling in (target, target.upper(), b"/v1" + target, target + b"/", b"/" + target, target.replace(b"/", b"/./", 1)):
            for method in ("GET", "POST", "DELETE"):
                with pytest.raises(Refused):
                    INFERENCE.find(method, spelling)
