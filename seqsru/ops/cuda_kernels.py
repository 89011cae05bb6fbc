"""The two scans as CUDA kernels: their source and their signatures; `cuda` launches them.

One thread owns one row and one feature and walks through time, so the recurrence needs no exchange between
threads, no shared memory and no atomics, and neighbouring threads read neighbouring features. Every element
of every output is written by exactly one thread. Four decisions shape the source:

* **One text, two machines.** numba-cuda compiles it with a raw pointer for each array. The simulator of the
  same package (``NUMBA_ENABLE_CUDASIM=1``) runs it as Python on flat arrays, which ``p[i]`` reads the same
  way. It swaps the module global named ``cuda`` while a kernel runs, so that name must stay.
* **Four time steps in flight.** A step waits for memory far longer than it computes, and a language model's
  layer is too narrow to hide that behind more threads. So there are four slots of inputs, and a slot is
  filled for step t + 4 as soon as step t has used it. The loop is unrolled by hand, so that a slot is
  always the same registers, and a slot holds what memory holds: to move, widen or compare a value on its
  way is to wait for it.
* **Few variants.** A kernel is compiled for an element type and nothing else. What is absent (v, mask, valid,
  highway, kept states) is a bit not set in `options`; a branch on it goes the same way in all threads.
* **Time in chunks.** A thread may own `span` steps instead of all T: then there are C = ⌈T / span⌉ threads
  for a row and feature, each with its own first and last state. Where the next state is linear in the last
  (``c = a * c + b``; version 1 of the SRU) so is the last state of a chunk in its first, ``A * c + E``. With
  CARRY set a kernel writes these two and nothing else, A where it has no other use for an array: a scan over
  the C chunks gives the first states, and the kernels run again from these. Backward in time it is the same,
  with gradients for states.

Arrays are flat and contiguous and hold the shapes below; sizes and offsets are 64-bit integers. The equations
are numbered as in `reference`.

==========  ==================================================================================================
u, gu       (T, B, k, D): candidate, forget, reset, and with k = 4 the highway input
x, gx       highway input of step t, row n at ``x[t * x_step + n * x_row + d]``; with k = 4 inside u, gu
c0, c_last  (C, B, D): first and last state of each chunk; gc0, gc_last their gradients
v, b        (2, D): forget, reset; gv, gb (2, C, B, D) their gradients, row by row
mask        (B, D): variational dropout
valid       (T, B): bytes, 0 where a step is skipped
h, gh       (T, B, D): output and its gradient
c           (T, B, D): state after each step
c, gb, factors  (C, B, D) with CARRY: A, forward, backward through the SRU and through the linear scan
==========  ==================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda, types

from seqsru.ops.calls import (
    CARRY,
    HIGHWAY,
    KEEP,
    LAYOUTS,
    MASK,
    RELU,
    TANH,
    VALID,
    VECTOR,
    LinearBackward,
    LinearForward,
    Scan,
    SruBackward,
    SruForward,
)
from seqsru.ops.cuda_elements import ELEMENTS, device

# Time steps in flight, the number of slots q0 … q3.
AHEAD = 4
# What `valid` holds at a step that is not skipped.
ALIVE = np.uint8(1)


def signature(kind: str, call: type[Scan]) -> tuple[Any, ...]:
    """Types of the parameters of a kernel of one element type: its call's fields, then span and options."""
    element = ELEMENTS[kind]
    real = types.float64 if element.real is np.float64 else types.float32
    held = {
        "elements": types.CPointer(element.stored),
        "reals": types.CPointer(real),
        "bytes": types.CPointer(types.uint8),
        "size": types.int64,
        "code": types.int32,
        "real": real,
    }
    return (*(held[what] for what in LAYOUTS[call].kinds), types.int64, types.int32)


@device
def recurrence(T, B, D, span):
    """Say which recurrence is this thread's, and whether there is none left for it.

    Returns the thread's number; B · D; its first step, and the one after its last; its element in a plane
    (B, D), row and feature; whether it lies beyond the last recurrence and is to do nothing.
    """
    thread = np.int64(cuda.blockIdx.x) * cuda.blockDim.x + cuda.threadIdx.x
    plane = B * D
    chunk = thread // plane
    first = chunk * span
    last = min(first + span, T)
    n = thread - chunk * plane
    row = n // D
    return thread, plane, first, last, n, row, n - row * D, chunk > 0 and first >= T


@device
def flag_of(valid, i, options):
    """Return the byte of `valid` at a step and row."""
    return valid[i] if options & VALID else ALIVE


def build(kind: str) -> dict[type[Scan], Callable[..., None]]:
    """Write the kernels of one element type: float64, float32, float16 or bfloat16, by their calls.

    The arithmetic is float64 for float64 and float32 for the others. Nothing is compiled here.
    """
    _, real, widen, narrow, sigmoid = ELEMENTS[kind]
    zero, one = real(0), real(1)

    @device
    def activate(c, activation):
        y = c
        if activation == TANH:
            y = math.tanh(c)
        elif activation == RELU and c < zero:
            y = zero
        return y

    @device
    def gates(v, b, mask, options, D, d, n):
        """Return what is the same at every step: weights and biases of the gates, dropout."""
        bf, br = b[d], b[D + d]
        vf, vr = (v[d], v[D + d]) if options & VECTOR else (zero, zero)
        m = widen(mask[n]) if options & MASK else one
        return vf, vr, bf, br, m

    def sru_forward(
        u, c0, x, v, b, mask, valid, h, c_last, c, T, B, k, D, x_step, x_row, activation, scale, span, options
    ):
        thread, plane, first, last, n, row, d, idle = recurrence(T, B, D, span)
        if idle:
            return
        u_step, u_start, x_start = plane * k, row * k * D + d, row * x_row + d
        vf, vr, bf, br, m = gates(v, b, mask, options, D, d, n)
        blank = narrow(zero)

        def step(t, now, so_far):
            """Compute step t from its inputs `now`; request those of step t + AHEAD in their place."""
            state, factor = so_far
            if first <= t < last:
                u0, u1, u2, x0, flag = now
                out = zero
                if flag:
                    f = sigmoid(widen(u1) + vf * state + bf)  # (1)
                    r = sigmoid(widen(u2) + vr * state + br)  # (2)
                    candidate = widen(u0)
                    state = (state - candidate) * f + candidate  # (3)
                    factor = factor * f
                    xt = widen(x0) * scale
                    out = xt + (activate(state, activation) - xt) * m * r  # (4)
                if not options & CARRY:
                    h[t * plane + n] = narrow(out)
                if options & KEEP:
                    c[t * plane + n] = state
            later, following = t + AHEAD, now
            if later < last:
                i = u_start + later * u_step
                carried = x[x_start + later * x_step] if options & HIGHWAY else blank
                flag = flag_of(valid, later * B + row, options)
                following = u[i], u[i + D], u[i + 2 * D], carried, flag
            return following, (state, factor)

        empty = blank, blank, blank, blank, ALIVE
        q0, q1, q2, q3, so_far, t = empty, empty, empty, empty, (c0[thread], one), first - AHEAD
        while t < last:
            q0, so_far = step(t, q0, so_far)
            q1, so_far = step(t + 1, q1, so_far)
            q2, so_far = step(t + 2, q2, so_far)
            q3, so_far = step(t + 3, q3, so_far)
            t += AHEAD
        c_last[thread], factor = so_far
        if options & CARRY:
            c[thread] = factor

    def sru_backward(
        u,
        c0,
        x,
        v,
        b,
        mask,
        valid,
        c,
        gh,
        gc_last,
        gu,
        gx,
        gc0,
        gv,
        gb,
        T,
        B,
        k,
        D,
        x_step,
        x_row,
        activation,
        scale,
        span,
        options,
    ):
        thread, plane, first, last, n, row, d, idle = recurrence(T, B, D, span)
        if idle:
            return
        u_step, u_start, x_start = plane * k, row * k * D + d, row * x_row + d
        gx_step, gx_start = (x_step, x_start) if k == 4 else (plane, n)
        vf, vr, bf, br, m = gates(v, b, mask, options, D, d, n)
        blank = narrow(zero)

        def step(s, now, state):
            """Go back through step t = last - 1 - s; request those of step t - AHEAD in place of `now`."""
            t = last - 1 - s
            if first <= t < last:
                u0, u1, u2, x0, g0, before, flag = now
                after, cur, factor, sum_vf, sum_vr, sum_bf, sum_br = state
                gu0, gf, gr, gxt = zero, zero, zero, zero
                if flag:
                    f = sigmoid(widen(u1) + vf * before + bf)
                    r = sigmoid(widen(u2) + vr * before + br)
                    y = activate(after, activation)
                    slope = one
                    if activation == TANH:
                        slope = one - y * y
                    elif activation == RELU and not y > zero:
                        slope = zero
                    g = widen(g0)
                    gxt = g * (one - m * r) * scale  # (5)
                    gr = g * (y - widen(x0) * scale) * m * r * (one - r)  # (6)
                    gc = g * m * r * slope + cur  # (7)
                    gf = gc * (before - widen(u0)) * f * (one - f)  # (8)
                    gu0 = gc * (one - f)  # (9)
                    cur = gc * f + gf * vf + gr * vr  # (11)
                    factor = factor * f
                i = u_start + t * u_step
                if not options & CARRY:
                    gu[i], gu[i + D], gu[i + 2 * D] = narrow(gu0), narrow(gf), narrow(gr)
                if options & HIGHWAY:
                    gx[gx_start + t * gx_step] = narrow(gxt)
                state = (
                    before,
                    cur,
                    factor,
                    sum_vf + gf * before,
                    sum_vr + gr * before,  # (10)
                    sum_bf + gf,
                    sum_br + gr,
                )
            earlier, following = t - AHEAD, now
            if earlier >= first:
                i = u_start + earlier * u_step
                carried = x[x_start + earlier * x_step] if options & HIGHWAY else blank
                flag = flag_of(valid, earlier * B + row, options)
                before = c[(earlier - 1) * plane + n] if earlier > 0 else c0[n]
                following = u[i], u[i + D], u[i + 2 * D], carried, gh[earlier * plane + n], before, flag
            return following, state

        empty = blank, blank, blank, blank, blank, zero, ALIVE
        after = c[(last - 1) * plane + n] if last > 0 else zero
        q0, q1, q2, q3, s = empty, empty, empty, empty, np.int64(-AHEAD)
        state = after, gc_last[thread], one, zero, zero, zero, zero
        while s < last - first:
            q0, state = step(s, q0, state)
            q1, state = step(s + 1, q1, state)
            q2, state = step(s + 2, q2, state)
            q3, state = step(s + 3, q3, state)
            s += AHEAD
        _, cur, factor, sum_vf, sum_vr, sum_bf, sum_br = state
        gc0[thread] = cur
        if options & CARRY:
            gb[thread] = factor
        else:
            chunks = max((T + span - 1) // span, 1)
            gb[thread], gb[chunks * plane + thread] = sum_bf, sum_br
            if options & VECTOR:
                gv[thread], gv[chunks * plane + thread] = sum_vf, sum_vr

    def linear_forward(a, c0, b, valid, out, c_last, c, T, B, D, span, options):
        thread, plane, first, last, n, row, _, idle = recurrence(T, B, D, span)
        if idle:
            return
        blank = narrow(zero)

        def step(t, now, so_far):
            """Compute step t from its inputs `now`; request those of step t + AHEAD in their place."""
            state, factor = so_far
            if first <= t < last:
                a0, b0, flag = now
                shown = zero
                if flag:
                    state = widen(a0) * state + widen(b0)
                    factor = factor * widen(a0)
                    shown = state
                if not options & CARRY:
                    out[t * plane + n] = narrow(shown)
                if options & KEEP:
                    c[t * plane + n] = state
            later, following = t + AHEAD, now
            if later < last:
                flag = flag_of(valid, later * B + row, options)
                following = a[later * plane + n], b[later * plane + n], flag
            return following, (state, factor)

        empty = blank, blank, ALIVE
        q0, q1, q2, q3, so_far, t = empty, empty, empty, empty, (c0[thread], one), first - AHEAD
        while t < last:
            q0, so_far = step(t, q0, so_far)
            q1, so_far = step(t + 1, q1, so_far)
            q2, so_far = step(t + 2, q2, so_far)
            q3, so_far = step(t + 3, q3, so_far)
            t += AHEAD
        c_last[thread], factor = so_far
        if options & CARRY:
            c[thread] = factor

    def linear_backward(a, c0, valid, c, gout, gc_last, ga, gb, gc0, factors, T, B, D, span, options):
        thread, plane, first, last, n, row, _, idle = recurrence(T, B, D, span)
        if idle:
            return
        blank = narrow(zero)

        def step(s, now, so_far):
            """Go back through step t = last - 1 - s; request those of step t - AHEAD in place of `now`."""
            t = last - 1 - s
            cur, factor = so_far
            if first <= t < last:
                a0, g0, before, flag = now
                gat, gbt = zero, zero
                if flag:
                    gbt = widen(g0) + cur
                    gat = gbt * before
                    cur = gbt * widen(a0)
                    factor = factor * widen(a0)
                if not options & CARRY:
                    ga[t * plane + n], gb[t * plane + n] = narrow(gat), narrow(gbt)
            earlier, following = t - AHEAD, now
            if earlier >= first:
                i = earlier * plane + n
                flag = flag_of(valid, earlier * B + row, options)
                before = c[i - plane] if earlier > 0 else c0[n]
                following = a[i], gout[i], before, flag
            return following, (cur, factor)

        empty = blank, blank, zero, ALIVE
        q0, q1, q2, q3, so_far, s = empty, empty, empty, empty, (gc_last[thread], one), np.int64(-AHEAD)
        while s < last - first:
            q0, so_far = step(s, q0, so_far)
            q1, so_far = step(s + 1, q1, so_far)
            q2, so_far = step(s + 2, q2, so_far)
            q3, so_far = step(s + 3, q3, so_far)
            s += AHEAD
        gc0[thread], factor = so_far
        if options & CARRY:
            factors[thread] = factor

    return {
        SruForward: sru_forward,
        SruBackward: sru_backward,
        LinearForward: linear_forward,
        LinearBackward: linear_backward,
    }
