"""What a request presents to prove its caller: one `Authorization: Bearer` header, and nothing else counts.

Keys in query strings, cookies and bodies are refused where those are read, by the door.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sealward.errors import Reason, Refused


def bearer(authorization: Sequence[bytes]) -> bytes:
    """The credential of a request's `Authorization` header values; the scheme in any case (RFC 9110 section 11.1).

    Two headers or a comma-joined list are refused: which of them a later reader would take is anybody's guess.
    """
    if not authorization:
        raise Refused(Reason.CREDENTIAL_MISSING)
    if len(authorization) > 1 or b"," in authorization[0]:
        raise Refused(Reason.CREDENTIAL_MULTIPLE)
    if len(authorization[0]) > MAX_LENGTH:
        raise Refused(Reason.CREDENTIAL_MALFORMED, "too long")
    form = FORM.fullmatch(authorization[0])
    if form is None:
        raise Refused(Reason.CREDENTIAL_MALFORMED, "not one bearer token")
    return form[1]


FORM = re.compile(rb"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)")  # token68 of RFC 9110; the scheme says how it is meant
MAX_LENGTH = 8192
