"""The scans on a GPU: torch allocates, DLPack says where, and a specialised kernel runs on torch's stream.

The four functions are the private contract of the backends, like those of `reference` and `cpu`; `scan` has
checked their arguments. Kernels (`cuda_kernels`) are compiled at first use, one for each element type and
compute capability, and launched with raw pointers and an explicit signature, so that a launch neither types
nor copies anything.

In a process with ``NUMBA_ENABLE_CUDASIM=1`` the functions take CPU tensors and run the kernels as Python.
"""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqsru.errors import NotInstalled, Refused
from seqsru.ops.backends import INSTALL
from seqsru.ops.dlpack import CPU, CUDA, Buffer

# Threads of a block. Small, so that a narrow layer still reaches every multiprocessor: 32 rows of 910
# features are 455 blocks of 64 threads, for the 132 multiprocessors of an H200.
BLOCK = 64
# Bits of the kernels' argument `options`, as `cuda_kernels` has them.
VALID, HIGHWAY, KEEP, CARRY = 4, 8, 16, 32
# Threads that fill a multiprocessor's memory pipeline, and steps from which on a scan is worth three
# launches: counted, not measured (a chunk's two passes cost its length each, the scan over chunks their
# number, a launch about 10 steps).
ENOUGH, LONG = 512, 256


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
) -> tuple[Tensor, Tensor, Tensor]:
    """Return h, c_last, and the states c in the dtype of c0, an empty tensor unless `keep`."""
    T, B, k, D = u.shape
    h, c = u.new_empty(T, B, D), c0.new_empty((T, B, D) if keep else 0)
    x = u[:, :, 3] if k == 4 else x
    span = _span(T, B, D, u.device) if v is None else T

    def run(first, last, c, span, options):
        _launch(
            "sru_forward",
            u.dtype,
            (u, x, first, v, b, mask, valid, h, last, c),
            (T, B, D, span, options, k, *_steps(x), activation, scale),
        )

    options = _options(v, mask, valid, x, keep)
    c_last = _in_chunks(run, c0, T, span, options & VALID | CARRY, options, c if keep else None)
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

    The kernel writes the gradients of v and b row by row and torch sums them: the same bits every time.
    """
    T, B, k, D = u.shape
    span = _span(T, B, D, u.device) if v is None else T
    rows = _chunks(T, span) * B
    gu, gb = torch.empty_like(u), b.new_empty(2, rows, D)
    gx = None if x is None else u.new_empty(T, B, D)
    gv = None if v is None else b.new_empty(2, rows, D)
    x, skip = (u[:, :, 3], gu[:, :, 3]) if k == 4 else (x, gx)

    def run(last, first, factors, span, options):
        _launch(
            "sru_backward",
            u.dtype,
            (
                gh,
                last,
                u,
                x,
                c0,
                v,
                b,
                mask,
                valid,
                c,
                gu,
                skip,
                first,
                gv,
                gb if factors is None else factors,
            ),
            (T, B, D, span, options, k, *_steps(x), activation, scale),
        )

    options = _options(v, mask, valid, x, True)
    carry = options & ~(HIGHWAY | KEEP) | CARRY
    gc0 = _in_chunks(run, gc_last, T, span, carry, options, None, backward=True)
    return gu, gx, gc0, None if gv is None else gv.sum(1), gb.sum(1)


def linear_forward(
    a: Tensor,
    b: Tensor,
    c0: Tensor,
    valid: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, c_last, and the states c in the dtype of c0, an empty tensor unless `keep`."""
    T, B, D = a.shape
    out, c = torch.empty_like(a), c0.new_empty((T, B, D) if keep else 0)

    def run(first, last, c, span, options):
        _launch("linear_forward", a.dtype, (a, b, first, valid, out, last, c), (T, B, D, span, options))

    options = _options(None, None, valid, None, keep)
    c_last = _in_chunks(
        run, c0, T, _span(T, B, D, a.device), options & VALID | CARRY, options, c if keep else None
    )
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

    def run(last, first, factors, span, options):
        _launch(
            "linear_backward",
            a.dtype,
            (gout, last, a, c0, valid, c, ga, gb, first, factors),
            (T, B, D, span, options),
        )

    options = _options(None, None, valid, None, False)
    gc0 = _in_chunks(run, gc_last, T, _span(T, B, D, a.device), options | CARRY, options, None, backward=True)
    return ga, gb, gc0


def _span(T: int, B: int, D: int, device: torch.device) -> int:
    """Steps of a chunk: T where rows and features alone fill the device, or time is short.

    With C chunks a thread goes through T / C steps twice and through the C chunks once, which is least for
    C = √(2 T); more chunks than fill the device gain nothing.
    """
    if simulated() or T < LONG or not B * D:
        return T
    wanted = ENOUGH * torch.cuda.get_device_properties(device).multi_processor_count // (B * D)
    return -(-T // max(1, min(wanted, int((2 * T) ** 0.5))))


def _chunks(T: int, span: int) -> int:
    return max(1, -(-T // max(span, 1)))


def _in_chunks(
    run: Callable,
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
    then, when a scan over the chunks has given all states, with `options`.
    """
    chunks = _chunks(T, span)
    span = max(span, 1)
    found = known.new_empty(chunks, *known.shape)
    if chunks == 1:
        run(known, found, array, span, options)
        return found[0]
    factors = torch.empty_like(found)
    run(torch.zeros_like(found), found, factors, span, carry)
    if backward:
        factors, found = factors.flip(0), found.flip(0)
    after, _, _ = linear_forward(factors, found, known, None, False)
    states = torch.cat([known.unsqueeze(0), after[:-1]])
    run(states.flip(0) if backward else states, found, array, span, options)
    return found[0 if backward else -1].clone()


def _options(
    v: Tensor | None,
    mask: Tensor | None,
    valid: Tensor | None,
    x: Tensor | None,
    keep: bool,
) -> int:
    """Bits that tell a kernel what it is given, as `cuda_kernels` names them."""
    present = (v is not None, mask is not None, valid is not None, x is not None, keep)
    return sum(bit << place for place, bit in enumerate(present))


def _steps(x: Tensor | None) -> tuple[int, int]:
    """Elements of the highway input from one time step, and from one row, to the next."""
    return (0, 0) if x is None else (x.stride(0), x.stride(1))


def _launch(name: str, dtype: torch.dtype, tensors: Sequence[Tensor | None], numbers: tuple) -> None:
    """Run the kernel `name`, a thread for each chunk of B · D recurrences, on torch's current stream.

    The device is where the tensors lie; `numbers` begin with T, B, D and the steps of a chunk.
    """
    blocks = -(-_chunks(numbers[0], numbers[3]) * numbers[1] * numbers[2] // BLOCK)
    if not blocks:
        return
    buffers = [None if tensor is None else Buffer(tensor) for tensor in tensors]
    places = {(buffer.device_type, buffer.device_index) for buffer in buffers if buffer is not None}
    wanted = CPU if simulated() else CUDA
    if len(places) > 1 or next(iter(places))[0] != wanted:
        raise Refused(
            f"all tensors on one device of type {wanted} for the cuda backend",
            f"(type, index) {sorted(places)} in DLPack's numbers",
            "move them to one GPU",
        )
    if simulated():
        _compiled(name, dtype, None)[blocks, BLOCK](*map(_flat, buffers), *numbers)
        return
    _, index = places.pop()
    with torch.cuda.device(index):  # a thread of autograd may have no current device
        kernel = _compiled(name, dtype, _capability(index))
        stream = _stream(index, torch.cuda.current_stream(index).cuda_stream)
        launch = _configured(kernel, blocks, stream)
        launch(*(0 if buffer is None else buffer.pointer for buffer in buffers), *numbers)


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
    except ImportError as error:
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
def _capability(index: int) -> tuple[int, int]:
    """Compute capability of a device."""
    return torch.cuda.get_device_capability(index)


@functools.cache
def _compiled(name: str, dtype: torch.dtype, capability: tuple[int, int] | None) -> Any:
    """Compile one kernel for the current device, which is of that compute capability."""
    from numba import cuda

    from seqsru.ops.cuda_kernels import build, signatures

    if capability is not None and torch.cuda.is_current_stream_capturing():
        raise Refused(
            f"the kernel {name} compiled before a CUDA graph is captured",
            "this its first use",
            "run the same step once before the capture",
        )
    kind = str(dtype).removeprefix("torch.")
    try:
        return cuda.jit(getattr(signatures(kind), name))(getattr(build(kind), name))
    except (ImportError, RuntimeError) as error:
        found = f"that it cannot compile ({error})"
        raise NotInstalled(
            "numba-cuda with libNVVM and NVRTC for the cuda backend", found, INSTALL
        ) from error


@functools.lru_cache(maxsize=256)
def _stream(index: int, pointer: int) -> Any:
    """Wrap a stream of torch for numba, always in the same object: numba knows launches by its identity."""
    from numba import cuda

    return cuda.external_stream(pointer) if pointer else 0


@functools.lru_cache(maxsize=4096)
def _configured(kernel: Any, blocks: int, stream: Any) -> Any:
    """Return the launch of a kernel on a grid and stream, without numba's warning about small grids."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Grid size")
        return kernel[blocks, BLOCK, stream]


class Flat:
    """What stands for a raw pointer in the simulator: ``p[i]``, where going out of bounds is an error."""

    def __init__(self, buffer: Buffer) -> None:
        span = 1 + sum((size - 1) * stride for size, stride in zip(buffer.shape, buffer.strides))
        count = span * STORED[buffer.dtype].itemsize if all(buffer.shape) else 0
        memory: Any = (ctypes.c_byte * count).from_address(buffer.pointer) if count else b""
        self.array = np.frombuffer(memory, STORED[buffer.dtype])

    def __getitem__(self, i: int) -> Any:
        if not 0 <= i < len(self.array):
            raise IndexError(f"read at {i} of an array of {len(self.array)}")
        return self.array[i]

    def __setitem__(self, i: int, value: Any) -> None:
        if not 0 <= i < len(self.array):
            raise IndexError(f"write at {i} of an array of {len(self.array)}")
        self.array[i] = value


# How elements lie in memory, as NumPy and the kernels see them.
STORED: dict[torch.dtype, np.dtype] = {
    torch.float64: np.dtype(np.float64),
    torch.float32: np.dtype(np.float32),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(np.uint16),
    torch.bool: np.dtype(np.uint8),
}


def _flat(buffer: Buffer | None) -> Flat | None:
    return None if buffer is None else Flat(buffer)
