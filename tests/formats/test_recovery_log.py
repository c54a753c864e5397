"""Chains of recovery.log."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from sealward.formats.fault import FormatError
from sealward.formats.recovery import parse_recovery_log, recovery_line
from shared import case_name, vector

FILE = vector("contracts", "recovery.json")


@pytest.mark.parametrize("case", FILE["cases"], ids=case_name)
def test_recovery_vectors(case: dict[str, Any]) -> None:
    """Sound chains are read and written again; a changed, missing or repeated line is told apart."""
    log = case["log"].encode()
    if case["reason"] != "ok":
        with pytest.raises(FormatError) as refused:
            parse_recovery_log(log, FILE["origin"])
        assert refused.value.reason == case["reason"]
        return
    again = b""
    for line in parse_recovery_log(log, FILE["origin"]):
        again += recovery_line(again, FILE["origin"], line)
    assert again == log


def test_the_lines_are_those_of_the_vector() -> None:
    """Hash of each line with its line end."""
    log = next(case["log"] for case in FILE["cases"] if case["why"] == "three lines")
    assert [hashlib.sha256(line.encode()).hexdigest() for line in log.splitlines(keepends=True)] == FILE["lines"]
