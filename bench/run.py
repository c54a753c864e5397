"""Measure sealward beside its peers, in one run.

    python bench/run.py                      # everything: some minutes on a quiet machine
    python bench/run.py --quick              # a smoke run: prints, records nothing
    python bench/run.py --only requests,latency
    python bench/run.py --litellm .venv-litellm/bin/litellm      # the named target's peer, alone

Exit code 1 when a run is void (an answer was an error). A bar that is missed is recorded, not an error.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import callers
import costs
import disk
import facts
import firstbyte
import ours
import peers
import query
import records
import report
import revocation
from load import Load
from result import Result
from rig import HERE, Mock, Rig
from subject import Subject


def main() -> int:
    options = _options()
    machine = facts.machine(HERE)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealward-bench-")))
        folder.chmod(0o755)  # every process of the deployment has a user of its own and must get through
        rig = stack.enter_context(Rig(folder))
        bench = Bench(rig, rig.mock(), options.quick)
        results = _litellm(bench, options.litellm) if options.litellm else _measure(bench, options.only)
    versions = facts.versions() | ({"litellm": facts.litellm_version(options.litellm)} if options.litellm else {})
    run = {"date": facts.now(), "command": facts.command(), "machine": machine, "versions": versions}
    for result in results:
        print(report.text(result))
        if not options.quick:
            replace(result, run=run).write(RESULTS)
    if not options.quick:
        report.publish(RESULTS)
    return 1 if any(result.errors for result in results) else 0


@dataclass(frozen=True, slots=True)
class Bench:
    """The rig, the mock behind every proxy, and how long to look."""

    rig: Rig
    mock: Mock
    quick: bool

    def costs(self, subjects: list[Subject], connections: int, seconds: int, *, streamed: bool = False) -> costs.Costs:
        """CPU a request or a chunk of each subject."""
        load = Load(self.rig, self.mock, connections, 1 if self.quick and not streamed else seconds, streamed=streamed)
        return costs.run(subjects, load, 1 if self.quick else ROUNDS)


def _measure(bench: Bench, only: set[str]) -> list[Result]:
    results = []
    if only & {"requests", "streams", "latency", "revocation"}:
        envoy, sealward = peers.envoy(bench.rig, bench.mock), ours.sealward(bench.rig, bench.mock)
        measures: dict[str, Callable[[], Result]] = {
            "requests": lambda: costs.requests(bench.costs([envoy, sealward], 64, 3), ours.entries(bench.rig)),
            "streams": lambda: _streams(bench, [envoy, sealward]),
            "latency": lambda: firstbyte.measure(bench.rig, bench.mock, [envoy, sealward], 1 if bench.quick else ROUNDS),
            "revocation": lambda: revocation.measure(bench.rig, bench.mock, sealward, 3 if bench.quick else REVOCATIONS),
        }
        for name in (name for name in measures if name in only):
            print(f"measuring {name}", file=sys.stderr)
            results.append(_with_sync(bench, measures[name]))
    if "records" in only:
        print("measuring records", file=sys.stderr)
        results.append(_with_sync(bench, lambda: records.measure(bench.rig, 0.5 if bench.quick else 3.0)))
    if "query" in only:
        print("measuring query", file=sys.stderr)
        size, seconds = (50_000, 20.0) if bench.quick else (1_000_000, 240.0)
        results.append(_with_sync(bench, lambda: query.measure(bench.rig, size, seconds)))
    if "identity" in only:
        print("measuring identity", file=sys.stderr)
        results.append(_with_sync(bench, lambda: callers.measure(bench.rig, 1 if bench.quick else ROUNDS)))
    return results


def _streams(bench: Bench, subjects: list[Subject]) -> Result:
    bench.mock.pace(gap_ms=20, chunks=200)
    return costs.streams(bench.costs(subjects, 200, 5, streamed=True))


def _litellm(bench: Bench, program: Path) -> list[Result]:
    subjects = [peers.litellm(bench.rig, bench.mock, program.absolute()), ours.sealward(bench.rig, bench.mock)]
    return [_with_sync(bench, lambda: costs.litellm(bench.costs(subjects, 16, 3)))]


def _with_sync(bench: Bench, measure: Callable[[], Result]) -> Result:
    """The bare fdatasync before and after, where the measure did not take it in its own turns."""
    before = disk.bare(bench.rig, bench.rig.folder, SYNCS)
    result = measure()
    return replace(result, fdatasync_us=result.fdatasync_us or (before + disk.bare(bench.rig, bench.rig.folder, SYNCS)).row())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round of each; nothing is recorded")
    parser.add_argument("--only", default=set(MEASURES), type=lambda text: set(text.split(",")), help=", ".join(MEASURES))
    parser.add_argument("--litellm", type=Path, metavar="PROGRAM", help="measure beside LiteLLM's proxy and nothing else")
    options = parser.parse_args()
    if unknown := options.only - set(MEASURES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options


MEASURES = ("requests", "streams", "latency", "revocation", "records", "identity", "query")
RESULTS = HERE / "results"
ROUNDS, SYNCS, REVOCATIONS = 7, 200, 100


if __name__ == "__main__":
    sys.exit(main())
