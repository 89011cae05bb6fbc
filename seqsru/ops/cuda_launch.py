"""One kernel on torch's stream: what does not change from launch to launch is found once and kept.

What DLPack says of the first tensor is where the kernel runs. The code is loaded for each device by itself,
and never while a CUDA graph is captured. Then a launch is a few look-ups and one call of cuda.core.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqsru.errors import NotInstalled, Refused
from seqsru.ops.backends import INSTALL
from seqsru.ops.calls import LAYOUTS, Call
from seqsru.ops.cuda_build import Variant, machine_code
from seqsru.ops.dlpack import CUDA, place

_C: Any = torch._C  # torch has no types here


class Kernel(NamedTuple):
    """A kernel on one device, ready to be started.

    Attributes
    ----------
    start : callable
        ``start(stream, configuration, function, *arguments)``.
    function : cuda.core.Kernel
    enter : callable
        Makes the device's context this thread's; `torch.cuda.device` alone may leave a thread without one.
    typed : tuple of (int, type)
        Places of the arguments that are neither addresses nor 64-bit integers, and their types.
    """

    start: Callable[..., None]
    function: Any
    enter: Callable[[], object]
    typed: tuple[tuple[int, Any], ...]


def launch(call: Call, variant: Variant, grid: int | tuple[int, ...], threads: int, *more: Any) -> None:
    """Start the kernel of a call on the device of its tensors, on the stream that torch uses there.

    Parameters
    ----------
    call : Call
        Its first tensor that is given has the element type that the kernel is made for.
    variant : Variant
        Which of the call's kernels.
    grid : int or tuple of int
        Number of blocks, in each direction.
    threads : int
        Threads of a block.
    *more
        Arguments after the fields of the call: an int is 64 bits wide, others are NumPy's scalars.

    Raises
    ------
    Refused
        Tensors that are not all on one GPU, or a first use of a kernel while a CUDA graph is captured.
    NotInstalled
        No compiler to make the kernel with.
    """
    kind: Any = type(call)  # a type checker may hold that the class of a named tuple has no hash
    fields: list[Any] = list(call)
    first: Tensor | None = None
    ordinal = -1
    for i in range(LAYOUTS[kind].tensors):
        tensor = fields[i]
        if tensor is None:
            fields[i] = 0
            continue
        if first is None:
            first, ordinal = tensor, tensor.get_device()
        elif tensor.get_device() != ordinal:
            raise _elsewhere(call)
        fields[i] = tensor.data_ptr()
    assert first is not None
    device_type, index = place(first)
    if device_type != CUDA:
        raise _elsewhere(call)
    if torch.cuda.current_device() == index:
        _start(kind, variant, first.dtype, index, grid, threads, fields, more)
    else:
        with torch.cuda.device(index):
            _start(kind, variant, first.dtype, index, grid, threads, fields, more)


def _start(
    kind: Any,
    variant: Variant,
    dtype: torch.dtype,
    index: int,
    grid: int | tuple[int, ...],
    threads: int,
    fields: list[Any],
    more: tuple[Any, ...],
) -> None:
    """Start a kernel on the device that is torch's current one."""
    kernel = _kernel(kind, variant, dtype, index)
    kernel.enter()
    for i, typed in kernel.typed:
        fields[i] = typed(fields[i])
    stream = _stream(index, _C._cuda_getCurrentRawStream(index))
    kernel.start(stream, _configuration(grid, threads), kernel.function, *fields, *more)


def _elsewhere(call: Call) -> Refused:
    """Say where the tensors of a call are that are not all on one GPU."""
    fields: tuple[Any, ...] = call
    places = {place(tensor) for tensor in fields[: LAYOUTS[type(call)].tensors] if tensor is not None}
    return Refused(
        f"all tensors on one device of type {CUDA} for the cuda backend",
        f"(type, index) {sorted(places)} in DLPack's numbers",
        "move them to one GPU",
    )


@functools.cache
def _kernel(kind: Any, variant: Variant, dtype: torch.dtype, index: int) -> Kernel:
    """Load a kernel into the context of a device.

    Not for its compute capability: what one device has loaded, another of that kind has not, and loading
    would break a capture there.
    """
    if torch.cuda.is_current_stream_capturing():
        raise Refused(
            f"the kernel of {kind.__name__} loaded on device {index} before a CUDA graph is captured",
            "this its first use there",
            "run the same step once before the capture",
        )
    try:
        from cuda.bindings import driver
        from cuda.core import Device, ObjectCode, launch

        element = str(dtype).removeprefix("torch.")
        name, code = machine_code(kind, element, variant, torch.cuda.get_device_capability(index))
    except (ImportError, RuntimeError) as error:
        found = f"that it cannot compile ({error})"
        raise NotInstalled(
            "numba-cuda with libNVVM and NVRTC for the cuda backend", found, INSTALL
        ) from error
    device = Device(index)
    device.set_current()
    function = ObjectCode.from_cubin(code).get_kernel(name)
    # A library's code comes to a device with its first launch: asking for the function brings it now.
    driver.cuKernelGetFunction(function.handle)
    return Kernel(launch, function, device.set_current, typed_arguments(kind, dtype))


def typed_arguments(kind: type[Call], dtype: torch.dtype) -> tuple[tuple[int, Any], ...]:
    """Return the fields of a call that cuda.core is to be given in a type, and these types."""
    types = {"code": np.int32, "real": np.float64 if dtype == torch.float64 else np.float32}
    return tuple((i, types[held]) for i, held in enumerate(LAYOUTS[kind].kinds) if held in types)


@functools.lru_cache(maxsize=4096)
def _configuration(grid: int | tuple[int, ...], threads: int) -> Any:
    from cuda.core import LaunchConfig

    return LaunchConfig(grid=grid, block=threads)


@functools.lru_cache(maxsize=256)
def _stream(index: int, pointer: int) -> Any:
    """Wrap a stream of torch, whose default, 0, is the legacy one.

    It is named so, because to cuda.core 0 means the thread's own stream where
    ``CUDA_PYTHON_CUDA_PER_THREAD_DEFAULT_STREAM`` is set.
    """
    from cuda.core import LEGACY_DEFAULT_STREAM, Stream

    return Stream.from_handle(pointer) if pointer else LEGACY_DEFAULT_STREAM
