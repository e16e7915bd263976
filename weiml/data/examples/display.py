"""Examples and plans as text."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from weiml.data.examples.plan import Carried, Plan

__all__ = ["explained", "table_text"]

_WIDEST = 40


def table_text(table: pa.Table) -> str:
    """Return a table as aligned columns of text."""
    columns = [[name, *map(_cell, table[name].to_pylist())] for name in table.column_names]
    widths = [max(map(len, column)) for column in columns]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*columns, strict=True)
    )
    return "\n".join(lines)


def explained(plan: Plan, depth: int = 0) -> Iterator[str]:
    """Yield a plan's operations, a line each, inputs indented below what uses them."""
    yield "  " * depth + str(plan)
    below = [*plan.inputs, plan.side] if isinstance(plan, Carried) else plan.inputs
    for source in below:
        yield from explained(source, depth + 1)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
