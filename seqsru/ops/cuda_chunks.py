"""What stands between the two passes of a scan in chunks of time: the state before each chunk, in one kernel.

The first pass (`cuda_kernels`, with CARRY) found for each chunk A and E, with which its last state is
``A * c + E`` of its first, c. This kernel goes through the chunks and writes the state before each; backward
in time it begins at the last chunk. Alone it is short, but torch's operators in its place, two flips, a scan
and a join, would take a host longer than both passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda, types


def signature(kind: str) -> tuple[Any, ...]:
    """Types of the parameters, the fields of `ChunkStates`; the states are float64 or float32."""
    real = types.float64 if kind == "float64" else types.float32
    return (*(types.CPointer(real),) * 4, types.int64, types.int64, types.int32)


def build() -> Callable[..., None]:
    """Write the kernel: a thread for each row and feature, states (C, B, D) as flat arrays."""

    def chunk_states(factors, found, known, states, C, plane, backward):
        n = np.int64(cuda.blockIdx.x) * cuda.blockDim.x + cuda.threadIdx.x
        if n >= plane:
            return
        state = known[n]
        first, step = (C - 1, np.int64(-1)) if backward else (np.int64(0), np.int64(1))
        for chunk in range(C):
            i = (first + chunk * step) * plane + n
            states[i] = state
            # The last sum is read by nobody: the second pass writes that state itself.
            state = factors[i] * state + found[i]

    return chunk_states
