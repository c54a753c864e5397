"""One deployment for all attacks that leave it standing, another for those that break its processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from siege import Siege
from siege_slow import Slow
from uids import open_folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for slow clients comes last: they began with the deployment and are slow meanwhile."""
    items.sort(key=lambda item: "slow" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def fortress() -> Iterator[Siege]:
    """Shared by all tests of a run that leave it as it was."""
    for siege in _standing():
        siege.slow.begin()
        yield siege


@pytest.fixture(scope="session")
def ruin() -> Iterator[Siege]:
    """Shared by all tests of a run that stop, starve or kill its processes."""
    yield from _standing()


@pytest.fixture(scope="session")
def slow(fortress: Siege) -> Slow:
    """The clients that take their time."""
    return fortress.slow


@pytest.fixture
def siege(fortress: Siege) -> Iterator[Siege]:
    """The deployment; afterwards its logs are read."""
    fortress.arrive()
    yield fortress
    fortress.hang_up()
    fortress.check_log()


@pytest.fixture
def broken(ruin: Siege) -> Iterator[Siege]:
    """The one whose processes may be stopped and killed; it serves before and after."""
    ruin.well()
    ruin.arrive()
    yield ruin
    ruin.hang_up()
    ruin.well()
    ruin.check_log()


def _standing() -> Iterator[Siege]:
    with open_folder() as folder:
        siege = Siege(folder / "ai")
        siege.begin()
        siege.well()
        yield siege
        siege.close()
        assert siege.processes() == []
