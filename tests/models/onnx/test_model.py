"""Graphs of anyone's: inputs from columns, and mistakes that are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weiml.errors import ConfigError, DataError
from weiml.models import Columns, Predictor, build_model, model_config
from weiml.models.checks import example_batch
from weiml.models.onnx import OnnxConfig, OnnxInput, OnnxModel, save_onnx
from weiml.models.onnx.inputs import array_of

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

COLUMNS = Columns.of(example_batch(1))


def write_graph(file: Path, *, width: int = 1) -> Path:
    """Write: logits = x · [1, -2] + 0.5 · (number of padded ids), in `width` equal columns."""
    from onnx import TensorProto, helper

    def constant(name: str, values: list[float], shape: list[int]) -> Any:
        return helper.make_tensor(name, TensorProto.FLOAT, shape, values)

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["dense"]),
        helper.make_node("Cast", ["tags"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Sign", ["numbers"], ["present"]),
        helper.make_node("ReduceSum", ["present", "axis"], ["count"], keepdims=1),
        helper.make_node("Mul", ["count", "half"], ["halves"]),
        helper.make_node("Add", ["dense", "halves"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["chances"]),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 2]),
            helper.make_tensor_value_info("tags", TensorProto.INT64, ["B", 3]),
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", width])
            for name in ("logits", "chances")
        ],
        [
            constant("w", [1.0] * width + [-2.0] * width, [2, width]),
            constant("half", [0.5], [1]),
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    file.write_bytes(model.SerializeToString())
    return file


INPUTS = (
    OnnxInput(name="x", source="dense", columns=("price", "age")),
    OnnxInput(name="tags", source="padded", slot="tags", buckets=100, length=3),
)


def test_a_graph_is_saved_and_scored(tmp_path: Path) -> None:
    file = write_graph(tmp_path / "a.onnx")
    config = OnnxConfig(file=str(file), inputs=INPUTS)
    save_onnx(tmp_path / "model", config, COLUMNS)
    file.unlink()
    predictor = Predictor.load(tmp_path / "model")
    batch = example_batch(30)
    count = np.diff(batch.offsets).reshape(30, 4)[:, 2]
    expected = batch.dense[:, 1] - 2 * batch.dense[:, 0] + 0.5 * count
    np.testing.assert_allclose(predictor.score(batch), 1 / (1 + np.exp(-expected)), atol=1e-6)
    assert predictor.version.endswith(".0")
    assert model_config(predictor.model.config_mapping()) == predictor.model.config
    chances = OnnxModel(
        OnnxConfig(
            file=str(write_graph(file)), inputs=INPUTS, output="chances", gives="probabilities"
        ),
        COLUMNS,
    )
    np.testing.assert_allclose(chances.scores(batch, {})[:, 0], predictor.score(batch), atol=1e-6)
    np.testing.assert_allclose(chances.logits(batch, {})[:, 0], expected, atol=1e-4)


def test_inputs_have_what_the_batch_has() -> None:
    batch = example_batch(20, values=True)
    lengths = np.diff(batch.offsets).reshape(20, 4)[:, 3]

    def array(source: Any, **values: Any) -> np.ndarray:
        given = OnnxInput(name="i", source=source, slot="history", **values)
        return array_of(given, batch, np.float32 if source == "values" else np.int64)

    ids = array("ids", buckets=7)
    starts = array("offsets")
    padded = array("padded", buckets=7, length=2)
    for b in range(20):
        own = slice(*batch.offsets[4 * b + 3 : 4 * b + 5])
        keys = (batch.keys[own] % 7).astype(np.int64)
        here = slice(starts[b], starts[b] + lengths[b])
        np.testing.assert_array_equal(ids[here], keys)
        assert batch.values is not None
        np.testing.assert_array_equal(array("values")[here], batch.values[own])
        expected = [*(keys[:2] + 1), 0, 0][:2] if len(keys) < 2 else keys[:2] + 1
        np.testing.assert_array_equal(padded[b], expected)
    np.testing.assert_array_equal(array("ids").view(np.uint64) % 7, ids)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inputs": INPUTS[:1]}, r"has inputs \['tags', 'x'\], the configuration's inputs are"),
        ({"output": "chanses"}, "no output 'chanses'; did you mean 'chances'"),
        (
            {"inputs": (OnnxInput(name="x", source="dense", columns=("prise",)), INPUTS[1])},
            "'prise' is no dense column; did you mean 'price'",
        ),
        (
            {"inputs": (INPUTS[0], OnnxInput(name="tags", source="ids", slot="tag"))},
            "'tag' is no slot; did you mean 'tags'",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, values: Any, message: str) -> None:
    file = write_graph(tmp_path / "a.onnx")
    config = OnnxConfig(**({"file": str(file), "inputs": INPUTS} | values))
    with pytest.raises(ConfigError, match=message):
        save_onnx(tmp_path / "model", config, COLUMNS)
    assert not (tmp_path / "model").exists()


def test_wrong_files_are_told(tmp_path: Path) -> None:
    file = write_graph(tmp_path / "a.onnx")
    for name, content in (("cut", file.read_bytes()[:-40]), ("text", b"hello"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="is no ONNX graph that can be run"):
            OnnxModel(OnnxConfig(file=str(tmp_path / name), inputs=INPUTS), COLUMNS)
    with pytest.raises(DataError, match="cannot be read"):
        OnnxModel(OnnxConfig(file=str(tmp_path / "none"), inputs=INPUTS), COLUMNS)


def test_wrong_shapes_are_told(tmp_path: Path) -> None:
    wide = write_graph(tmp_path / "wide.onnx", width=3)
    model = OnnxModel(OnnxConfig(file=str(wide), inputs=INPUTS), COLUMNS)
    with pytest.raises(DataError, match=r"has shape \(5, 3\), \(5, 1\) is needed"):
        model.scores(example_batch(5), {})
    narrow = (OnnxInput(name="x", source="dense", columns=("price",)), INPUTS[1])
    model = OnnxModel(OnnxConfig(file=str(wide), inputs=narrow), COLUMNS)
    with pytest.raises(DataError, match=r"fails on inputs {'x': \(5, 1\)"):
        model.scores(example_batch(5), {})


def test_graphs_are_not_trained(tmp_path: Path) -> None:
    file = write_graph(tmp_path / "a.onnx")
    model = build_model("onnx", OnnxConfig(file=str(file), inputs=INPUTS), COLUMNS)
    with pytest.raises(ConfigError, match="for scoring only"):
        model.prepare(example_batch(2))
    with pytest.raises(ConfigError, match="needs a graph: set `file`"):
        OnnxModel(OnnxConfig(), COLUMNS).scores(example_batch(2), {})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "dense", "slot": "user"}, "reads no slot"),
        ({"source": "ids"}, "needs a slot"),
        ({"source": "padded", "slot": "user"}, "length goes with source padded"),
        ({"source": "ids", "slot": "user", "buckets": -1}, "buckets must not be negative"),
        ({"source": "key", "slot": "user"}, "source must be one of"),
    ],
)
def test_wrong_inputs_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OnnxInput(name="x", **values)


def test_wrong_configurations_are_named() -> None:
    with pytest.raises(ConfigError, match="set rows_of"):
        OnnxConfig(inputs=(OnnxInput(name="flat", source="flat"),))
    with pytest.raises(ConfigError, match="named twice"):
        OnnxConfig(inputs=(INPUTS[0], INPUTS[0]))
    with pytest.raises(ConfigError, match="main_task 'buy' is none of"):
        OnnxConfig(main_task="buy")
