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
        self._held = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that `data` completes; FormatError("malformed") ends the connection."""
        if self._held:
            data = self._held + data
        at, found = 0, []
        while len(data) - at >= HEAD:
            begin = at + HEAD
            end = begin + int.from_bytes(data[at:begin], "big")
            if end - begin > self._limit:
                raise FormatError("malformed", f"a message of {end - begin} bytes")
            if len(data) < end:
                break
            found.append(_message(data[begin:end]))
            at = end
        self._held = data[at:]
        return found


def _message(payload: bytes) -> dict[str, Any]:
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise FormatError("malformed", "not JSON") from error
    if not isinstance(message, dict):
        raise FormatError("malformed", "not an object")
    return message


HEAD = 4
