"""The tree of RFC 6962 against vectors that we did not make."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sealward.formats import merkle
from sealward.formats.fault import FormatError
from shared import shared, vector

Case = dict[str, Any]


def _probes(kind: str) -> list[Any]:
    folder = shared("journal", "transparency-dev-merkle", kind)
    files = sorted(folder.rglob("*.json")) if folder else []
    return [pytest.param(json.loads(path.read_text()), id=f"{path.parent.name}-{path.stem}") for path in files]


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


def _included(case: Case) -> None:
    proof = [_bytes(step) for step in case["proof"] or []]
    root = merkle.root_from_inclusion(case["leafIdx"], case["treeSize"], _bytes(case["leafHash"]), proof)
    if root != _bytes(case["root"]):
        raise FormatError("inclusion")


def _consistent(case: Case) -> None:
    proof = [_bytes(step) for step in case["proof"] or []]
    merkle.check_consistency(case["size1"], case["size2"], _bytes(case["root1"]), _bytes(case["root2"]), proof)


def _answer(check: Callable[[Case], None], case: Case, *, refused: bool) -> None:
    if not refused:
        check(case)
        return
    with pytest.raises(FormatError):
        check(case)


@pytest.mark.parametrize("case", vector("journal", "inclusion.json"))
def test_inclusion_in_our_log(case: Case) -> None:
    """Proofs of golang.org/x/mod over log300."""
    assert merkle.leaf_hash(case["leafData"].encode()) == _bytes(case["leafHash"])
    _answer(_included, case, refused=False)


@pytest.mark.parametrize("case", vector("journal", "consistency.json"))
def test_consistency_in_our_log(case: Case) -> None:
    """Proofs of golang.org/x/mod over log300."""
    _answer(_consistent, case, refused=False)


@pytest.mark.parametrize("case", _probes("inclusion"))
def test_inclusion_probes(case: Case) -> None:
    """transparency-dev's probes: truncated, grown, shifted, flipped."""
    _answer(_included, case, refused=case["wantErr"])


@pytest.mark.parametrize("case", _probes("consistency"))
def test_consistency_probes(case: Case) -> None:
    """transparency-dev's probes likewise."""
    _answer(_consistent, case, refused=case["wantErr"])


LEAVES = [merkle.leaf_hash(f'{{"seq":{i},"event":"test"}}'.encode()) for i in range(70)]


def _mth(start: int, end: int) -> bytes:
    return merkle.subtree_root(LEAVES[start:end])


@pytest.mark.parametrize("size", range(1, 70))
def test_every_proof_we_make_verifies(size: int) -> None:
    """Inclusion of each index, consistency with each older size."""
    root = _mth(0, size)
    assert merkle.fold(list(merkle.peaks_of(LEAVES[:size]))) == root
    for index in range(size):
        proof = merkle.inclusion_proof(index, size, _mth)
        assert merkle.root_from_inclusion(index, size, LEAVES[index], proof) == root
    for old in range(1, size + 1):
        proof = merkle.consistency_proof(old, size, _mth)
        merkle.check_consistency(old, size, _mth(0, old), root, proof)


def test_proofs_equal_those_of_other_tools() -> None:
    """Byte for byte what golang.org/x/mod makes."""
    leaves = [merkle.leaf_hash(f'{{"seq":{i},"event":"test"}}'.encode()) for i in range(300)]

    def mth(start: int, end: int) -> bytes:
        return merkle.subtree_root(leaves[start:end])

    for case in vector("journal", "inclusion.json"):
        assert merkle.inclusion_proof(case["leafIdx"], case["treeSize"], mth) == [_bytes(step) for step in case["proof"] or []]
    for case in vector("journal", "consistency.json"):
        if case["size1"]:
            assert merkle.consistency_proof(case["size1"], case["size2"], mth) == [_bytes(step) for step in case["proof"] or []]


def test_what_cannot_be_proved_is_an_error() -> None:
    """Index outside the tree, empty or larger old tree."""
    for index, size in ((0, 0), (5, 5), (-1, 3)):
        with pytest.raises(ValueError, match="not in a tree"):
            merkle.inclusion_proof(index, size, _mth)
    for old, new in ((0, 3), (4, 3)):
        with pytest.raises(ValueError, match="0 < old"):
            merkle.consistency_proof(old, new, _mth)


def test_the_shared_vectors_are_where_the_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing copy is said aloud, not skipped silently."""
    monkeypatch.setenv("SEALWARD_SHARED", str(tmp_path))
    assert shared("journal", "transparency-dev-merkle") is None
