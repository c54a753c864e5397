"""Messages between our own processes over a unix socket: u32be length ‖ JSON object. The peer is known, not trusted."""

from __future__ import annotations

from typing import Any

import orjson

from sealward.formats.fault import FormatError


def frame(message: dict[str, Any]) -> bytes:
    """One message as it goes on the socket."""
    payload = orjson.dumps(message)
    return len(payload).to_bytes(4, "big") + payload


class Frames:
    """Cuts a byte stream into messages. Holds at most one unfinished message of `limit` bytes."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self._limit = limit
        self._held = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that `data` completes; FormatError("malformed") ends the connection."""
        held, at, found = self._held, 0, []
        held += data
        while len(held) - at >= HEAD:
            length = int.from_bytes(held[at : at + HEAD], "big")
            if length > self._limit:
                raise FormatError("malformed", f"a message of {length} bytes")
            if len(held) - at < HEAD + length:
                break
            found.append(_message(held[at + HEAD : at + HEAD + length]))
            at += HEAD + length
        del held[:at]
        return found


def _message(payload: bytearray) -> dict[str, Any]:
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise FormatError("malformed", "not JSON") from error
    if not isinstance(message, dict):
        raise FormatError("malformed", "not an object")
    return message


HEAD = 4
