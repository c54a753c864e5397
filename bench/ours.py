"""The subject: a real deployment, made and started by the command line, in front of the mock. Nothing of it is switched off."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from counters import command_line, descendants
from rig import Mock, Rig, free_port
from subject import MODEL, Subject


def sealward(rig: Rig, mock: Mock) -> Subject:
    """`sealward init` and `up`; a service with the role consumer, granted the mock, and its API key."""
    home, port = rig.folder / "deployment", free_port()
    home.mkdir(mode=0o755)
    (home / "sealward.yaml").write_text(SETTINGS.format(port=port, management=free_port(), upstream=mock.port))
    _sealward(home, "init", str(home))
    process = rig.proxy("up", [*PROGRAM, "--home", str(home), "up"])
    rig.wait(process, "up", port, START_S)
    _wait_ready(rig, home)
    for words in (
        ["service", "create", CALLER],
        ["role", "assign", "consumer", CALLER],
        ["grant", "add", f"subject:{CALLER}", MODEL],
    ):
        _sealward(home, *words)
    key = json.loads(_sealward(home, "apikey", "create", CALLER, "--json"))["key"]
    return Subject("sealward", "the whole deployment", f"https://localhost:{port}", f"Bearer {key}", parts(process.pid))


def entries(rig: Rig) -> int:
    """How many entries the journal holds, every one of them verified from the public files. SystemExit when one is not sound."""
    time.sleep(PUBLISHED_S)
    home = rig.folder / "deployment"
    said = json.loads(_sealward(home, "journal", "verify", str(home / "journal"), "--json").splitlines()[-1])
    return int(said["size"])


def parts(supervisor: int) -> Mapping[str, tuple[int, ...]]:
    """Role → its processes, of a running `sealward up`; a door's master and workers are one part."""
    found: dict[str, list[int]] = {}
    for pid in descendants(supervisor):
        words = command_line(pid)
        role = words[words.index("run") + 1] if "run" in words else "supervisor"
        found.setdefault(NAMES.get(role, role), []).append(pid)
    return {part: tuple(found[part]) for part in sorted(found, key=_place)}


def _sealward(home: Path, *words: str) -> str:
    done = subprocess.run([*PROGRAM, "--home", str(home), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"sealward {' '.join(words)}: {done.stderr}")
    return done.stdout


def _wait_ready(rig: Rig, home: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with suppress(SystemExit):
            if json.loads(_sealward(home, "status", "--json"))["ok"]:
                return
        time.sleep(0.2)
    raise SystemExit(f"the deployment does not serve:\n{rig.output('up')}")


def _place(part: str) -> tuple[int, str]:
    return (ORDER.index(part) if part in ORDER else len(ORDER), part)


CALLER = "bench-app"
PROGRAM = (sys.executable, "-m", "sealward")
START_S, PUBLISHED_S = 60.0, 2.0
NAMES = {"admin": "management door"}
ORDER = ("door", "recorder", "sidecar")
SETTINGS = """\
version: 1
doors:
  inference: {{listen: "127.0.0.1:{port}", workers: 1}}
  management: {{listen: "127.0.0.1:{management}", workers: 1}}
models:
  mock:
    runtime: {{kind: openai, url: "http://127.0.0.1:{upstream}"}}
# As high as they go: the counters are kept and checked, they refuse nothing here.
limits:
  default: {{requests_per_minute: 1000000000, tokens_per_minute: 1000000000000, concurrent: 1000000}}
journal:
  origin: bench.sealward.local/log
"""
