"""Log probabilities of given tokens, and random continuations, each in one compiled call."""

from __future__ import annotations

import numpy as np

from seqsru.engine import layout as a
from seqsru.engine.drawing import choose
from seqsru.engine.kernels import compiled, log_softmax
from seqsru.engine.memory import NONE, ONCE, at, float32s, float64s, int64s
from seqsru.engine.search import NOTHING, embed, mark, output, read_source, read_target, step


@compiled
def score(g):
    """Write the negative log probability of each target token; return 0, or 1 where one is not a number.

    Sentence by sentence: the source is read, then the tokens in INPUTS, all at once. With CARRIED the state
    goes on from sentence to sentence.
    """
    f, nll = float32s(g[a.FLOATS]), float64s(g[a.NLL])
    offsets, tokens = int64s(g[a.OFFSETS]), int64s(g[a.TOKENS])
    ends, inputs, targets = int64s(g[a.TARGET_OFFSETS]), int64s(g[a.INPUTS]), int64s(g[a.TARGETS])
    state, fine = g[a.STATES], True
    for sentence in range(g[a.SENTENCES]):
        first, length = ends[sentence], ends[sentence + 1] - ends[sentence]
        if not g[a.CARRIED] or sentence == 0:
            for i in range(g[a.STATE_ROW]):
                f[state + i] = np.float32(0.0)
        if g[a.ENCODER_COUNT]:
            n = offsets[sentence + 1] - offsets[sentence]
            read_source(g, NONE, at(tokens, offsets[sentence]), n, state)
        read_target(g, NONE, at(inputs, first), length, state, NONE)
        for begin in range(0, length, g[a.BLOCK]):
            rows = min(g[a.BLOCK], length - begin)
            output(g, begin, rows)
            for row in range(rows):
                lp = at(f, g[a.LOGITS] + row * g[a.LOGITS_ROW])
                top = log_softmax(lp, g[a.OUTPUT_TILES])
                fine = fine and top - top == np.float32(0.0)
                nll[first + begin + row] = -np.float64(lp[targets[first + begin + row]])
    return 0 if fine else 1


@compiled
def follow(g):
    """Write the log probabilities of what may follow each sentence's inputs: rows of VOCABULARY float32.

    With ATTENTION, write the weights of the last input too: rows of ROOM.
    """
    f, out = float32s(g[a.FLOATS]), float32s(g[a.NLL])
    weights, room = float32s(g[a.OUT_ATTENTION]), g[a.ROOM]
    offsets, tokens = int64s(g[a.OFFSETS]), int64s(g[a.TOKENS])
    ends, inputs = int64s(g[a.TARGET_OFFSETS]), int64s(g[a.INPUTS])
    state, n = g[a.STATES], g[a.VOCABULARY]
    for sentence in range(g[a.SENTENCES]):
        first, length = ends[sentence], ends[sentence + 1] - ends[sentence]
        for i in range(g[a.STATE_ROW]):
            f[state + i] = np.float32(0.0)
        if g[a.ENCODER_COUNT]:
            read_source(
                g, NONE, at(tokens, offsets[sentence]), offsets[sentence + 1] - offsets[sentence], state
            )
        read_target(g, NONE, at(inputs, first), length, state, g[a.ATTENTION])
        output(g, length - 1, ONCE)
        lp = at(f, g[a.LOGITS])
        top = log_softmax(lp, g[a.OUTPUT_TILES])
        if top - top != np.float32(0.0):
            return 1
        for i in range(n):
            out[sentence * n + i] = lp[i]
        if g[a.ATTENTION]:
            shown = at(f, g[a.SHOWN] + (length - 1) * room)
            for s in range(offsets[sentence + 1] - offsets[sentence]):
                weights[sentence * room + s] = shown[s]
    return 0


@compiled
def draw(g):
    """Draw one continuation of each sentence; return 0, or 1 where the model gives NaN."""
    f, count = float32s(g[a.FLOATS]), g[a.SENTENCES]
    offsets, tokens, starts = int64s(g[a.OFFSETS]), int64s(g[a.TOKENS]), int64s(g[a.STARTS])
    limits, slots, longest = int64s(g[a.LIMITS]), int64s(g[a.ROW_SLOT]), g[a.LONGEST]
    out, lengths, totals = int64s(g[a.OUT_TOKENS]), int64s(g[a.OUT_LENGTHS]), float64s(g[a.OUT_TOTALS])
    uniform, order, e = float64s(g[a.UNIFORM]), int64s(g[a.CHOICES]), float64s(g[a.EXPONENTIALS])
    temperature, top_p = float64s(g[a.TEMPERATURE])[0], float64s(g[a.TOP_P])[0]
    n, width = g[a.VOCABULARY], g[a.STATE_ROW]
    mark(g)
    for i in range(count):  # one slot a sentence
        start = g[a.NEXT_STATES] + i * width
        for j in range(width):
            f[start + j] = np.float32(0.0)
        read_source(g, i, at(tokens, offsets[i]), offsets[i + 1] - offsets[i], start)
        slots[i] = i
        lengths[i] = 0
        totals[i] = 0.0
    rows = count
    time = 0
    while rows:
        g[a.STATES], g[a.NEXT_STATES] = g[a.NEXT_STATES], g[a.STATES]
        mark(g)
        for row in range(rows):
            i = slots[row]
            token = out[i * longest + time - 1] if time else starts[i]
            embed(g, g[a.EMBEDDING_TARGET], token, at(f, g[a.TARGET_AT] + row * g[a.TARGET_ROW]))
        step(g, rows, NONE)
        output(g, NONE, rows)
        stay = 0
        for row in range(rows):
            i = slots[row]
            lp = at(f, g[a.LOGITS] + row * g[a.LOGITS_ROW])
            top = log_softmax(lp, g[a.OUTPUT_TILES])
            if top - top != np.float32(0.0):
                return 1
            if time + 1 < g[a.MINIMUM]:
                lp[g[a.EOS]] = np.float32(NOTHING)
            token = choose(
                lp, n, g[a.OUTPUT_TILES], temperature, g[a.TOP_K], top_p,
                uniform[time * g[a.UNIFORM_ROW] + i], e, order,
            )  # fmt: skip
            out[i * longest + time] = token
            lengths[i] = time + 1
            totals[i] += np.float64(lp[token])
            if token != g[a.EOS] and time + 1 < limits[i]:
                from_, to = g[a.STATES] + row * width, g[a.NEXT_STATES] + stay * width
                for j in range(width):
                    f[to + j] = f[from_ + j]
                slots[stay] = i
                stay += 1
        rows = stay
        time += 1
    mark(g)
    return 0
