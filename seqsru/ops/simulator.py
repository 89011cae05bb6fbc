"""What stands for the memory of a GPU where numba's simulator, or a test, runs a CUDA kernel on a CPU."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch

from seqsru.ops.dlpack import Buffer

# How words of one element, and of two, lie in memory, as NumPy and the kernels see them.
STORED: dict[torch.dtype, tuple[np.dtype[Any], ...]] = {
    torch.float64: (np.dtype(np.float64),),
    torch.float32: (np.dtype(np.float32), np.dtype(np.uint64)),
    torch.float16: (np.dtype(np.uint16), np.dtype(np.uint32)),
    torch.bfloat16: (np.dtype(np.uint16), np.dtype(np.uint32)),
    torch.bool: (np.dtype(np.uint8),) * 2,
    torch.int64: (np.dtype(np.int64),),
}


class Flat:
    """What stands for a raw pointer to words of `lanes` elements: ``p[i]``, out of bounds an error."""

    def __init__(self, buffer: Buffer, lanes: int = 1) -> None:
        span = 1 + sum((size - 1) * stride for size, stride in zip(buffer.shape, buffer.strides))
        count = span * STORED[buffer.dtype][0].itemsize if all(buffer.shape) else 0
        memory: Any = (ctypes.c_byte * count).from_address(buffer.pointer) if count else b""
        self.array = np.frombuffer(memory, STORED[buffer.dtype][lanes - 1])

    def __getitem__(self, i: int) -> Any:
        if not 0 <= i < len(self.array):
            raise IndexError(f"read at {i} of an array of {len(self.array)}")
        return self.array[i]

    def __setitem__(self, i: int, value: Any) -> None:
        if not 0 <= i < len(self.array):
            raise IndexError(f"write at {i} of an array of {len(self.array)}")
        self.array[i] = value
