"""Runs a program: one compiled loop over its operations, for hypotheses or for the steps of a sentence."""

from __future__ import annotations

import numpy as np

from seqsru.engine import program as p
from seqsru.engine.kernels import (
    additive_attention,
    compiled,
    dot_attention,
    gated_row,
    gru_row,
    layer_norm,
    lstm_row,
    mingru_row,
    minlstm_row,
    product,
    qrnn_row,
    sru_row,
    ssru_row,
)
from seqsru.engine.memory import NONE, ONCE, at
from seqsru.engine.packing import TOGETHER
from seqsru.ops.cpu_math import tanh


@compiled
def _time(step, steps, reverse):
    return steps - 1 - step if reverse else step


@compiled
def execute(
    operations,
    count,
    w,
    int8,
    f,
    rows,
    steps,
    state,
    state_row,
    start,
    slots,
    lengths,
    memory,
    room,
    scratch,
    shown,
    wanted,
):
    """Run a program over ``rows`` sequences of ``steps`` rows each.

    Either number is 1: the steps of one sentence, or one step of many hypotheses.

    Parameters
    ----------
    operations, count
        The program's table, with buffers placed in `f`.
    w, f : pointers to float32
        The model's numbers, and the memory that everything is done in.
    state, state_row
        Where in `f` the state of the first sequence is, and the distance to the next.
    slots : pointer to int64
        For each sequence, the slot whose memory it reads.
    lengths : pointer to int64
        For each slot, the tokens of its source.
    memory : pointer to int64
        For each slot, where its memory is in `f`.
    room : int
        Source positions that a slot has room for, a multiple of 16.
    scratch : pointer to float32
        For the bytes of rows, and for a row of scores a head.
    shown, wanted
        Where weights of the last attention go, a row of `room` a sequence, if they are wanted.
    """
    total = rows * steps
    last = -1
    held, held_inputs, held_rows = -1, 0, 0  # whose bytes are in the scratch memory: products may share rows
    if wanted:
        for number in range(count):
            code = operations[number * p.FIELDS]
            if code == p.DOT or code == p.ADDITIVE:
                last = number
    for number in range(count):
        o = at(operations, number * p.FIELDS)
        code = o[p.CODE]
        x, x_row = at(f, o[p.X]), o[p.X_ROW]
        y, y_row = at(f, o[p.Y]), o[p.Y_ROW]
        z, z_row = at(f, o[p.Z]), o[p.Z_ROW]
        n = o[p.A]
        if code != p.PRODUCT:
            held = -1
        if code == p.PRODUCT:
            read = ONCE if o[p.G] else total  # of the first row alone: what is the same for a whole sentence
            if o[p.H]:  # keys and values go where they are kept
                y, y_row = at(f, memory[slots[0]] + (o[p.H] - 1) * room), o[p.B] * 16
            again = ONCE if held == o[p.X] and held_inputs == n and held_rows == read else NONE
            product(
                x, x_row, read, n, w, o[p.C], o[p.D], o[p.E], o[p.F], o[p.B], y, y_row, int8, scratch, again
            )
            held, held_inputs, held_rows = o[p.X] if read <= TOGETHER else -1, n, read
        elif code == p.NORM:
            for row in range(total):
                layer_norm(at(x, row * x_row), at(w, o[p.B]), at(w, o[p.C]), w[o[p.D]], n, at(y, row * y_row))
        elif code == p.ADD:
            for row in range(total):
                a, b, to = at(x, row * x_row), at(z, row * z_row), at(y, row * y_row)
                for i in range(n):
                    to[i] = a[i] + b[i]
        elif code == p.TANH:
            for i in range(n):  # of the first row: the bridge
                y[i] = tanh(x[i])
        elif code == p.MEAN:
            for i in range(n):
                y[i] = np.float32(0.0)
            for row in range(total):
                a = at(x, row * x_row)
                for i in range(n):
                    y[i] += a[i]
            for i in range(n):
                y[i] /= np.float32(max(total, 1))
        elif code == p.START:
            for i in range(n):
                f[start + o[p.B] + i] = x[i]
        elif code == p.KEEP:
            v, v_row = at(f, memory[slots[0]] + o[p.B] * room), o[p.C]
            for s in range(total):
                for i in range(n):
                    v[s * v_row + i] = x[s * x_row + i]
        elif code == p.DOT or code == p.ADDITIVE:
            for row in range(total):
                slot = slots[row // steps]
                base = memory[slot]
                keys, values = at(f, base + o[p.D] * room), at(f, base + o[p.E] * room)
                k_row, v_row = o[p.F], o[p.G]
                query, to, weights = at(x, row * x_row), at(y, row * y_row), at(shown, row * room)
                wanted_here = number == last
                if code == p.DOT:
                    dot_attention(
                        query,
                        keys,
                        k_row,
                        values,
                        v_row,
                        n,
                        o[p.B],
                        lengths[slot],
                        scratch,
                        to,
                        weights,
                        wanted_here,
                    )
                else:
                    score = at(w, o[p.C])
                    additive_attention(
                        query, keys, k_row, values, v_row, score, n, o[p.B], lengths[slot], scratch, to,
                        weights,
                        wanted_here,
                    )  # fmt: skip
        elif code == p.WINDOW:
            _window(x, x_row, y, y_row, f, state + o[p.C], state_row, n, o[p.B], rows, steps, o[p.D])
        elif code == p.LSTM or code == p.GRU:
            # Fields C to G are of the recurrent matrix, which all sequences share at a step.
            hidden = at(f, state + o[p.B])
            for step in range(steps):
                now = _time(step, steps, o[p.H])
                product(
                    hidden,
                    state_row,
                    rows,
                    n,
                    w,
                    o[p.D],
                    o[p.E],
                    o[p.F],
                    o[p.G],
                    o[p.C],
                    z,
                    z_row,
                    int8,
                    scratch,
                    NONE,
                )
                for sequence in range(rows):
                    row = sequence * steps + now
                    kept = at(hidden, sequence * state_row)
                    u, r, h = at(x, row * x_row), at(z, sequence * z_row), at(y, row * y_row)
                    if code == p.LSTM:
                        lstm_row(u, r, kept, at(kept, (n + 15) // 16 * 16), n, h)
                    else:
                        gru_row(u, r, kept, n, h)
        else:
            for sequence in range(rows):
                c = at(f, state + sequence * state_row + o[p.B])
                for step in range(steps):
                    row = sequence * steps + _time(step, steps, o[p.H])
                    u, h = at(x, row * x_row), at(y, row * y_row)
                    if code == p.SRU:
                        carried = at(z, row * z_row)
                        sru_row(u, carried, c, at(w, o[p.C]), at(w, o[p.D]), n, o[p.E], w[o[p.F]], o[p.G], h)
                    elif code == p.SSRU:
                        ssru_row(u, c, n, h)
                    elif code == p.QRNN:
                        qrnn_row(u, c, n, o[p.C], w[o[p.D]], h)
                    elif code == p.MINGRU:
                        mingru_row(u, c, n, h)
                    elif code == p.MINLSTM:
                        minlstm_row(u, c, n, h)
                    else:
                        gated_row(u, n, h)


@compiled
def _window(x, x_row, y, y_row, f, state, state_row, n, window, rows, steps, reverse):
    """Put each input and those before it beside each other, newest first; keep the last ones."""
    for sequence in range(rows):
        history = at(f, state + sequence * state_row)  # (window - 1, n), oldest first
        for step in range(steps):
            row = sequence * steps + _time(step, steps, reverse)
            for back in range(window):
                before = step - back
                if before >= 0:
                    from_ = at(x, (sequence * steps + _time(before, steps, reverse)) * x_row)
                else:
                    from_ = at(history, (window - 1 + before) * n)
                to = at(y, row * y_row + back * n)
                for i in range(n):
                    to[i] = from_[i]
        for place in range(window - 1):
            before = steps - (window - 1) + place
            if before >= 0:
                from_ = at(x, (sequence * steps + _time(before, steps, reverse)) * x_row)
            else:
                from_ = at(history, (steps + place) * n)
            to = at(history, place * n)
            for i in range(n):
                to[i] = from_[i]
