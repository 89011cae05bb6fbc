"""The CUDA kernels as machine code, made without a driver: what tests read is what runs.

numba-cuda writes PTX and NVIDIA's linker assembles it for one compute capability, without link-time
optimisation, which would compile another program. A kernel is made for what its launch is given (`Variant`),
at its first use, since there are more kinds of launches than any program meets, and kept on disk: numba takes
1 to 3 seconds for each.
"""

from __future__ import annotations

import functools
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from seqsru.ops.calls import BOTH, SCANS, Call, ChunkStates, Scan, parts

# Threads of a block. Small, so that a narrow layer still reaches every multiprocessor: 32 rows of 910
# features are 480 blocks of 64 threads, for the 132 multiprocessors of an H200.
THREADS = 64
# What the code of a kernel follows from, beside its compilers.
SOURCES = (
    "calls.py",
    "cuda_build.py",
    "cuda_chunks.py",
    "cuda_elements.py",
    "cuda_kernels.py",
    "cuda_softmax.py",
)


class Variant(NamedTuple):
    """What is constant in a kernel, beside its call and the type of its elements.

    Attributes
    ----------
    activation : int
        0 for the scans that have none.
    options : int
        Bits of `calls`: what is given, and what to do.
    lanes : int
        Features of a thread: 1, or 2 of 16 bits.
    """

    activation: int
    options: int
    lanes: int


# Of the kernels of which there is one for each type of elements.
ALONE = Variant(0, 0, 1)


def variant(call: Scan, options: int) -> Variant:
    """Say which kernel a call is for.

    A thread takes two features of 16 bits where the features are even in number, and every array begins where
    a word of two begins. It reads 4 bytes at a time, so a warp moves whole lines of memory, and half as many
    threads do the same work.
    """
    fields: Any = call
    activation = fields.activation if "activation" in fields._fields else 0
    tensors, _ = parts(call)
    first = tensors[0]
    assert first is not None  # u or a
    size = first.element_size()
    # Of two directions each has half of the features.
    if (
        size != 2
        or call.D % (4 if options & BOTH else 2)
        or "x_step" in fields._fields
        and (fields.x_step % 2 or fields.x_row % 2)
    ):
        return Variant(activation, options, 1)
    apart = any(
        tensor.data_ptr() % (2 * tensor.element_size())
        for tensor in tensors
        if tensor is not None and tensor.is_floating_point()
    )
    return Variant(activation, options, 1 if apart else 2)


def blocks(B: int, D: int, chunks: int, lanes: int) -> tuple[int, int]:
    """Return the grid of a launch: blocks for the rows of a chunk, and chunks; (0, 0) where there is no row.

    A block owns one row, or a part of it, or several whole rows of few features: to find its row and feature,
    a thread divides small numbers only.
    """
    words = D // lanes
    if not B or not words:
        return 0, 0
    return (B * -(-words // THREADS) if words > THREADS else -(-B // (THREADS // words))), chunks


def source(call: type[Call], kind: str, variant: Variant) -> tuple[Any, tuple[Any, ...]]:
    """Return a kernel as Python, which numba's simulator runs, and the types of its parameters."""
    from seqsru.ops import cuda_chunks, cuda_kernels, cuda_softmax

    if call in SCANS:
        signature = cuda_kernels.signature(call, kind, variant.lanes)
        return cuda_kernels.build(call, kind, variant), signature
    if call is ChunkStates:
        return cuda_chunks.build(), cuda_chunks.signature(kind)
    return cuda_softmax.build(kind), cuda_softmax.signature(kind)


@functools.cache
def assembly(call: type[Call], kind: str, variant: Variant, capability: tuple[int, int]) -> str:
    """Return a kernel as PTX for devices of a compute capability; see `machine_code`."""
    from numba import cuda

    compiler: Any = cuda  # numba has no types here
    function, signature = source(call, kind, variant)
    ptx, _ = compiler.compile(function, signature, device=False, abi="numba", cc=capability, output="ptx")
    return str(ptx)


@functools.cache
def machine_code(
    call: type[Call], kind: str, variant: Variant, capability: tuple[int, int]
) -> tuple[str, bytes]:
    """Return a kernel's name and its code, a cubin, for devices of a compute capability.

    Parameters
    ----------
    call : type
        What the kernel is given.
    kind : str
        Type of the elements: float64, float32, float16 or bfloat16.
    variant : Variant
    capability : (int, int)
        (9, 0) for an H100.

    Raises
    ------
    ImportError, RuntimeError
        numba-cuda, libNVVM, NVRTC or nvJitLink is missing.
    """
    from seqsru.ops.compiled import kept

    folder = Path(__file__).parent
    texts = [(folder / name).read_bytes() for name in SOURCES]
    file = "-".join(map(str, (call.__name__, kind, *variant, *capability)))

    hashable: Any = call  # a type checker may hold that the class of a named tuple has no hash

    def make() -> tuple[str, bytes]:
        return assembled(assembly(hashable, kind, variant, capability), capability)

    return kept(file, (_compilers(), *texts), make)


def assembled(ptx: str, capability: tuple[int, int]) -> tuple[str, bytes]:
    """Return the name and the cubin of the one kernel in a PTX text."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    name = re.search(r"\.entry\s+(\w+)", ptx)
    assert name is not None
    options = LinkerOptions(arch="sm_{}{}".format(*capability))
    return name[1], bytes(Linker(ObjectCode.from_ptx(ptx.encode()), options=options).link("cubin").code)


@functools.cache
def _compilers() -> list[object]:
    """Return what writes and assembles PTX: versions of packages, and of libraries wherever they are from."""
    from cuda.bindings import nvjitlink, nvvm

    from seqsru.ops.compiled import switches

    packages = [version(name) for name in ("numba", "numba-cuda", "llvmlite")]
    return [packages, nvvm.version(), nvjitlink.version(), switches()]
