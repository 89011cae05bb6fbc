"""The CPU kernels of the scans: plain functions, compiled by `cpu_build`, that transcribe `reference`.

The work is cut into tasks: one row of the batch and TILE of its features, through all of time. A task's
running state and what is the same at every step live in buffers on the stack. At each step a few short loops
run over the tile's features, which lie side by side in memory and are what is vectorised. The cut depends on
D alone, and a task's result on nothing outside it: so bits depend neither on the number of threads nor on the
other rows.

Every kernel has the parameters

    begin, end   the tasks to do
    arguments    pointer to int64: the fields of the kernel's call in `calls`, as `calls.packed` writes them
    u (or a)     pointer to the input, whose element type is that of every tensor which shares its dtype
    c0           pointer to the initial state, in the type of accumulation

`cpu` fills them in. An address of 0 is an absent tensor. All offsets are int64.
"""

from __future__ import annotations

from seqsru.ops.calls import (
    RELU,
    TANH,
    LinearBackward,
    LinearForward,
    SruBackward,
    SruForward,
    places,
)
from seqsru.ops.cpu_math import (
    TILE,
    buffer,
    byte_pointer,
    double_of,
    load,
    number,
    pointer,
    sigmoid,
    store,
    tanh,
)

SRU, SRU_BACK = places(SruForward), places(SruBackward)
LINEAR, LINEAR_BACK = places(LinearForward), places(LinearBackward)


def sru_forward(begin, end, arguments, u, c0):
    """Equations (1) to (4)."""
    T, B, k, D = arguments[SRU.T], arguments[SRU.B], arguments[SRU.k], arguments[SRU.D]
    x, x_step, x_row = pointer(u, arguments[SRU.x]), arguments[SRU.x_step], arguments[SRU.x_row]
    v, b = pointer(c0, arguments[SRU.v]), pointer(c0, arguments[SRU.b])
    m, valid = pointer(u, arguments[SRU.mask]), byte_pointer(arguments[SRU.valid])
    activation, scale = arguments[SRU.activation], number(c0, double_of(arguments[SRU.scale]))
    h, c_last = pointer(u, arguments[SRU.h]), pointer(c0, arguments[SRU.c_last])
    kept = pointer(c0, arguments[SRU.c])
    has_x, has_v, has_mask = arguments[SRU.x] != 0, arguments[SRU.v] != 0, arguments[SRU.mask] != 0
    has_valid, keep = arguments[SRU.valid] != 0, arguments[SRU.c] != 0
    zero, one = number(c0, 0.0), number(c0, 1.0)
    c, g, gate, skip = buffer(c0), buffer(c0), buffer(c0), buffer(c0)
    vf, vr, bf, br, mask = buffer(c0), buffer(c0), buffer(c0), buffer(c0), buffer(c0)

    tiles = (D + TILE - 1) // TILE
    for task in range(begin, end):
        row = task // tiles
        first = (task - row * tiles) * TILE
        n = min(TILE, D - first)
        here = row * D + first
        for i in range(n):
            c[i] = c0[here + i]
            bf[i] = b[first + i]
            br[i] = b[D + first + i]
            skip[i] = zero
            vf[i] = zero
            vr[i] = zero
            mask[i] = one
        if has_v:
            for i in range(n):
                vf[i] = v[first + i]
                vr[i] = v[D + first + i]
        if has_mask:
            for i in range(n):
                mask[i] = load(m, here + i)

        for t in range(T):
            out = t * B * D + here
            if has_valid and valid[t * B + row] == 0:
                for i in range(n):
                    store(h, out + i, zero)
            else:
                at = (t * B + row) * k * D + first
                for i in range(n):
                    before, candidate = c[i], load(u, at + i)
                    f = sigmoid(load(u, at + D + i) + vf[i] * before + bf[i])
                    r = sigmoid(load(u, at + 2 * D + i) + vr[i] * before + br[i])
                    now = (before - candidate) * f + candidate
                    c[i] = now
                    g[i] = now
                    gate[i] = mask[i] * r
                if activation == TANH:
                    for i in range(n):
                        g[i] = tanh(g[i])
                elif activation == RELU:
                    for i in range(n):
                        g[i] = zero if g[i] < zero else g[i]
                if has_x:
                    at = t * x_step + row * x_row + first
                    for i in range(n):
                        skip[i] = scale * load(x, at + i)
                elif k == 4:
                    for i in range(n):
                        skip[i] = load(u, at + 3 * D + i)
                for i in range(n):
                    store(h, out + i, skip[i] + (g[i] - skip[i]) * gate[i])
            if keep:
                for i in range(n):
                    kept[out + i] = c[i]
        for i in range(n):
            c_last[here + i] = c[i]


def sru_backward(begin, end, arguments, u, c0):
    """Equations (5) to (11); the gradients of v and b before they are summed over rows."""
    T, B, k, D = arguments[SRU_BACK.T], arguments[SRU_BACK.B], arguments[SRU_BACK.k], arguments[SRU_BACK.D]
    x, x_step, x_row = (
        pointer(u, arguments[SRU_BACK.x]),
        arguments[SRU_BACK.x_step],
        arguments[SRU_BACK.x_row],
    )
    v, b = pointer(c0, arguments[SRU_BACK.v]), pointer(c0, arguments[SRU_BACK.b])
    m, valid = pointer(u, arguments[SRU_BACK.mask]), byte_pointer(arguments[SRU_BACK.valid])
    activation, scale = arguments[SRU_BACK.activation], number(c0, double_of(arguments[SRU_BACK.scale]))
    kept, gh = pointer(c0, arguments[SRU_BACK.c]), pointer(u, arguments[SRU_BACK.gh])
    gc_last, gc0 = pointer(c0, arguments[SRU_BACK.gc_last]), pointer(c0, arguments[SRU_BACK.gc0])
    gu, gx = pointer(u, arguments[SRU_BACK.gu]), pointer(u, arguments[SRU_BACK.gx])
    gv, gb = pointer(c0, arguments[SRU_BACK.gv]), pointer(c0, arguments[SRU_BACK.gb])
    has_x, has_v = arguments[SRU_BACK.x] != 0, arguments[SRU_BACK.v] != 0
    has_mask, has_valid = arguments[SRU_BACK.mask] != 0, arguments[SRU_BACK.valid] != 0
    zero, one = number(c0, 0.0), number(c0, 1.0)
    cur, before, g, slope, skip = buffer(c0), buffer(c0), buffer(c0), buffer(c0), buffer(c0)
    vf, vr, bf, br, mask = buffer(c0), buffer(c0), buffer(c0), buffer(c0), buffer(c0)
    forget, reset, gskip = buffer(c0), buffer(c0), buffer(c0)
    gu0, gf, gr = buffer(c0), buffer(c0), buffer(c0)
    gvf, gvr, gbf, gbr = buffer(c0), buffer(c0), buffer(c0), buffer(c0)

    tiles = (D + TILE - 1) // TILE
    for task in range(begin, end):
        row = task // tiles
        first = (task - row * tiles) * TILE
        n = min(TILE, D - first)
        here = row * D + first
        for i in range(n):
            cur[i] = gc_last[here + i]
            bf[i] = b[first + i]
            br[i] = b[D + first + i]
            skip[i] = zero
            vf[i] = zero
            vr[i] = zero
            mask[i] = one
            gvf[i] = zero
            gvr[i] = zero
            gbf[i] = zero
            gbr[i] = zero
        if has_v:
            for i in range(n):
                vf[i] = v[first + i]
                vr[i] = v[D + first + i]
        if has_mask:
            for i in range(n):
                mask[i] = load(m, here + i)

        for t in range(T - 1, -1, -1):
            out = t * B * D + here
            at = (t * B + row) * k * D + first
            if has_valid and valid[t * B + row] == 0:
                for i in range(n):
                    store(gu, at + i, zero)
                    store(gu, at + D + i, zero)
                    store(gu, at + 2 * D + i, zero)
                if k == 4:
                    for i in range(n):
                        store(gu, at + 3 * D + i, zero)
                if has_x:
                    for i in range(n):
                        store(gx, out + i, zero)
                continue
            if t > 0:
                for i in range(n):
                    before[i] = kept[out - B * D + i]
            else:
                for i in range(n):
                    before[i] = c0[here + i]
            if has_x:
                from_x = t * x_step + row * x_row + first
                for i in range(n):
                    skip[i] = scale * load(x, from_x + i)
            elif k == 4:
                for i in range(n):
                    skip[i] = load(u, at + 3 * D + i)
            for i in range(n):
                candidate = load(u, at + i)
                f = sigmoid(load(u, at + D + i) + vf[i] * before[i] + bf[i])
                r = sigmoid(load(u, at + 2 * D + i) + vr[i] * before[i] + br[i])
                g[i] = (before[i] - candidate) * f + candidate
                slope[i] = one
                forget[i] = f
                reset[i] = r
            if activation == TANH:
                for i in range(n):
                    y = tanh(g[i])
                    g[i] = y
                    slope[i] = one - y * y
            elif activation == RELU:
                for i in range(n):
                    slope[i] = one if g[i] > zero else zero
                    g[i] = zero if g[i] < zero else g[i]
            for i in range(n):
                f, r, into = forget[i], reset[i], load(gh, out + i)
                gate = mask[i] * r
                gskip[i] = into * (one - gate)  # (5)
                gr[i] = into * (g[i] - skip[i]) * gate * (one - r)  # (6)
                gc = into * gate * slope[i] + cur[i]  # (7)
                gf[i] = gc * (before[i] - load(u, at + i)) * f * (one - f)  # (8)
                gu0[i] = gc * (one - f)  # (9)
                gvf[i] += gf[i] * before[i]  # (10)
                gvr[i] += gr[i] * before[i]
                gbf[i] += gf[i]
                gbr[i] += gr[i]
                cur[i] = gc * f + gf[i] * vf[i] + gr[i] * vr[i]  # (11)
            for i in range(n):
                store(gu, at + i, gu0[i])
            for i in range(n):
                store(gu, at + D + i, gf[i])
            for i in range(n):
                store(gu, at + 2 * D + i, gr[i])
            if k == 4:
                for i in range(n):
                    store(gu, at + 3 * D + i, gskip[i])
            if has_x:
                for i in range(n):
                    store(gx, out + i, scale * gskip[i])
        for i in range(n):
            gc0[here + i] = cur[i]
            gb[here + i] = gbf[i]
            gb[B * D + here + i] = gbr[i]
        if has_v:
            for i in range(n):
                gv[here + i] = gvf[i]
                gv[B * D + here + i] = gvr[i]


def linear_forward(begin, end, arguments, a, c0):
    """``c = a * c + b``."""
    T, B, D = arguments[LINEAR.T], arguments[LINEAR.B], arguments[LINEAR.D]
    b, valid = pointer(a, arguments[LINEAR.b]), byte_pointer(arguments[LINEAR.valid])
    out, c_last = pointer(a, arguments[LINEAR.out]), pointer(c0, arguments[LINEAR.c_last])
    kept = pointer(c0, arguments[LINEAR.c])
    has_valid, keep = arguments[LINEAR.valid] != 0, arguments[LINEAR.c] != 0
    zero = number(c0, 0.0)
    c = buffer(c0)

    tiles = (D + TILE - 1) // TILE
    for task in range(begin, end):
        row = task // tiles
        first = (task - row * tiles) * TILE
        n = min(TILE, D - first)
        here = row * D + first
        for i in range(n):
            c[i] = c0[here + i]
        for t in range(T):
            at = t * B * D + here
            if has_valid and valid[t * B + row] == 0:
                for i in range(n):
                    store(out, at + i, zero)
            else:
                for i in range(n):
                    c[i] = load(a, at + i) * c[i] + load(b, at + i)
                for i in range(n):
                    store(out, at + i, c[i])
            if keep:
                for i in range(n):
                    kept[at + i] = c[i]
        for i in range(n):
            c_last[here + i] = c[i]


def linear_backward(begin, end, arguments, a, c0):
    """The gradients of a, b and c0."""
    T, B, D = arguments[LINEAR_BACK.T], arguments[LINEAR_BACK.B], arguments[LINEAR_BACK.D]
    valid, kept = byte_pointer(arguments[LINEAR_BACK.valid]), pointer(c0, arguments[LINEAR_BACK.c])
    gout, gc_last = pointer(a, arguments[LINEAR_BACK.gout]), pointer(c0, arguments[LINEAR_BACK.gc_last])
    ga, gb = pointer(a, arguments[LINEAR_BACK.ga]), pointer(a, arguments[LINEAR_BACK.gb])
    gc0 = pointer(c0, arguments[LINEAR_BACK.gc0])
    has_valid = arguments[LINEAR_BACK.valid] != 0
    zero = number(c0, 0.0)
    cur, gc, before = buffer(c0), buffer(c0), buffer(c0)

    tiles = (D + TILE - 1) // TILE
    for task in range(begin, end):
        row = task // tiles
        first = (task - row * tiles) * TILE
        n = min(TILE, D - first)
        here = row * D + first
        for i in range(n):
            cur[i] = gc_last[here + i]
        for t in range(T - 1, -1, -1):
            at = t * B * D + here
            if has_valid and valid[t * B + row] == 0:
                for i in range(n):
                    store(ga, at + i, zero)
                    store(gb, at + i, zero)
                continue
            if t > 0:
                for i in range(n):
                    before[i] = kept[at - B * D + i]
            else:
                for i in range(n):
                    before[i] = c0[here + i]
            for i in range(n):
                gc[i] = load(gout, at + i) + cur[i]
                cur[i] = gc[i] * load(a, at + i)
            for i in range(n):
                store(ga, at + i, gc[i] * before[i])
            for i in range(n):
                store(gb, at + i, gc[i])
        for i in range(n):
            gc0[here + i] = cur[i]
