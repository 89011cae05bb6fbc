"""The output layer's softmax and cross entropy as one CUDA kernel: its source and its signature.

One block has one row of logits. It reads the row once for the largest logit and the sum of the exponentials,
which each thread keeps as they run over its part and which are joined in shared memory, and once more,
mostly from the cache, to put the gradient in the logits' place. So a row's bits depend on nothing outside it,
no thread waits for another block, and there are no atomics.

A row whose target is `LEFT_OUT` has loss and gradient 0, whatever it holds; one whose target lies outside the
vocabulary has no loss: NaN, in its gradient as well, since a kernel cannot refuse.

As in `cuda_kernels` the same text runs in numba's simulator, and the module global `cuda` must keep its name.

=======  =================================================================================
logits   (rows, V)
nll      (rows,): −log p of the target; spread (rows,): Σ_v(−log p_v)
bias     (V,), read where `biased` is not 0
targets  (rows,): int64
=======  =================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda, types

from seqsru.ops.calls import LAYOUTS, LEFT_OUT, SoftmaxCrossEntropy
from seqsru.ops.cuda_elements import device, element

# Threads of a block, a power of two. Eight blocks fill a multiprocessor: 1,056 rows an H100, whose cache
# holds what they read until they read it again, for 10,000 logits a row in float32.
BLOCK = 256


def signature(kind: str) -> tuple[Any, ...]:
    """Types of the parameters of the kernel of one element type: its call's fields, then `biased`."""
    word = element(kind, 1)
    held = {
        "elements": types.CPointer(word.stored),
        "reals": types.CPointer(word.real),
        "indices": types.CPointer(types.int64),
        "size": types.int64,
        "code": types.int32,
        "real": word.real,
    }
    return (*(held[what] for what in LAYOUTS[SoftmaxCrossEntropy].kinds), types.int32)


def build(kind: str) -> Callable[..., None]:
    """Write the kernel of one element type: float64, float32, float16 or bfloat16."""
    word = element(kind, 1)
    widen_word, narrow_word, shared = word.widen, word.narrow, word.real
    real: Any = np.float64 if kind == "float64" else np.float32
    zero, one = real(0), real(1)
    # What the largest logit begins as: below every other, and finite, so that −∞ has probability 0.
    least, nothing = real(np.finfo(real).min), real(-math.inf)
    block = BLOCK

    @device
    def widen(stored):
        """Return a logit as the arithmetic has it."""
        return widen_word(stored, 0)

    @device
    def narrow(value):
        """Return a number as memory has it."""
        return narrow_word((value,))

    @device
    def logit(stored, bias, i, biased):
        """Return a logit with its bias."""
        return widen(stored) + bias[i] if biased else widen(stored)

    @device
    def larger(a, b):
        """Return the larger of two numbers; the first where there is none."""
        return b if b > a else a

    def softmax_cross_entropy(logits, nll, bias, targets, spread, V, gradient, smoothing, biased):
        row, thread = np.int64(cuda.blockIdx.x), np.int64(cuda.threadIdx.x)
        width = np.int64(cuda.blockDim.x)
        at, target = row * V, targets[row]
        if target == LEFT_OUT:  # the same for all threads of a block, so none waits at a barrier below
            if thread == 0:
                nll[row] = zero
                spread[row] = zero
            if gradient:
                i = thread
                while i < V:
                    logits[at + i] = narrow(zero)
                    i += width
            return

        most, total, plain, i = least, zero, zero, thread
        while i + 3 * width < V:  # four loads in flight
            i1, i2, i3 = i + width, i + 2 * width, i + 3 * width
            s0, s1, s2, s3 = logits[at + i], logits[at + i1], logits[at + i2], logits[at + i3]
            z0, z1 = logit(s0, bias, i, biased), logit(s1, bias, i1, biased)
            z2, z3 = logit(s2, bias, i2, biased), logit(s3, bias, i3, biased)
            above = larger(larger(larger(larger(most, z0), z1), z2), z3)
            total = total * math.exp(most - above) + (
                (math.exp(z0 - above) + math.exp(z1 - above)) + (math.exp(z2 - above) + math.exp(z3 - above))
            )
            most = above
            plain += (z0 + z1) + (z2 + z3)
            i += 4 * width
        while i < V:
            z = logit(logits[at + i], bias, i, biased)
            above = larger(most, z)
            total = total * math.exp(most - above) + math.exp(z - above)
            most = above
            plain += z
            i += width

        mosts = cuda.shared.array(block, shared)
        totals = cuda.shared.array(block, shared)
        plains = cuda.shared.array(block, shared)
        mosts[thread], totals[thread], plains[thread] = most, total, plain
        cuda.syncthreads()
        half = width // 2
        while half > 0:
            if thread < half:
                other = thread + half
                above = larger(mosts[thread], mosts[other])
                totals[thread] = totals[thread] * math.exp(mosts[thread] - above) + totals[other] * math.exp(
                    mosts[other] - above
                )
                mosts[thread] = above
                plains[thread] += plains[other]
            cuda.syncthreads()
            half //= 2
        most, total, plain = mosts[0], totals[0], plains[0]

        log_sum = most + (nothing if total == zero else math.log(total))  # Python's log refuses 0
        inside = target >= 0 and target < V
        wrong = nothing - nothing if not inside else zero  # NaN
        z = logit(logits[at + target], bias, target, biased) if inside else zero
        cuda.syncthreads()  # every thread has read the target's logit before it is overwritten
        if thread == 0:
            nll[row] = log_sum - z + wrong  # 2
            spread[row] = real(V) * log_sum - plain
        if gradient:
            inverse = one / total
            uniform = smoothing / real(V)
            i = thread
            while i < V:
                p = math.exp(logit(logits[at + i], bias, i, biased) - most) * inverse
                g = p - uniform + wrong  # 4
                if i == target:
                    g = g - (one - smoothing)
                logits[at + i] = narrow(g)
                i += width

    return softmax_cross_entropy
