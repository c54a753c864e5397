"""Base64 with one spelling for one value: a second spelling would give one signature two texts (RFC 4648)."""

from __future__ import annotations

import base64
import binascii

from sealward.formats.fault import FormatError


def b64(data: bytes) -> str:
    """Standard alphabet, padded."""
    return binascii.b2a_base64(data, newline=False).decode()


def unb64(text: str) -> bytes:
    """Inverse of `b64`; FormatError("malformed") for every other spelling."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise FormatError("malformed", "bad base64") from error
    if b64(data) != text:
        raise FormatError("malformed", "base64 is not canonical")
    return data


def b64url(data: bytes) -> str:
    """URL-safe alphabet, no padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    """Inverse of `b64url`; FormatError("malformed") for every other spelling."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise FormatError("malformed", "bad base64url") from error
    if b64url(data) != text:
        raise FormatError("malformed", "base64url is not canonical")
    return data
