"""The command `sealward`: nouns then verbs. This module finds the noun and turns errors into words and exit codes.

Data goes to stdout, words to stderr. Exit codes: 0 done, 1 refused or verification failed, 2 usage, 3 configuration,
4 dependency unreachable, 5 journal or key integrity, 130 interrupted. A verb is a click command that may return its exit code.
Nothing but click is imported until the noun is known: `sealward --help` answers within 200 ms.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import click

from sealward import __version__
from sealward.cli.output import Shared, say_error
from sealward.errors import ConfigurationError, SealwardError, UnreachableError, UsageError


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """Run one command line; errors become words on stderr, one JSON object where `--json` stands on the line."""
    try:
        result = command.main(args=arguments, prog_name="sealward", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (SealwardError, click.ClickException, OSError) as error:
        return say_error(_ours(error), as_json="--json" in arguments)
    return result if isinstance(result, int) else 0


class Noun(NamedTuple):
    """Where a noun's click object lives, and its line in `sealward --help`; a noun without a line is not listed."""

    target: str
    help: str = ""


class LazyGroup(click.Group):
    """Imports a noun's module when the noun is used, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [name for name, noun in NOUNS.items() if noun.help]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        noun = NOUNS.get(cmd_name)
        if noun is None:
            return None
        module, _, name = noun.target.partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - the same
        with formatter.section("Commands"):
            formatter.write_dl([(name, noun.help) for name, noun in NOUNS.items() if noun.help])


def _ours(error: SealwardError | click.ClickException | OSError) -> SealwardError:
    if isinstance(error, SealwardError):
        return error
    if isinstance(error, click.ClickException):
        context = error.ctx if isinstance(error, click.UsageError) else None
        return UsageError(error.format_message(), remedy=f"see `{context.command_path if context else 'sealward'} --help`")
    kind = UnreachableError if isinstance(error, ConnectionError) else ConfigurationError
    return kind(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))


INTERRUPTED = 130
NOUNS = {
    "demo": Noun("sealward.cli.demo:demo", "Show the whole chain on a real model, then keep serving."),
    "init": Noun("sealward.cli.init:init", "Create a deployment in a folder."),
    "up": Noun("sealward.cli.up:up", "Start and supervise every process of this deployment."),
    "status": Noun("sealward.cli.status:status", "What runs, and what it serves."),
    "doctor": Noun("sealward.cli.doctor:doctor", "What is wrong or weaker than it should be, and what to do."),
    "config": Noun("sealward.cli.config:config", "Check sealward.yaml; print its JSON Schema."),
    "apikey": Noun("sealward.cli.apikey:apikey", "API keys: shown once, kept as a digest."),
    "token": Noun("sealward.cli.token:token", "Short-lived tokens for the inference door."),
    "user": Noun("sealward.cli.user:user", "People."),
    "service": Noun("sealward.cli.service:service", "Programs that ask."),
    "role": Noun("sealward.cli.role:role", "Which kinds of acts somebody may do."),
    "grant": Noun("sealward.cli.grant:grant", "Who may use which model."),
    "limit": Noun("sealward.cli.limit:limit", "How much somebody may use."),
    "capture": Noun("sealward.cli.capture:capture", "How much is captured of what people ask and get."),
    "model": Noun("sealward.cli.model:model", "Which models may serve."),
    "journal": Noun("sealward.cli.journal:journal", "Write, read, verify and export the journal."),
    "witness": Noun("sealward.cli.witness:witness", "Watch that a log only ever grows."),
    "recover": Noun("sealward.cli.recover:recover", "The way on from a state that refuses."),
    "rollout": Noun("sealward.cli.rollout:rollout", "How far the zero-trust rollout is, by live checks."),
    "completion": Noun("sealward.cli.completion:completion", "Print the completion script of a shell."),
    "run": Noun("sealward.cli.be:run"),
}


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--home", type=click.Path(path_type=Path), help="The deployment's folder (else SEALWARD_HOME, else this folder).")
@click.option("--json", "as_json", is_flag=True, help="Data as JSON on stdout.")
@click.version_option(__version__, message="%(version)s")
@click.pass_context
def command(context: click.Context, home: Path | None, as_json: bool) -> None:
    """A zero-trust layer around self-hosted AI: callers proven, accesses decided, events recorded."""
    context.obj = Shared(home, as_json)
