"""Loads from raw addresses for compiled loops, whatever the alignment. They trust their address."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["load_u8", "load_u32", "load_u64", "store_u64", "trailing_zeros"]


def _loader(kind: Any, bits: int) -> Any:
    def load(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word = ir.IntType(bits)
            pointer = builder.inttoptr(args[0], word.as_pointer())
            # Widened here: numba would make signed numbers of narrow ones in arithmetic.
            loaded = builder.load(pointer, align=1)
            return loaded if bits == 64 else builder.zext(loaded, ir.IntType(64))

        return kind(types.int64), codegen

    return load


load_u8 = intrinsic(_loader(types.uint64, 8))
"""``load_u8(address)``: the byte at an address, as uint64."""
load_u32 = intrinsic(_loader(types.uint64, 32))
"""``load_u32(address)``: the little-endian 4 bytes at an address, as uint64."""
load_u64 = intrinsic(_loader(types.uint64, 64))
"""``load_u64(address)``: the little-endian 8 bytes at an address."""


@intrinsic
def store_u64(typingctx: Any, address: Any, value: Any) -> Any:
    """Write a uint64 to an address (int64)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        builder.store(args[1], pointer, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.uint64), codegen


@intrinsic
def trailing_zeros(typingctx: Any, word: Any) -> Any:
    """Return how many of a uint64's lowest bits are zero, as uint64; the word must not be 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), codegen
