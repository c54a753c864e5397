"""The formats that parts and outsiders agree on (design/contracts.md). Pure: bytes in, typed values out, no clock and no disk."""
