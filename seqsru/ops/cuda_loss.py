"""The output softmax on a GPU: torch allocates, and one kernel of `cuda_softmax` runs over all rows."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from seqsru.ops import cuda
from seqsru.ops.calls import SoftmaxCrossEntropy, parts
from seqsru.ops.dlpack import Buffer
from seqsru.ops.reference import accumulation_dtype
from seqsru.ops.simulator import Flat


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
        call = SoftmaxCrossEntropy(logits, nll, bias, targets, spread, vocabulary, int(gradient), smoothing)
        _launch(call, rows)
    return nll, spread


def _launch(call: SoftmaxCrossEntropy, rows: int) -> None:
    """Run the kernel, a block a row, on torch's current stream of the device that the logits are on."""
    from seqsru.ops.cuda_softmax import BLOCK

    tensors, numbers = parts(call)
    assert call.logits is not None
    dtype, biased = call.logits.dtype, int(call.bias is not None)
    buffers = [None if tensor is None else Buffer(tensor) for tensor in tensors]
    if cuda.simulated():
        arrays = [None if buffer is None else Flat(buffer) for buffer in buffers]
        _compiled(dtype, None)[rows, BLOCK](*arrays, *numbers, biased)
        return
    index = call.logits.get_device()
    with torch.cuda.device(index):  # a thread of autograd may have no current device
        kernel = _compiled(dtype, cuda._capability(index))
        stream = cuda._stream(index, torch.cuda.current_stream(index).cuda_stream)
        pointers = (0 if buffer is None else buffer.pointer for buffer in buffers)
        kernel[rows, BLOCK, stream](*pointers, *numbers, biased)


@functools.cache
def _compiled(dtype: torch.dtype, capability: tuple[int, int] | None) -> Any:
    """Compile the kernel for an element type and the current device."""
    from numba import cuda as numba_cuda

    from seqsru.ops.cuda_softmax import build, signature

    kind = str(dtype).removeprefix("torch.")
    jit: Any = numba_cuda.jit
    return jit(signature(kind))(build(kind))
