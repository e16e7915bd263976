"""Raw memory for compiled loops: addresses, prefetches, views, and large regions on huge pages.

Rows live in regions outside numpy, because a row's key, state and statistics lie together and a
region is given back to the system piece by piece. Everything here trusts its addresses: only the
tables of this package make them.
"""

from __future__ import annotations

import mmap
import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "Region",
    "address_of",
    "call_block",
    "floats",
    "integers",
    "load_f32",
    "load_u32",
    "load_u64",
    "move_bytes",
    "prefetch",
    "store_f32",
    "store_u32",
    "store_u64",
    "words",
]

HUGE_PAGE = 1 << 21
# Python 3.11 knows no name for it.
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
_I8P = ir.IntType(8).as_pointer()
_I32 = ir.IntType(32)


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


@intrinsic
def prefetch(typingctx: Any, address: Any) -> Any:
    """Ask for the cache line at `address` (int64) ahead of its use; never faults.

    The line comes into the second level, which has twice as many misses under way as the first.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_I8P, _I32, _I32, _I32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [_I8P], kind)
        pointer = builder.inttoptr(args[0], _I8P)
        # For reading (nobody else holds the line anyway), into the second level, of data.
        builder.call(function, [pointer, _I32(0), _I32(2), _I32(1)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


def _loader(kind: Any, llvm: Any, align: int) -> Any:
    def load(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(_pointer(builder, args[0], llvm), align=align)

        return kind(types.int64), codegen

    return load


def _storer(kind: Any, llvm: Any, align: int) -> Any:
    def store(typingctx: Any, address: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[1], _pointer(builder, args[0], llvm), align=align)
            return context.get_dummy_value()

        return types.void(types.int64, kind), codegen

    return store


# Rows are multiples of 4 bytes, so an 8-byte key may lie across an 8-byte boundary.
load_u64 = intrinsic(_loader(types.uint64, ir.IntType(64), 4))
store_u64 = intrinsic(_storer(types.uint64, ir.IntType(64), 4))
load_u32 = intrinsic(_loader(types.uint32, ir.IntType(32), 4))
store_u32 = intrinsic(_storer(types.uint32, ir.IntType(32), 4))
load_f32 = intrinsic(_loader(types.float32, ir.FloatType(), 4))
store_f32 = intrinsic(_storer(types.float32, ir.FloatType(), 4))


@intrinsic
def move_bytes(typingctx: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy `size` bytes from address `source` to `target`; the ranges may overlap."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, origin = (builder.inttoptr(a, _I8P) for a in args[:2])
        cgutils.raw_memmove(builder, to, origin, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def call_block(
    typingctx: Any, function: Any, addresses: Any, size: Any, values: Any, parameters: Any
) -> Any:
    """Call the compiled C function at an address with four int64; see `RowStore.visit`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 4)
        builder.call(_pointer(builder, args[0], kind), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


def _view(kind: Any) -> Any:
    array = types.Array(kind, 1, "C")

    def view(typingctx: Any, address: Any, size: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            made = context.make_array(array)(context, builder)
            data = context.get_data_type(array.dtype)
            item = context.get_constant(types.intp, kind.bitwidth // 8)
            context.populate_array(
                made,
                data=builder.inttoptr(args[0], data.as_pointer()),
                shape=[args[1]],
                strides=[item],
                itemsize=item,
                meminfo=None,
            )
            return made._getvalue()

        return array(types.int64, types.int64), codegen

    return view


integers = intrinsic(_view(types.int64))
"""``integers(address, n)``: int64 (n,) over raw memory, for use inside compiled loops only."""
floats = intrinsic(_view(types.float32))
"""``floats(address, n)``: float32 (n,) over raw memory, for use inside compiled loops only."""
words = intrinsic(_view(types.uint32))
"""``words(address, n)``: uint32 (n,) over raw memory, for use inside compiled loops only."""


def address_of(array: np.ndarray) -> int:
    """Return the address of a C-contiguous array's first byte; the caller keeps it alive."""
    assert array.flags.c_contiguous, "only contiguous arrays have one address"
    return int(array.ctypes.data)


class Region:
    """`nbytes` of zeroed memory, 2 MiB-aligned and on huge pages where the system gives them.

    Nothing is resident until it is written. `release` gives whole pages back; what is read there
    afterwards is zero again. Freed with the object.
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
        self._map = mmap.mmap(-1, max(nbytes, 1) + HUGE_PAGE, flags=flags)
        if nbytes >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
            self._map.madvise(mmap.MADV_HUGEPAGE)
        start = np.frombuffer(self._map, np.uint8).ctypes.data
        self._shift = -start % HUGE_PAGE
        self.address: int = start + self._shift
        """Of the first byte."""

    def release(self, start: int, stop: int) -> None:
        """Give the whole 4 KiB pages within bytes `start` … `stop` back to the system."""
        page = mmap.PAGESIZE
        first = -(-(self._shift + start) // page) * page
        end = (self._shift + stop) // page * page
        if first < end:
            self._map.madvise(mmap.MADV_DONTNEED, first, end - first)
