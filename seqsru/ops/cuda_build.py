"""The CUDA kernels as machine code, made without a driver: what tests read is what runs."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from seqsru.ops.calls import SCANS, Call


class Variant(NamedTuple):
    """What is a constant of a compiled kernel."""


def signature_of(kind: str, call: type[Call]) -> tuple[Any, ...]:
    """Types of the parameters of a kernel, in their order."""
    from seqsru.ops import cuda_chunks, cuda_kernels

    return cuda_kernels.signature(kind, call) if call in SCANS else cuda_chunks.signature(kind)


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
    from numba.cuda import compiler

    from seqsru.ops import cuda_chunks, cuda_kernels

    source: Any = cuda_kernels.build(kind)[call] if call in SCANS else cuda_chunks.build()
    make: Any = compiler
    library = make._compile_pyfunc_with_fixup(
        source, signature_of(kind, call), device=False, abi="numba", cc=capability
    )[0]
    ptx = library.get_asm_str(cc=capability)
    options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}")
    linked = Linker(ObjectCode.from_ptx(ptx.encode()), options=options).link("cubin")
    name = next(
        line.split(".entry")[1].split("(")[0].strip() for line in ptx.splitlines() if ".entry" in line
    )
    return name, bytes(linked.code)
