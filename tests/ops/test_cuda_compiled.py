"""The CUDA kernels compiled without a GPU: to PTX and to machine code, and the PTX run on a small machine."""

import functools
import re

import numpy as np
import pytest
import torch
from cuda_cases import Case, distances
from ptx_machine import Memory, Thread, parse

from seqsru.ops import cuda
from seqsru.ops.calls import CARRY, IDENTITY, LAYOUTS, SCANS, SruBackward, SruForward
from seqsru.ops.simulator import Flat

pytest.importorskip("numba_cuda", reason='numba-cuda is not installed: pip install "seqsru[dev]"')
pathfinder = pytest.importorskip("cuda.pathfinder", reason="cuda-pathfinder is not installed")

KINDS = ["float64", "float32", "bfloat16", "float16"]
CAPABILITIES = [(7, 5), (8, 0), (9, 0), (10, 0), (12, 0)]
every_kernel = pytest.mark.parametrize("kind, call", [(kind, call) for kind in KINDS for call in SCANS])


def need(*libraries):
    """Skip where one of the compilers, which are separate packages, is missing."""
    for name in libraries:
        try:
            pathfinder.load_nvidia_dynamic_lib(name)
        except pathfinder.DynamicLibNotFoundError:
            pytest.skip(f'the CUDA library {name} is not installed: pip install "seqsru[dev]"')


@functools.cache
def library(kind, call):
    """One kernel in the compiler's intermediate form, from which numba writes PTX for any device.

    `cuda.compile_ptx` would repeat the slow part, typing the source, for each device; this is what it calls.
    """
    need("nvvm", "nvrtc")
    from numba.cuda.compiler import _compile_pyfunc_with_fixup

    from seqsru.ops.cuda_kernels import build, signature

    types = signature(kind, call)
    return _compile_pyfunc_with_fixup(build(kind)[call], types, device=False, abi="numba", cc=(9, 0))[0]


@functools.cache
def ptx_of(kind, call, capability=(9, 0)):
    return library(kind, call).get_asm_str(cc=capability)


@pytest.mark.slow
@every_kernel
def test_kernels_compile_for_every_generation(kind, call):
    for capability in CAPABILITIES:
        ptx = ptx_of(kind, call, capability)
        assert f".target sm_{capability[0]}{capability[1]}\n" in ptx
        assert ptx.count(".entry") == 1
        # No atomics, no memory shared between threads, no stack, and no function left to link.
        assert not re.search(r"\batom\b|\bred\b|\.shared|\.local|\bcall\b|\.extern", ptx)
        # Nothing promoted to float64 by a stray Python number.
        assert kind == "float64" or ".f64" not in ptx


@pytest.mark.slow
@every_kernel
def test_machine_code_does_not_spill(kind, call, record_property):
    need("nvJitLink")
    from cuda.core import Linker, LinkerOptions, ObjectCode

    for capability in CAPABILITIES:
        target = f"sm_{capability[0]}{capability[1]}"
        code = ObjectCode.from_ptx(ptx_of(kind, call, capability).encode())
        linker = Linker(code, options=LinkerOptions(arch=target, verbose=True, ptxas_options=["-v"]))
        linker.link("cubin")
        log = linker.get_info_log()
        assert re.search(r"\b0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads", log), log
        registers = int(re.search(r"Used (\d+) registers", log)[1])
        record_property(f"registers {target}", registers)
        # A block of 64 threads always fits, and four of them on the smallest register file.
        assert registers * cuda.THREADS * 4 <= 65536


class OnTheMachine:
    """A compiled kernel as `cuda` launches it, run on the small machine instead of a GPU."""

    def __init__(self, call, dtype, chosen):
        self.program = parse(ptx_of(str(dtype).removeprefix("torch."), call))

    def __getitem__(self, grid):
        return functools.partial(self.run, *grid)

    def run(self, blocks, block_size, *arguments):
        memory = Memory([argument.array for argument in arguments if isinstance(argument, Flat)])
        bases = iter(memory.bases)
        numbers = [next(bases) if isinstance(given, Flat) else given or 0 for given in arguments]
        for block in range(blocks):
            for thread in range(block_size):
                Thread(self.program, numbers, block, thread, block_size, memory).run()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_kernels_equal_the_reference(kind, monkeypatch):
    monkeypatch.setattr(cuda, "simulated", lambda: True)
    monkeypatch.setattr(cuda, "_simulation", OnTheMachine)
    dtype = getattr(torch, kind)
    for case in [
        Case(dtype, 5, 2, 2, "identity", 0, 2, True, True),
        Case(dtype, 9, 1, 2, "project", 1, 1, False, False),
        Case(dtype, 4, 3, 1, "none", 2, 2, True, False),
        Case(dtype, 1, 2, 2, "project", 2, 2, False, True),
        Case(dtype, 0, 1, 2, "identity"),
        Case(dtype, 6, 2, 2, "linear", valid=True),
        Case(dtype, 3, 1, 65, "linear"),
    ]:
        found = distances(cuda, case)
        assert all(ratio <= 1 for ratio in found.values()), (str(case), found)


class Trace:
    """A memory without limits that gives every load one value and remembers the addresses."""

    def __init__(self):
        self.touched = set()

    def load(self, address, kind):
        self.touched.add(address)
        return np.float32(0.5) if kind == "f32" else 1

    def store(self, address, kind, value):
        self.touched.add(address)


def flat(shape, *index):
    """Flat index, in exact arithmetic, of an element of a contiguous array."""
    total = 0
    for size, i in zip(shape, index, strict=True):
        total = total * size + i
    return total


@pytest.mark.slow
@pytest.mark.parametrize("span", [3, 2])
@pytest.mark.parametrize("k", [3, 4])
@pytest.mark.parametrize("call", [SruForward, SruBackward])
def test_offsets_beyond_32_bits(call, k, span):
    """Run the last thread of a scan of over 2 ** 33 elements, and compare every address it touches."""
    T, B, D = 3, 70_000, 30_011  # B · D alone is almost 2 ** 31
    assert T * B * D * k > 2**33
    arrays = call._fields[: LAYOUTS[call].tensors]
    at = {array: (i + 1) << 52 for i, array in enumerate(arrays)}
    x_step, x_row = (B * (2 * D + 1), 2 * D + 1) if k == 3 else (B * k * D, k * D)
    if k == 4:  # the highway input is the last slice of u
        at.update({skip: at[u] + 4 * 3 * D for skip, u in (("x", "u"), ("gx", "gu")) if u in at})
    chunks = -(-T // span)
    steps = range((chunks - 1) * span, T)
    trace, n = Trace(), chunks * B * D - 1
    sizes = {"T": T, "B": B, "k": k, "D": D, "x_step": x_step, "x_row": x_row}
    given = call(**at, **sizes, activation=IDENTITY, scale=1.0)
    everything = CARRY - 1
    Thread(parse(ptx_of("float32", call)), [*given, span, everything], n // 64, n % 64, 64, trace).run()
    expected = set()
    for array, base in at.items():
        if array in ("u", "gu"):
            indices = [flat((T, B, k, D), t, B - 1, j, D - 1) for t in steps for j in range(3)]
        elif array == "x" or array == "gx" and k == 4:
            indices = [t * x_step + (B - 1) * x_row + D - 1 for t in steps]
        elif array == "c" and call is SruBackward:  # after each step, and before the first
            indices = [flat((T, B, D), t, B - 1, D - 1) for t in range(max(0, steps[0] - 1), T)]
        elif array == "c0" and call is SruBackward:
            indices = [flat((B, D), B - 1, D - 1)] if chunks == 1 else []
        elif array in ("h", "gh", "c", "gx"):
            indices = [flat((T, B, D), t, B - 1, D - 1) for t in steps]
        elif array == "valid":
            indices = [flat((T, B), t, B - 1) for t in steps]
        elif array in ("v", "b"):
            indices = [flat((2, D), gate, D - 1) for gate in range(2)]
        elif array in ("gv", "gb"):
            indices = [flat((2, chunks * B, D), gate, chunks * B - 1, D - 1) for gate in range(2)]
        elif array == "mask":
            indices = [flat((B, D), B - 1, D - 1)]
        else:
            indices = [flat((chunks * B, D), chunks * B - 1, D - 1)]
        expected |= {base + index * (1 if array == "valid" else 4) for index in indices}
    assert trace.touched == expected


def test_the_machine_computes_in_the_width_of_the_instruction():
    program = parse("""
        .visible .entry example(.param .u64 example_param_0, .param .u32 example_param_1) {
        ld.param.u64 %rd1, [example_param_0];
        ld.param.u32 %r1, [example_param_1];
        mul.lo.s32 %r2, %r1, %r1;
        mul.wide.s32 %rd2, %r1, %r1;
        cvt.s64.s32 %rd3, %r2;
        setp.eq.s64 %p1, %rd2, %rd3;
        @%p1 bra $L__BB0_1;
        add.s64 %rd1, %rd1, %rd2;
        $L__BB0_1:
        st.global.u8 [%rd1], %r2;
        ret;
        }""")
    for number, touched in ((100, 7), (1 << 16, 7 + (1 << 32))):
        trace = Trace()
        Thread(program, [7, number], 0, 0, 1, trace).run()
        assert trace.touched == {touched}
    with pytest.raises(AssertionError, match="out of bounds"):
        Memory([np.zeros(3, np.float32)]).load((1 << 52) + 12, "f32")
