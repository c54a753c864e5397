"""The reference pages follow from the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "docs/reference"
spec = importlib.util.spec_from_file_location("reference", FOLDER / "generate.py")
assert spec is not None
assert spec.loader is not None
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)


@pytest.mark.parametrize("name", sorted(reference.pages()))
def test_a_page_says_what_the_code_says(name: str) -> None:
    """When this fails: `python docs/reference/generate.py`, and read the difference."""
    assert (FOLDER / name).read_text() == reference.pages()[name]
