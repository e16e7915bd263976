"""Lists of arrays as few flat tensors on a device, cut into buckets, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Packed", "buckets", "from_bytes", "pack", "to_bytes", "unpack"]


@dataclass
class Packed:
    """The arrays of one dtype of a request, one after the other."""

    flat: Any
    """Tensor of shape (padded length,), a copy; zeros at its end."""
    places: list[int]
    """Which arrays of the request they are."""


def pack(arrays: list[Any], device: str, multiple: int) -> list[Packed]:
    """Copy arrays to `device` by dtype, in the order in which the dtypes come up.

    The lengths are padded to a multiple of `multiple`, so that they can be cut in equal parts.
    """
    import torch

    by_dtype: dict[str, list[int]] = {}
    for place, array in enumerate(arrays):
        by_dtype.setdefault(str(array.dtype).removeprefix("torch."), []).append(place)
    packed = []
    for dtype, places in by_dtype.items():
        sizes = [_size(arrays[place]) for place in places]
        length = -(-sum(sizes) // multiple) * multiple
        flat = torch.empty(length, dtype=getattr(torch, dtype), device=device)
        flat[sum(sizes) :] = 0
        start = 0
        for place, size in zip(places, sizes, strict=True):
            flat[start : start + size].copy_(_tensor(arrays[place]).reshape(-1), non_blocking=True)
            start += size
        packed.append(Packed(flat, places))
    return packed


def unpack(packed: list[Packed], arrays: list[Any]) -> list[Any]:
    """Return the flat tensors' contents, each of the shape and kind of the array it came from."""
    found: list[Any] = [None] * len(arrays)
    for part in packed:
        on_host = part.flat.cpu() if part.flat.device.type != "cpu" else part.flat
        start = 0
        for place in part.places:
            model = arrays[place]
            end = start + _size(model)
            if isinstance(model, np.ndarray):
                found[place] = np.asarray(on_host[start:end].numpy()).reshape(model.shape)
            else:
                found[place] = part.flat[start:end].reshape(model.shape).to(model.device)
            start = end
    return found


def buckets(flat: Any, bucket_bytes: int, multiple: int) -> Iterator[Any]:
    """Cut a tensor whose length is a multiple of `multiple` into views of such lengths."""
    step = max(bucket_bytes // flat.element_size() // multiple, 1) * multiple
    for start in range(0, flat.numel(), step):
        yield flat[start : start + step]


def to_bytes(array: Any) -> Any:
    """Return an array's bytes as a tensor of uint8 on the host or the array's device, a copy."""
    import torch

    if isinstance(array, np.ndarray):
        return torch.from_numpy(np.frombuffer(bytearray(array.tobytes()), np.uint8))
    return array.detach().contiguous().reshape(-1).view(torch.uint8).clone()


def from_bytes(tensor: Any, model: Any) -> Any:
    """Return the array of the shape and dtype of `model` that has these bytes."""
    if isinstance(model, np.ndarray):
        return (
            np.frombuffer(tensor.cpu().numpy().tobytes(), model.dtype).reshape(model.shape).copy()
        )
    return tensor.to(model.device).view(model.dtype).reshape(model.shape)


def _size(array: Any) -> int:
    return int(array.size) if isinstance(array, np.ndarray) else int(array.numel())


def _tensor(array: Any) -> Any:
    import torch

    if isinstance(array, np.ndarray):
        contiguous = np.ascontiguousarray(array)
        if not contiguous.flags.writeable:
            contiguous = contiguous.copy()  # torch warns of memory that it must not write
        return torch.from_numpy(contiguous)
    return array.detach()
