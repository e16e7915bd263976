"""All-reduce, all-gather and broadcast of tensors on torch.distributed: gloo and NCCL.

Works in place on flat tensors; knows no arrays, requests or threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weiml.group.collectives import Compression, ReduceOp
from weiml.group.config import Reduction
from weiml.group.packing import buckets

__all__ = ["Exchange"]


class Exchange:
    """One worker's end of the process group.

    Args:
        num_workers: of the group.
        backend: "gloo" or "nccl".
        reduction: see `Reduction`.
        bucket_bytes: see `WorkerGroupConfig`.
        process_group: of torch.distributed; None: the default one.
    """

    def __init__(
        self,
        num_workers: int,
        backend: str,
        *,
        reduction: Reduction = "ordered",
        bucket_bytes: int = 25 * 2**20,
        process_group: Any = None,
    ) -> None:
        self._n = num_workers
        self._gloo = backend == "gloo"
        self._reduction = reduction
        self._bucket_bytes = bucket_bytes
        self.process_group = process_group

    @property
    def multiple(self) -> int:
        """Lengths of tensors to reduce must be multiples of this."""
        return self._n

    def reduce(self, flat: Any, op: ReduceOp, compression: Compression = "none") -> None:
        """Replace a tensor of shape (length,) by its reduction over the workers."""
        import torch

        compressed = compression != "none" and flat.dtype == torch.float32
        if self._reduction == "ring" and not compressed:
            self._ring(flat, op)
            return
        wire = getattr(torch, compression) if compressed else flat.dtype
        pieces = list(buckets(flat, self._bucket_bytes, self._n))
        under_way = [self._scatter(pieces[0], wire)] if pieces else []
        finish: list[Callable[[], None]] = []
        for index, piece in enumerate(pieces):
            if index + 1 < len(pieces):  # travels while this one is summed
                under_way.append(self._scatter(pieces[index + 1], wire))
            work, parts = under_way[index]
            work.wait()
            finish.append(self._return(piece, self._sum(parts, piece.dtype, op), wire))
            under_way[index] = None, None  # frees the parts
            if index:
                finish[index - 1]()
        if finish:
            finish[-1]()

    def gather(self, mine: Any) -> Any:
        """Return the tensors of shape (length,) of all workers as one of shape (n, length)."""
        import torch

        found = torch.empty((self._n, mine.numel()), dtype=mine.dtype, device=mine.device)
        self._gather(found.reshape(-1), mine).wait()
        return found

    def broadcast(self, tensor: Any, root: int) -> None:
        """Replace a tensor by that of worker `root`."""
        import torch.distributed as dist

        dist.broadcast(tensor, src=root, group=self.process_group)

    def _ring(self, flat: Any, op: ReduceOp) -> None:
        import torch
        import torch.distributed as dist

        kind = dist.ReduceOp.MAX if op == "max" else dist.ReduceOp.SUM
        works = [
            dist.all_reduce(piece, op=kind, group=self.process_group, async_op=True)
            for piece in buckets(flat, self._bucket_bytes, 1)
        ]
        for work in works:
            work.wait()
        if op == "mean":
            flat /= torch.full((), self._n, dtype=flat.dtype, device=flat.device)

    def _scatter(self, piece: Any, wire: Any) -> tuple[Any, Any]:
        """Send each worker its part of the piece; return the work and what comes of mine."""
        import torch
        import torch.distributed as dist

        sent = piece.to(wire)
        parts = torch.empty_like(sent)
        work = dist.all_to_all_single(parts, sent, group=self.process_group, async_op=True)
        # The work does not hold what it sends on every backend.
        return _Holding(work, sent), parts.reshape(self._n, -1)

    def _sum(self, parts: Any, dtype: Any, op: ReduceOp) -> Any:
        import torch

        total = parts[0].to(dtype, copy=True)
        for part in parts[1:]:
            if op == "max":
                torch.maximum(total, part.to(dtype), out=total)
            else:
                total += part.to(dtype)
        if op == "mean":
            # A tensor on the device: CUDA multiplies by the reciprocal of a number, which rounds
            # otherwise.
            total /= torch.full((), self._n, dtype=dtype, device=total.device)
        return total

    def _return(self, piece: Any, total: Any, wire: Any) -> Callable[[], None]:
        """Send my summed part to all; return what waits for theirs and puts them in place."""
        import torch

        if wire == piece.dtype:
            return self._gather(piece, total).wait
        landed = torch.empty_like(piece, dtype=wire)
        work = self._gather(landed, total.to(wire))

        def put() -> None:
            work.wait()
            piece.copy_(landed)

        return put

    def _gather(self, found: Any, mine: Any) -> Any:
        """Begin to fill `found`, of shape (n · length,), with all workers' tensors."""
        import torch.distributed as dist

        if self._gloo:
            # Several times as fast there as its own all-gather, which goes around a ring.
            sent = mine.repeat(self._n)
            work = dist.all_to_all_single(found, sent, group=self.process_group, async_op=True)
            return _Holding(work, sent)
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        return _Holding(gather(found, mine, group=self.process_group, async_op=True), mine)


class _Holding:
    """A work that keeps what it sends alive."""

    def __init__(self, work: Any, sent: Any) -> None:
        self._work = work
        self._sent = sent

    def wait(self) -> None:
        self._work.wait()
        self._sent = None
