"""The output softmax on a GPU: torch allocates, and one kernel of `cuda_softmax` runs over all rows."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from seqsru.ops.calls import SoftmaxCrossEntropy
from seqsru.ops.cuda import run_kernel
from seqsru.ops.cuda_build import ALONE
from seqsru.ops.reference import accumulation_dtype


def softmax_cross_entropy(
    logits: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float, gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return ``−log p_y`` and ``Σ_v(−log p_v)`` of each row of ``softmax(logits + bias)``, as the CPU's does.

    They are float64 with float64 and float32 otherwise. With `gradient`, that of `linear_cross_entropy` is
    put in the logits' place. All tensors are contiguous and on one device, for which nothing waits. A target
    that is `LEFT_OUT` leaves its row out; any other outside the vocabulary gives NaN.
    """
    rows, vocabulary = logits.shape
    sums = accumulation_dtype(logits.dtype)
    nll, spread = logits.new_empty(rows, dtype=sums), logits.new_empty(rows, dtype=sums)
    if rows:
        from seqsru.ops.cuda_softmax import BLOCK

        call = SoftmaxCrossEntropy(logits, nll, bias, targets, spread, vocabulary, int(gradient), smoothing)
        run_kernel(call, ALONE, rows, BLOCK, np.int32(bias is not None))
    return nll, spread
