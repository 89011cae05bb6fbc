"""Element types of the CUDA kernels: how they lie in memory, are widened to compute with, and narrowed again.

A kernel reads and writes words. A word is one element, or two of 16 bits that lie side by side; beside a word
of two elements the numbers of the arithmetic come two to a word as well. A kernel takes a word apart when it
computes with it and not when it loads it, since touching a value waits for the load. Types of 16 bits are
taken from their bits, so that kernels need no such types and no second link step.

Functions marked `device` become part of the kernel that calls them. In numba's simulator
(``NUMBA_ENABLE_CUDASIM=1``) they are plain Python, and those that use the GPU's own functions have a twin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import config, cuda, types

SIMULATED = bool(config.ENABLE_CUDASIM)
MINUS_LOG2_E = np.float32(-1 / math.log(2))  # e^-x = 2^(MINUS_LOG2_E x)


class Element(NamedTuple):
    """One element type and what the kernels need to know of it."""

    lanes: int  # elements of a word: features that one thread owns
    stored: Any  # numba's type of a word of elements
    held: Any  # numba's type of a word of numbers of the arithmetic, of as many lanes
    real: Any  # numba's type of the arithmetic
    widen: Callable[[Any, int], Any]  # word of elements, lane -> real
    narrow: Callable[[Any], Any]  # array of as many reals as lanes -> word of elements, to nearest even
    take: Callable[[Any, int], Any]  # word of reals, lane -> real
    give: Callable[[Any], Any]  # array of as many reals as lanes -> word of reals
    sigmoid: Callable[[Any], Any]  # real -> real


if SIMULATED:

    def device(function: Callable[..., Any]) -> Callable[..., Any]:
        """Keep a function as Python."""
        return function

    def float_of_bits(bits: Any) -> Any:
        """Return the float32 of 32 bits."""
        return np.uint32(bits).view(np.float32)

    def bits_of_float(value: Any) -> Any:
        """Return the 32 bits of a float32."""
        return np.float32(value).view(np.uint32)

    def widen_half(bits: Any) -> Any:
        """Return the float16 of 16 bits as float32."""
        return np.float32(np.uint16(bits).view(np.float16))

    def narrow_half(value: Any) -> Any:
        """Return a float32 as the bits of the nearest float16."""
        with np.errstate(over="ignore"):
            return np.float16(value).view(np.uint16)

    def sigmoid32(x: Any) -> Any:
        """Return 1 / (1 + e^-x) in float32."""
        with np.errstate(over="ignore"):
            return np.float32(1) / (np.float32(1) + np.exp(-x))

    def sigmoid64(x: Any) -> Any:
        """Return 1 / (1 + e^-x) in float64."""
        with np.errstate(over="ignore"):
            return np.float64(1) / (np.float64(1) + np.exp(-x))
else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    device = cuda.jit(device=True, inline="always")

    def _instruction(text: str) -> Any:
        """Make the function of one float32 that is one instruction of PTX."""

        @intrinsic
        def instruction(_: Any, x: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()])
                return builder.asm(kind, f"{text} $0, $1;", "=f,f", arguments, side_effect=False)

            return types.float32(types.float32), generate

        return instruction

    # Within 1 and 2 ulp; infinity has the reciprocal 0, and a large number the power infinity.
    _reciprocal = _instruction("rcp.approx.ftz.f32")
    _power_of_2 = _instruction("ex2.approx.ftz.f32")

    def _bit_cast(source: Any, target: Any) -> Any:
        """Make the function that takes the bits of a number of one type for those of another."""

        @intrinsic
        def cast(_: Any, x: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                return builder.bitcast(arguments[0], context.get_value_type(target))

            return target(source), generate

        return cast

    float_of_bits = _bit_cast(types.uint32, types.float32)
    bits_of_float = _bit_cast(types.float32, types.uint32)
    _half_of_bits = _bit_cast(types.uint16, types.float16)
    _bits_of_half = _bit_cast(types.float16, types.uint16)

    @device
    def widen_half(bits: Any) -> Any:
        """Return the float16 of 16 bits as float32."""
        return np.float32(_half_of_bits(bits))

    @device
    def narrow_half(value: Any) -> Any:
        """Return a float32 as the bits of the nearest float16."""
        return _bits_of_half(np.float16(value))

    @device
    def sigmoid32(x: Any) -> Any:
        """Return 1 / (1 + e^-x) in float32."""
        return _reciprocal(np.float32(1) + _power_of_2(x * MINUS_LOG2_E))

    @device
    def sigmoid64(x: Any) -> Any:
        """Return 1 / (1 + e^-x) in float64."""
        one = np.float64(1)
        return one / (one + math.exp(-x))


@device
def widen_bfloat16(bits: Any) -> Any:
    """Return the bfloat16 of 16 bits as float32."""
    return float_of_bits(np.uint32(bits) << np.uint32(16))


@device
def narrow_bfloat16(value: Any) -> Any:
    """Return a float32 as the bits of the nearest bfloat16."""
    # To nearest even, in 32 bits. A NaN is kept apart, with its quiet bit set: rounded it may be infinite.
    bits = np.int64(bits_of_float(value))
    rounded = np.uint32(bits + 0x7FFF + ((bits >> 16) & 1)) >> np.uint32(16)
    if value != value:
        rounded = (np.uint32(bits) >> np.uint32(16)) | np.uint32(0x40)
    return np.uint16(rounded)


@device
def only(word: Any, lane: int) -> Any:
    """Return the one number of a word."""
    return word


@device
def alone(values: Any) -> Any:
    """Return a word of one number."""
    return values[0]


@device
def take_pair(word: Any, lane: int) -> Any:
    """Return one of two float32 in a word of 64 bits, the first in the low half."""
    return float_of_bits(np.uint32(word >> np.uint64(32 * lane)))


@device
def give_pair(values: Any) -> Any:
    """Return a word of 64 bits of two float32, the first in the low half."""
    high = np.uint64(bits_of_float(values[1])) << np.uint64(32)
    return high | np.uint64(bits_of_float(values[0]))


def element(kind: str, lanes: int) -> Element:
    """Say how elements of a type lie in memory, one or two a word: float64, float32, float16, bfloat16."""
    if kind in ("float64", "float32"):
        real = types.float64 if kind == "float64" else types.float32
        sigmoid = sigmoid64 if kind == "float64" else sigmoid32
        return Element(1, real, real, real, only, alone, only, alone, sigmoid)
    widen_bits, narrow_bits = {
        "float16": (widen_half, narrow_half),
        "bfloat16": (widen_bfloat16, narrow_bfloat16),
    }[kind]

    @device
    def widen_one(word: Any, lane: int) -> Any:
        return widen_bits(word)

    @device
    def narrow_one(values: Any) -> Any:
        return narrow_bits(values[0])

    @device
    def widen_pair(word: Any, lane: int) -> Any:
        return widen_bits(np.uint16(word >> np.uint32(16 * lane)))

    @device
    def narrow_pair(values: Any) -> Any:
        high = np.uint32(narrow_bits(values[1])) << np.uint32(16)
        return np.uint32(high | np.uint32(narrow_bits(values[0])))

    real = types.float32
    if lanes == 1:
        return Element(1, types.uint16, real, real, widen_one, narrow_one, only, alone, sigmoid32)
    return Element(
        2, types.uint32, types.uint64, real, widen_pair, narrow_pair, take_pair, give_pair, sigmoid32
    )
