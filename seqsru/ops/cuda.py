"""The scans on a GPU: torch allocates, DLPack says where, and a specialised kernel runs on torch's stream.

The four functions are the private contract of the backends, like those of `reference` and `cpu`; `scan` has
checked their arguments. Kernels (`cuda_kernels`) are compiled at first use (`cuda_build`), and started with
raw pointers (`cuda_launch`), so that a launch neither types nor copies anything.

In a process with ``NUMBA_ENABLE_CUDASIM=1`` the functions take CPU tensors and run the kernels as Python.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqsru.errors import NotInstalled
from seqsru.ops.backends import INSTALL
from seqsru.ops.calls import (
    BOTH,
    CARRY,
    HIGHWAY,
    VALID,
    Call,
    ChunkStates,
    LinearBackward,
    LinearForward,
    Scan,
    SruBackward,
    SruForward,
    given,
    parts,
    steps,
)
from seqsru.ops.cuda_build import ALONE, THREADS, Variant, blocks, source, variant
from seqsru.ops.cuda_launch import launch
from seqsru.ops.dlpack import Buffer
from seqsru.ops.simulator import Flat

# Threads that fill a multiprocessor's memory pipeline, and steps from which on a scan is cut into chunks. The
# latter is counted, not measured: a scan in chunks is two kernels and a fill more, which cost a host a dozen
# microseconds (tools/bench_host.py), and saves at least 200 of 256 steps, each a tenth of one or more. It is
# the same inside a CUDA graph, where a launch costs less, so that a graph gives the bits of what it captured.
ENOUGH, LONG = 512, 256
MOST_CHUNKS = 65_535  # which lie along a direction of the grid that has no more


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
    """Return h, c_last, and the states c in the dtype of c0, None unless `keep`."""
    both = u.dim() == 5  # two directions
    T, B, k, D = u.shape if not both else (*u.shape[:2], u.shape[3], c0.shape[1])
    h, c = u.new_empty(T, B, D), c0.new_empty(T, B, D) if keep else None
    x = u[..., 3, :] if k == 4 else x
    span = _span(T, B, D, u.device) if v is None else T
    sizes = T, B, k, D, *steps(x)

    def run(first: Tensor, last: Tensor, c: Tensor | None, span: int, options: int) -> None:
        call = SruForward(u, first, x, v, b, mask, valid, h, last, c, *sizes, activation, scale)
        _scan(call, span, options)

    options = given(v=v, mask=mask, valid=valid, x=x, c=c) | (BOTH if both else 0)
    carry = options & (VALID | BOTH) | CARRY
    c_last = _in_chunks(run, c0, T, span, carry, options, c if keep else None)
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
    """Return the gradients of u, x, c0, v and b; that of x or v is None where it is absent.

    The kernel writes the gradients of v and b row by row and torch sums them: the same bits every time. The
    two lie side by side in memory.
    """
    both = u.dim() == 5  # two directions
    T, B, k, D = u.shape if not both else (*u.shape[:2], u.shape[3], c0.shape[1])
    span = _span(T, B, D, u.device) if v is None else T
    rows = _chunks(T, span) * B
    gu, gx = torch.empty_like(u), None if x is None else u.new_empty(T, B, D)
    by_row = b.new_empty(1 if v is None else 2, 2, rows, D)  # one tensor, which is summed at once
    gb, gv = (by_row, None) if v is None else by_row.unbind()
    x, skip = (u[..., 3, :], gu[..., 3, :]) if k == 4 else (x, gx)
    sizes = T, B, k, D, *steps(x)

    def run(last: Tensor, first: Tensor, factors: Tensor | None, span: int, options: int) -> None:
        sums = gb if factors is None else factors
        given = u, c0, x, v, b, mask, valid, c, gh, last
        call = SruBackward(*given, gu, skip, first, gv, sums, *sizes, activation, scale)
        _scan(call, span, options)

    options = given(v=v, mask=mask, valid=valid, x=x) | (BOTH if both else 0)
    carry = options & ~HIGHWAY | CARRY
    gc0 = _in_chunks(run, gc_last, T, span, carry, options, None, backward=True)
    total = by_row.sum(2)  # (1 or 2, 2, D)
    gb, gv = (total[0], None) if v is None else total.unbind()
    return gu, gx, gc0, gv, gb


def linear_forward(
    a: Tensor,
    b: Tensor,
    c0: Tensor,
    valid: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the output, c_last, and the states c in the dtype of c0, None unless `keep`."""
    T, B, D = a.shape
    out, c = torch.empty_like(a), c0.new_empty(T, B, D) if keep else None

    def run(first: Tensor, last: Tensor, c: Tensor | None, span: int, options: int) -> None:
        _scan(LinearForward(a, first, b, valid, out, last, c, T, B, D), span, options)

    span, options = _span(T, B, D, a.device), given(valid=valid, c=c)
    c_last = _in_chunks(run, c0, T, span, options & VALID | CARRY, options, c if keep else None)
    return out, c_last, c


def linear_backward(
    gout: Tensor,
    gc_last: Tensor,
    a: Tensor,
    c0: Tensor,
    c: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of a, b and c0."""
    T, B, D = a.shape
    ga, gb = torch.empty_like(a), torch.empty_like(a)

    def run(last: Tensor, first: Tensor, factors: Tensor | None, span: int, options: int) -> None:
        _scan(LinearBackward(a, c0, valid, c, gout, last, ga, gb, first, factors, T, B, D), span, options)

    span, options = _span(T, B, D, a.device), given(valid=valid)
    gc0 = _in_chunks(run, gc_last, T, span, options | CARRY, options, None, backward=True)
    return ga, gb, gc0


def _span(T: int, B: int, D: int, device: torch.device) -> int:
    """Steps of a chunk: T where rows and features alone fill the device, or time is short.

    With C chunks a thread goes through T / C steps twice and through the C chunks once, which is least for
    C = √(2 T); more chunks than fill the device gain nothing.
    """
    if simulated() or T < LONG or not B * D:
        return T
    wanted = ENOUGH * torch.cuda.get_device_properties(device).multi_processor_count // (B * D)
    return -(-T // max(1, min(wanted, int((2 * T) ** 0.5), MOST_CHUNKS)))


def _chunks(T: int, span: int) -> int:
    return max(1, -(-T // max(span, 1)))


def _in_chunks(
    run: Callable[[Tensor, Tensor, Tensor | None, int, int], None],
    known: Tensor,
    T: int,
    span: int,
    carry: int,
    options: int,
    array: Tensor | None,
    backward: bool = False,
) -> Tensor:
    """Run a scan from the state `known` (B, D) at one end of time; return that at the other.

    ``run(known, found, array, span, options)`` launches a kernel whose chunks read and write such states. For
    more than one chunk it runs twice: with `carry` to find how each chunk's state depends on its neighbour's,
    then, when `ChunkStates` has gone through the chunks, with `options`.
    """
    chunks = _chunks(T, span)
    span = max(span, 1)
    if chunks == 1:
        found = torch.empty_like(known)
        run(known, found, array, span, options)
        return found
    found = known.new_empty(chunks, *known.shape)
    states, factors = known.new_zeros(found.shape), torch.empty_like(found)
    run(states, found, factors, span, carry)  # each chunk from 0
    plane = known.numel()
    call = ChunkStates(factors, found, known, states, chunks, plane, backward)
    run_kernel(call, ALONE, -(-plane // THREADS), THREADS)
    run(states, found, array, span, options)
    return found[0 if backward else -1]  # a view of a buffer no larger than `ENOUGH` threads' states


def _scan(call: Scan, span: int, options: int) -> None:
    """Run the kernel of a scan, a thread for each chunk of B · D recurrences of `span` steps."""
    chosen = variant(call, options)
    grid = blocks(call.B, call.D, _chunks(call.T, span), chosen.lanes)
    if all(grid):
        run_kernel(call, chosen, grid, THREADS, span)


def run_kernel(call: Call, chosen: Variant, grid: int | tuple[int, int], threads: int, *more: Any) -> None:
    """Run the kernel of a call on torch's current stream, or in the simulator, which takes tensors of a CPU.

    The arguments are those of `launch`.
    """
    if not simulated():
        launch(call, chosen, grid, threads, *more)
        return
    kind: Any = type(call)  # a type checker may hold that the class of a named tuple has no hash
    tensors, numbers = parts(call)
    buffers = [None if tensor is None else Buffer(tensor) for tensor in tensors]
    first = next(buffer for buffer in buffers if buffer is not None)
    arrays = [None if buffer is None else Flat(buffer, chosen.lanes) for buffer in buffers]
    _simulation(kind, first.dtype, chosen)[grid, threads](*arrays, *numbers, *more)


@functools.cache
def simulated() -> bool:
    """Say whether this process runs kernels in numba's simulator.

    Raises
    ------
    NotInstalled
        numba's CUDA target is missing, or is the deprecated one inside numba.
    """
    try:
        from numba import config, cuda
    except (ImportError, RuntimeError) as error:  # numba-cuda without its extra looks for libcudart in vain
        found = f"that it cannot be imported ({error})"
        raise NotInstalled("numba-cuda for the cuda backend", found, INSTALL) from error
    if "numba_cuda" not in cuda.__file__:
        raise NotInstalled(
            "the CUDA target of the package numba-cuda for the cuda backend",
            f"the deprecated one at {cuda.__file__}",
            f"{INSTALL}, into a folder whose .pth files Python reads (not PYTHONPATH, not --target)",
        )
    return bool(config.ENABLE_CUDASIM)  # type: ignore[attr-defined]


@functools.cache
def _simulation(call: type[Call], dtype: torch.dtype, chosen: Variant) -> Any:
    """Return the kernel of a call as numba's simulator runs it."""
    from numba import cuda

    jit: Any = cuda.jit
    return jit(source(call, str(dtype).removeprefix("torch."), chosen)[0])
