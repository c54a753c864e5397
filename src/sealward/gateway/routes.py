"""The closed route tables. What is not written here is not there: no prefix, no pass-through (most gateway CVEs are one).

The raw request target is compared. Whatever could be read in two ways (escapes, dot segments, doubled slashes, a query where
none belongs) is refused before any table is looked at: llama.cpp serves `/v1/%63hat/completions` as chat.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sealward.errors import Reason, Refused
from sealward.identity.admin_routes import ROUTES

Kind = Literal["chat", "models", "model", "receipt", "admin", "log", "token", "resource", "health", "livez", "readyz"]


@dataclass(frozen=True, slots=True)
class Route:
    """One row: `template` is the path, whose last part may be `{name}`; `operation` is the event's name for it."""

    method: str
    template: str
    kind: Kind
    operation: str
    action: str = ""
    """What the caller must be permitted to do; empty: the answer is everybody's (probes), or control decides (admin)."""
    family: str = "openai"
    """Whose error face a refusal shows."""
    media: bytes = b""
    """What a body must be; empty: whatever it is, control looks at it."""
    query: bool = False
    deep: bool = False
    """Whether the parameter may hold a slash, as ids of models do."""


@dataclass(frozen=True, slots=True)
class Found:
    """A route and what stood in the place of its parameter."""

    route: Route
    parameter: str
    path: str
    query: str


@dataclass(frozen=True, slots=True)
class Table:
    """All routes of one kind of door, by exact path, then by the templates with a parameter."""

    exact: Mapping[str, Mapping[str, Route]] = field(default_factory=dict)
    plain: Mapping[tuple[str, bytes], Found] = field(default_factory=dict)
    """The rows without a parameter, ready for a target that is exactly theirs."""
    patterns: tuple[tuple[re.Pattern[str], Mapping[str, Route]], ...] = ()

    @classmethod
    def of(cls, routes: Iterable[Route]) -> Table:
        """ValueError: two rows for one method and template."""
        exact: dict[str, dict[str, Route]] = {}
        shaped: dict[str, dict[str, Route]] = {}
        for route in routes:
            rows = (shaped if "{" in route.template else exact).setdefault(route.template, {})
            if route.method in rows:
                raise ValueError(f"{route.method} {route.template} twice")
            rows[route.method] = route
        plain = {
            (each.method, each.template.encode()): Found(each, "", each.template, "")
            for rows in exact.values()
            for each in rows.values()
        }
        return cls(exact, plain, tuple((_pattern(template, rows), rows) for template, rows in shaped.items()))

    def find(self, method: str, target: bytes) -> Found:
        """Refused: http_malformed (a target with two readings), route_unknown, route_method."""
        exactly = self.plain.get((method, target))
        if exactly is not None:
            return exactly
        path, mark, query = _plain(target)
        rows, parameter = self.exact.get(path), ""
        if rows is None:
            rows, parameter = self._shaped(path)
        if rows is None:
            raise Refused(Reason.ROUTE_UNKNOWN)
        route = rows.get(method)
        if route is None:
            raise Refused(Reason.ROUTE_METHOD, remedy=", ".join(sorted(rows)))
        if mark and not route.query:
            raise Refused(Reason.HTTP_MALFORMED, "a query where none belongs")
        return Found(route, parameter, path, query)

    def all(self) -> list[Route]:
        """Every row, for tests that must not miss one."""
        tables = [*self.exact.values(), *(rows for _, rows in self.patterns)]
        return [route for rows in tables for route in rows.values()]

    def _shaped(self, path: str) -> tuple[Mapping[str, Route] | None, str]:
        for pattern, rows in self.patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                return rows, match[1]
        return None, ""


def family_of(target: bytes) -> str:
    """Whose error face a refused target gets, before there is a route."""
    return "admin" if target.startswith(b"/api/v1/") else "openai"


def _plain(target: bytes) -> tuple[str, str, str]:
    if not target.startswith(b"/") or not target.isascii():
        raise Refused(Reason.HTTP_MALFORMED, "the target is not in origin form")
    path, mark, query = target.decode("ascii").partition("?")
    if _ODD.search(path) or _ODD_QUERY.search(query):
        raise Refused(Reason.HTTP_MALFORMED, "the target has two readings")
    return path, mark, query


def _pattern(template: str, rows: Mapping[str, Route]) -> re.Pattern[str]:
    slash = "/" if all(route.deep for route in rows.values()) else ""
    parts = [part for part in re.split(r"(\{[a-z_]+\})", template) if part]
    segment = f"([A-Za-z0-9][A-Za-z0-9._:@+{slash}-]{{0,127}})"
    return re.compile("".join(segment if part.startswith("{") else re.escape(part) for part in parts))


_ODD = re.compile(r"[^!-~]|[%;\\#\"<>^`{|}]|//|/\.{1,2}(?:/|$)")
_ODD_QUERY = re.compile(r"[^!-~]|[#\"<>\\^`{|}]")

JSON, FORM = b"application/json", b"application/x-www-form-urlencoded"
PROBES = (Route("GET", "/livez", "livez", "probe"), Route("GET", "/readyz", "readyz", "probe"))
INFERENCE = Table.of((
    Route("POST", "/v1/chat/completions", "chat", "chat", "model:chat", media=JSON),
    Route("GET", "/v1/models", "models", "models.list", "model:list"),
    Route("GET", "/v1/models/{id}", "model", "models.get", "model:list", deep=True),
    Route("POST", "/sealward/v1/token", "token", "token.exchange", "token:exchange", "oauth", FORM),
    Route("GET", "/.well-known/oauth-protected-resource", "resource", "probe"),
    Route("GET", "/sealward/v1/receipts/{request}", "receipt", "receipt.get", "receipt:read"),
    *PROBES,
))  # fmt: skip
MANAGEMENT = Table.of((
    *(Route(each.method, each.path, "admin", each.name, each.action, "admin", query=each.method == "GET") for each in ROUTES),
    Route("GET", "/api/v1/log/{path}", "log", "log.read", "journal:verify", "admin", deep=True),
    *PROBES,
))  # fmt: skip
SIDECAR = Table.of((
    Route("POST", "/v1/chat/completions", "chat", "chat", media=JSON),
    Route("GET", "/sealward/v1/health", "health", "probe"),
))  # fmt: skip
