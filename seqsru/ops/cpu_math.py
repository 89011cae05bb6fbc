"""What the CPU kernels are written in: typed pointers, buffers on the stack, and gates that vectorise.

Everything here is called from Numba kernels only. A kernel is compiled once for each element type, which it
learns from the types of two of its pointers: float64, float32, or uint16 for the bits of a bfloat16.
Arithmetic is float64 in the first case and float32 in the others.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

TILE = 256  # features a kernel works on at once: its buffers stay in the first-level cache

# Wrong results come from most of fastmath; fused multiplication and addition is all that is safe here.
FASTMATH = {"contract"}


# Memory


@intrinsic
def pointer(typingctx, like, address):
    """Return `address`, an integer, as a pointer of the type of the pointer `like`."""

    def build(context, builder, signature, arguments):
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return like(like, address), build


@intrinsic
def byte_pointer(typingctx, address):
    """Return `address`, an integer, as a pointer to bytes."""

    def build(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.uint8)(address), build


@intrinsic
def buffer(typingctx, like):
    """Return a pointer to TILE elements on the stack, of the type `like` points to.

    Nothing else can point there, which the compiler knows: loops that write only to such buffers are
    vectorised without checks whether arrays overlap.
    """

    def build(context, builder, signature, arguments):
        place = cgutils.alloca_once(builder, context.get_value_type(signature.return_type.dtype), size=TILE)
        place.align = 64
        return place

    return like(like), build


@intrinsic
def double_of(typingctx, bits):
    """Return the float64 whose bits are the integer `bits`."""

    def build(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(bits), build


@intrinsic
def _float_of(typingctx, bits):
    def build(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), build


@intrinsic
def _bits_of(typingctx, value):
    def build(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), build


def load(p, i):
    """Return element i of p as a number to compute with."""
    raise NotImplementedError("called from kernels only")


def store(p, i, value):
    """Round `value` to the type of p and write it to element i."""
    raise NotImplementedError("called from kernels only")


def number(p, value):
    """Return the constant `value` in the type of p, whose arithmetic would otherwise become float64."""
    raise NotImplementedError("called from kernels only")


@overload(load, jit_options={"fastmath": FASTMATH})
def _load(p, i):
    if p.dtype == types.uint16:
        return lambda p, i: _float_of(np.uint32(p[i]) << np.uint32(16))
    return lambda p, i: p[i]


@overload(store, jit_options={"fastmath": FASTMATH})
def _store(p, i, value):
    if p.dtype == types.uint16:

        def store_bfloat16(p, i, value):
            bits = _bits_of(value)
            # To nearest, ties to even: add just under half, and the last bit that stays.
            rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            # Adding could carry a NaN's bits into another number: such a value keeps its sign and becomes
            # quiet.
            nan = (bits >> np.uint32(16)) | np.uint32(0x40)
            p[i] = np.uint16(nan if value != value else rounded)

        return store_bfloat16

    def store_plain(p, i, value):
        p[i] = value

    return store_plain


@overload(number, jit_options={"fastmath": FASTMATH})
def _number(p, value):
    kind = p.dtype
    return lambda p, value: kind(value)


# Gates. In float64 they are the library's exp and tanh. In float32 those would be a call for each element, so
# they are written out with e^-|x| = s * (1 + q): s a power of two, made from the bits of its exponent, and q
# = e^y - 1 on |y| <= ln(2) / 2 by a polynomial of our own fit (relative error 1.6e-8, a quarter of float32's
# rounding).

# Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits; 127 is the bias of exponents.
MAGIC = np.float32(12582912.0 + 127.0)
LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH = np.float32(0.693359375)  # few enough bits that its product with a small integer is exact
LN2_LOW = np.float32(-2.12194440e-4)
Q0 = np.float32(0.5)
Q1 = np.float32(0.16666543)
Q2 = np.float32(0.04166628)
Q3 = np.float32(0.008366611)
Q4 = np.float32(0.0013946497)
MOST = np.float32(87.0)  # e^-87 is the last that is a normal number
ONE = np.float32(1.0)
TWO = np.float32(2.0)


def _power_and_rest(a):
    """Return s and q of e^-a = s * (1 + q), for a >= 0."""
    raise NotImplementedError("called from kernels only")


@overload(_power_and_rest, jit_options={"fastmath": FASTMATH})
def _power_and_rest_float32(a):
    def build(a):
        a = MOST if a > MOST else a  # so written that NaN stays
        shifted = MAGIC - a * LOG2_E
        k = shifted - MAGIC
        y = (-a - k * LN2_HIGH) - k * LN2_LOW
        q = y + y * y * (Q0 + y * (Q1 + y * (Q2 + y * (Q3 + y * Q4))))
        return _float_of(_bits_of(shifted) << np.uint32(23)), q

    return build


def exp_minus(a):
    """Return e^-a for a >= 0; at least e^-87 in float32."""
    raise NotImplementedError("called from kernels only")


def sigmoid(x):
    """Return 1 / (1 + e^-x)."""
    raise NotImplementedError("called from kernels only")


def tanh(x):
    """Return the hyperbolic tangent of x."""
    raise NotImplementedError("called from kernels only")


@overload(exp_minus, jit_options={"fastmath": FASTMATH})
def _exp_minus(a):
    if a == types.float64:
        return lambda a: math.exp(-a)

    def exp_minus_float32(a):
        s, q = _power_and_rest(a)
        return s + s * q

    return exp_minus_float32


@overload(sigmoid, jit_options={"fastmath": FASTMATH})
def _sigmoid(x):
    if x == types.float64:

        def sigmoid_exact(x):
            e = math.exp(-abs(x))
            return (1.0 if x >= 0.0 else e) / (1.0 + e)

        return sigmoid_exact

    def sigmoid_float32(x):
        s, q = _power_and_rest(abs(x))
        e = s + s * q
        return (ONE if x >= np.float32(0.0) else e) / (ONE + e)

    return sigmoid_float32


@overload(tanh, jit_options={"fastmath": FASTMATH})
def _tanh(x):
    if x == types.float64:
        return lambda x: math.tanh(x)

    def tanh_float32(x):
        s, q = _power_and_rest(TWO * abs(x))
        less = s * q + (s - ONE)  # e^-2|x| - 1, exact to rounding near 0 too
        y = less / (TWO + less)
        return y if x < np.float32(0.0) else -y

    return tanh_float32
