"""The operational log of a process: on stderr, lines for people on a terminal, JSON else. Never prompts, never secrets."""

from __future__ import annotations

import sys
from typing import Any

import structlog


def log_to_stderr(process: str) -> None:
    """From here on structlog's loggers of this process write to stderr, each line with its time and `process`."""
    as_text = sys.stderr.isatty()
    ending: Any = structlog.dev.ConsoleRenderer() if as_text else structlog.processors.JSONRenderer(sort_keys=True)
    structlog.contextvars.bind_contextvars(process=process)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            ending,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
