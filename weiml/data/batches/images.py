"""Pictures of one form as batches: each pixel's number is a dense column.

It decodes no files: pixels come as bytes, row by row, channels innermost.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from weiml.errors import DataError
from weiml.features import Batch

__all__ = ["image_batches"]


def image_batches(
    table: pa.Table, *, image: str = "image", label: str = "label", batch_size: int = 4096
) -> Iterator[Batch]:
    """Yield the rows of a table as batches, in order, for `write_batches` with ``packed=True``.

    Args:
        table: one row an image.
        image: a column of fixed-size binary, the H·W·C pixels of an image.
        label: a column of class numbers; a missing one becomes NaN, which teaches nothing.
        batch_size: examples of a batch; the last one may be smaller.

    Raises:
        DataError: a column is missing or of another type, or an image is missing.
    """
    for name in (image, label):
        if name not in table.column_names:
            raise DataError(f"images are made of a column {name!r}, got {table.column_names}")
    kind = table.schema.field(image).type
    if not pa.types.is_fixed_size_binary(kind):
        raise DataError(f"column {image!r} must be fixed-size binary, the pixels, got {kind}")
    names = tuple(f"pixel_{i}" for i in range(kind.byte_width))
    first = 0
    for piece in table.select([image, label]).to_batches(max_chunksize=batch_size):
        yield _batch(piece, names, first)
        first += piece.num_rows


def _batch(rows: pa.RecordBatch, names: tuple[str, ...], first: int) -> Batch:
    images, labels = rows.columns
    if images.null_count:
        raise DataError(f"{images.null_count} images are missing; leave these examples out")
    count, width = rows.num_rows, len(names)
    data = images.buffers()[1]
    pixels = np.frombuffer(data, np.uint8, count * width, images.offset * width)
    numbers = labels.cast(pa.float32()).to_numpy(zero_copy_only=False)
    return Batch(
        labels=np.asarray(numbers, np.float32)[:, None],
        weights=np.ones(count, np.float32),
        dense=pixels.reshape(count, width).astype(np.float32),
        keys=np.empty(0, np.uint64),
        offsets=np.zeros(1, np.int32),
        groups=np.zeros(count, np.uint64),
        items=np.arange(first, first + count, dtype=np.uint64),
        times=np.zeros(count, np.int64),
        slots=(),
        dense_names=names,
    )
