"""Element types of the CUDA kernels: how one lies in memory, is widened to compute with, and narrowed again.

A kernel widens a value when it computes with it and not when it loads it, since touching a value waits for
the load. bfloat16 is read and written as its 16 bits, so that kernels need no such type and no second link
step.

Functions marked `device` become part of the kernel that calls them. In numba's simulator
(``NUMBA_ENABLE_CUDASIM=1``) they are plain Python, and the four that use the GPU's own functions have a twin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import config, cuda, types

SIMULATED = bool(config.ENABLE_CUDASIM)


class Element(NamedTuple):
    """One element type and what the kernels need to know of it."""

    stored: Any  # numba's type of one element in memory
    real: Any  # NumPy's type of the arithmetic
    widen: Callable[[Any], Any]  # stored -> real
    narrow: Callable[[Any], Any]  # real -> stored, to nearest even
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

    def sigmoid32(x: Any) -> Any:
        """Return 1 / (1 + e^-x) in float32."""
        with np.errstate(over="ignore"):
            return np.float32(1) / (np.float32(1) + np.exp(-x))

    def sigmoid64(x: Any) -> Any:
        """Return 1 / (1 + e^-x) in float64."""
        with np.errstate(over="ignore"):
            return np.float64(1) / (np.float64(1) + np.exp(-x))
else:
    from numba.cuda import libdevice

    device = cuda.jit(device=True, inline="always")

    @device
    def float_of_bits(bits: Any) -> Any:
        """Return the float32 of 32 bits."""
        return libdevice.int_as_float(np.int32(bits))

    @device
    def bits_of_float(value: Any) -> Any:
        """Return the 32 bits of a float32."""
        return np.uint32(libdevice.float_as_int(value))

    @device
    def sigmoid32(x: Any) -> Any:
        """Return 1 / (1 + e^-x) in float32."""
        # The quick quotient: within 2 ulp, and 0 where the exponential overflows, as it should be.
        one = np.float32(1)
        return libdevice.fast_fdividef(one, one + math.exp(-x))

    @device
    def sigmoid64(x: Any) -> Any:
        """Return 1 / (1 + e^-x) in float64."""
        one = np.float64(1)
        return one / (one + math.exp(-x))


@device
def same(value: Any) -> Any:
    """Return the value: memory holds what the arithmetic takes."""
    return value


@device
def widen_float16(stored: Any) -> Any:
    """Return a float16 as float32."""
    return np.float32(stored)


@device
def narrow_float16(value: Any) -> Any:
    """Return a float32 as the nearest float16."""
    return np.float16(value)


@device
def widen_bfloat16(stored: Any) -> Any:
    """Return the bits of a bfloat16 as float32."""
    return float_of_bits(np.uint32(stored) << np.uint32(16))


@device
def narrow_bfloat16(value: Any) -> Any:
    """Return a float32 as the bits of the nearest bfloat16."""
    # To nearest even, without a branch. In signed 64-bit integers a carry out of the largest NaN shows as
    # 0x8000, and infinity - magnitude is negative for a NaN, whose quiet bit keeps rounding from making it
    # infinite.
    bits = np.int64(bits_of_float(value))
    magnitude = bits & 0x7FFFFFFF
    rounded = (magnitude + 0x7FFF + ((magnitude >> 16) & 1)) >> 16
    rounded = (rounded - (rounded >> 15)) | (((0x7F800000 - magnitude) >> 63) & 0x40)
    return np.uint16(((bits >> 16) & 0x8000) | rounded)


ELEMENTS = {
    "float64": Element(types.float64, np.float64, same, same, sigmoid64),
    "float32": Element(types.float32, np.float32, same, same, sigmoid32),
    "float16": Element(types.float16, np.float32, widen_float16, narrow_float16, sigmoid32),
    "bfloat16": Element(types.uint16, np.float32, widen_bfloat16, narrow_bfloat16, sigmoid32),
}
