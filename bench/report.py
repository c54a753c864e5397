"""bench/results: a table and a chart of every result that is there, and what is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import chart
from result import Bar, Result


def publish(folder: Path) -> None:
    """README.md and the charts anew from the JSON files."""
    results = [Result.read(path) for path in sorted(folder.glob("*.json"), key=_order)]
    (folder / "README.md").write_text(page(results))
    for result in results:
        if result.chart:
            (folder / f"{result.name}.svg").write_text(chart.bars(result.title, result.unit, list(result.chart.items())))


def page(results: Sequence[Result]) -> str:
    """The page of results, in Markdown."""
    return "\n".join([HEAD, *map(_section, results)])


def text(result: Result) -> str:
    """A result for the terminal."""
    return "\n".join(["", result.title, *_aligned(result.rows), *map(_verdict, result.bars), *_void(result)])


def _section(result: Result) -> str:
    lines = [f"## {result.title}", "", *_markdown(result.rows), ""]
    lines += [f"- {_verdict(bar)}" for bar in result.bars]
    lines += [f"- {note}" for note in [*_void(result), *result.notes]]
    lines += ["", f"![{result.title}]({result.name}.svg)"] if result.chart else []
    return "\n".join([*lines, "", _provenance(result), ""])


def _provenance(result: Result) -> str:
    run, machine, sync = result.run, result.run["machine"], result.fdatasync_us
    return (
        f"{run['date']}, `{run['command']}`, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux "
        f"{machine['kernel']}, {machine['filesystem']}; load average before the run {machine['load_before']}. "
        f"Bare append + fdatasync of 2 KB in this run: p50 {sync['p50']:.0f} µs, p99 {sync['p99']:.0f} µs.\n"
        "Versions: " + ", ".join(f"{name} {version}" for name, version in run["versions"].items()) + "."
    )


def _verdict(bar: Bar) -> str:
    return f"{'held' if bar.held else 'MISSED'}: {bar.promise}: {_cell(bar.value)}"


def _void(result: Result) -> list[str]:
    return [f"VOID: {result.errors} answers were errors"] if result.errors else []


def _markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = list(rows[0])
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *([_cell(row[column]) for column in columns] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _aligned(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = list(rows[0])
    table = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[number]) for line in table) for number in range(len(columns))]
    lines = []
    for first, *others in table:
        right = [one.rjust(width) for one, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *right]))
    return lines


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def _order(path: Path) -> tuple[int, str]:
    return (ORDER.index(path.stem) if path.stem in ORDER else len(ORDER), path.stem)


ORDER = ("requests", "streams", "latency", "revocation", "records", "query", "litellm")
HEAD = """# Measured

Written by `make bench` and `make bench-litellm` from the JSON files beside it; how it is measured stands in `../README.md`.
Figures of one section belong to one run: compare inside it, never across. CPU is what the kernel counted for the processes.
"""
