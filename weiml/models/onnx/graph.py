"""A graph in ONNX Runtime: loaded from bytes, with its mistakes told as errors of weiml."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

from weiml.config import nearest
from weiml.errors import ConfigError, DataError

__all__ = ["Graph"]

_TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}


class Graph:
    """An ONNX graph that can be run.

    Args:
        content: the bytes of an .onnx file, weights included: no other file is read.
        where: what errors call it.
        output: which output is wanted; the first by default.
        threads: that it computes with.
        device: "cpu", "cuda" or "cuda:1".

    Raises:
        ConfigError: onnxruntime is not installed, lacks the device, or there is no such output.
        DataError: it is no graph that can be run.
    """

    def __init__(
        self, content: bytes, *, where: str, output: str = "", threads: int = 1, device: str = "cpu"
    ) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise ConfigError(
                'models of ONNX need onnxruntime, which is not installed; run: pip install "weiml'
                '[onnx]"'
            )
        import onnxruntime

        self.content = content
        self._where = where
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        provider = _provider(onnxruntime.get_available_providers(), device)
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=[provider])
        except Exception as error:  # the runtime's errors share no base of their own
            raise DataError(f"{where} is no ONNX graph that can be run: {_short(error)}") from None
        outputs = [node.name for node in self._session.get_outputs()]
        if output and output not in outputs:
            raise ConfigError(f"{where} has no output {output!r}{nearest(output, outputs)}")
        self.output = output or outputs[0]
        self.types: dict[str, Any] = {}
        """The dtype of each input."""
        for node in self._session.get_inputs():
            if node.type not in _TYPES:
                raise DataError(f"{where}: input {node.name!r} is {node.type}, which no batch has")
            self.types[node.name] = _TYPES[node.type]

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the output float32.

        Raises:
            DataError: the graph cannot compute on these inputs.
        """
        try:
            (found,) = self._session.run([self.output], dict(inputs))
        except Exception as error:
            shapes = {name: array.shape for name, array in inputs.items()}
            raise DataError(f"{self._where} fails on inputs {shapes}: {_short(error)}") from None
        return np.asarray(found, np.float32)


def _provider(available: list[str], device: str) -> Any:
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return "CPUExecutionProvider"
    if "CUDAExecutionProvider" not in available:
        raise ConfigError(
            f"device {device!r}: this onnxruntime has {available}; set device to cpu, or install "
            "onnxruntime-gpu"
        )
    return ("CUDAExecutionProvider", {"device_id": int(number or 0)})


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
