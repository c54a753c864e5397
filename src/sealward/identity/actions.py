"""The names of acts at an inference door: what grants give, what scopes narrow."""

from __future__ import annotations

MODEL_ACTIONS = ("model:chat", "model:list")
OWN_ACTIONS = ("receipt:read", "token:exchange")
