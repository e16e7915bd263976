"""Bytes looked at 64 or 8 at a time: what compiled loops over text are made of.

Everything here trusts its addresses: buffers end with `PADDING` bytes that may be read.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = [
    "PADDING",
    "find_bytes",
    "leading_zeros",
    "load_word",
    "multiply_high",
    "separators",
    "trailing_zeros",
]

PADDING = 128
_I1, _I8, _I32, _I64, _I128 = (ir.IntType(bits) for bits in (1, 8, 32, 64, 128))
_V64 = ir.VectorType(_I8, 64)


def _splat(builder: Any, byte: Any) -> Any:
    undefined = ir.Constant(_V64, ir.Undefined)
    first = builder.insert_element(undefined, byte, _I32(0))
    mask = ir.Constant(ir.VectorType(_I32, 64), [_I32(0)] * 64)
    return builder.shuffle_vector(first, undefined, mask)


def _load_vector(builder: Any, address: Any) -> Any:
    return builder.load(builder.inttoptr(address, _V64.as_pointer()), align=1)


@intrinsic
def find_bytes(typingctx: Any, address: Any, byte: Any) -> Any:
    """Return which of the 64 bytes at `address` are `byte` (uint8), the first as the lowest bit."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = builder.icmp_unsigned(
            "==", _load_vector(builder, args[0]), _splat(builder, args[1])
        )
        return builder.bitcast(found, _I64)

    return types.uint64(types.int64, types.uint8), codegen


@intrinsic
def separators(typingctx: Any, address: Any, delimiter: Any) -> Any:
    """Return which of the 64 bytes at `address` are `delimiter` or end a line (LF or CR)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _load_vector(builder, args[0])
        found = builder.icmp_unsigned("==", vector, _splat(builder, args[1]))
        for end in (10, 13):
            ends = builder.icmp_unsigned("==", vector, _splat(builder, _I8(end)))
            found = builder.or_(found, ends)
        return builder.bitcast(found, _I64)

    return types.uint64(types.int64, types.uint8), codegen


@intrinsic
def load_word(typingctx: Any, address: Any) -> Any:
    """Return the 8 bytes at `address`, the first as the lowest."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], _I64.as_pointer()), align=1)

    return types.uint64(types.int64), codegen


@intrinsic
def trailing_zeros(typingctx: Any, word: Any) -> Any:
    """Return how many zero bits are below the lowest set bit of `word`, which is not 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], _I1(1))

    return types.int64(types.uint64), codegen


@intrinsic
def leading_zeros(typingctx: Any, word: Any) -> Any:
    """Return how many zero bits are above the highest set bit of `word`, which is not 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], _I1(1))

    return types.int64(types.uint64), codegen


@intrinsic
def multiply_high(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the upper 64 of the 128 bits of a product."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = [builder.zext(arg, _I128) for arg in args]
        return builder.trunc(builder.lshr(builder.mul(*wide), _I128(64)), _I64)

    return types.uint64(types.uint64, types.uint64), codegen
