"""The rules of the house that no linter knows: sizes, rims, packages, cycles, and words that must not be in a commit."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
GENERIC = {"/", "/tmp/", "/root/", "/home/", "/var/tmp/", "/var/lib/"}  # too common to tell anything about a machine
MAX_FILE, MAX_FUNCTION, MAX_CORE_PACKAGES = 500, 60, 40


def test_no_file_is_over_500_lines() -> None:
    """A module fits in the head."""
    long = {str(path.relative_to(ROOT)): lines for path in SOURCES if (lines := path.read_text().count("\n")) > MAX_FILE}
    assert long == {}


def test_no_function_is_over_60_lines() -> None:
    """A function fits on a page."""
    functions = (
        (path, node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    long = [f"{path.name}:{node.name}" for path, node in functions if (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION]
    assert long == []


def test_broad_excepts_are_at_most_one_per_thousand_lines_and_say_why() -> None:
    """Only the outermost rims swallow what they do not know, each with its reason beside it."""
    broad, lines = [], 0
    for path in SOURCES:
        text = path.read_text()
        lines += text.count("\n")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ExceptHandler) and getattr(node.type, "id", None) in {None, "Exception", "BaseException"}:
                if isinstance(node.type, ast.Tuple | ast.Attribute):
                    continue
                broad.append((path.name, node.lineno, "#" in text.splitlines()[node.lineno - 1]))
    assert len(broad) <= max(1, lines // 1000), broad
    assert [place for place in broad if not place[2]] == []


def test_there_is_no_global_statement() -> None:
    """State has an owner."""
    found = [path.name for path in SOURCES if any(isinstance(node, ast.Global) for node in ast.walk(ast.parse(path.read_text())))]
    assert found == []


def test_imports_form_no_cycle() -> None:
    """Import-linter keeps the layers; within a layer, no two modules need each other."""
    graph = {_module(path): _imports(path) for path in SOURCES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path, name))
        if name not in done:
            for target in graph.get(name, set()) - {name}:
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sealward"):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {name for name in inner if (ROOT / "src" / (name.replace(".", "/") + ".py")).exists()}
            names |= known or {node.module}
    return names


def test_the_core_has_fewer_than_40_packages_each_with_a_hash() -> None:
    """What a user must trust is counted, and pinned to its bytes."""
    lock = (ROOT / "requirements/core.txt").read_text()
    pinned = re.findall(r"^[a-z0-9._-]+(?:\[[a-z,]+\])?==", lock, re.MULTILINE)
    assert len(pinned) <= MAX_CORE_PACKAGES
    assert lock.count("--hash=sha256:") >= len(pinned)


@pytest.mark.parametrize("heavy", ["cryptography", "pydantic", "fastapi", "sqlalchemy", "cedarpy", "uvloop", "rich"])
def test_help_imports_nothing_heavy(heavy: str) -> None:
    """`sealward --help` stays under 200 ms cold because it loads none of the libraries (the bench prints the time)."""
    code = f"import sys; sys.argv = ['sealward', '--help']\nfrom sealward.cli import main\ntry: main()\nexcept SystemExit: pass\n\
sys.stderr.write(str({heavy!r} in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr.endswith("False")


def test_no_commit_holds_machine_paths_or_registry_hosts() -> None:
    """What is committed works on any machine: no paths of this one, no index hosts in lock files."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    here = str(ROOT.parent) + "/"
    for name in filter(None, listed):
        path = ROOT / name
        if not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        assert here in GENERIC or here not in text, name
        if name.startswith("requirements/"):
            assert "--index-url" not in text, name
            assert "--find-links" not in text, name
