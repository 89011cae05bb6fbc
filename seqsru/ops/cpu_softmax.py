"""The CPU kernels of the output layer's softmax: plain functions, compiled by `cpu_build`.

A row of logits stays in the cache for the three passes over it: the largest, the sum of the exponentials, the
gradient in their place. Sums go into TILE lanes, side by side in memory, which vectorise; the lanes are added
up at the end, in order. So a row's bits depend on nothing outside it.

The parameters are those of `cpu_kernels`: begin, end, int64 arguments, a pointer to the logits, and one to a
tensor in the type of accumulation.
"""

from __future__ import annotations

import math

from seqsru.ops.calls import ColumnSums, SoftmaxCrossEntropy, places
from seqsru.ops.cpu_math import TILE, buffer, double_of, exp_minus, load, number, pointer, store

SOFTMAX, COLUMNS = places(SoftmaxCrossEntropy), places(ColumnSums)


def softmax_cross_entropy(begin, end, arguments, logits, nll):
    """Equations 1 to 4 of `linear_cross_entropy` for the rows from begin to end, in place."""
    V, has_bias, wanted = arguments[SOFTMAX.V], arguments[SOFTMAX.bias] != 0, arguments[SOFTMAX.gradient] != 0
    bias, targets = pointer(nll, arguments[SOFTMAX.bias]), pointer(arguments, arguments[SOFTMAX.targets])
    spread = pointer(nll, arguments[SOFTMAX.spread])
    smoothing = number(nll, double_of(arguments[SOFTMAX.smoothing]))
    zero, one = number(nll, 0.0), number(nll, 1.0)
    most, sums, plain, shift = buffer(nll), buffer(nll), buffer(nll), buffer(nll)
    uniform = smoothing / number(nll, V)

    for row in range(begin, end):
        at = row * V
        for i in range(TILE):
            most[i] = number(nll, -math.inf)
            sums[i] = zero
            plain[i] = zero
            shift[i] = zero
        for first in range(0, V, TILE):
            n = min(TILE, V - first)
            if has_bias:
                for i in range(n):
                    shift[i] = bias[first + i]
            for i in range(n):
                z = load(logits, at + first + i) + shift[i]
                most[i] = z if z > most[i] else most[i]
                plain[i] += z
        largest, total = most[0], zero
        for i in range(TILE):
            largest = most[i] if most[i] > largest else largest
            total += plain[i]
        for first in range(0, V, TILE):
            n = min(TILE, V - first)
            if has_bias:
                for i in range(n):
                    shift[i] = bias[first + i]
            for i in range(n):
                sums[i] += exp_minus(largest - (load(logits, at + first + i) + shift[i]))
        exponentials = zero
        for i in range(TILE):
            exponentials += sums[i]
        log_sum = largest + math.log(exponentials)
        y = targets[row]
        nll[row] = log_sum - (load(logits, at + y) + (bias[y] if has_bias else zero))  # 2
        spread[row] = number(nll, V) * log_sum - total
        if wanted:
            target = exp_minus(log_sum - (load(logits, at + y) + (bias[y] if has_bias else zero)))
            inverse = one / exponentials
            for first in range(0, V, TILE):
                n = min(TILE, V - first)
                if has_bias:
                    for i in range(n):
                        shift[i] = bias[first + i]
                for i in range(n):
                    e = exp_minus(largest - (load(logits, at + first + i) + shift[i]))
                    sums[i] = e * inverse - uniform  # 4
                for i in range(n):
                    store(logits, at + first + i, sums[i])
            store(logits, at + y, target - (one - smoothing) - uniform)


def column_sums(begin, end, arguments, rows, sums):
    """The sum of each column, TILE columns a task."""
    N, V = arguments[COLUMNS.N], arguments[COLUMNS.V]
    total = buffer(sums)
    for task in range(begin, end):
        first = task * TILE
        n = min(TILE, V - first)
        for i in range(n):
            total[i] = number(sums, 0.0)
        for row in range(N):
            at = row * V + first
            for i in range(n):
                total[i] += load(rows, at + i)
        for i in range(n):
            sums[first + i] = total[i]
