"""The admin API: the closed table of routes, each with its handler, behind the gate."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response
from starlette.types import ASGIApp

from sealward import __version__
from sealward.control.call import Call
from sealward.control.changes import CHANGES
from sealward.control.gate import Gate, denied
from sealward.control.office import Office
from sealward.control.problem import problem
from sealward.control.reads import READS
from sealward.errors import Reason, Refused, UnreachableError
from sealward.identity.admin_routes import ROUTES


def admin_api(office: Office) -> ASGIApp:
    """Complete: a route without a handler, or a handler without a route, is a KeyError at start."""
    app = FastAPI(title="sealward admin API", version=__version__, openapi_url=None, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False
    app.state.office = office
    handlers = {**CHANGES, **READS}
    for route in ROUTES:
        handler = handlers.pop(route.name)
        app.add_api_route(route.path, handler, methods=[route.method], name=route.name, operation_id=route.name)
    if handlers:
        raise KeyError(*handlers)

    @app.exception_handler(Refused)
    async def _refused(request: Request, refused: Refused) -> Response:
        return _answer(office, request, refused)

    @app.exception_handler(UnreachableError)
    async def _unreachable(request: Request, error: UnreachableError) -> Response:
        return _answer(office, request, Refused(Reason.OVERLOADED, error.detail))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        told = "; ".join(f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors())
        return _answer(office, request, Refused(Reason.BODY_FIELD, told))

    app.openapi()  # described once, before rights are given up
    return Gate(app, office)


def _answer(office: Office, request: Request, refused: Refused) -> Response:
    call: Call = request.state.call
    office.sink.record(denied(office, call.heard, call.route, call.principal, refused))
    return problem(refused, call.heard.request)
