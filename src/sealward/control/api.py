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


def admin_api(app: FastAPI, office: Office) -> ASGIApp:
    """The API of `office`, gate and all."""
    app.state.office = office
    return Gate(app, office)


def described() -> FastAPI:
    """All routes, described once: it reads many files, so it comes before rights are given up.

    A route without a handler, or a handler without a route, is a KeyError.
    """
    app = FastAPI(title="sealward admin API", version=__version__, openapi_url=None, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False
    handlers = {**CHANGES, **READS}
    for route in ROUTES:
        handler = handlers.pop(route.name)
        app.add_api_route(route.path, handler, methods=[route.method], name=route.name, operation_id=route.name)
    if handlers:
        raise KeyError(*handlers)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(UnreachableError, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    app.openapi()
    return app


async def _refused(request: Request, error: Exception) -> Response:
    """What a handler could not do: recorded, and told as a problem."""
    office: Office = request.app.state.office
    call: Call = request.state.call
    refused = _as_refused(error)
    office.sink.record(denied(office, call.heard, call.route, call.principal, refused))
    return problem(refused, call.heard.request)


def _as_refused(error: Exception) -> Refused:
    if isinstance(error, Refused):
        return error
    if isinstance(error, RequestValidationError):
        told = "; ".join(f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors())
        return Refused(Reason.BODY_FIELD, told)
    return Refused(Reason.OVERLOADED, str(error))
