"""The scans on a GPU: torch allocates, DLPack says where, and a specialised kernel runs on torch's stream.

The four functions are the private contract of the backends, like those of `reference` and `cpu`; `scan` has
checked their arguments. Kernels (`cuda_kernels`) are compiled at first use (`cuda_build`), and launched with
raw pointers, so that a launch neither types nor copies anything.

In a process with ``NUMBA_ENABLE_CUDASIM=1`` the functions take CPU tensors and run the kernels as Python.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqsru.errors import NotInstalled, Refused
from seqsru.ops.backends import INSTALL
from seqsru.ops.calls import (
    CARRY,
    HIGHWAY,
    LAYOUTS,
    VALID,
    LinearBackward,
    LinearForward,
    Scan,
    SruBackward,
    SruForward,
    given,
    parts,
    steps,
)
from seqsru.ops.cuda_build import THREADS, Variant, blocks, machine_code, source, variant
from seqsru.ops.dlpack import CPU, CUDA, Buffer
from seqsru.ops.simulator import Flat

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
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return h, c_last, and the states c in the dtype of c0, None unless `keep`."""
    T, B, k, D = u.shape
    h, c = u.new_empty(T, B, D), c0.new_empty(T, B, D) if keep else None
    x = u[:, :, 3] if k == 4 else x
    span = _span(T, B, D, u.device) if v is None else T
    sizes = T, B, k, D, *steps(x)
    call = SruForward(u, c0, x, v, b, mask, valid, h, None, c, *sizes, activation, scale)

    def run(first: Tensor, last: Tensor, c: Tensor | None, span: int, options: int) -> None:
        _launch(call._replace(c0=first, c_last=last, c=c), span, options)

    options = given(v=v, mask=mask, valid=valid, x=x, c=c)
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
    sizes = T, B, k, D, *steps(x)
    call = SruBackward(
        u, c0, x, v, b, mask, valid, c, gh, None, gu, skip, None, gv, gb, *sizes, activation, scale
    )

    def run(last: Tensor, first: Tensor, factors: Tensor | None, span: int, options: int) -> None:
        sums = gb if factors is None else factors
        _launch(call._replace(gc_last=last, gc0=first, gb=sums), span, options)

    options = given(v=v, mask=mask, valid=valid, x=x)
    carry = options & ~HIGHWAY | CARRY
    gc0 = _in_chunks(run, gc_last, T, span, carry, options, None, backward=True)
    return gu, gx, gc0, None if gv is None else gv.sum(1), gb.sum(1)


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
    call = LinearForward(a, c0, b, valid, out, None, c, T, B, D)

    def run(first: Tensor, last: Tensor, c: Tensor | None, span: int, options: int) -> None:
        _launch(call._replace(c0=first, c_last=last, c=c), span, options)

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
    call = LinearBackward(a, c0, valid, c, gout, None, ga, gb, None, None, T, B, D)

    def run(last: Tensor, first: Tensor, factors: Tensor | None, span: int, options: int) -> None:
        _launch(call._replace(gc_last=last, gc0=first, factors=factors), span, options)

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
    return -(-T // max(1, min(wanted, int((2 * T) ** 0.5), 65535)))  # the last is a grid's limit


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


def _launch(call: Scan, span: int, options: int) -> None:
    """Run the kernel of a call, a thread for each chunk of B · D recurrences, on torch's current stream.

    The device is where the tensors lie; `span` is the number of steps of a chunk.
    """
    chosen = variant(call, options)
    grid = blocks(call.B, call.D, _chunks(call.T, span), chosen.lanes)
    if not all(grid):
        return
    kind: Any = type(call)  # a type checker may hold that the class of a named tuple has no hash
    tensors, numbers = parts(call)
    dtype = next(tensor.dtype for tensor in tensors if tensor is not None)
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
        arrays = [None if buffer is None else Flat(buffer, chosen.lanes) for buffer in buffers]
        _compiled(kind, dtype, chosen, None)[grid, THREADS](*arrays, *numbers, span)
        return
    _, index = places.pop()
    with torch.cuda.device(index):  # a thread of autograd may have no current device
        kernel = _compiled(kind, dtype, chosen, index)
        stream = _stream(index, torch.cuda.current_stream(index).cuda_stream)
        launch = _configured(kernel, grid, stream)
        pointers = (0 if buffer is None else buffer.pointer for buffer in buffers)
        launch(*pointers, *numbers, span)


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


class _Loaded:
    """A kernel on the current device: ``kernel[grid, threads, stream](*arguments)`` launches it."""

    def __init__(self, call: Any, kind: str, chosen: Variant, capability: tuple[int, int]) -> None:
        from cuda.core import Device, ObjectCode

        name, code = machine_code(call, kind, chosen, capability)
        Device().set_current()
        self._kernel = ObjectCode.from_cubin(code).get_kernel(name)
        real = np.float64 if kind == "float64" else np.float32
        held: dict[str, Any] = {"size": np.int64, "code": np.int32, "real": real}
        self._types = [held.get(what, int) for what in LAYOUTS[call].kinds] + [np.int64]

    def __getitem__(self, configuration: tuple[tuple[int, int], int, Any]) -> Callable[..., None]:
        from cuda.core import LaunchConfig, launch

        grid, threads, stream = configuration
        start = functools.partial(launch, stream, LaunchConfig(grid=grid, block=threads), self._kernel)
        return lambda *given: start(*(kind(value) for kind, value in zip(self._types, given, strict=True)))


@functools.cache
def _compiled(call: type[Scan], dtype: torch.dtype, chosen: Variant, index: int | None) -> Any:
    """Compile the kernel of a call and load it on a device, or make the simulator's kernel."""
    if index is not None and torch.cuda.is_current_stream_capturing():
        raise Refused(
            f"the kernel of {call.__name__} compiled before a CUDA graph is captured",
            "this its first use",
            "run the same step once before the capture",
        )
    kind = str(dtype).removeprefix("torch.")
    try:
        if index is None:
            from numba import cuda

            jit: Any = cuda.jit
            return jit(source(call, kind, chosen)[0])
        return _Loaded(call, kind, chosen, torch.cuda.get_device_capability(index))
    except (ImportError, RuntimeError) as error:
        found = f"that it cannot compile ({error})"
        raise NotInstalled(
            "numba-cuda with libNVVM and NVRTC for the cuda backend", found, INSTALL
        ) from error


@functools.lru_cache(maxsize=256)
def _stream(index: int, pointer: int) -> Any:
    """Wrap a stream of torch, whose default, 0, is the legacy one."""
    from cuda.core import LEGACY_DEFAULT_STREAM, Stream

    return Stream.from_handle(pointer) if pointer else LEGACY_DEFAULT_STREAM


@functools.lru_cache(maxsize=4096)
def _configured(kernel: Any, grid: tuple[int, int], stream: Any) -> Any:
    """Return the launch of a kernel on a grid and stream."""
    return kernel[grid, THREADS, stream]
