"""The scans and the softmax on a CPU: torch allocates outputs, Numba compiles kernels at their first use.

The contract is that of `reference`. float16 is cast by torch around the float32 kernels, because Numba has no
float16 on a CPU; bfloat16 is read and written by the kernels. Small scans run on the calling thread, others
on `torch.get_num_threads()` threads, with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqsru.errors import Refused
from seqsru.ops import cpu_kernels, cpu_softmax, directions
from seqsru.ops.calls import (
    Call,
    ColumnSums,
    LinearBackward,
    LinearForward,
    Scan,
    SoftmaxCrossEntropy,
    SruBackward,
    SruForward,
    packed,
    parts,
    steps,
)
from seqsru.ops.cpu_build import kernel, most_threads, run_parallel
from seqsru.ops.cpu_math import TILE
from seqsru.ops.reference import accumulation_dtype

NAMES = {torch.float64: "float64", torch.float32: "float32", torch.bfloat16: "bfloat16"}
SMALL = 32768  # elements below which waking other threads costs more than it saves


def sru_forward(
    u: Tensor,
    x: Tensor | None,
    c0: Tensor,
    v: Tensor | None,
    b: Tensor,
    mask: Tensor | None,
    valid: Tensor | None,
    activation: int,
    scale: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return h, c_last, and c in the accumulation dtype, which is None unless `keep`."""
    if u.dim() == 5:
        return directions.forward(sru_forward, u, x, c0, v, b, mask, valid, activation, scale, keep)
    if u.dtype == torch.float16:
        h, c_last, c = sru_forward(
            u.float(), _float(x), c0, v, b, _float(mask), valid, activation, scale, keep
        )
        return h.half(), c_last, c
    T, B, k, D = u.shape
    h, c_last = u.new_empty(T, B, D), torch.empty_like(c0)
    c = c0.new_empty(T, B, D) if keep else None
    call = SruForward(u, c0, x, v, b, mask, valid, h, c_last, c, T, B, k, D, *steps(x), activation, scale)
    _scan(cpu_kernels.sru_forward, u, call)
    return h, c_last, c


def sru_backward(
    gh: Tensor,
    gc_last: Tensor,
    u: Tensor,
    x: Tensor | None,
    c0: Tensor,
    v: Tensor | None,
    b: Tensor,
    mask: Tensor | None,
    valid: Tensor | None,
    c: Tensor,
    activation: int,
    scale: float,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor]:
    """Return the gradients of u, x, c0, v and b; that of x or v is None where it is absent."""
    if u.dim() == 5:
        given = gh, gc_last, u, x, c0, v, b, mask, valid, c, activation, scale
        return directions.backward(sru_backward, *given)
    if u.dtype == torch.float16:
        gu, gx, gc0, gv, gb = sru_backward(
            gh.float(), gc_last, u.float(), _float(x), c0, v, b, _float(mask), valid, c, activation, scale
        )
        return gu.half(), None if gx is None else gx.half(), gc0, gv, gb
    T, B, k, D = u.shape
    gu, gc0, gb = torch.empty_like(u), torch.empty_like(c0), c0.new_empty(2, B, D)
    gx = None if x is None else torch.empty_like(gh)
    gv = None if v is None else torch.empty_like(gb)
    sizes = T, B, k, D, *steps(x)
    call = SruBackward(
        u, c0, x, v, b, mask, valid, c, gh, gc_last, gu, gx, gc0, gv, gb, *sizes, activation, scale
    )
    _scan(cpu_kernels.sru_backward, u, call)
    return gu, gx, gc0, None if gv is None else gv.sum(1), gb.sum(1)


def linear_forward(
    a: Tensor,
    b: Tensor,
    c0: Tensor,
    valid: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the output, c_last, and c in the accumulation dtype, which is None unless `keep`."""
    if a.dtype == torch.float16:
        out, c_last, c = linear_forward(a.float(), b.float(), c0, valid, keep)
        return out.half(), c_last, c
    out, c_last = torch.empty_like(a), torch.empty_like(c0)
    c = c0.new_empty(a.shape) if keep else None
    T, B, D = a.shape
    _scan(cpu_kernels.linear_forward, a, LinearForward(a, c0, b, valid, out, c_last, c, T, B, D))
    return out, c_last, c


def linear_backward(
    gout: Tensor,
    gc_last: Tensor,
    a: Tensor,
    c0: Tensor,
    c: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of a, b and c0; `c` is the state after every step."""
    if a.dtype == torch.float16:
        ga, gb, gc0 = linear_backward(gout.float(), gc_last, a.float(), c0, c, valid)
        return ga.half(), gb.half(), gc0
    ga, gb, gc0 = torch.empty_like(a), torch.empty_like(a), torch.empty_like(c0)
    T, B, D = a.shape
    call = LinearBackward(a, c0, valid, c, gout, gc_last, ga, gb, gc0, None, T, B, D)
    _scan(cpu_kernels.linear_backward, a, call)
    return ga, gb, gc0


def softmax_cross_entropy(
    logits: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float, gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return ``−log p_y`` and ``Σ_v(−log p_v)`` of each row of ``softmax(logits + bias)``.

    They are float64 with float64 and float32 otherwise. With `gradient`, that of `linear_cross_entropy` is
    put in the logits' place. All tensors are contiguous, and every target is checked: the kernel writes where
    they point.
    """
    rows, vocabulary = logits.shape
    least, most = targets.aminmax() if rows else (0, 0)
    if least < 0 or most >= max(vocabulary, 1):
        raise Refused(
            f"indices from 0 to {vocabulary - 1}",
            int(least if least < 0 else most),
            "check that the vocabulary is the model's",
            "targets",
        )
    sums = accumulation_dtype(logits.dtype)
    nll, spread = logits.new_empty(rows, dtype=sums), logits.new_empty(rows, dtype=sums)
    call = SoftmaxCrossEntropy(logits, nll, bias, targets, spread, vocabulary, gradient, smoothing)
    _run(cpu_softmax.softmax_cross_entropy, rows, rows * vocabulary, logits, call)
    return nll, spread


def column_sums(table: Tensor) -> Tensor:
    """Return the sum of each column, in float64 with float64 and in float32 otherwise."""
    rows, columns = table.shape
    sums = table.new_empty(columns, dtype=accumulation_dtype(table.dtype))
    call = ColumnSums(table, sums, rows, columns)
    _run(cpu_softmax.column_sums, -(-columns // TILE), table.numel(), table, call)
    return sums


def _scan(function: Callable[..., Any], first: Tensor, call: Scan) -> None:
    """Run the kernel of a scan over all its tasks."""
    _run(function, call.B * -(-call.D // TILE), call.T * call.B * call.D, first, call)


def _run(function: Callable[..., Any], tasks: int, elements: int, first: Tensor, call: Call) -> None:
    """Run a kernel over all its tasks; the first tensor of its call has the dtype that it is compiled for."""
    tensors, numbers = parts(call)
    addresses = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
    arguments = packed(type(call), addresses, numbers)
    place, _ = arguments.buffer_info()
    run, code = kernel(function, NAMES[first.dtype])
    threads = 1 if elements < SMALL else min(torch.get_num_threads(), most_threads(), tasks)
    if threads == 1:
        run(0, tasks, place, *addresses[:2])
    else:
        run_parallel(code, tasks, threads, place, *addresses[:2])


def _float(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.float()
