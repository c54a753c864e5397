"""DIR/archived: from which entry on a log still has its content. What came before is elsewhere; its hashes are here.

    canonical JSON {"entries": n, "origin": text, "v": 1} and a line end; entries 0 to n - 1 are archived, n is a multiple of 256

Nothing rests on its truth: whoever believes it believes that there were such entries by their hashes, which the signed root
covers, and knows that he has not seen them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sealward.formats import canonical
from sealward.formats.fault import FormatError
from sealward.formats.tiles import WIDTH, tile_path

NAME = "archived"


def archived(read: Callable[[str], bytes], origin: str) -> int:
    """How many entries are archived; 0 where there is no such file. FormatError("archived"): it is not one of this log."""
    try:
        data = read(NAME)
    except FileNotFoundError:
        return 0
    found = canonical.parse(data[:-1]) if data.endswith(b"\n") else None
    if not isinstance(found, dict) or found.keys() != {"entries", "origin", "v"} or found["origin"] != origin or found["v"] != 1:
        raise FormatError("archived", "not one of this log")
    count = found["entries"]
    if type(count) is not int or count < 0 or count % WIDTH:
        raise FormatError("archived", "whole bundles are archived")
    return count


def archived_text(entries: int, origin: str) -> bytes:
    """The file's bytes."""
    return canonical.dumps({"entries": entries, "origin": origin, "v": 1}) + b"\n"


def bundles(first: int, end: int) -> Iterator[str]:
    """The entry bundles that hold entries `first` to before `end`, both multiples of 256."""
    return (tile_path("entries", n) for n in range(first // WIDTH, end // WIDTH))
