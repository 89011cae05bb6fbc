"""The two scans as CUDA kernels: their source and their signatures; `cuda_build` compiles them.

One thread owns one row and one feature, or two features of 16 bits, and walks through time, so the recurrence
needs no exchange between threads, no shared memory and no atomics, and neighbouring threads read neighbouring
features. Every element of every output is written by exactly one thread. Five decisions shape the source:

* **One text, two machines.** numba-cuda compiles it with a raw pointer for each array. The simulator of the
  same package (``NUMBA_ENABLE_CUDASIM=1``) runs it as Python on flat arrays, which ``p[i]`` reads the same
  way. It swaps the module global named ``cuda`` while a kernel runs, so that name must stay.
* **A group of steps on its way.** A step waits for memory far longer than it computes, and a language model's
  layer is too narrow to hide that behind more threads. So time goes in groups of steps: all of the next group
  is requested, then all of this one is computed. The GPU counts the loads of such a loop together (on one
  scoreboard), so to wait for any is to wait for the newest. That is why the loop begins with ``now = ahead``,
  which waits for what was requested a whole group ago, and why nothing else in it may be waited for: the
  first turn only loads, and what is loaded before the loop is multiplied by 1 (`unit`) to have arrived.
* **What is known is compiled in.** What is given (v, mask, valid, highway, kept states) and the activation
  are constants of a kernel (`Variant`), which is made at its first use. Groups are whole in the loop, so
  that no step of it is tested; a tail of fewer steps is.
* **No division of large numbers**, which is a call in machine code, and costs registers everywhere: a block
  owns one row, or several whole rows of few features.
* **Time in chunks.** A thread may own `span` steps instead of all T: then there are C = ⌈T / span⌉ threads
  for a row and feature, each with its own first and last state. Where the next state is linear in the last
  (``c = a * c + b``; version 1 of the SRU) so is the last state of a chunk in its first, ``A * c + E``. With
  CARRY set a kernel writes these two and nothing else, A where it has no other use for an array: a scan over
  the C chunks gives the first states, and the kernels run again from these. Backward in time it is the same,
  with gradients for states.
* **Two directions at once.** With BOTH set the threads of the second half of the features go through time
  from its end: `start` and `step` of an array are then turned around, and t still counts their steps.

Arrays are flat and contiguous and hold the shapes below; sizes and offsets are 64-bit integers. A word of two
elements makes D, x_step and x_row half as long, and nothing else differs. The equations are numbered as in
`reference`.

==========  ==================================================================================================
u, gu       (T, B, k, D): candidate, forget, reset, and with k = 4 the highway input; with BOTH
            (T, B, 2, k, D/2), a direction after the other
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
    BOTH,
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
from seqsru.ops.cuda_build import THREADS, Variant
from seqsru.ops.cuda_elements import device, element


def group(call: type[Scan], kind: str, variant: Variant) -> int:
    """Steps of a group: enough to compute while memory answers, and no more than registers hold twice.

    A test reads in the machine code how far a load is from what waits for it.
    """
    double, pair = kind == "float64", variant.lanes == 2
    backward, carry = call in (SruBackward, LinearBackward), bool(variant.options & CARRY)
    if call in (SruForward, SruBackward):
        if double or pair and backward:
            return 5 if double and backward else 4
        return 16 if carry and not backward else 8
    # A step of c = a * c + b is a few instructions.
    registers = (3 if backward else 2) * (2 if double else 1) + bool(variant.options & VALID)
    return 16 if pair else (80 if double else 64) // registers


def signature(call: type[Scan], kind: str, lanes: int) -> tuple[Any, ...]:
    """Types of the parameters of a kernel of one element type: its call's fields, then span."""
    words = element(kind, lanes)
    held = {
        "elements": types.CPointer(words.stored),
        "reals": types.CPointer(words.held),
        "bytes": types.CPointer(types.uint8),
        "size": types.int64,
        "code": types.int32,
        "real": words.real,
    }
    return (*(held[what] for what in LAYOUTS[call].kinds), types.int64)


@device
def turned(start, step, T):
    """Return the start and the step of an array for a thread that goes back in time."""
    return start + (T - 1) * step, -step


@device
def recurrence(T, B, D, span):
    """Say which recurrence is this thread's, and whether there is none for it.

    Returns the thread's place in an array (C, B, D); B · D; its first step, and the one after its last; its
    place in a plane (B, D), row and feature; whether it lies beyond the last recurrence and is to do nothing.
    """
    block, lane = np.uint32(cuda.blockIdx.x), np.uint32(cuda.threadIdx.x)
    many = D > THREADS
    if many:
        parts = np.uint32((D + (THREADS - 1)) // THREADS)
        row = np.int64(block // parts)
        d = (np.int64(block) - row * np.int64(parts)) * THREADS + np.int64(lane)
    else:
        width = np.uint32(D)
        rows, beside = np.uint32(THREADS) // width, lane // width
        row = np.int64(block) * np.int64(rows) + np.int64(beside)
        d = np.int64(lane) - np.int64(beside) * D
        row = row if beside < rows else B
    chunk = np.int64(cuda.blockIdx.y)
    first = chunk * span
    last = min(first + span, T)
    plane = B * D
    n = row * D + d
    return chunk * plane + n, plane, first, last, n, row, d, d >= D or row >= B


def build(call: type[Scan], kind: str, variant: Variant) -> Callable[..., None]:
    """Write the kernel of a call for an element type, float64, float32, float16 or bfloat16, and a variant.

    The arithmetic is float64 for float64 and float32 for the others. Nothing is compiled here.
    """
    activation, options, lanes = variant
    _, stored, held, number, widen, narrow, take, give, sigmoid = element(kind, lanes)
    real = np.float64 if number is types.float64 else np.float32
    zero, one = real(0), real(1)
    vector, masked, valids = options & VECTOR != 0, options & MASK != 0, options & VALID != 0
    highway, keep, carry = options & HIGHWAY != 0, options & KEEP != 0, options & CARRY != 0
    both = options & BOTH != 0
    G = group(call, kind, variant)

    @device
    def activate(c):
        if activation == TANH:
            return math.tanh(c)
        if activation == RELU:
            return zero if c < zero else c
        return c

    @device
    def slope_of(y):
        """Slope of the activation where it is y."""
        if activation == TANH:
            return one - y * y
        if activation == RELU:
            return one if y > zero else zero
        return one

    @device
    def gate(number, weight, state, bias):
        """A gate: equations (1) and (2)."""
        return sigmoid(number + weight * state + bias if vector else number + bias)

    @device
    def unit(first, last):
        """Return 1, but known to a running kernel only: a product with it waits for its other factor."""
        return one if first <= last else zero

    @device
    def settle(fixed, v, b, mask, D, d, n, unit):
        """Fill in what is the same at every step: weights and biases of the gates, and dropout."""
        for lane in range(lanes):
            fixed[0, lane] = take(v[d], lane) * unit if vector else zero
            fixed[1, lane] = take(v[D + d], lane) * unit if vector else zero
            fixed[2, lane], fixed[3, lane] = take(b[d], lane) * unit, take(b[D + d], lane) * unit
            fixed[4, lane] = widen(mask[n], lane) * unit if masked else one

    def sru_forward(
        u, c0, x, v, b, mask, valid, h, c_last, c, T, B, k, D, x_step, x_row, _activation, scale, span
    ):
        D, x_step, x_row = D // lanes, x_step // lanes, x_row // lanes
        thread, plane, first, last, n, row, d, idle = recurrence(T, B, D, span)
        if idle:
            return
        u_step, u_start, x_start = plane * k, row * k * D + d, row * x_row + d
        step, start, valid_step, valid_start, part = plane, n, B, row, D
        if both:
            part = D // 2
            if d >= part:
                u_start, u_step = turned(u_start + (k - 1) * part, u_step, T)
                x_start, x_step = turned(x_start + ((k - 1) * part if k == 4 else 0), x_step, T)
                start, step = turned(start, step, T)
                valid_start, valid_step = turned(valid_start, valid_step, T)
        fixed = cuda.local.array((5, lanes), number)  # vf, vr, bf, br, m
        state, factor = cuda.local.array(lanes, number), cuda.local.array(lanes, number)
        shown = cuda.local.array(lanes, number)
        ahead, now = cuda.local.array((4, G), stored), cuda.local.array((4, G), stored)
        alive_ahead, alive = cuda.local.array(G, types.uint8), cuda.local.array(G, types.uint8)

        def request(i, t):
            """Load step t into place i of the next group."""
            at = u_start + t * u_step
            ahead[0, i], ahead[1, i], ahead[2, i] = u[at], u[at + part], u[at + 2 * part]
            if highway:
                ahead[3, i] = x[x_start + t * x_step]
            if valids:
                alive_ahead[i] = valid[t * valid_step + valid_start]

        def compute(t, words, flags, i):
            """Compute step t from place i of a group."""
            for lane in range(lanes):
                old, m = state[lane], fixed[4, lane]
                f = gate(widen(words[1, i], lane), fixed[0, lane], old, fixed[2, lane])  # (1)
                r = gate(widen(words[2, i], lane), fixed[1, lane], old, fixed[3, lane])  # (2)
                candidate = widen(words[0, i], lane)
                new = (old - candidate) * f + candidate  # (3)
                xt = widen(words[3, i], lane) * scale if highway else zero
                out = xt + (activate(new) - xt) * m * r  # (4)
                if valids and not flags[i]:
                    new, out, f = old, zero, one
                state[lane], shown[lane], factor[lane] = new, out, factor[lane] * f
            if not carry:
                h[t * step + start] = narrow(shown)
            if keep:
                c[t * step + start] = give(state)

        touch = unit(first, last)
        settle(fixed, v, b, mask, D, d, n, touch)
        for lane in range(lanes):
            state[lane], factor[lane] = take(c0[thread], lane) * touch, one
        t = first - G
        while t + G <= last:
            for i in range(G):
                for j in range(4):
                    now[j, i] = ahead[j, i]
                alive[i] = alive_ahead[i]
            left = last - t - G
            if left >= G:
                for i in range(G):
                    request(i, t + G + i)
            elif left > 0:
                for i in range(G - 1):
                    request(i, t + G + min(i, left - 1))
            if t >= first:
                for i in range(G):
                    compute(t + i, now, alive, i)
            t += G
        for i in range(G - 1):
            if t + i < last:
                compute(t + i, ahead, alive_ahead, i)
        c_last[thread] = give(state)
        if carry:
            c[thread] = give(factor)

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
        _activation,
        scale,
        span,
    ):
        D, x_step, x_row = D // lanes, x_step // lanes, x_row // lanes
        thread, plane, first, last, n, row, d, idle = recurrence(T, B, D, span)
        if idle:
            return
        u_step, u_start, x_start = plane * k, row * k * D + d, row * x_row + d
        step, start, valid_step, valid_start, part = plane, n, B, row, D
        if both:
            part = D // 2
            if d >= part:
                u_start, u_step = turned(u_start + (k - 1) * part, u_step, T)
                x_start, x_step = turned(x_start + ((k - 1) * part if k == 4 else 0), x_step, T)
                start, step = turned(start, step, T)
                valid_start, valid_step = turned(valid_start, valid_step, T)
        gx_step, gx_start = (x_step, x_start) if k == 4 else (step, start)
        fixed = cuda.local.array((5, lanes), number)  # vf, vr, bf, br, m
        after, cur = cuda.local.array(lanes, number), cuda.local.array(lanes, number)
        factor, sums = cuda.local.array(lanes, number), cuda.local.array((4, lanes), number)
        shown = cuda.local.array((4, lanes), number)  # gu0, gf, gr, gx
        ahead, now = cuda.local.array((5, G), stored), cuda.local.array((5, G), stored)
        ago, before = cuda.local.array(G, held), cuda.local.array(G, held)
        alive_ahead, alive = cuda.local.array(G, types.uint8), cuda.local.array(G, types.uint8)

        def request(i, t, end):
            """Load step t into place i of the next group; none may be before it only at its `end`."""
            at = u_start + t * u_step
            ahead[0, i], ahead[1, i], ahead[2, i] = u[at], u[at + part], u[at + 2 * part]
            if highway:
                ahead[3, i] = x[x_start + t * x_step]
            ahead[4, i] = gh[t * step + start]
            ago[i] = c0[n] if end and t == 0 else c[(t - 1) * step + start]
            if valids:
                alive_ahead[i] = valid[t * valid_step + valid_start]

        def compute(t, words, states, flags, i):
            """Go back through step t from place i of a group."""
            for lane in range(lanes):
                old, m, vf, vr = take(states[i], lane), fixed[4, lane], fixed[0, lane], fixed[1, lane]
                f = gate(widen(words[1, i], lane), vf, old, fixed[2, lane])
                r = gate(widen(words[2, i], lane), vr, old, fixed[3, lane])
                y = activate(after[lane])
                g = widen(words[4, i], lane)
                xt = widen(words[3, i], lane) * scale if highway else zero
                gxt = g * (one - m * r) * scale  # (5)
                gr = g * (y - xt) * m * r * (one - r)  # (6)
                gc = g * m * r * slope_of(y) + cur[lane]  # (7)
                gf = gc * (old - widen(words[0, i], lane)) * f * (one - f)  # (8)
                gu0 = gc * (one - f)  # (9)
                gc = gc * f + gf * vf + gr * vr if vector else gc * f  # (11)
                if valids and not flags[i]:
                    gu0, gf, gr, gxt, gc, f = zero, zero, zero, zero, cur[lane], one
                shown[0, lane], shown[1, lane], shown[2, lane], shown[3, lane] = gu0, gf, gr, gxt
                after[lane], cur[lane], factor[lane] = old, gc, factor[lane] * f
                if vector:
                    sums[0, lane] += gf * old  # (10)
                    sums[1, lane] += gr * old
                sums[2, lane] += gf
                sums[3, lane] += gr
            if not carry:
                at = u_start + t * u_step
                gu[at], gu[at + part] = narrow(shown[0]), narrow(shown[1])
                gu[at + 2 * part] = narrow(shown[2])
            if highway:
                gx[gx_start + t * gx_step] = narrow(shown[3])

        touch = unit(first, last)
        settle(fixed, v, b, mask, D, d, n, touch)
        for lane in range(lanes):
            after[lane] = take(c[(last - 1) * step + start], lane) * touch if last > 0 else zero
            cur[lane], factor[lane] = take(gc_last[thread], lane) * touch, one
            for j in range(4):
                sums[j, lane] = zero
        t = last - 1 + G
        while t - G >= first - 1:
            for i in range(G):
                for j in range(5):
                    now[j, i] = ahead[j, i]
                before[i], alive[i] = ago[i], alive_ahead[i]
            left = t - G - first + 1
            if left >= G:
                for i in range(G):
                    request(i, t - G - i, i == G - 1)
            elif left > 0:
                for i in range(G - 1):
                    request(i, t - G - min(i, left - 1), True)
            if t < last:
                for i in range(G):
                    compute(t - i, now, before, alive, i)
            t -= G
        for i in range(G - 1):
            if t - i >= first:
                compute(t - i, ahead, ago, alive_ahead, i)
        gc0[thread] = give(cur)
        if carry:
            gb[thread] = give(factor)
        else:
            chunks = np.int64(cuda.gridDim.y)
            gb[thread], gb[chunks * plane + thread] = give(sums[2]), give(sums[3])
            if vector:
                gv[thread], gv[chunks * plane + thread] = give(sums[0]), give(sums[1])

    def linear_forward(a, c0, b, valid, out, c_last, c, T, B, D, span):
        D = D // lanes
        thread, plane, first, last, n, row, _, idle = recurrence(T, B, D, span)
        if idle:
            return
        state, factor = cuda.local.array(lanes, number), cuda.local.array(lanes, number)
        shown = cuda.local.array(lanes, number)
        ahead, now = cuda.local.array((2, G), stored), cuda.local.array((2, G), stored)
        alive_ahead, alive = cuda.local.array(G, types.uint8), cuda.local.array(G, types.uint8)

        def request(i, t):
            """Load step t into place i of the next group."""
            ahead[0, i], ahead[1, i] = a[t * plane + n], b[t * plane + n]
            if valids:
                alive_ahead[i] = valid[t * B + row]

        def compute(t, words, flags, i):
            """Compute step t from place i of a group."""
            for lane in range(lanes):
                at = widen(words[0, i], lane)
                new = at * state[lane] + widen(words[1, i], lane)
                shown[lane] = new
                if valids and not flags[i]:
                    new, at, shown[lane] = state[lane], one, zero
                state[lane], factor[lane] = new, factor[lane] * at
            if not carry:
                out[t * plane + n] = narrow(shown)
            if keep:
                c[t * plane + n] = give(state)

        touch = unit(first, last)
        for lane in range(lanes):
            state[lane], factor[lane] = take(c0[thread], lane) * touch, one
        t = first - G
        while t + G <= last:
            for i in range(G):
                now[0, i], now[1, i], alive[i] = ahead[0, i], ahead[1, i], alive_ahead[i]
            left = last - t - G
            if left >= G:
                for i in range(G):
                    request(i, t + G + i)
            elif left > 0:
                for i in range(G - 1):
                    request(i, t + G + min(i, left - 1))
            if t >= first:
                for i in range(G):
                    compute(t + i, now, alive, i)
            t += G
        for i in range(G - 1):
            if t + i < last:
                compute(t + i, ahead, alive_ahead, i)
        c_last[thread] = give(state)
        if carry:
            c[thread] = give(factor)

    def linear_backward(a, c0, valid, c, gout, gc_last, ga, gb, gc0, factors, T, B, D, span):
        D = D // lanes
        thread, plane, first, last, n, row, _, idle = recurrence(T, B, D, span)
        if idle:
            return
        cur, factor = cuda.local.array(lanes, number), cuda.local.array(lanes, number)
        shown = cuda.local.array((2, lanes), number)  # ga, gb
        ahead, now = cuda.local.array((2, G), stored), cuda.local.array((2, G), stored)
        ago, before = cuda.local.array(G, held), cuda.local.array(G, held)
        alive_ahead, alive = cuda.local.array(G, types.uint8), cuda.local.array(G, types.uint8)

        def request(i, t, end):
            """Load step t into place i of the next group; none may be before it only at its `end`."""
            at = t * plane + n
            ahead[0, i], ahead[1, i] = a[at], gout[at]
            ago[i] = c0[n] if end and t == 0 else c[at - plane]
            if valids:
                alive_ahead[i] = valid[t * B + row]

        def compute(t, words, states, flags, i):
            """Go back through step t from place i of a group."""
            for lane in range(lanes):
                at = widen(words[0, i], lane)
                gbt = widen(words[1, i], lane) + cur[lane]
                gat = gbt * take(states[i], lane)
                gc = gbt * at
                if valids and not flags[i]:
                    gat, gbt, gc, at = zero, zero, cur[lane], one
                shown[0, lane], shown[1, lane] = gat, gbt
                cur[lane], factor[lane] = gc, factor[lane] * at
            if not carry:
                ga[t * plane + n], gb[t * plane + n] = narrow(shown[0]), narrow(shown[1])

        touch = unit(first, last)
        for lane in range(lanes):
            cur[lane], factor[lane] = take(gc_last[thread], lane) * touch, one
        t = last - 1 + G
        while t - G >= first - 1:
            for i in range(G):
                now[0, i], now[1, i] = ahead[0, i], ahead[1, i]
                before[i], alive[i] = ago[i], alive_ahead[i]
            left = t - G - first + 1
            if left >= G:
                for i in range(G):
                    request(i, t - G - i, i == G - 1)
            elif left > 0:
                for i in range(G - 1):
                    request(i, t - G - min(i, left - 1), True)
            if t < last:
                for i in range(G):
                    compute(t - i, now, before, alive, i)
            t -= G
        for i in range(G - 1):
            if t - i >= first:
                compute(t - i, ahead, ago, alive_ahead, i)
        gc0[thread] = give(cur)
        if carry:
            factors[thread] = give(factor)

    written: dict[type[Scan], Callable[..., None]] = {
        SruForward: sru_forward,
        SruBackward: sru_backward,
        LinearForward: linear_forward,
        LinearBackward: linear_backward,
    }
    return written[call]
