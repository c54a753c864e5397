"""`sealward completion bash|zsh|fish`: the script that a shell sources to complete nouns, verbs and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from sealward.errors import UsageError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL; bash: `source <(sealward completion bash)`."""
    script = get_completion_class(shell)
    if script is None:
        raise UsageError(f"no completion for {shell}")
    click.echo(script(context.find_root().command, {}, "sealward", "_SEALWARD_COMPLETE").source())
