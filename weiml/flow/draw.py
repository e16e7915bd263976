"""A flow as a picture: nodes with their steps, engines, states and times, as one SVG text.

The SVG needs nothing from outside and can be put into a page as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from weiml.flow.graph import Flow, Node, Step, StepKind
from weiml.flow.layout import Box, lay_out
from weiml.flow.ledger import State
from weiml.flow.result import FlowResult, NodeResult

__all__ = ["to_svg"]

_WIDTH = 262.0
_HEAD = 44.0
_ROW = 20.0
_GUTTER = 34.0  # at the left of the steps, for the arcs of their dependencies
_MARGIN = 16.0
_LEGEND = 30.0
_LETTER = 6.3  # mean width of a letter at 12 px, on the safe side

_COLOURS = {
    None: ("#5b6b7f", "#f4f6f8"),
    State.SUCCEEDED: ("#1f7a4d", "#eef7f1"),
    State.CACHED: ("#2b62a8", "#eef3fa"),
    State.RUNNING: ("#0e7c86", "#e9f6f7"),
    State.FAILED: ("#b3261e", "#fbeeed"),
    State.CANCELLED: ("#9a6700", "#fbf4e4"),
    State.LOST: ("#9a6700", "#fbf4e4"),
    State.SKIPPED: ("#7a7f87", "#f3f3f4"),
    State.PENDING: ("#7a7f87", "#f3f3f4"),
}
_KINDS = {StepKind.INPUT: "#2b62a8", StepKind.PROCESS: "#5b6b7f", StepKind.OUTPUT: "#b3590a"}


def to_svg(flow: Flow, result: FlowResult | None = None) -> str:
    """Draw a flow; with the result of a run also each node's state and times."""
    graph = {node.id: node.upstream for node in flow.nodes}
    sizes = {node.id: (_WIDTH, _HEAD + _ROW * len(node.steps) + 10) for node in flow.nodes}
    layout = lay_out(graph, sizes)
    width = max(layout.width, _WIDTH) + 2 * _MARGIN
    height = layout.height + 2 * _MARGIN + _LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" '
        f'font-family="system-ui, -apple-system, Segoe UI, Roboto, sans-serif" font-size="12">',
        f"<title>{escape(_title(flow, result))}</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<g transform="translate({_MARGIN} {_MARGIN})">',
    ]
    parts += [_edge(points) for points in layout.edges.values()]
    for node in flow.order:
        found = result.nodes.get(node.id) if result else None
        parts += _node(node, layout.boxes[node.id], found, ran=result is not None)
    parts += ["</g>", *_legend(_MARGIN, height - _LEGEND / 2), "</svg>"]
    return "\n".join(parts)


def _title(flow: Flow, result: FlowResult | None) -> str:
    if result is None:
        return f"flow {flow.name}"
    return f"flow {flow.name}, run {result.run}: {result.state.value}, {_time(result.seconds)}"


def _edge(points: list[tuple[float, float]]) -> str:
    """A curve through the points, upright at each, with an arrow at its end."""
    (x, y), rest = points[0], points[1:]
    path = f"M{x:.1f} {y:.1f}"
    for i, (to_x, to_y) in enumerate(rest):
        end_y = to_y - (5 if i == len(rest) - 1 else 0)  # room for the arrow's head
        bend = max(14.0, abs(end_y - y) / 2)
        path += f" C{x:.1f} {y + bend:.1f} {to_x:.1f} {end_y - bend:.1f} {to_x:.1f} {end_y:.1f}"
        x, y = to_x, end_y
    head = f"M{x - 4:.1f} {y - 2:.1f} L{x + 4:.1f} {y - 2:.1f} L{x:.1f} {y + 5:.1f} Z"
    return (
        f'<path d="{path}" fill="none" stroke="#9aa5b1" stroke-width="1.6"/>'
        f'<path d="{head}" fill="#9aa5b1"/>'
    )


def _node(node: Node, box: Box, result: NodeResult | None, *, ran: bool) -> Iterator[str]:
    state = result.state if result else State.PENDING if ran else None
    dark, light = _COLOURS[state]
    yield f'<g transform="translate({box.x:.1f} {box.y:.1f})">'
    yield f"<title>{escape(_hint(node, result))}</title>"
    yield (
        f'<rect width="{box.width}" height="{box.height}" rx="7" fill="{light}" stroke="{dark}" '
        'stroke-width="1.3"/>'
    )
    room = box.width - _LETTER * len(node.engine) - 40
    yield _text(12, 19, node.id, room=room, size=13.5, fill="#1b2430", weight=650)
    yield _chip(box.width - 10, 8, node.engine, dark)
    yield _text(12, 35, _state_text(state, result), room=box.width - 24, size=11, fill=dark)
    yield f'<path d="M0 {_HEAD - 2} H{box.width}" stroke="{dark}" stroke-opacity="0.25"/>'
    rows = {step.name: _HEAD + _ROW * i + 16 for i, step in enumerate(node.order)}
    for step in node.order:
        for name in step.local_dependencies:
            yield _arc(rows[name] - 4, rows[step.name] - 4)
    for step in node.order:
        yield from _step(step, rows[step.name], result)
    yield "</g>"


def _step(step: Step, y: float, result: NodeResult | None) -> Iterator[str]:
    colour = _KINDS[step.kind]
    if step.kind is StepKind.PROCESS:
        yield f'<circle cx="{_GUTTER - 10}" cy="{y - 4}" r="4" fill="{colour}"/>'
    else:
        x, up = _GUTTER - 14, step.kind is StepKind.INPUT
        points = (
            f"{x},{y - 8} {x + 8},{y - 8} {x + 4},{y}"
            if up
            else f"{x},{y - 8} {x + 8},{y - 8} {x + 8},{y} {x},{y}"
        )
        yield f'<polygon points="{points}" fill="{colour}"/>'
    seconds = result.step_seconds.get(step.name) if result else None
    time = _time(seconds) if seconds is not None else ""
    room = int((_WIDTH - _GUTTER - 20) / _LETTER) - len(time)
    name = _cut(step.name, room)
    cls = _cut(step.cls, room - len(name) - 1) if room - len(name) > 5 else ""
    yield (
        f'<text x="{_GUTTER}" y="{y}" fill="#1b2430">{escape(name)}'
        f'<tspan dx="7" font-size="10.5" fill="#6b7785">{escape(cls)}</tspan></text>'
    )
    if time:
        yield _text(_WIDTH - 10, y, time, room=60, size=10.5, fill="#4a5563", anchor="end")


def _arc(start: float, end: float) -> str:
    """A dependency between two steps, left of their marks; the further, the wider."""
    x = _GUTTER - 15
    bend = min(16.0, 4.0 + 4.0 * (end - start) / _ROW)
    path = f"M{x} {start:.1f} C{x - bend} {start:.1f} {x - bend} {end:.1f} {x} {end:.1f}"
    return f'<path d="{path}" fill="none" stroke="#9aa5b1" stroke-width="1.1"/>'


def _chip(right: float, y: float, text: str, colour: str) -> str:
    width = _LETTER * len(text) + 12
    return (
        f'<rect x="{right - width:.1f}" y="{y}" width="{width:.1f}" height="16" rx="8" '
        f'fill="{colour}"/>'
        + _text(right - width / 2, y + 12, text, room=110, size=10.5, fill="#fff", anchor="middle")
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    room: float,
    size: float = 12,
    fill: str,
    anchor: str = "start",
    weight: int = 400,
) -> str:
    """A line of text, cut with … if it would not fit into `room` pixels."""
    wide = 1.15 if weight > 400 else 1.0
    shown = _cut(text, int(room / (_LETTER * wide * size / 12)))
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" '
        f'text-anchor="{anchor}" font-weight="{weight}">{escape(shown)}</text>'
    )


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: max(1, letters - 1)] + "…"


def _state_text(state: State | None, result: NodeResult | None) -> str:
    if state is None:
        return ""
    if result is None:
        return state.value
    if state is State.CACHED:
        return f"cached · {_time(result.computed_seconds)} when computed"
    return f"{state.value} · {_time(result.seconds)}"


def _hint(node: Node, result: NodeResult | None) -> str:
    lines = [f"{node.id} on {node.engine}"]
    if result is not None:
        lines += [f"{result.state.value}: {result.error or result.reason}"]
    lines += [f"{s.kind.value} {s.name}: {s.cls} {', '.join(s.dependencies)}" for s in node.order]
    return "\n".join(lines)


def _time(seconds: float) -> str:
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.5:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _legend(x: float, y: float) -> Iterator[str]:
    yield f'<g transform="translate({x} {y:.0f})">'
    yield f'<polygon points="0,-4 8,-4 4,4" fill="{_KINDS[StepKind.INPUT]}"/>'
    yield _text(13, 4, "input", room=60, size=11, fill="#4a5563")
    yield f'<circle cx="62" cy="0" r="4" fill="{_KINDS[StepKind.PROCESS]}"/>'
    yield _text(71, 4, "process", room=60, size=11, fill="#4a5563")
    yield f'<polygon points="128,-4 136,-4 136,4 128,4" fill="{_KINDS[StepKind.OUTPUT]}"/>'
    yield _text(141, 4, "output", room=60, size=11, fill="#4a5563")
    yield "</g>"
