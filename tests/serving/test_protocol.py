"""The protocol: known requests, every kind of mistake, and no exception but RequestError."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from weiml.errors import ConfigError, RequestError
from weiml.serving.protocol import (
    DATATYPES,
    Limits,
    Tensor,
    format_error,
    format_request,
    format_response,
    parse_request,
)


def body(**changes: Any) -> bytes:
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, 3, 4]}
    return json.dumps({"inputs": [{**tensor, **changes}]}).encode()


def test_reads_tensors_flat_or_nested() -> None:
    for data in ([1, 2.5, 3, 4], [[1, 2.5], [3, 4]]):
        tensor = parse_request(body(data=data)).inputs["x"]
        assert tensor.data.dtype == np.float32
        assert tensor.data.tolist() == [[1.0, 2.5], [3.0, 4.0]]
        assert tensor.shape == (2, 2)


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("BOOL", [True, False]),
        ("UINT8", [0, 255]),
        ("UINT64", [0, 2**64 - 1]),
        ("INT8", [-128, 127]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("FP16", [0.5, -2]),
        ("FP64", [1e300, -1]),
        ("BYTES", ["", "naïve 漢"]),
    ],
)
def test_reads_every_datatype_exactly(datatype: str, data: list[Any]) -> None:
    tensor = parse_request(body(datatype=datatype, shape=[2], data=data)).inputs["x"]
    assert tensor.data.dtype == DATATYPES[datatype]
    assert tensor.data.tolist() == data


def test_keeps_id_outputs_and_parameters() -> None:
    tree = json.loads(body()) | {
        "id": "42",
        "outputs": [{"name": "score"}, {"name": "title"}],
        "parameters": {"rank": True, "top_k": 3},
    }
    request = parse_request(json.dumps(tree).encode())
    assert request.id == "42"
    assert request.outputs == ("score", "title")
    assert request.parameters == {"rank": True, "top_k": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datatype": "FP31"}, "tensor 'x': datatype is 'FP31'; did you mean 'FP32'"),
        ({"datatype": None}, "tensor 'x': datatype is None"),
        ({"shape": [3]}, "tensor 'x': shape [3] needs 3 values, got 4"),
        ({"shape": [2, -2]}, "must hold integers of 0 or more"),
        ({"shape": [2, True]}, "must hold integers of 0 or more"),
        ({"shape": []}, "shape must be a list of 1 to 8 sizes"),
        ({"shape": [10**6, 10**6]}, "more than limits.max_values"),
        ({"data": [[1, 2], [3]]}, "a list of 2 was expected, got 1 values"),
        ({"data": [[1, 2], 3]}, "a list of 2 was expected, got 3"),
        ({"data": [1, [2], 3, 4]}, "mixes values and lists"),
        ({"data": [1, "2", 3, 4]}, "tensor 'x': data must be FP32, got '2'"),
        ({"data": [1, True, 3, 4]}, "data must be FP32, got True"),
        ({"data": [1, None, 3, 4]}, "data must be FP32, got None"),
        ({"data": {"0": 1}}, "data must be a list of FP32 values, got an object"),
        ({"data": [1e39, 0, 0, 0]}, "does not fit FP32"),
        ({"data": [10**400, 0, 0, 0]}, "does not fit FP32"),
        ({"datatype": "UINT8", "data": [256, 0, 0, 0]}, "does not fit UINT8"),
        ({"datatype": "UINT8", "data": [-1, 0, 0, 0]}, "does not fit UINT8"),
        ({"datatype": "INT64", "data": [1.0, 0, 0, 0]}, "data must be INT64, got 1.0"),
        ({"datatype": "BYTES", "data": ["\ud800", "", "", ""]}, "lone surrogate"),
        ({"name": ""}, "inputs[0] needs a name"),
        ({"datattype": 1}, "unknown key 'datattype'; did you mean 'datatype'"),
        ({"parameters": {"a": []}}, "parameter 'a' must be a string, number or boolean"),
    ],
)
def test_names_the_tensor_and_the_mistake(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as error:
        parse_request(body(**changes))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (b"[]", "must be a JSON object, got a list"),
        (b"{}", "has no inputs"),
        (b'{"inputs": 1}', "'inputs' must be a list of objects"),
        (b'{"input": []}', "unknown key 'input'; did you mean 'inputs'"),
        (b'{"inputs": [], "id": 7}', "'id' must be a string, got a number"),
        (b'{"inputs": [], "outputs": [{}]}', "outputs[0] needs a name"),
        (b"[" * 100_000, "nests too deep"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [NaN]}]}', "NaN"),
        (b'{"inputs": [], "id": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_refuses_other_bodies(text: bytes, message: str) -> None:
    with pytest.raises(RequestError) as error:
        parse_request(text)
    assert message in str(error.value)


def test_refuses_a_tensor_given_twice() -> None:
    entry = json.loads(body())["inputs"][0]
    with pytest.raises(RequestError, match="'x' is given twice"):
        parse_request(json.dumps({"inputs": [entry, entry]}).encode())


def test_limits_are_knobs() -> None:
    with pytest.raises(RequestError, match="limits.max_body_bytes = 10"):
        parse_request(body(), Limits(max_body_bytes=10))
    with pytest.raises(RequestError, match="limits.max_values = 3"):
        parse_request(body(), Limits(max_values=3))
    with pytest.raises(ConfigError, match="max_candidates must be at least 1, got 0"):
        Limits(max_candidates=0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "user_id"]) | json_values,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | json_values,
        "datatype": st.sampled_from(list(DATATYPES)) | json_values,
        "data": st.lists(st.integers() | st.floats() | st.text() | st.booleans()) | json_values,
        "parameters": json_values,
    },
)
requests = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text() | json_values,
        "inputs": st.lists(tensors, max_size=3) | json_values,
        "outputs": json_values,
        "parameters": json_values,
    },
)


@settings(max_examples=300, deadline=None)
@given(requests | json_values)
@example({"inputs": [{"name": "x", "shape": [0], "datatype": "FP32", "data": []}]})
def test_any_json_is_a_request_or_a_request_error(tree: Any) -> None:
    try:
        request = parse_request(json.dumps(tree).encode())
    except RequestError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert json.loads(format_error(message)) == {"error": message}
        return
    for name, tensor in request.inputs.items():
        assert tensor.name == name
        assert tensor.data.dtype == DATATYPES[tensor.datatype]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_request_error(raw: bytes) -> None:
    with contextlib.suppress(RequestError):
        parse_request(raw)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([name for name in DATATYPES if name != "BYTES"]).flatmap(
        lambda name: st.tuples(
            st.just(name),
            hnp.arrays(
                DATATYPES[name],
                hnp.array_shapes(max_dims=3, max_side=4),
                elements={"allow_nan": False, "allow_infinity": False}
                if DATATYPES[name].kind == "f"
                else None,
            ),
        )
    )
)
def test_tensors_survive_the_wire(case: tuple[str, np.ndarray]) -> None:
    name, data = case
    sent = Tensor(name="t", datatype=name, data=data)
    got = parse_request(format_request([sent], request_id="i")).inputs["t"]
    assert got.datatype == name
    np.testing.assert_array_equal(got.data, data)
    answer = json.loads(
        format_response(model_name="m", model_version="1.0", outputs=[sent], request_id="i")
    )
    assert answer["id"] == "i"
    assert answer["outputs"][0]["shape"] == list(data.shape)
    assert np.array_equal(
        np.array(answer["outputs"][0]["data"], data.dtype).reshape(data.shape), data
    )


def test_tensor_of_finds_the_datatype() -> None:
    assert Tensor.of("a", [1, 2]).datatype == "INT64"
    assert Tensor.of("a", np.ones(1, np.float32)).datatype == "FP32"
    assert Tensor.of("a", ["x"]).datatype == "BYTES"
    with pytest.raises(RequestError, match="no datatype"):
        Tensor.of("a", np.array(["2020-01-01"], dtype="datetime64[D]"))
