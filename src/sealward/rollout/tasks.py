"""Which check stands behind a task's words. What no pattern knows is `not built`: writing it down makes nothing true."""

from __future__ import annotations

import re
from enum import StrEnum


class Check(StrEnum):
    """The checks that are built."""

    ENDPOINTS = "endpoint-authentication"
    ROLES = "management-rbac"
    JOURNAL = "activity-journal"


def check_of(task: str) -> Check | None:
    """The first check whose words all stand in the task, in any order and case."""
    found = (check for check, words in PATTERNS if all(re.search(word, task, re.IGNORECASE) for word in words))
    return next(found, None)


PATTERNS = (
    (Check.ENDPOINTS, (r"\bauthenticat", r"\b(?:endpoint|route|listener)")),
    (Check.ROLES, (r"\bRBAC\b|\brole[- ]based\b|\broles\b", r"\bmodel|\bmanage|\badmin")),
    (Check.JOURNAL, (r"\bactivit|\baudit|\baccess\b|\bevent", r"\bjournal|\blog(?:s|ging)?\b|\btrail")),
)
