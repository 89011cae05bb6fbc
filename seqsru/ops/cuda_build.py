"""The CUDA kernels as machine code, made without a driver: what tests read is what runs."""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

from seqsru.ops.calls import SCANS, Call

# Threads of a block. Small, so that a narrow layer still reaches every multiprocessor: 32 rows of 910
# features are 455 blocks of 64 threads, for the 132 multiprocessors of an H200.
THREADS = 64


class Variant(NamedTuple):
    """What is constant in a kernel, beside its call and the type of its elements."""


def source(call: type[Call], kind: str, variant: Variant) -> tuple[Any, tuple[Any, ...]]:
    """Return a kernel as Python, which numba's simulator runs, and the types of its parameters."""
    from seqsru.ops import cuda_chunks, cuda_kernels

    if call in SCANS:
        return cuda_kernels.build(kind)[call], cuda_kernels.signature(kind, call)
    return cuda_chunks.build(), cuda_chunks.signature(kind)


@functools.cache
def machine_code(
    call: type[Call], kind: str, variant: Variant, capability: tuple[int, int]
) -> tuple[str, bytes]:
    """Return a kernel's name and its code for devices of a compute capability.

    Parameters
    ----------
    call : type
        What the kernel is given.
    kind : str
        Element type: float64, float32, float16 or bfloat16.
    variant : Variant
    capability : (int, int)
    """
    from cuda.core import Linker, LinkerOptions, ObjectCode
    from numba import cuda

    make: Any = cuda  # numba has no types here
    function, signature = source(call, kind, variant)
    ptx, _ = make.compile(function, signature, device=False, abi="numba", cc=capability, output="ptx")
    options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}")
    linked = Linker(ObjectCode.from_ptx(ptx.encode()), options=options).link("cubin")
    name = re.search(r"\.entry\s+(\w+)", ptx)
    assert name is not None
    return name[1], bytes(linked.code)
