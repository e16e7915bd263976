"""Substitution of ``${name}`` in the texts of a flow by its parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from weiml.config import nearest
from weiml.errors import FlowError
from weiml.flow.graph import Flow, Param

__all__ = ["resolve_params"]

_PLACE = re.compile(r"\$(\$?)\{([^}]*)\}")


def resolve_params(flow: Flow, values: Mapping[str, object] | None = None) -> Flow:
    """Return the flow with `values` for its parameters and no ``${…}`` left in its texts.

    ``$${`` stands for the text ``${``. A value that repeats the default changes nothing.

    Raises:
        FlowError: a parameter is unknown to the flow; the nearest known one is named.
    """
    known = {param.name: param for param in flow.params}
    for name, value in (values or {}).items():
        if name not in known:
            raise FlowError(
                f"{flow.position}: flow {flow.name!r} has no parameter {name!r}"
                f"{nearest(name, known)}"
            )
        known[name] = Param.of(name, value, known[name].position)
    texts = {name: param.text for name, param in known.items()}
    nodes = tuple(
        replace(
            node,
            options=_fill(node.options, texts),
            steps=tuple(replace(step, params=_fill(step.params, texts)) for step in node.steps),
        )
        for node in flow.nodes
    )
    return replace(flow, params=tuple(known.values()), nodes=nodes)


def _fill(params: tuple[Param, ...], texts: Mapping[str, str]) -> tuple[Param, ...]:
    filled = []
    for param in params:

        def value(match: re.Match[str], param: Param = param) -> str:
            escaped, name = match.groups()
            if escaped:
                return match.group(0)[1:]
            if name not in texts:
                raise FlowError(
                    f"{param.position}: ${{{name}}} is not a parameter of the flow"
                    f'{nearest(name, texts)}; add <param name="{name}" value="…"/>'
                )
            return texts[name]

        values = tuple(_PLACE.sub(value, text) for text in param.values)
        filled.append(replace(param, values=values))
    return tuple(filled)
