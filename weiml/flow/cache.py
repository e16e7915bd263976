"""The cache key of a node, and why it differs from the last one.

The key covers all that the outputs are a function of: engine and its options, versions, seed,
steps, parameters, files named by parameters, contents of the upstream outputs, source code. It
does not cover retries, timeouts, comments or where the flow lies.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import weiml
from weiml.flow.binding import BoundNode
from weiml.flow.graph import Flow
from weiml.flow.manifest import digest_path
from weiml.flow.source import module_digest, package_digest

__all__ = ["UpstreamDigests", "cache_key", "explain", "key_components", "uncacheable"]

_SHOWN = 40  # longer values, and digests, are not worth showing


class UpstreamDigests:
    """What a downstream key sees of a finished node."""

    def __init__(self, *, identity: str, outputs: Mapping[str, str]) -> None:
        self.identity = identity
        """The node's key; of a node that is never cached, its attempt, which is always new."""
        self.outputs = outputs
        """Digest of contents by output."""


def key_components(
    bound: BoundNode, flow: Flow, upstream: Mapping[str, UpstreamDigests]
) -> dict[str, str]:
    """Return the key's components by name.

    An upstream output that a step depends on counts by its contents: computed anew but equal, it
    does not make this node run again. A node in preid of which no output is used counts by its
    identity.
    """
    node = bound.node
    components = {
        "engine": node.engine,
        "seed": str(flow.seed),
        "version python": platform.python_version(),
        "source weiml": package_digest(Path(weiml.__file__).parent),
    }
    components |= {f"option {name}": repr(value) for name, value in bound.options.items()}
    components |= {f"version {name}": v for name, v in bound.engine.versions().items()}
    components |= dict(_step_components(bound))
    components |= dict(_source_components(bound))
    components |= dict(_upstream_components(bound, upstream))
    return components


def _step_components(bound: BoundNode) -> Iterator[tuple[str, str]]:
    for item in bound.steps:
        step = item.step
        spec = [step.kind.value, step.cls, *step.dependencies]
        yield f"step {step.name}", " ".join(spec)
        for param in step.params:
            text = param.text if len(param.values) == 1 else json.dumps(param.values)
            yield f"param {step.name}.{param.name}", text
        for name, value in item.params.items():
            for path in _paths(value):
                yield f"file {step.name}.{name}:{path}", digest_path(path)


def _paths(value: Any) -> list[Path]:
    items = value if isinstance(value, (list, tuple)) else [value]
    return [item for item in items if isinstance(item, Path)]


def _source_components(bound: BoundNode) -> Iterator[tuple[str, str]]:
    modules = {item.function.module for item in bound.steps}
    for name in sorted(modules):
        if name.partition(".")[0] != "weiml":
            yield f"source {name}", module_digest(name) or "unknown"


def _upstream_components(
    bound: BoundNode, upstream: Mapping[str, UpstreamDigests]
) -> Iterator[tuple[str, str]]:
    used = {name for item in bound.steps for name in item.step.dependencies if "." in name}
    for name in sorted(used):
        id, _, output = name.partition(".")
        yield f"upstream {name}", upstream[id].outputs[output]
    for id in bound.node.upstream:
        if not any(name.startswith(f"{id}.") for name in used):
            yield f"upstream {id}", upstream[id].identity


def cache_key(components: Mapping[str, str]) -> str:
    """SHA-256 of the components, in hex."""
    return hashlib.sha256(json.dumps(components, sort_keys=True).encode()).hexdigest()


def uncacheable(bound: BoundNode, components: Mapping[str, str]) -> str | None:
    """Say why a node must run each time; None if it need not."""
    if not bound.node.cache:
        return 'cache="false"'
    if not bound.engine.cacheable:
        return f"engine {bound.engine.name!r} is never cached"
    for name, value in components.items():
        if name.startswith("source ") and value == "unknown":
            return f"module {name.removeprefix('source ')!r} has no source file to compare"
    return None


def explain(components: Mapping[str, str], previous: Mapping[str, str] | None) -> str:
    """Say which components differ from those of the last committed attempt."""
    if previous is None:
        return "first run"
    changes = []
    for name in sorted({*components, *previous}):
        old, new = previous.get(name), components.get(name)
        if old == new:
            continue
        if old is None or new is None:
            changes.append(f"{name} {'added' if old is None else 'removed'}")
        elif len(old) > _SHOWN or len(new) > _SHOWN:
            changes.append(f"{name} changed")
        else:
            changes.append(f"{name}: {old} → {new}")
    return "; ".join(changes) or "nothing changed"
