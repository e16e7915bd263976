"""The Open Inference Protocol v2 in JSON: requests to named tensors and back.

Knows nothing of HTTP, models or Ray. Whatever the bytes, parsing raises RequestError or nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from weiml.config import nearest
from weiml.errors import ConfigError, RequestError

__all__ = [
    "DATATYPES",
    "InferRequest",
    "Limits",
    "Tensor",
    "format_error",
    "format_request",
    "format_response",
    "parse_json",
    "parse_request",
]

DATATYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
_PYTHON_TYPES: Mapping[str, set[type]] = {"b": {bool}, "O": {str}, "f": {int, float}}
"""What JSON may hold for each kind of datatype; integers for all others."""
_REQUEST_KEYS = ("id", "inputs", "outputs", "parameters")
_TENSOR_KEYS = ("data", "datatype", "name", "parameters", "shape")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may ask for; beyond it the server answers 4xx at once."""

    max_body_bytes: int = 8 * 1024**2
    max_candidates: int = 10_000
    """Items in one request."""
    max_values: int = 1_000_000
    """Values in one tensor."""

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_candidates", "max_values"):
            if getattr(self, name) < 1:
                raise ConfigError(f"limits.{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """A named array; `data` has the tensor's shape, BYTES hold ``str`` objects."""

    name: str
    datatype: str
    data: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's dimensions."""
        return self.data.shape

    @classmethod
    def of(cls, name: str, values: Any, datatype: str | None = None) -> Tensor:
        """Make a tensor from an array or list; the datatype follows the values unless given."""
        array = np.asarray(values)
        if datatype is None:
            if array.dtype.kind in "OUS":
                datatype = "BYTES"
            else:
                datatype = next((n for n, d in DATATYPES.items() if d == array.dtype), "")
        if datatype not in DATATYPES:
            raise RequestError(f"tensor {name!r}: no datatype of the protocol for {array.dtype}")
        return cls(name=name, datatype=datatype, data=array.astype(DATATYPES[datatype]))


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """A checked request: tensors by name, the outputs wanted (None: the default ones)."""

    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...] | None = None
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    id: str | None = None


def parse_json(body: bytes, limits: Limits) -> dict[str, Any]:
    """Parse a request body into a JSON object.

    Raises:
        RequestError: the body is too large, not UTF-8 JSON, nested too deep, or not an object.
    """
    if len(body) > limits.max_body_bytes:
        raise RequestError(
            f"the body has {len(body)} bytes, more than limits.max_body_bytes = "
            f"{limits.max_body_bytes}; send fewer candidates a request"
        )
    try:
        tree = json.loads(body, parse_constant=_reject_constant)
    except RequestError:
        raise
    except RecursionError:
        raise RequestError("the body nests too deep; tensors are flat or nested lists") from None
    except ValueError as error:  # malformed JSON, bytes that are not UTF-8, absurdly long integers
        raise RequestError(f"the body is not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise RequestError(f"the body must be a JSON object, got {_kind(tree)}")
    return tree


def parse_request(body: bytes, limits: Limits | None = None) -> InferRequest:
    """Parse and check one inference request.

    Raises:
        RequestError: anything is wrong; the message names the tensor and what to do.
    """
    limits = limits or Limits()
    tree = parse_json(body, limits)
    _known_keys(tree, _REQUEST_KEYS, "the request")
    request_id = tree.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise RequestError(f"'id' must be a string, got {_kind(request_id)}")
    if "inputs" not in tree:
        raise RequestError('the request has no inputs; send {"inputs": [{"name": ...}, ...]}')
    inputs: dict[str, Tensor] = {}
    for index, entry in enumerate(_objects(tree["inputs"], "inputs")):
        tensor = _parse_tensor(entry, f"inputs[{index}]", limits)
        if tensor.name in inputs:
            raise RequestError(f"tensor {tensor.name!r} is given twice in inputs")
        inputs[tensor.name] = tensor
    outputs = None
    if tree.get("outputs") is not None:
        entries = enumerate(_objects(tree["outputs"], "outputs"))
        outputs = tuple(_name(entry, f"outputs[{index}]") for index, entry in entries)
    return InferRequest(
        inputs=inputs,
        outputs=outputs,
        parameters=_parse_parameters(tree.get("parameters"), "the request"),
        id=request_id,
    )


def format_response(
    *,
    model_name: str,
    model_version: str,
    outputs: Iterable[Tensor],
    request_id: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the JSON of an answer; the request's id is echoed."""
    tree: dict[str, Any] = {"model_name": model_name, "model_version": model_version}
    if request_id is not None:
        tree["id"] = request_id
    if parameters:
        tree["parameters"] = dict(parameters)
    tree["outputs"] = [_tensor_tree(tensor) for tensor in outputs]
    return json.dumps(tree, separators=(",", ":")).encode()


def format_request(
    inputs: Sequence[Tensor],
    *,
    outputs: Sequence[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    request_id: str | None = None,
) -> bytes:
    """Return the JSON of a request, as a client sends it."""
    tree: dict[str, Any] = {"inputs": [_tensor_tree(tensor) for tensor in inputs]}
    if request_id is not None:
        tree["id"] = request_id
    if parameters:
        tree["parameters"] = dict(parameters)
    if outputs is not None:
        tree["outputs"] = [{"name": name} for name in outputs]
    return json.dumps(tree, separators=(",", ":")).encode()


def format_error(message: str) -> bytes:
    """Return the JSON body of an error answer."""
    return json.dumps({"error": message}).encode()


def _parse_tensor(entry: Mapping[str, Any], where: str, limits: Limits) -> Tensor:
    name = _name(entry, where)
    where = f"tensor {name!r}"
    _known_keys(entry, _TENSOR_KEYS, where)
    _parse_parameters(entry.get("parameters"), where)
    datatype = entry.get("datatype")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        hint = nearest(datatype, DATATYPES) if isinstance(datatype, str) else ""
        raise RequestError(f"{where}: datatype is {_show(datatype)}{hint}")
    shape = _parse_shape(entry.get("shape"), where, limits)
    data = entry.get("data")
    if not isinstance(data, list):
        raise RequestError(f"{where}: data must be a list of {datatype} values, got {_kind(data)}")
    flat = _flatten(data, shape, where)
    return Tensor(name=name, datatype=datatype, data=_convert(flat, shape, datatype, where))


def _parse_shape(shape: Any, where: str, limits: Limits) -> tuple[int, ...]:
    if not isinstance(shape, list) or not shape or len(shape) > 8:
        raise RequestError(f"{where}: shape must be a list of 1 to 8 sizes, got {_show(shape)}")
    for size in shape:
        if type(size) is not int or size < 0:
            raise RequestError(f"{where}: shape {_show(shape)} must hold integers of 0 or more")
    if math.prod(shape) > limits.max_values:
        raise RequestError(
            f"{where}: shape {_show(shape)} is more than limits.max_values = {limits.max_values}"
        )
    return tuple(shape)


def _flatten(data: list[Any], shape: tuple[int, ...], where: str) -> list[Any]:
    """Return row-major values; `data` is flat already, or nested exactly as `shape` says."""
    if not data or not isinstance(data[0], list):
        if any(isinstance(value, list) for value in data):
            raise RequestError(f"{where}: data mixes values and lists; nest all of it or none")
        if len(data) != math.prod(shape):
            raise RequestError(
                f"{where}: shape {list(shape)} needs {math.prod(shape)} values, got {len(data)}"
            )
        return data
    level: list[Any] = [data]
    for size in shape:
        for part in level:
            if not isinstance(part, list) or len(part) != size:
                got = f"{len(part)} values" if isinstance(part, list) else _show(part)
                raise RequestError(
                    f"{where}: nested data does not fit shape {list(shape)}: a list of {size} "
                    f"was expected, got {got}"
                )
        level = [value for part in level for value in part]
    return level


def _convert(
    flat: list[Any], shape: tuple[int, ...], datatype: str, where: str
) -> np.ndarray[Any, Any]:
    dtype = DATATYPES[datatype]
    allowed = _PYTHON_TYPES.get(dtype.kind, {int})
    if not set(map(type, flat)) <= allowed:
        wrong = next(value for value in flat if type(value) not in allowed)
        raise RequestError(f"{where}: data must be {datatype}, got {_show(wrong)}")
    if datatype == "BYTES":
        _check_text(flat, where)
        array = np.empty(len(flat), dtype=object)
        array[:] = flat
        return array.reshape(shape)
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, dtype=dtype)
    except OverflowError:
        raise RequestError(f"{where}: a value does not fit {datatype}") from None
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise RequestError(f"{where}: a value does not fit {datatype}; values must be finite")
    return array.reshape(shape)


def _check_text(values: list[str], where: str) -> None:
    try:
        for value in values:
            value.encode()
    except UnicodeEncodeError:
        raise RequestError(f"{where}: a text is not valid Unicode (lone surrogate)") from None


def _parse_parameters(tree: Any, where: str) -> dict[str, str | int | float | bool]:
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise RequestError(f"{where}: parameters must be an object, got {_kind(tree)}")
    for key, value in tree.items():
        if not isinstance(value, (str, int, float, bool)):
            raise RequestError(
                f"{where}: parameter {key!r} must be a string, number or boolean, "
                f"got {_kind(value)}"
            )
    return tree


def _objects(tree: Any, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(tree, list) or not all(isinstance(entry, dict) for entry in tree):
        raise RequestError(f"{where!r} must be a list of objects, got {_show(tree)}")
    return tree


def _name(entry: Mapping[str, Any], where: str) -> str:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise RequestError(f"{where} needs a name (a string), got {_show(name)}")
    return name


def _known_keys(tree: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in tree:
        if key not in known:
            raise RequestError(f"{where}: unknown key {_show(key)}{nearest(key, known)}")


def _tensor_tree(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.shape),
        "data": tensor.data.ravel().tolist(),
    }


def _reject_constant(text: str) -> None:
    raise RequestError(f"the body holds {text}, which is not JSON; numbers must be finite")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return names.get(type(value), "null" if value is None else "a number")


def _show(value: Any) -> str:
    """Return a short form of a value of any size, for error messages."""
    if isinstance(value, (dict, list)) and len(value) > 8:
        return f"{_kind(value)} of {len(value)}"
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python prints
        return "a huge integer"
    return text if len(text) <= 80 else text[:77] + "..."
