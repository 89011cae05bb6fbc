"""Log probabilities of given tokens, and random continuations, each in one compiled call."""

from __future__ import annotations

import numpy as np

from seqsru.engine import layout as a
from seqsru.engine.kernels import compiled, log_softmax
from seqsru.engine.memory import NONE, ONCE, address, at, float32s, float64s, int64s
from seqsru.engine.search import NOTHING, embed, mark, output, read_source, read_target, step
from seqsru.ops.cpu_math import TILE, buffer


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


# The exponential in float64, for arguments up to 0: x = k ln 2 + r, and Taylor's series of e^r, |r| <= ln(2)
# / 2, to r^13 / 13!, which is beyond the last bit.
_MAGIC = 6755399441055744.0 + 1023.0  # 1.5 * 2^52 and the bias of exponents
_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
_SERIES = (
    1 / 6227020800, 1 / 479001600, 1 / 39916800, 1 / 3628800, 1 / 362880, 1 / 40320, 1 / 5040, 1 / 720,
    1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0,
)  # fmt: skip


@compiled
def _exponentials(lp, n, top, temperature, e):
    """Write e^((lp - top) / temperature) in float64."""
    part, shifted, power = buffer(e), buffer(e), buffer(e)
    read, write = int64s(address(shifted)), int64s(address(power))
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        for j in range(size):
            x = (np.float64(lp[first + j]) - top) / temperature
            x = x if x > -700.0 else -700.0
            s = x * _LOG2_E + _MAGIC
            k = s - _MAGIC
            r = (x - k * _LN2_HIGH) - k * _LN2_LOW
            total = _SERIES[0]
            for c in _SERIES[1:]:
                total = total * r + c
            shifted[j] = s
            part[j] = total
        for j in range(size):
            write[j] = read[j] << 52
        for j in range(size):
            e[first + j] = part[j] * power[j]


@compiled
def _before(lp, i, j):
    """Say whether token i comes before token j: likelier, or as likely and of a lower number."""
    return lp[i] > lp[j] or (lp[i] == lp[j] and i < j)


@compiled
def _prefix(lp, e, order, n, count, mass, inclusive):
    """Order tokens so that the fewest likeliest that reach a count or a mass come first.

    Only as much is sorted as is needed to know which they are (quickselect).

    Parameters
    ----------
    lp, e : pointers
        Log probabilities and weights of the tokens.
    order : pointer to int64
        The n tokens to choose from; rearranged.
    count : int
        How many; 0 is to go by mass.
    mass : float
        What their weights are to reach, or with `inclusive` 0 to exceed.

    Returns
    -------
    size, total : int, float
        How many they are and what they weigh. The last of them stands at ``size - 1``.
    """
    low, high, total = 0, n, 0.0
    while high - low > 1:
        # The middle one of three: what is sorted already is no bad case.
        x, y, z = order[low], order[(low + high) // 2], order[high - 1]
        if _before(lp, x, y):
            middle = y if _before(lp, y, z) else (z if _before(lp, x, z) else x)
        else:
            middle = x if _before(lp, x, z) else (z if _before(lp, y, z) else y)
        place, weight = low, 0.0
        for i in range(low, high):
            token = order[i]
            if _before(lp, token, middle):
                order[i] = order[place]
                order[place] = token
                weight += e[token]
                place += 1
        for i in range(place, high):  # the middle one itself goes right after those before it
            if order[i] == middle:
                order[i] = order[place]
                order[place] = middle
                break
        if count:
            if place >= count:
                high = place
                continue
            reached = place + 1 == count
        else:
            if place > low and (total + weight >= mass if inclusive else total + weight > mass):
                high = place
                continue
            with_middle = total + weight + e[middle]
            reached = with_middle >= mass if inclusive else with_middle > mass
        total += weight + e[middle]
        low = place + 1
        if reached:
            return low, total
    if low < n and low < high:
        total += e[order[low]]
        low += 1
    return low, total


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
            best = lp[0]
            for token in range(n):
                best = max(best, lp[token])
                order[token] = token
            _exponentials(lp, n, np.float64(best), temperature, e)
            left = n
            if g[a.TOP_K] and g[a.TOP_K] < n:
                left, whole = _prefix(lp, e, order, n, g[a.TOP_K], 0.0, ONCE)
            else:
                whole = 0.0
                for token in range(n):
                    whole += e[token]
            if top_p < 1.0:
                left, whole = _prefix(lp, e, order, left, NONE, top_p * whole, ONCE)
            target = uniform[time * g[a.UNIFORM_ROW] + i] * whole
            place, _ = _prefix(lp, e, order, left, NONE, target, NONE)
            token = order[place - 1]
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
