"""Places for the nodes of a flow on a page: layers from top to bottom, few crossings.

The steps are those of Sugiyama, Tagawa and Toda (1981): layers by longest path, a point in each
layer that a long edge passes, order by the mean of the neighbours, then positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from weiml.flow.order import topological_order

__all__ = ["Box", "Layout", "lay_out"]

_SWEEPS = 8
_PASSING = 22.0  # width kept free for an edge that passes a layer


@dataclass(frozen=True, kw_only=True)
class Box:
    """A placed node: left upper corner and size, in pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Boxes by name, edges as the points they run through, and the size of it all."""

    boxes: Mapping[str, Box]
    edges: Mapping[tuple[str, str], list[tuple[float, float]]]
    width: float
    height: float


def lay_out(
    graph: Mapping[str, Sequence[str]],
    sizes: Mapping[str, tuple[float, float]],
    *,
    gap_x: float = 36.0,
    gap_y: float = 46.0,
) -> Layout:
    """Place the names of a graph without cycles.

    Args:
        graph: name → the names above it.
        sizes: name → width and height.
        gap_x: room between neighbours of a layer.
        gap_y: room between layers.
    """
    layer_of = _layers(graph)
    chains = {(up, n): _chain(up, n, layer_of) for n in graph for up in graph[n]}
    layers: list[list[str]] = [[] for _ in range(max(layer_of.values()) + 1)]
    for name, layer in layer_of.items():
        layers[layer].append(name)
    for (up, _), chain in chains.items():
        for offset, point in enumerate(chain[1:-1], start=1):
            layers[layer_of[up] + offset].append(point)
    links = [(a, b) for chain in chains.values() for a, b in pairwise(chain)]
    widths = {name: sizes[name][0] if name in sizes else _PASSING for row in layers for name in row}
    _order(layers, links)
    centres = _centres(layers, links, widths, gap_x)
    return _place(layers, chains, centres, widths, sizes, gap_y)


def _layers(graph: Mapping[str, Sequence[str]]) -> dict[str, int]:
    layer: dict[str, int] = {}
    for name in topological_order(graph):
        layer[name] = max((layer[up] + 1 for up in graph[name]), default=0)
    return layer


def _chain(up: str, down: str, layer_of: Mapping[str, int]) -> list[str]:
    """The edge's ends, with a name for each layer between them."""
    between = range(layer_of[up] + 1, layer_of[down])
    return [up, *(f"{up}>{down}@{layer}" for layer in between), down]


def _neighbours(links: list[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for up, down in links:
        above.setdefault(down, []).append(up)
        below.setdefault(up, []).append(down)
    return above, below


def _order(layers: list[list[str]], links: list[tuple[str, str]]) -> None:
    """Sort each layer by the mean place of its neighbours, down and up in turn."""
    above, below = _neighbours(links)
    for sweep in range(_SWEEPS):
        near = above if sweep % 2 == 0 else below
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            place = {name: i / max(1, len(row) - 1) for row in layers for i, name in enumerate(row)}
            layer.sort(
                key=lambda name, near=near, place=place: _mean(  # type: ignore[misc]
                    [place[n] for n in near.get(name, [])], place[name]
                )
            )


def _centres(
    layers: list[list[str]],
    links: list[tuple[str, str]],
    widths: Mapping[str, float],
    gap: float,
) -> dict[str, float]:
    """Horizontal middles: near those of the neighbours, in order, without overlap."""
    above, below = _neighbours(links)
    centres: dict[str, float] = {}
    for layer in layers:
        total = sum(widths[name] for name in layer) + gap * (len(layer) - 1)
        x = -total / 2
        for name in layer:
            centres[name] = x + widths[name] / 2
            x += widths[name] + gap
    for _ in range(_SWEEPS):
        for layer in layers:
            near = {n: above.get(n, []) + below.get(n, []) for n in layer}
            wanted = [_mean([centres[m] for m in near[n]], centres[n]) for n in layer]
            got = list(wanted)
            for i in range(1, len(layer)):
                apart = (widths[layer[i - 1]] + widths[layer[i]]) / 2 + gap
                got[i] = max(got[i], got[i - 1] + apart)
            shift = _mean([w - g for w, g in zip(wanted, got, strict=True)], 0.0)
            centres.update((name, g + shift) for name, g in zip(layer, got, strict=True))
    return centres


def _place(
    layers: list[list[str]],
    chains: Mapping[tuple[str, str], list[str]],
    centres: Mapping[str, float],
    widths: Mapping[str, float],
    sizes: Mapping[str, tuple[float, float]],
    gap_y: float,
) -> Layout:
    left = min(centres[name] - widths[name] / 2 for name in centres)
    boxes: dict[str, Box] = {}
    passing: dict[str, list[tuple[float, float]]] = {}
    y = 0.0
    for layer in layers:
        height = max((sizes[name][1] for name in layer if name in sizes), default=0.0)
        for name in layer:
            x = centres[name] - left
            if name in sizes:
                width, own = sizes[name]
                boxes[name] = Box(x=x - width / 2, y=y, width=width, height=own)
            else:
                passing[name] = [(x, y), (x, y + height)]
        y += height + gap_y
    edges = {}
    for (up, down), chain in chains.items():
        start, end = boxes[up], boxes[down]
        points = [(start.x + start.width / 2, start.y + start.height)]
        for name in chain[1:-1]:
            points += passing[name]
        edges[up, down] = [*points, (end.x + end.width / 2, end.y)]
    width = max(centres[name] + widths[name] / 2 for name in centres) - left
    return Layout(boxes=boxes, edges=edges, width=width, height=y - gap_y)


def _mean(values: list[float], default: float) -> float:
    return sum(values) / len(values) if values else default
