"""`sealward journal body`: what was captured of a request, opened by control for a purpose that stands in the journal."""

from __future__ import annotations

import sys

import click

from sealward.cli.admin import AdminApi, admin_verb, segment
from sealward.cli.output import Output
from sealward.formats.b64 import unb64


@click.command()
@click.argument("request")
@click.option("--because", required=True, help="What for: it stands in the journal before anything is opened.")
@click.option("--side", type=click.Choice(["input", "output"]), help="That one alone, as its bytes.")
@admin_verb
def body(api: AdminApi, out: Output, request: str, because: str, side: str | None) -> int:
    """Show the captured bodies of REQUEST (the id in x-sealward-request)."""
    found = api.post(f"journal/bodies/{segment(request)}", {"because": because})
    if side is None:
        texts = [f"{name}: {unb64(found[name]).decode('utf-8', 'replace')}" for name in ("input", "output") if name in found]
        out.data(found, "\n".join(texts))
        return 0
    if side not in found:
        out.words(f"no {side} of {request} was captured")
        return 1
    sys.stdout.buffer.write(unb64(found[side]))
    return 0
