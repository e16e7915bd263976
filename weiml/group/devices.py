"""Which device a worker computes on, and the side stream on which it talks to the others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

from weiml.errors import ClusterError

__all__ = ["SideStream", "choose_device", "visible_index"]


def visible_index(ids: Sequence[str], visible: str | None) -> int:
    """Return the place of the first of a worker's GPUs among those that its process sees.

    Args:
        ids: the GPUs that Ray gave to the worker, as numbers or UUIDs.
        visible: CUDA_VISIBLE_DEVICES; Ray narrows it to `ids` unless it was told not to. None: the
            process sees all, and numbers them as Ray does.
    """
    if visible is None:
        return int(ids[0])
    shown = [word.strip() for word in visible.split(",")]
    if ids[0] not in shown:
        raise ClusterError(
            f"Ray gave GPU {ids[0]!r} to this worker, but CUDA_VISIBLE_DEVICES is {visible!r}; "
            "unset it on the nodes and let Ray set it"
        )
    return shown.index(ids[0])


def choose_device(ids: Sequence[str]) -> str:
    """Return "cpu", or "cuda:i" for a worker that has GPUs, made the process's current device.

    Raises:
        ClusterError: Ray gave a GPU that torch does not see.
    """
    if not ids:
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        raise ClusterError(
            f"Ray gave GPU {', '.join(ids)} to this worker, but torch {torch.__version__} sees no "
            "CUDA; install the CUDA build of torch and NVIDIA's driver, or set gpus_per_worker = 0"
        )
    index = visible_index(ids, os.environ.get("CUDA_VISIBLE_DEVICES"))
    torch.cuda.set_device(index)
    return f"cuda:{index}"


class SideStream:
    """Work beside the computation: a CUDA stream of its own on a GPU, nothing on a CPU.

    `mark` is called by the thread that computes; the rest by the thread that communicates.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._stream: Any = None
        if device != "cpu":
            import torch

            self._stream = torch.cuda.Stream(torch.device(device))  # type: ignore[no-untyped-call]

    def mark(self) -> Any:
        """Return a mark for what the caller's current stream has been given so far."""
        if self._stream is None:
            return None
        import torch

        return torch.cuda.current_stream(self._device).record_event()

    def after(self, mark: Any, tensors: Sequence[Any]) -> contextlib.AbstractContextManager[Any]:
        """Return a context whose work begins when all before the mark is done.

        `tensors` were made on the caller's stream; their memory is not used anew before the side
        stream is done with them.
        """
        if self._stream is None:
            return contextlib.nullcontext()
        import torch

        self._stream.wait_event(mark)
        for tensor in tensors:
            tensor.record_stream(self._stream)
        return torch.cuda.stream(self._stream)

    def synchronize(self) -> None:
        """Wait until the side stream's work is done."""
        if self._stream is not None:
            self._stream.synchronize()
