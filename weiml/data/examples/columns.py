"""Expressions over columns: those of pyarrow.compute, checked against a schema before any data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import acero

from weiml.config import nearest
from weiml.errors import DataError

__all__ = [
    "KNOWN_AFTER",
    "Expression",
    "check_columns",
    "col",
    "columns_of",
    "compute",
    "expression_type",
    "keep",
    "known_after",
    "ratio",
]

Expression: TypeAlias = pc.Expression
"""``col("clicks") / col("impressions") > 0.1``: any expression of pyarrow.compute."""

col = pc.field
"""A column by name, for expressions."""

KNOWN_AFTER = "weiml.known_after"
"""In a field's metadata: how many seconds after its example its value is known, as text."""

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_UNKNOWN = re.compile(r"No match for FieldRef\.Name\((.*?)\) in")


def check_columns(schema: pa.Schema, names: Sequence[str], what: str) -> None:
    """Raise DataError, with the nearest name, unless the schema has all of `names`."""
    for name in names:
        if name not in schema.names:
            raise DataError(f"{what}: no column {name!r}{nearest(name, schema.names)}")


def expression_type(schema: pa.Schema, expression: Expression, what: str) -> pa.DataType:
    """Return the type of an expression's values.

    Raises:
        DataError: it names a column that is not there, or takes one by its position, or its parts
            have types that do not fit.
    """
    if "FieldPath(" in _QUOTED.sub("", str(expression)):
        raise DataError(f"{what}: {expression} takes a column by its position: name it")
    try:
        return compute(schema.empty_table(), {"value": expression}).schema.field("value").type
    except pa.ArrowInvalid as error:
        unknown = _UNKNOWN.search(str(error))
        if unknown is None:
            raise DataError(f"{what}: {expression} cannot be computed: {error}") from None
        name = unknown.group(1)
        raise DataError(f"{what}: no column {name!r}{nearest(name, schema.names)}") from None
    except pa.ArrowException as error:
        raise DataError(f"{what}: the types in {expression} do not fit: {error}") from None


def columns_of(schema: pa.Schema, expression: Expression) -> frozenset[str]:
    """Return the columns that an expression, which fits the schema, reads."""
    read = set()
    text = str(expression)
    for at, name in enumerate(schema.names):
        if name not in text:
            continue  # the names stand there as they are, among other words
        without = schema.remove(at).empty_table()
        try:
            compute(without, {"value": expression})
        except pa.ArrowInvalid:
            read.add(name)
    return frozenset(read)


def compute(table: pa.Table, expressions: Mapping[str, Expression]) -> pa.Table:
    """Return the values of expressions, in the order of the rows."""
    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
    options = acero.ProjectNodeOptions(list(expressions.values()), list(expressions))
    plan = acero.Declaration.from_sequence([source, acero.Declaration("project", options)])
    return plan.to_table(use_threads=False)


def known_after(schema: pa.Schema, names: Iterable[str]) -> dict[str, str]:
    """Return the metadata of what is made of columns: it is known when the last of them is."""
    found = [(schema.field(n).metadata or {}).get(KNOWN_AFTER.encode()) for n in names]
    times = [float(text) for text in found if text is not None]
    return {KNOWN_AFTER: str(max(times))} if times else {}


def ratio(above: Expression, below: Expression) -> Expression:
    """Return ``above / below`` as a float: null where `below` is 0, for integers too.

    >>> import pyarrow as pa
    >>> counts = pa.table({"clicks": [1, 2], "views": [4, 0]})
    >>> compute(counts, {"ctr": ratio(col("clicks"), col("views"))})["ctr"].to_pylist()
    [0.25, None]
    """
    over, under = above.cast(pa.float64()), below.cast(pa.float64())
    return pc.if_else(
        under == 0.0, pc.scalar(pa.scalar(None, pa.float64())), pc.divide(over, under)
    )


def keep(table: pa.Table, mask: Any) -> pa.Table:
    """Return the rows where a mask is true; where it is missing they go."""
    return table.filter(mask, null_selection_behavior="drop")
