"""Batches of one size out of pieces of any size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from weiml.features import Batch

__all__ = ["rebatch"]


def rebatch(pieces: Iterable[Batch], batch_size: int, drop_last: bool) -> Iterator[Batch]:
    """Yield batches of `batch_size` examples, cut from pieces and joined across their borders."""
    rest: Batch | None = None
    for piece in pieces:
        if rest is None and piece.num_examples == batch_size:
            yield piece  # as it is: a slice would copy its offsets
            continue
        at = 0
        if rest is not None:
            at = min(batch_size - rest.num_examples, piece.num_examples)
            rest = Batch.concat([rest, piece.slice(0, at)])
            if rest.num_examples < batch_size:
                continue
            yield rest
            rest = None
        while piece.num_examples - at >= batch_size:
            yield piece.slice(at, at + batch_size)
            at += batch_size
        if at < piece.num_examples:
            rest = piece.slice(at, piece.num_examples)
    if rest is not None and not drop_last:
        yield rest
