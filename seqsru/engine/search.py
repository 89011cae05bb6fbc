"""Beam search from source tokens to the best outputs, in one compiled call.

`seqsru.decoding.beam_search` is the definition, and says what every choice means. Sentences are given longest
first; as many as there are slots are decoded together, and one that is done makes room for the next.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from seqsru.engine import layout as a
from seqsru.engine.kernels import compiled, log_softmax, product
from seqsru.engine.machine import execute
from seqsru.engine.memory import (
    NONE,
    ONCE,
    at,
    float32s,
    float64s,
    int32s,
    int64s,
    lowest_bit,
    nanoseconds,
)
from seqsru.engine.vectors import above, turned

NOTHING = -np.inf
# Scores are those of the definition to the last bit: nothing is fused, as what says nothing of it would be.
exact = njit(fastmath=False, error_model="numpy", nogil=True)
FIRST, EXACT, ALL = 0, 1, 2  # the stop rules


@compiled
def _column(g, slot, token):
    """Return the column of the scores that a token has, or -1 if it is in no shortlist of the sentence."""
    if g[a.COLUMNS] == 0:
        return token
    sentence = int64s(g[a.SENTENCE])[slot]
    offsets, columns = int64s(g[a.COLUMN_OFFSETS]), int64s(g[a.COLUMNS])
    low, high = offsets[sentence], offsets[sentence + 1]
    first = low
    while low < high:
        middle = (low + high) // 2
        if columns[middle] < token:
            low = middle + 1
        else:
            high = middle
    if low < offsets[sentence + 1] and columns[low] == token:
        return low - first
    return -1


@compiled
def _token(g, slot, column):
    if g[a.COLUMNS] == 0:
        return column
    sentence = int64s(g[a.SENTENCE])[slot]
    return int64s(g[a.COLUMNS])[int64s(g[a.COLUMN_OFFSETS])[sentence] + column]


@compiled
def _tiles(g, slot):
    """Return how many tiles of scores a row of the slot has."""
    if g[a.COLUMNS] == 0:
        return g[a.OUTPUT_TILES]
    sentence = int64s(g[a.SENTENCE])[slot]
    offsets = int64s(g[a.COLUMN_OFFSETS])
    return (offsets[sentence + 1] - offsets[sentence] + 63) // 64 * 4


@compiled
def _compact(g, slot):
    """Gather the weights of a sentence's shortlist into the slot, as `product` reads them."""
    tiles = _tiles(g, slot)
    sentence = int64s(g[a.SENTENCE])[slot]
    first = int64s(g[a.COLUMN_OFFSETS])[sentence]
    count = int64s(g[a.COLUMN_OFFSETS])[sentence + 1] - first
    columns = at(int64s(g[a.COLUMNS]), first)
    depth = (g[a.OUTPUT_INPUTS] + 3) // 4 if g[a.INT8] else g[a.OUTPUT_INPUTS]
    w, by_token = int32s(g[a.NUMBERS]), int32s(g[a.OUTPUT_ROWS])
    room = int32s(g[a.COMPACT] + 4 * slot * g[a.COMPACT_SIZE])
    none, n = at(float32s(g[a.COMPACT] + 4 * slot * g[a.COMPACT_SIZE]), 2 * tiles * 16), tiles * 16
    # Three rows of numbers an output, then the weights: as `product` wants to be told where they are.
    whole = depth // 16
    for j in range(0, count - 15, 16):
        turned(by_token, at(columns, j), depth, whole, at(room, 3 * n + j * depth))
    for j in range(n):
        to = at(room, 3 * n + j // 16 * depth * 16 + j % 16)
        done = whole * 16 if j < count // 16 * 16 else NONE
        if j < count:
            token = columns[j]
            room[j] = w[g[a.OUTPUT_SCALES] + token]
            room[n + j] = w[g[a.OUTPUT_SHIFT] + token]
            room[2 * n + j] = w[g[a.OUTPUT_BIAS] + token]
            from_ = at(by_token, token * depth)
            for i in range(done, depth):
                to[i * 16] = from_[i]
        else:
            room[j] = 0
            room[n + j] = 0
            none[j] = np.float32(NOTHING)
            for i in range(depth):
                to[i * 16] = 0


@compiled
def embed(g, table, token, to):
    """Write a token's row of a table of embeddings."""
    from_, n = at(float32s(g[a.NUMBERS]), table + token * g[a.EMBEDDED]), g[a.EMBEDDED]
    for i in range(n):
        to[i] = from_[i]


@compiled
def read_source(g, slot, tokens, length, start):
    """Read a source into a slot, or a prompt; leave the state before the first step at `start`."""
    f = float32s(g[a.FLOATS])
    int64s(g[a.SOURCE_LENGTHS])[slot] = length
    int64s(g[a.PICKED])[0] = slot
    if g[a.ENCODER_COUNT] == 0:  # a language model: the last token of the prompt is the first step's
        if length:
            read_target(g, slot, tokens, length, start, NONE)
        return
    for s in range(length):
        embed(g, g[a.EMBEDDING_SOURCE], tokens[s], at(f, g[a.SOURCE_AT] + s * g[a.SOURCE_ROW]))
    for i in range(g[a.ENCODER_STATE_ROW]):
        f[g[a.ENCODER_STATE] + i] = np.float32(0.0)
    execute(
        int64s(g[a.ENCODER]), g[a.ENCODER_COUNT], float32s(g[a.NUMBERS]), g[a.INT8], f, ONCE, length,
        g[a.ENCODER_STATE], g[a.ENCODER_STATE_ROW], start, int64s(g[a.PICKED]), int64s(g[a.SOURCE_LENGTHS]),
        int64s(g[a.MEMORIES]), g[a.ROOM], at(f, g[a.SCRATCH]), f, NONE,
    )  # fmt: skip


@compiled
def read_target(g, slot, tokens, length, state, keep):
    """Run the decoder over known tokens of one sentence, from the state there, which is changed.

    With `keep` weights of attention go to SHOWN, a row a token.
    """
    f = float32s(g[a.FLOATS])
    for t in range(length):
        embed(g, g[a.EMBEDDING_TARGET], tokens[t], at(f, g[a.TARGET_AT] + t * g[a.TARGET_ROW]))
    int64s(g[a.PICKED])[0] = slot
    execute(
        int64s(g[a.DECODER]), g[a.DECODER_COUNT], float32s(g[a.NUMBERS]), g[a.INT8], f, ONCE, length, state,
        g[a.STATE_ROW], NONE, int64s(g[a.PICKED]), int64s(g[a.SOURCE_LENGTHS]), int64s(g[a.MEMORIES]),
        g[a.ROOM], at(f, g[a.SCRATCH]), at(f, g[a.SHOWN]), keep,
    )  # fmt: skip


@compiled
def step(g, rows, keep):
    """Run the decoder one step for so many rows, whose tokens are embedded already."""
    f = float32s(g[a.FLOATS])
    execute(
        int64s(g[a.DECODER]), g[a.DECODER_COUNT], float32s(g[a.NUMBERS]), g[a.INT8], f, rows, ONCE,
        g[a.STATES], g[a.STATE_ROW], NONE, int64s(g[a.ROW_SLOT]), int64s(g[a.SOURCE_LENGTHS]),
        int64s(g[a.MEMORIES]), g[a.ROOM], at(f, g[a.SCRATCH]), at(f, g[a.SHOWN]), keep,
    )  # fmt: skip


@compiled
def output(g, first, rows):
    """Write the scores of rows of features, from `first` on, to the first rows of the scores."""
    f = float32s(g[a.FLOATS])
    product(
        at(f, g[a.FEATURES_AT] + first * g[a.FEATURES_ROW]), g[a.FEATURES_ROW], rows, g[a.OUTPUT_INPUTS],
        float32s(g[a.NUMBERS]), g[a.OUTPUT_WEIGHTS], g[a.OUTPUT_SCALES], g[a.OUTPUT_SHIFT], g[a.OUTPUT_BIAS],
        g[a.OUTPUT_TILES], at(f, g[a.LOGITS]), g[a.LOGITS_ROW], g[a.INT8], at(f, g[a.SCRATCH]), NONE,
    )  # fmt: skip


@compiled
def _begin(g, slot, sentence, row):
    """Read a source into a slot; its one hypothesis becomes a row of the next step."""
    f = float32s(g[a.FLOATS])
    offsets, tokens = int64s(g[a.OFFSETS]), int64s(g[a.TOKENS])
    length = offsets[sentence + 1] - offsets[sentence]
    int64s(g[a.SENTENCE])[slot] = sentence
    int64s(g[a.DONE])[slot] = 0
    int64s(g[a.WIDTH])[slot] = 1
    int64s(g[a.FINISHED])[slot] = 0
    float64s(g[a.TOTALS])[slot * g[a.BEAM]] = 0.0
    start = g[a.NEXT_STATES] + row * g[a.STATE_ROW]
    for i in range(g[a.STATE_ROW]):
        f[start + i] = np.float32(0.0)
    int64s(g[a.ROW_SLOT])[row] = slot
    read_source(g, slot, at(tokens, offsets[sentence]), length, start)
    if g[a.COLUMNS]:
        _compact(g, slot)


@compiled
def _scores(g, slot, row, width):
    """Write the log probabilities of the slot's rows; return whether all are numbers."""
    f = float32s(g[a.FLOATS])
    x, y = at(f, g[a.FEATURES_AT] + row * g[a.FEATURES_ROW]), at(f, g[a.LOGITS] + row * g[a.LOGITS_ROW])
    tiles = _tiles(g, slot)
    if g[a.COLUMNS]:
        room, n = float32s(g[a.COMPACT] + 4 * slot * g[a.COMPACT_SIZE]), tiles * 16
        product(
            x, g[a.FEATURES_ROW], width, g[a.OUTPUT_INPUTS], room, 3 * n, NONE, n, 2 * n, tiles, y,
            g[a.LOGITS_ROW], g[a.INT8], at(f, g[a.SCRATCH]), NONE,
        )  # fmt: skip
    fine = True
    for k in range(width):
        top = log_softmax(at(y, k * g[a.LOGITS_ROW]), tiles)
        fine = fine and top - top == np.float32(0.0)
    return fine


@compiled
def _history(g, slot, row, length):
    """Write the tokens of a row of the slot to HISTORY."""
    words, parents, history = int64s(g[a.WORDS]), int64s(g[a.PARENTS]), int64s(g[a.HISTORY])
    base = slot * g[a.LONGEST]
    for step in range(length - 1, -1, -1):
        place = (base + step) * g[a.BEAM] + row
        history[step] = words[place]
        row = parents[place]


@compiled
def _constrain(g, slot, row, lp, length):
    """Give what the rules forbid minus infinity, for a row with `length` tokens so far."""
    eos = _column(g, slot, g[a.EOS])
    nothing = np.float32(NOTHING)
    if length + 1 < g[a.MINIMUM]:
        lp[eos] = nothing
    for i in range(g[a.FORBIDDEN_COUNT]):
        column = _column(g, slot, int64s(g[a.FORBIDDEN])[i])
        if column >= 0:
            lp[column] = nothing
    if g[a.NGRAM_COUNT]:
        _history(g, slot, row, length)
    history = int64s(g[a.HISTORY])
    for number in range(g[a.NGRAM_COUNT]):
        n = int64s(g[a.NGRAMS])[number]
        for first in range(length - n + 1):
            same = True
            for i in range(n - 1):
                same = same and history[first + i] == history[length - n + 1 + i]
            token = history[first + n - 1]
            if same and token != g[a.EOS]:
                column = _column(g, slot, token)
                if column >= 0:
                    lp[column] = nothing


@compiled
def _best_of_row(g, lp, tiles, count):
    """Write the best of a row, log probability down, then column up; return how many."""
    values, columns = float32s(g[a.BEST_VALUE]), int64s(g[a.BEST_COLUMN])
    limit, found = np.float32(NOTHING), 0
    for tile in range(tiles):
        bits = above(at(lp, tile * 16), limit)
        while bits:
            column = tile * 16 + lowest_bit(bits)
            bits &= bits - 1
            value = lp[column]
            if value > limit:
                place = min(found, count - 1)
                while place > 0 and values[place - 1] < value:
                    values[place], columns[place] = values[place - 1], columns[place - 1]
                    place -= 1
                values[place], columns[place] = value, column
                found = min(found + 1, count)
                if found == count:
                    limit = values[count - 1]
    return found


@compiled
def _rank(g, slot, row, width, length, last):
    """Write the slot's best candidates to CANDIDATE_…, summed log probability down, then place up."""
    f, beam = float32s(g[a.FLOATS]), g[a.BEAM]
    sums, rows = float64s(g[a.CANDIDATE_SUM]), int64s(g[a.CANDIDATE_ROW])
    columns, totals = int64s(g[a.CANDIDATE_COLUMN]), float64s(g[a.TOTALS])
    values, of_row = float32s(g[a.BEST_VALUE]), int64s(g[a.BEST_COLUMN])
    tiles, eos, count = _tiles(g, slot), _column(g, slot, g[a.EOS]), 2 * beam
    found = 0
    for k in range(width):
        lp = at(f, g[a.LOGITS] + (row + k) * g[a.LOGITS_ROW])
        if last:
            values[0], of_row[0] = lp[eos], eos
            here = 1 if lp[eos] > np.float32(NOTHING) else 0
        else:
            _constrain(g, slot, k, lp, length)
            here = _best_of_row(g, lp, tiles, count)
        total = totals[slot * beam + k]
        for i in range(here):
            value, column = total + np.float64(values[i]), of_row[i]
            if found == count and value < sums[count - 1]:
                break
            place = found
            while place > 0 and (
                sums[place - 1] < value
                or (sums[place - 1] == value and rows[place - 1] == k and columns[place - 1] > column)
            ):
                place -= 1
            if place == count:
                continue
            for later in range(min(found, count - 1), place, -1):
                sums[later], rows[later], columns[later] = (
                    sums[later - 1],
                    rows[later - 1],
                    columns[later - 1],
                )
            sums[place], rows[place], columns[place] = value, k, column
            found = min(found + 1, count)
    return found


@exact
def _covered(g, slot, row, steps, ended):
    """Return the coverage penalty of the path to a row: of its weights on each source position."""
    n, beam = int64s(g[a.SOURCE_LENGTHS])[slot], g[a.BEAM]
    kept, parents = float32s(g[a.KEPT_ATTENTION]), int64s(g[a.PARENTS])
    covered = float64s(g[a.COVERED])
    for s in range(n):
        covered[s] = 0.0
    # In order of time, as the definition adds: so the path is followed back first.
    path = int64s(g[a.HISTORY])
    at_row = row
    for step in range(steps - 1, -1, -1):
        at_row = parents[(slot * g[a.LONGEST] + step) * beam + at_row]
        path[step] = at_row
    path[steps] = row
    for step in range(steps + (1 if ended else 0)):
        weights = at(kept, ((slot * g[a.LONGEST] + step) * beam + path[step]) * g[a.ROOM])
        for s in range(n):
            covered[s] += np.float64(weights[s])
    total = 0.0
    for s in range(n):
        total += math.log(min(max(covered[s], 1.1754943508222875e-38), 1.0))
    return total


@exact
def _finish(g, slot, total, row, steps, ended, keep_order):
    """Put a hypothesis among the slot's finished ones, score down; of equal ones the first stays first."""
    beam = g[a.BEAM]
    base, found = slot * beam, int64s(g[a.FINISHED])
    scores, sums = at(float64s(g[a.FINISHED_SCORE]), base), at(float64s(g[a.FINISHED_TOTAL]), base)
    steps_of, rows = at(int64s(g[a.FINISHED_AT]), base), at(int64s(g[a.FINISHED_ROW]), base)
    ends = at(int64s(g[a.FINISHED_END]), base)
    length = steps + (1 if ended else 0)
    score = total / float64s(g[a.PENALTIES])[max(length, 1)]
    weight = float64s(g[a.COVERAGE])[0]
    if weight != 0.0 and length > 0:
        score += weight * _covered(g, slot, row, steps, ended)
    place = found[slot]
    if not keep_order:
        while place > 0 and scores[place - 1] < score:
            place -= 1
    if place == beam:
        return
    for later in range(min(found[slot], beam - 1), place, -1):
        scores[later], sums[later], rows[later] = scores[later - 1], sums[later - 1], rows[later - 1]
        steps_of[later], ends[later] = steps_of[later - 1], ends[later - 1]
    scores[place], sums[place], rows[place], steps_of[place], ends[place] = score, total, row, steps, ended
    found[slot] = min(found[slot] + 1, beam)


@compiled
def _advance(g, slot, found, length):
    """Take one step's candidates: finish some, keep others; return whether the sentence is done.

    PICKED gets the rows that live on, WIDTH how many they are.
    """
    beam = g[a.BEAM]
    sums, rows = float64s(g[a.CANDIDATE_SUM]), int64s(g[a.CANDIDATE_ROW])
    columns, totals = int64s(g[a.CANDIDATE_COLUMN]), at(float64s(g[a.TOTALS]), slot * beam)
    eos, sentence = _column(g, slot, g[a.EOS]), int64s(g[a.SENTENCE])[slot]
    finished, width = int64s(g[a.FINISHED]), int64s(g[a.WIDTH])
    before = width[slot]
    live = 0
    for place in range(found):
        if columns[place] == eos and place < beam:
            _finish(g, slot, sums[place], rows[place], length, ONCE, NONE)
        elif columns[place] != eos and live < beam:
            live += 1
    done = live == 0
    if not done and g[a.STOP] != ALL and finished[slot] >= beam:
        if g[a.STOP] == FIRST:
            done = True
        else:
            best = NOTHING
            for place in range(found):
                if columns[place] != eos:
                    best = sums[place]
                    break
            bound = best / float64s(g[a.PENALTIES])[int64s(g[a.LIMITS])[sentence]]
            done = bound <= float64s(g[a.FINISHED_SCORE])[slot * beam + beam - 1]
    if done and finished[slot] == 0:
        for row in range(before):  # no way on and none to end: what was live is all there is
            _finish(g, slot, totals[row], row, length, NONE, ONCE)
    if done:
        return True
    parents = at(int64s(g[a.PARENTS]), (slot * g[a.LONGEST] + length) * beam)
    words = at(int64s(g[a.WORDS]), (slot * g[a.LONGEST] + length) * beam)
    live = 0
    for place in range(found):
        if columns[place] != eos and live < beam:
            totals[live] = sums[place]
            parents[live], words[live] = rows[place], _token(g, slot, columns[place])
            live += 1
    width[slot] = live
    return False


@compiled
def _write(g, slot):
    """Write a sentence's best outputs where the caller looks for them."""
    beam, longest = g[a.BEAM], g[a.LONGEST]
    sentence = int64s(g[a.SENTENCE])[slot]
    count = min(int64s(g[a.FINISHED])[slot], g[a.N_BEST])
    int64s(g[a.OUT_COUNT])[sentence] = count
    words, parents = int64s(g[a.WORDS]), int64s(g[a.PARENTS])
    for number in range(count):
        place = slot * beam + number
        steps, row = int64s(g[a.FINISHED_AT])[place], int64s(g[a.FINISHED_ROW])[place]
        ended = int64s(g[a.FINISHED_END])[place]
        out = sentence * g[a.N_BEST] + number
        tokens = at(int64s(g[a.OUT_TOKENS]), out * longest)
        if ended:
            tokens[steps] = g[a.EOS]
            if g[a.ATTENTION]:
                _show(g, slot, out, steps, row)
        int64s(g[a.OUT_LENGTHS])[out] = steps + ended
        float64s(g[a.OUT_TOTALS])[out] = float64s(g[a.FINISHED_TOTAL])[place]
        float64s(g[a.OUT_SCORES])[out] = float64s(g[a.FINISHED_SCORE])[place]
        for step in range(steps - 1, -1, -1):
            back = (slot * longest + step) * beam + row
            tokens[step] = words[back]
            row = parents[back]
            if g[a.ATTENTION]:
                _show(g, slot, out, step, row)


@compiled
def _show(g, slot, out, step, row):
    from_ = at(float32s(g[a.KEPT_ATTENTION]), ((slot * g[a.LONGEST] + step) * g[a.BEAM] + row) * g[a.ROOM])
    to = at(float32s(g[a.OUT_ATTENTION]), (out * g[a.LONGEST] + step) * g[a.ROOM])
    for s in range(int64s(g[a.SOURCE_LENGTHS])[slot]):
        to[s] = from_[s]


@compiled
def mark(g):
    """Write the time down, if someone measures."""
    if g[a.TIMES] and g[a.TIMES_COUNT] < g[a.TIMES_ROOM]:
        int64s(g[a.TIMES])[g[a.TIMES_COUNT]] = nanoseconds()
        g[a.TIMES_COUNT] += 1


@compiled
def translate(g):
    """Search the best outputs of all sentences; return 0, or 1 where the model gives NaN."""
    f = float32s(g[a.FLOATS])
    beam, slots = g[a.BEAM], g[a.SLOTS]
    row_slot, width, lengths = int64s(g[a.ROW_SLOT]), int64s(g[a.WIDTH]), int64s(g[a.DONE])
    words, parents, order = int64s(g[a.WORDS]), int64s(g[a.PARENTS]), int64s(g[a.ORDER])
    keep = g[a.ATTENTION] or float64s(g[a.COVERAGE])[0] != 0.0
    state_row = g[a.STATE_ROW]
    active, sentence, rows = NONE, NONE, NONE
    mark(g)
    while active < slots and sentence < g[a.SENTENCES]:
        order[active] = active
        _begin(g, active, sentence, rows)
        active += 1
        sentence += 1
        rows += 1
    while active:
        g[a.STATES], g[a.NEXT_STATES] = g[a.NEXT_STATES], g[a.STATES]
        mark(g)
        row = NONE
        for i in range(active):
            slot = order[i]
            length = lengths[slot]
            for k in range(width[slot]):
                token = int64s(g[a.STARTS])[int64s(g[a.SENTENCE])[slot]]
                if length:
                    token = words[(slot * g[a.LONGEST] + length - 1) * beam + k]
                embed(g, g[a.EMBEDDING_TARGET], token, at(f, g[a.TARGET_AT] + row * g[a.TARGET_ROW]))
                row_slot[row] = slot
                row += 1
        step(g, rows, keep)
        if g[a.COLUMNS] == 0:
            output(g, NONE, rows)
        row, rows, stay = NONE, NONE, NONE
        for i in range(active):
            slot = order[i]
            before, length = width[slot], lengths[slot]
            if not _scores(g, slot, row, before):
                return 1
            if keep:
                for k in range(before):
                    place = (slot * g[a.LONGEST] + length) * beam + k
                    to = at(float32s(g[a.KEPT_ATTENTION]), place * g[a.ROOM])
                    from_ = at(f, g[a.SHOWN] + (row + k) * g[a.ROOM])
                    for s in range(g[a.ROOM]):
                        to[s] = from_[s]
            limit = int64s(g[a.LIMITS])[int64s(g[a.SENTENCE])[slot]]
            found = _rank(g, slot, row, before, length, length + 1 == limit)
            if _advance(g, slot, found, length):
                _write(g, slot)
                if sentence < g[a.SENTENCES]:
                    _begin(g, slot, sentence, rows)
                    sentence += 1
                    rows += 1
                    order[stay] = slot
                    stay += 1
            else:
                for k in range(width[slot]):
                    parent = parents[(slot * g[a.LONGEST] + length) * beam + k]
                    from_, to = g[a.STATES] + (row + parent) * state_row, g[a.NEXT_STATES] + rows * state_row
                    for j in range(state_row):
                        f[to + j] = f[from_ + j]
                    rows += 1
                lengths[slot] = length + 1
                order[stay] = slot
                stay += 1
            row += before
        active = stay
    mark(g)
    return 0
