"""The command line ``weiml``: one file a group of commands, each a thin cover of the library."""

from __future__ import annotations

from weiml.cli.app import app, main

__all__ = ["app", "main"]
