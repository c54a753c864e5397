"""The command line's promises that hold for every verb: speed of help, words, JSON, exit codes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sealward import cli
from sealward.cli import NOUNS, run
from sealward.cli.be import MAINS, start_of
from sealward.cli.output import Output
from sealward.errors import ConfigurationError, IntegrityError, Reason, Refused, UnreachableError
from sealward.host.supervisor import ROLES


def test_help_imports_nothing_but_click() -> None:
    """`sealward --help` stays far below 200 ms because no noun's module, no pydantic and no cryptography is imported."""
    script = """
import sys
from sealward.cli import run
code = run(["--help"])
heavy = {"pydantic", "cryptography", "rich", "asyncio", "yaml"}
ours = {"sealward", "sealward.cli", "sealward.cli.output", "sealward.errors"}
print([name for name in sys.modules if name.split(".")[0] in heavy or name.startswith("sealward") and name not in ours])
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "init" in done.stdout


@pytest.mark.parametrize("noun", list(NOUNS))
def test_every_noun_has_its_module(noun: str) -> None:
    """The table of nouns names objects that exist."""
    command = cli.command.get_command(click.Context(cli.command), noun)
    assert isinstance(command, click.Command)
    assert command.help


def test_every_role_that_is_started_has_its_program() -> None:
    """The supervisor starts nothing that `run` does not know, and `run` knows nothing that is not started."""
    assert set(MAINS) == {role.name for role in ROLES}
    assert all(importlib.util.find_spec(module) for module in MAINS.values())


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (Refused(Reason.MODEL_NOT_GRANTED, "no", remedy="ask"), 1, "model_not_granted"),
        (ConfigurationError("no", remedy="ask"), 3, "configuration"),
        (UnreachableError("no", remedy="ask"), 4, "unreachable"),
        (IntegrityError("journal_damaged", "no", remedy="ask"), 5, "journal_damaged"),
        (ConnectionRefusedError(111, "no"), 4, "unreachable"),
        (PermissionError(13, "no", "file"), 3, "configuration"),
        (click.UsageError("no"), 2, "usage"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_become_words_and_exit_codes(
    error: BaseException, code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every error leaves by one door: text on stderr, or one JSON object there with `--json`; stdout stays empty."""

    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def failing(as_json: bool) -> None:
        raise error

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: failing)
    assert run(["status"]) == code
    text = capsys.readouterr()
    assert run(["status", "--json"]) == code
    as_json = capsys.readouterr()
    assert text.out == as_json.out == ""
    if words:
        assert text.err.startswith("error: ")
        told = json.loads(as_json.err)["error"]
        assert (told["code"], told["exit"]) == (words, code)
        assert "no" in told["detail"]


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw keeps its traceback."""

    @click.command()
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: broken)
    with pytest.raises(ZeroDivisionError):
        run(["status"])


def test_a_table_is_aligned_text_or_a_json_list(capsys: pytest.CaptureFixture[str]) -> None:
    """The same rows for people and for tools."""
    rows = [{"id": "a", "groups": ["x", "y"]}, {"id": "long", "groups": None}]
    Output(as_json=False).table(rows, ["id", "groups"])
    assert capsys.readouterr().out == "ID    GROUPS\na     x,y\nlong\n"
    Output(as_json=True).table(rows, ["id", "groups"])
    assert json.loads(capsys.readouterr().out) == rows


def test_the_environment_says_who_a_process_is() -> None:
    """Anything but the exact form is refused: a process must never go on as root by mistake."""
    start = start_of("door", Path("/h"), {"SEALWARD_USER": "7:8", "SEALWARD_PEERS": "door=1,owner=0"})
    assert (start.user.uid, start.user.gid) == (7, 8) if start.user else False
    assert start.peers == {"door": 1, "owner": 0}
    for wrong in ({"SEALWARD_USER": "7"}, {"SEALWARD_USER": "a:b"}, {"SEALWARD_PEERS": "door"}):
        with pytest.raises(ConfigurationError):
            start_of("door", Path("/h"), wrong)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_nouns(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each shell gets its script."""
    assert run(["completion", shell]) == 0
    assert "_SEALWARD_COMPLETE" in capsys.readouterr().out
