"""Roles for model management: every role asks for every route of the management door, with a key of its own.

Allowed or refused is what the deployment does, not what it says. Nothing is changed by it: the ids name nothing, the bodies hold
a member that no form has, and a route that could act on neither is not asked by who may use it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from http import HTTPStatus

from sealward.errors import UnreachableError
from sealward.identity.roles import BUILT_IN
from sealward.rollout.cast import Actor, Cast
from sealward.rollout.evidence import Evidence, Result, failed, held, left_out
from sealward.rollout.site import Listener, Route, Site


def check(site: Site, cast: Cast, actors: Mapping[str, Actor]) -> list[Evidence]:
    """One row a role; the service without a role must be refused everywhere."""
    signed = {row["id"]: frozenset(row["actions"]) for row in cast.ask("GET", "roles").value}
    forms = _forms(cast)
    found: list[Evidence] = []
    for role, actor in actors.items():
        row = _Row(role, frozenset(BUILT_IN.get(role, ())), signed.get(role, frozenset()), forms)
        found += row.probed(site.management, actor)
    others = sorted(signed.keys() - BUILT_IN.keys())
    return found + ([left_out("roles", f"roles of your own are not judged: {', '.join(others)}")] if others else [])


class _Row:
    """What one role may: by the program's own table, and by the signed snapshot."""

    def __init__(self, role: str, table: Collection[str], signed: Collection[str], forms: Collection[str]) -> None:
        self._check = f"role {role}" if role else "no role"
        self._table, self._signed, self._forms = table, signed, forms

    def probed(self, door: Listener, actor: Actor) -> list[Evidence]:
        routes = [route for route in door.routes if route.action]
        caller, wrong, allowed, refused, shown = actor.at(door), [], 0, 0, ""
        try:
            for route in routes:
                if route.action in self._table and not self._harmless(route):
                    wrong.append(left_out(self._check, f"{route} would act: not asked"))
                    continue
                answer = caller.ask(route.method, route.path(NOTHING), UNKNOWN)
                shown = shown or (answer.request if answer.status in SHOWN else "")
                if answer.status == HTTPStatus.FORBIDDEN:
                    refused += 1
                    wrong += self._refused(route, answer.request)
                elif answer.status in LET_THROUGH:
                    allowed += 1
                    wrong += self._allowed(route, answer.request)
                else:
                    wrong.append(failed(self._check, f"{route} answers {answer.status}", request=answer.request))
        except UnreachableError as error:
            return [failed(self._check, f"the {door.name} door does not answer: {error.detail}")]
        finally:
            caller.close()
        whole = f"{allowed} routes allowed, {refused} refused"
        bad = any(each.result is Result.FAIL for each in wrong)
        return wrong if bad else [*wrong, held(self._check, whole, request=shown)]

    def _allowed(self, route: Route, request: str) -> Iterator[Evidence]:
        if route.action not in self._table:
            yield failed(self._check, f"{route} is allowed, and {route.action} is none of its acts", request=request)

    def _refused(self, route: Route, request: str) -> Iterator[Evidence]:
        if route.action not in self._table:
            return
        if route.action in self._signed:
            yield failed(self._check, f"{route} is refused, and {route.action} is one of its acts", request=request)
        else:
            yield left_out(self._check, f"{route} is refused: the signed role was made before {route.action} was known")

    def _harmless(self, route: Route) -> bool:
        """It only reads, what it acts on is not there, or it refuses a body like ours."""
        return route.reads or "{" in route.template or str(route) in self._forms


def _forms(cast: Cast) -> frozenset[str]:
    """Routes that take a form: closed ones, which refuse an unknown member (control/forms.py)."""
    paths = cast.ask("GET", "openapi.json").value["paths"]
    return frozenset(
        f"{method.upper()} {path}" for path, methods in paths.items() for method, told in methods.items() if "requestBody" in told
    )


NOTHING = "rollout-probe"
UNKNOWN = {"rollout-probe": True}
SHOWN = frozenset({200, 403})  # what leaves an entry under the id of its request
LET_THROUGH = frozenset({200, 201, 202, 204, 400, 404, 409, 422})  # decided in favour; then there was nothing to act on
