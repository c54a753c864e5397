"""The one error of this layer: bytes are not what they claim to be, or do not belong together."""

from __future__ import annotations


class FormatError(ValueError):
    """Refused bytes. `reason` is one word of the closed list in docs/reference/formats (malformed, cm, promise, epoch, …)."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
