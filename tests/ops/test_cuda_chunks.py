"""The kernel between the two passes of a scan in chunks, run without a GPU on the small machine."""

import ctypes

import numpy as np
import pytest
import torch
from ptx_machine import Memory, Thread, parse
from test_cuda_compiled import Trace, need

from seqsru.ops import cuda_chunks
from seqsru.ops.calls import ChunkStates
from seqsru.ops.cuda_build import ALONE, assembly

pytest.importorskip("numba_cuda", reason='numba-cuda is not installed: pip install "seqsru[dev]"')


def program(kind):
    need("nvvm", "nvrtc")
    return parse(assembly(ChunkStates, kind, ALONE, (9, 0)))


def test_parameters_are_those_of_the_call():
    code = cuda_chunks.build().__code__
    assert code.co_varnames[: code.co_argcount] == ChunkStates._fields
    assert len(cuda_chunks.signature("bfloat16")) == len(ChunkStates._fields)


@pytest.mark.parametrize("kind, dtype", [("bfloat16", torch.float32), ("float64", torch.float64)])
@pytest.mark.parametrize("backward", [False, True])
def test_states_before_each_chunk(kind, dtype, backward):
    C, plane = 4, 5
    factors, found, known = torch.rand(C, plane, dtype=dtype), torch.rand(C, plane, dtype=dtype), None
    known = torch.rand(plane, dtype=dtype)
    expected, state = {}, known
    for chunk in reversed(range(C)) if backward else range(C):
        expected[chunk] = state
        state = factors[chunk] * state + found[chunk]
    states = torch.empty(C, plane, dtype=dtype)
    memory = Memory([tensor.numpy().reshape(-1) for tensor in (factors, found, known, states)])
    for thread in range(8):  # three of them beyond the last state
        Thread(program(kind), [*memory.bases, C, plane, int(backward)], (1, 1), (0, 0), thread, memory).run()
    right = torch.stack([expected[chunk] for chunk in range(C)])
    torch.testing.assert_close(states, right, rtol=1e-6, atol=0)


def test_offsets_beyond_32_bits():
    C, plane = 3, 2**31 + 7
    bases = [(i + 1) << 52 for i in range(4)]
    trace, n = Trace(), plane - 1
    Thread(program("float32"), [*bases, C, plane, 1], (n // 64 + 1, 1), (n // 64, 0), n % 64, trace).run()
    size = ctypes.sizeof(ctypes.c_float)
    chunks = {base + size * (chunk * plane + n) for base in (*bases[:2], bases[3]) for chunk in range(C)}
    assert trace.touched == chunks | {bases[2] + size * n}
    assert np.iinfo(np.int32).max < plane
