"""The XML form of a flow: reading, with file and line in every error, and writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from xml.sax.saxutils import escape, quoteattr

from weiml.config import nearest
from weiml.errors import FlowError
from weiml.flow.elements import Element, parse_elements
from weiml.flow.graph import Flow, Node, Param, Step, StepKind, to_text
from weiml.flow.signature import convert

__all__ = ["from_xml", "read_xml", "to_xml"]

T = TypeVar("T")


def read_xml(path: str | Path) -> Flow:
    """Read a flow from an XML file.

    Raises:
        FlowError: the file is missing or is not a well-formed, valid flow.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise FlowError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    return from_xml(content, source=str(path))


def from_xml(content: str | bytes, *, source: str = "<xml>") -> Flow:
    """Build a flow from XML text.

    Raises:
        FlowError: the text is not a well-formed, valid flow; the message has `source` and line.
    """
    root = parse_elements(content.encode() if isinstance(content, str) else content, source)
    _expect(root, "flow", required=("name",), optional=("steps", "seed"))
    _only_children(root, ("param", "node"))
    _no_text(root)
    return Flow(
        name=root.attributes["name"],
        steps=tuple(root.attributes.get("steps", "").split()),
        seed=_attribute(root, "seed", int, 0),
        params=tuple(_flow_param(child) for child in root.children if child.tag == "param"),
        nodes=tuple(_node(child) for child in root.children if child.tag == "node"),
        position=root.position,
    )


_NODE_OPTIONAL = ("preid", "cache", "retries", "backoff_s", "timeout_s")
_KINDS = tuple(kind.value for kind in StepKind)


def _node(element: Element) -> Node:
    _expect(element, "node", required=("id", "engine"), optional=_NODE_OPTIONAL)
    _only_children(element, ("option", *_KINDS))
    _no_text(element)
    upstream = _names(element.attributes.get("preid", ""))
    return Node(
        id=element.attributes["id"],
        engine=element.attributes["engine"],
        upstream=() if upstream == ("-1",) else upstream,
        cache=_attribute(element, "cache", bool, True),
        retries=_attribute(element, "retries", int, 0),
        backoff_s=_attribute(element, "backoff_s", float, 1.0),
        timeout_s=_attribute(element, "timeout_s", float | None, None),  # type: ignore[arg-type]
        options=tuple(_option(child) for child in element.children if child.tag == "option"),
        steps=tuple(_step(child) for child in element.children if child.tag in _KINDS),
        position=element.position,
    )


def _step(element: Element) -> Step:
    _expect(element, element.tag, required=("name", "class"), optional=("dependency",))
    _no_text(element)
    params: dict[str, Param] = {}
    for child in element.children:
        _expect(child, child.tag)
        _only_children(child, ())
        before = params.get(child.tag)
        params[child.tag] = Param(
            name=child.tag,
            values=(*(before.values if before else ()), child.text.strip()),
            position=before.position if before else child.position,
        )
    return Step(
        name=element.attributes["name"],
        kind=StepKind(element.tag),
        cls=element.attributes["class"],
        dependencies=_names(element.attributes.get("dependency", "")),
        params=tuple(params.values()),
        position=element.position,
    )


def _flow_param(element: Element) -> Param:
    _expect(element, "param", required=("name", "value"))
    _only_children(element, ())
    name, value = element.attributes["name"], element.attributes["value"]
    return Param(name=name, values=(value,), position=element.position)


def _option(element: Element) -> Param:
    _expect(element, "option", required=("name",))
    _only_children(element, ())
    text = element.text.strip()
    return Param(name=element.attributes["name"], values=(text,), position=element.position)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _attribute(element: Element, name: str, kind: Callable[[Any], T], default: T) -> T:
    if name not in element.attributes:
        return default
    try:
        value: T = convert((element.attributes[name],), kind)
    except ValueError as error:
        raise FlowError(f"{element.position}: {name} of <{element.tag}> {error}") from None
    return value


def _expect(
    element: Element, tag: str, *, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> None:
    if element.tag != tag:
        raise FlowError(f"{element.position}: expected <{tag}>, got <{element.tag}>")
    for name in element.attributes:
        if name not in required + optional:
            raise FlowError(
                f"{element.position}: <{tag}> has no attribute {name!r}"
                f"{nearest(name, required + optional)}"
            )
    for name in required:
        if name not in element.attributes:
            raise FlowError(f'{element.position}: <{tag}> needs {name}="…"')


def _only_children(element: Element, allowed: tuple[str, ...]) -> None:
    for child in element.children:
        if child.tag not in allowed:
            known = nearest(child.tag, allowed) if allowed else "; it holds text only"
            raise FlowError(
                f"{child.position}: <{child.tag}> cannot stand in <{element.tag}>{known}"
            )


def _no_text(element: Element) -> None:
    text = element.text.strip()
    if text:
        raise FlowError(
            f"{element.position}: stray text {text[:40]!r} in <{element.tag}>; parameters are "
            "elements, such as <threshold>4</threshold>"
        )


def to_xml(flow: Flow) -> str:
    """Write a flow as XML; ``from_xml`` reads it back to an equal flow."""
    attributes = {"name": flow.name, "steps": " ".join(flow.steps)}
    if flow.seed:
        attributes["seed"] = str(flow.seed)
    lines = [f"<flow{_attributes(attributes)}>"]
    for param in flow.params:
        lines.append(f"  <param{_attributes({'name': param.name}, value=param.text)}/>")
    for node in flow.nodes:
        lines += _node_lines(node)
    return "\n".join([*lines, "</flow>", ""])


def _node_lines(node: Node) -> Iterable[str]:
    attributes = {"id": node.id, "engine": node.engine, "preid": ",".join(node.upstream) or "-1"}
    defaults = {"cache": True, "retries": 0, "backoff_s": 1.0, "timeout_s": None}
    for name, default in defaults.items():
        value = getattr(node, name)
        if value != default:
            attributes[name] = to_text(value)
    yield ""
    yield f"  <node{_attributes(attributes)}>"
    for option in node.options:
        for text in option.values:
            yield f"    <option{_attributes({'name': option.name})}>{escape(text)}</option>"
    for step in node.steps:
        yield from _step_lines(step)
    yield "  </node>"


def _step_lines(step: Step) -> Iterable[str]:
    attributes = {"name": step.name, "class": step.cls, "dependency": ",".join(step.dependencies)}
    head = f"    <{step.kind.value}{_attributes(attributes)}"
    if not step.params:
        yield f"{head}/>"
        return
    yield f"{head}>"
    for param in step.params:
        for text in param.values:
            yield f"      <{param.name}>{escape(text)}</{param.name}>"
    yield f"    </{step.kind.value}>"


def _attributes(attributes: dict[str, str], **always: str) -> str:
    """Write attributes, leaving out empty ones of the first kind."""
    kept = {name: value for name, value in attributes.items() if value} | always
    return "".join(f" {name}={quoteattr(value)}" for name, value in kept.items())
