from __future__ import annotations

from pathlib import Path

import pytest

from weiml.flow import FlowBuilder, StepContext, bind_flow, step
from weiml.flow.cache import UpstreamDigests, cache_key, explain, key_components, uncacheable


@step("test.with_file")
def with_file(context: StepContext, *, spec: Path, columns: tuple[str, ...] = ()) -> None:
    """Has a parameter that names a file."""


def components(builder: FlowBuilder, node: str, **upstream: UpstreamDigests) -> dict[str, str]:
    bound = bind_flow(builder.build())
    found = next(item for item in bound.nodes if item.node.id == node)
    return key_components(found, bound.flow, upstream)


def chain(*, value: int = 1, retries: int = 0, seed: int = 0, threads: int = 1) -> FlowBuilder:
    flow = FlowBuilder("f", seed=seed)
    flow.node("a", engine="torch", threads=threads, retries=retries).process(
        "n", "test.number", value=value
    ).output("out", "test.write", dependency="n").output("more", "test.write", dependency="n")
    flow.node("b", preid="a").input("r", "test.read", dependency="a.out")
    flow.node("c", preid="a").process("n", "test.number")
    return flow


def test_equal_specifications_have_equal_keys() -> None:
    assert components(chain(), "a") == components(chain(retries=3), "a")
    assert len(cache_key(components(chain(), "a"))) == 64


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (chain(value=2), "param n.value: 1 → 2"),
        (chain(seed=5), "seed: 0 → 5"),
        (chain(threads=2), "option threads: 1 → 2"),
    ],
)
def test_what_differs_is_said(other: FlowBuilder, reason: str) -> None:
    before, after = components(chain(), "a"), components(other, "a")
    assert cache_key(before) != cache_key(after)
    assert explain(after, before) == reason


def test_sources_and_versions_are_part_of_the_key() -> None:
    plain = components(chain(), "c", a=UpstreamDigests(identity="key", outputs={}))
    assert {"version numpy", "version pyarrow", "version torch"} <= set(plain)
    names = components(chain(), "a")
    assert {"version torch", "version python", "source weiml"} <= set(names)
    assert any(name.startswith("source ") and name != "source weiml" for name in names)
    assert explain(names, None) == "first run"
    assert explain(names, names | {"source weiml": "0" * 64}) == "source weiml changed"
    assert explain(names, {k: v for k, v in names.items() if k != "seed"}) == "seed added"
    assert explain(names, names) == "nothing changed"


def test_an_upstream_output_counts_by_its_contents() -> None:
    one = UpstreamDigests(identity="key 1", outputs={"out": "x", "more": "y"})
    two = UpstreamDigests(identity="key 2", outputs={"out": "x", "more": "changed"})
    new = UpstreamDigests(identity="key 2", outputs={"out": "z", "more": "y"})
    assert components(chain(), "b", a=one) == components(chain(), "b", a=two)
    assert explain(components(chain(), "b", a=new), components(chain(), "b", a=one)) == (
        "upstream a.out: x → z"
    )
    assert components(chain(), "c", a=one) != components(chain(), "c", a=two)


def test_files_named_by_parameters_count_by_their_contents(tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    flow = FlowBuilder("f")
    flow.node("a").process("s", "test.with_file", spec=file)
    absent = components(flow, "a")
    file.write_text("x = 1")
    first = components(flow, "a")
    file.write_text("x = 2")
    second = components(flow, "a")
    assert len({cache_key(absent), cache_key(first), cache_key(second)}) == 3
    assert "file s.spec" in explain(second, first)


def test_a_list_is_not_its_text() -> None:
    keys = set()
    for columns in (["a,b"], ["a", "b"]):
        flow = FlowBuilder("f")
        flow.node("a").process("s", "test.with_file", spec="x", columns=columns)
        keys.add(cache_key(components(flow, "a")))
    assert len(keys) == 2


def test_some_nodes_are_never_cached() -> None:
    flow = FlowBuilder("f")
    flow.node("a", cache=False).process("n", "test.number")
    flow.node("b").process("n", "test.number")
    never, always = bind_flow(flow.build()).nodes
    assert uncacheable(never, {}) == 'cache="false"'
    assert uncacheable(always, {}) is None
    assert "no source file" in str(uncacheable(always, {"source notebook": "unknown"}))
