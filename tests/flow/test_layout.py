from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from weiml.flow.layout import Box, lay_out


def overlap(a: Box, b: Box) -> bool:
    apart_x = a.x + a.width <= b.x or b.x + b.width <= a.x
    apart_y = a.y + a.height <= b.y or b.y + b.height <= a.y
    return not (apart_x or apart_y)


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    names = [f"n{i}" for i in range(draw(st.integers(1, 12)))]
    return {n: [up for up in names[:i] if draw(st.booleans())] for i, n in enumerate(names)}


@given(graphs(), st.data())
def test_nodes_lie_apart_below_what_they_need_and_on_the_page(
    graph: dict[str, list[str]], data: st.DataObject
) -> None:
    sizes = {name: (200.0, data.draw(st.floats(50, 200))) for name in graph}
    layout = lay_out(graph, sizes)
    for a, b in combinations(layout.boxes.values(), 2):
        assert not overlap(a, b)
    for name, box in layout.boxes.items():
        assert box.x >= -1e-6
        assert box.x + box.width <= layout.width + 1e-6
        assert box.y + box.height <= layout.height + 1e-6
        for up in graph[name]:
            above = layout.boxes[up]
            assert above.y + above.height < box.y
            points = layout.edges[up, name]
            assert points[0] == (above.x + above.width / 2, above.y + above.height)
            assert points[-1] == (box.x + box.width / 2, box.y)


def test_edges_pass_beside_the_nodes_of_layers_between() -> None:
    graph: dict[str, list[str]] = {"a": [], "b": ["a"], "c": ["a", "b"]}
    layout = lay_out(graph, dict.fromkeys(graph, (100.0, 50.0)))
    middle = layout.boxes["b"]
    for x, y in layout.edges["a", "c"][1:-1]:
        inside = middle.x < x < middle.x + middle.width and middle.y <= y
        assert not inside
