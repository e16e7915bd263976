"""``weiml ps``: look at running parameter servers, their rows and checkpoints, and steer them."""

from __future__ import annotations

import typer

from weiml.cli.ps.checkpoints import checkpoint, checkpoints, export, restore
from weiml.cli.ps.control import rescale, stop
from weiml.cli.ps.rows import rows
from weiml.cli.ps.status import status
from weiml.cli.ps.top import top

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look at running parameter servers and steer them.")
for command in (status, top, rows, checkpoint, checkpoints, export, restore, rescale, stop):
    app.command()(command)
