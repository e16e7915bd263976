"""Loads from raw addresses for compiled loops, whatever the alignment. They trust their address."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = [
    "load_f32",
    "load_f64",
    "load_i32",
    "load_u8",
    "load_u32",
    "load_u64",
    "store_u64",
    "trailing_zeros",
]


def _loader(kind: Any, llvm: Any) -> Any:
    def load(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            loaded = builder.load(builder.inttoptr(args[0], llvm.as_pointer()), align=1)
            # Widened here: numba would make signed numbers of narrow ones in arithmetic.
            return builder.zext(loaded, _I64) if kind is types.uint64 and llvm != _I64 else loaded

        return kind(types.int64), codegen

    return load


_I64 = ir.IntType(64)
load_u8 = intrinsic(_loader(types.uint64, ir.IntType(8)))
"""``load_u8(address)``: the byte at an address, as uint64."""
load_u32 = intrinsic(_loader(types.uint64, ir.IntType(32)))
"""``load_u32(address)``: the little-endian 4 bytes at an address, as uint64."""
load_u64 = intrinsic(_loader(types.uint64, _I64))
"""``load_u64(address)``: the little-endian 8 bytes at an address."""
load_i32 = intrinsic(_loader(types.int32, ir.IntType(32)))
"""``load_i32(address)``: the int32 at an address."""
load_f32 = intrinsic(_loader(types.float32, ir.FloatType()))
"""``load_f32(address)``: the float32 at an address."""
load_f64 = intrinsic(_loader(types.float64, ir.DoubleType()))
"""``load_f64(address)``: the float64 at an address."""


@intrinsic
def store_u64(typingctx: Any, address: Any, value: Any) -> Any:
    """Write a uint64 to an address (int64)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], _I64.as_pointer())
        builder.store(args[1], pointer, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.uint64), codegen


@intrinsic
def trailing_zeros(typingctx: Any, word: Any) -> Any:
    """Return how many of a uint64's lowest bits are zero, as uint64; the word must not be 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), codegen
