"""The admin API's face of an error: problem+json (RFC 9457). Words only for faults of the caller's own input."""

from __future__ import annotations

from starlette.responses import JSONResponse

from sealward.errors import Reason, Refused


def problem(refused: Refused, request: str) -> JSONResponse:
    """Unknown and not allowed look alike; `request` is what an operator finds the reason by."""
    row = refused.row
    forbidden = refused.status == FORBIDDEN
    body = {"type": "about:blank", "title": row.message, "status": refused.status, "request": request}
    body["code"] = "access_denied" if forbidden else CODES.get(refused.status, row.code)
    if refused.reason in TOLD:
        body["detail"] = refused.detail
    headers = {}
    if refused.status == UNAUTHORIZED:
        error = "" if refused.reason is Reason.CREDENTIAL_MISSING else ' error="invalid_token"'
        headers["www-authenticate"] = f"Bearer{error}"
    return JSONResponse(body, refused.status or BAD, headers, media_type="application/problem+json")


BAD, UNAUTHORIZED, FORBIDDEN = 400, 401, 403
CODES = {404: "not_found", 409: "conflict"}
TOLD = frozenset({Reason.BODY_FIELD})
