from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.flow.order import find_cycle, topological_order


@st.composite
def dags(draw: st.DrawFn) -> dict[str, list[str]]:
    """A DAG whose declaration order is not its topological order."""
    size = draw(st.integers(1, 9))
    names = draw(st.permutations([f"n{i}" for i in range(size)]))
    needs = {name: [up for up in names[:i] if draw(st.booleans())] for i, name in enumerate(names)}
    return {name: needs[name] for name in sorted(names)}


@given(dags())
def test_each_name_comes_after_what_it_needs(graph: dict[str, list[str]]) -> None:
    order = topological_order(graph)
    assert sorted(order) == sorted(graph)
    for name, needs in graph.items():
        assert all(order.index(up) < order.index(name) for up in needs)
    assert find_cycle(graph) == []


def test_declaration_order_is_kept_where_the_graph_allows() -> None:
    assert topological_order({"c": [], "a": [], "b": ["c"]}) == ["c", "a", "b"]


@given(dags())
def test_a_cycle_is_found_and_shown(graph: dict[str, list[str]]) -> None:
    order = topological_order(graph)
    graph[order[0]] = [*graph[order[0]], order[-1]]
    graph[order[-1]] = [*graph[order[-1]], order[0]]
    cycle = find_cycle(graph)
    assert cycle[0] == cycle[-1]
    assert all(a in graph[b] for a, b in pairwise(cycle))


def test_order_refuses_a_cycle() -> None:
    with pytest.raises(ValueError, match="cycle"):
        topological_order({"a": ["b"], "b": ["a"]})
