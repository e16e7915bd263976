"""The graph of a torch model's network, traced and then compared with torch.

Tracing keeps what an example did, so the comparison is on other numbers of examples and on shorter
sequences than what was traced.
"""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weiml.errors import ConfigError
from weiml.models.deep.contract import Arrays
from weiml.models.onnx.graph import Graph

if TYPE_CHECKING:
    from weiml.models.deep.base import DeepModel

__all__ = ["example_of", "graph_of"]

_OPSET = 18
_TOLERANCE = 1e-4  # of logits, beside their own size


def graph_of(model: DeepModel) -> bytes:
    """Return the network as the bytes of an .onnx file; see `export_network`.

    Raises:
        ConfigError: onnx is not installed, or the network cannot be exported.
    """
    if importlib.util.find_spec("onnx") is None:
        raise ConfigError(
            'exporting needs the package onnx, which is not installed; run: pip install "weiml'
            '[onnx]"'
        )
    content = _traced(model)
    graph = Graph(content, where=f"the exported network of model {model.name!r}", output="logits")
    rng = np.random.default_rng(0)
    for size in (1, 5):
        given = example_of(model, size, rng)
        expected = model._logits(
            Arrays(given["flat"], given.get("linear"), given.get("sequences"), given.get("mask"))
        )
        found = graph.run(given)
        if not np.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
            raise ConfigError(
                f"the network of model {model.name!r} cannot be exported to ONNX: the graph "
                f"differs from torch by {np.abs(found - expected).max():.3g} on {size} examples; "
                "its forward pass may branch on the data"
            )
    return content


def example_of(
    model: Any, size: int, rng: np.random.Generator | None = None
) -> dict[str, np.ndarray]:
    """Return the network's inputs by name: drawn, or zeros with sequences of full length."""
    shape = model.shape

    def numbers(*sizes: int) -> np.ndarray:
        drawn = np.zeros(sizes) if rng is None else rng.standard_normal(sizes)
        return drawn.astype(np.float32)

    found = {"flat": numbers(size, shape.num_inputs)}
    if model.has_linear:
        found["linear"] = numbers(size)
    if shape.sequences:
        each = (size, len(shape.sequences), shape.max_length)
        lengths = np.full(each[:2], each[2]) if rng is None else rng.integers(0, each[2], each[:2])
        mask = np.arange(each[2]) < lengths[..., None]
        found["sequences"] = numbers(*each, shape.row_dim) * mask[..., None].astype(np.float32)
        found["mask"] = mask
    return found


def _traced(model: DeepModel) -> bytes:
    import torch

    example = example_of(model, 2)
    tensors = tuple(torch.from_numpy(array).to(model.device) for array in example.values())
    free = {name: {0: "examples"} for name in (*example, "logits")}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), _operators():
        warnings.simplefilter("ignore")  # of constants in the trace: see `graph_of`
        file = Path(folder) / "network.onnx"
        try:
            # The exporter by tracing: torch.export refuses shapes that depend on the data, as
            # those of sequences do.
            torch.onnx.export(
                _module(model, tuple(example)),
                tensors,
                str(file),
                input_names=list(example),
                output_names=["logits"],
                dynamic_axes=free,
                opset_version=_OPSET,
                dynamo=False,
            )
        except (RuntimeError, torch.onnx.OnnxExporterError) as error:
            told = str(error).strip().splitlines()
            raise ConfigError(
                f"the network of model {model.name!r} cannot be exported to ONNX: {told[:1]}"
            ) from error
        return file.read_bytes()


def _module(model: DeepModel, names: tuple[str, ...]) -> Any:
    """Return the network with plain tensors in and one out."""
    import torch
    from torch import nn

    from weiml.models.deep.inputs import Inputs

    class Exported(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model.network.module

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            given = dict(zip(names, tensors, strict=True))
            found = self.inner(
                Inputs(
                    given["flat"],
                    given.get("linear"),
                    given.get("sequences"),
                    given.get("mask"),
                    model.shape,
                )
            )
            return torch.as_tensor(found[0] if isinstance(found, tuple) else found).float()

    return Exported().eval()


@contextlib.contextmanager
def _operators() -> Iterator[None]:
    """Operators of weiml's networks that the exporter lacks are known inside."""
    from torch import onnx

    def logaddexp(g: Any, a: Any, b: Any) -> Any:
        one = g.op("Constant", value_t=_tensor(1.0))
        apart = g.op("Neg", g.op("Abs", g.op("Sub", a, b)))
        rest = g.op("Log", g.op("Add", one, g.op("Exp", apart)))
        return g.op("Add", g.op("Max", a, b), rest)

    def argsort(g: Any, x: Any, stable: Any, dim: Any, descending: Any) -> Any:
        axis = dim.node().t("value").item()  # TopK is stable: of equals, the first comes first
        shape, place = g.op("Shape", x), g.op("Constant", value_t=_tensor([axis]))
        size = g.op("Gather", shape, place)
        largest = int(bool(descending.node().t("value").item()))
        return g.op("TopK", x, size, axis_i=axis, largest_i=largest, sorted_i=1, outputs=2)[1]

    known: dict[str, Any] = {"aten::logaddexp": logaddexp, "aten::argsort": argsort}
    for name, symbolic in known.items():
        onnx.utils.register_custom_op_symbolic(name, symbolic, _OPSET)
    try:
        yield
    finally:
        for name in known:
            onnx.utils.unregister_custom_op_symbolic(name, _OPSET)


def _tensor(value: Any) -> Any:
    import torch

    return torch.tensor(value)
