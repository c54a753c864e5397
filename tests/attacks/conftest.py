"""One deployment for all attacks that leave it standing, another for those that break its processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from siege import Siege
from uids import open_folder


@pytest.fixture(scope="session")
def fortress() -> Iterator[Siege]:
    """Shared by all tests of a run."""
    with open_folder() as folder:
        siege = Siege(folder / "ai")
        siege.begin()
        yield siege
        siege.close()
        assert siege.processes() == []


@pytest.fixture
def siege(fortress: Siege) -> Iterator[Siege]:
    """The deployment; afterwards its logs are read."""
    yield fortress
    fortress.check_log()
