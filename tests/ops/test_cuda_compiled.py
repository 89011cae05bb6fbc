"""The CUDA kernels compiled without a GPU: to PTX and to machine code, and the PTX run on a small machine."""

import functools
import re

import numpy as np
import pytest
import torch
from cuda_cases import Case, distances
from ptx_machine import Memory, Thread, parse

from seqsru.ops import cuda
from seqsru.ops.calls import (
    BOTH,
    HIGHWAY,
    IDENTITY,
    KEEP,
    LAYOUTS,
    MASK,
    SCANS,
    TANH,
    VALID,
    VECTOR,
    LinearBackward,
    LinearForward,
    SruBackward,
    SruForward,
)
from seqsru.ops.cuda_build import THREADS, Variant, assembly, blocks
from seqsru.ops.simulator import Flat

pytest.importorskip("numba_cuda", reason='numba-cuda is not installed: pip install "seqsru[dev]"')
pathfinder = pytest.importorskip("cuda.pathfinder", reason="cuda-pathfinder is not installed")

KINDS = ["float64", "float32", "bfloat16", "float16"]
GIVEN = {SruForward: VECTOR | MASK | VALID | HIGHWAY | KEEP, SruBackward: VECTOR | MASK | VALID | HIGHWAY}
GIVEN |= {LinearForward: VALID | KEEP, LinearBackward: VALID}


def need(*libraries):
    """Skip where one of the compilers, which are separate packages, is missing."""
    for name in libraries:
        try:
            pathfinder.load_nvidia_dynamic_lib(name)
        except pathfinder.DynamicLibNotFoundError:
            pytest.skip(f'the CUDA library {name} is not installed: pip install "seqsru[dev]"')


def everything(kind, call):
    """The variant of a kernel that is given all there is."""
    return Variant(TANH, GIVEN[call], 2 if kind in ("bfloat16", "float16") else 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind, capability", list(zip(KINDS, [(7, 5), (9, 0), (12, 0), (8, 0)])))
@pytest.mark.parametrize("call", SCANS)
def test_kernels_compile_for_every_generation(kind, capability, call):
    need("nvvm", "nvrtc")
    ptx = assembly(call, kind, everything(kind, call), capability)
    assert f".target sm_{capability[0]}{capability[1]}\n" in ptx
    assert ptx.count(".entry") == 1
    # No atomics, no memory shared between threads, no stack, and no function left to link.
    assert not re.search(r"\batom\b|\bred\b|\.shared|\.local|\bcall\b|\.extern", ptx)
    # Nothing promoted to float64 by a stray Python number.
    assert kind == "float64" or ".f64" not in ptx


class OnTheMachine:
    """A compiled kernel as `cuda` launches it, run on the small machine instead of a GPU."""

    def __init__(self, call, dtype, variant):
        need("nvvm", "nvrtc")
        self.program = parse(assembly(call, str(dtype).removeprefix("torch."), variant, (9, 0)))

    def __getitem__(self, grid):
        return functools.partial(self.run, *grid)

    def run(self, grid, block_size, *arguments):
        memory = Memory([argument.array for argument in arguments if isinstance(argument, Flat)])
        grid = grid if isinstance(grid, tuple) else (grid, 1)
        bases = iter(memory.bases)
        numbers = [next(bases) if isinstance(given, Flat) else given or 0 for given in arguments]
        for block in np.ndindex(grid):
            for thread in range(block_size):
                Thread(self.program, numbers, grid, block, thread, memory, block_size).run()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])  # the simulator runs the others
def test_compiled_kernels_equal_the_reference(kind, monkeypatch):
    monkeypatch.setattr(cuda, "simulated", lambda: True)
    monkeypatch.setattr(cuda, "_simulation", functools.cache(OnTheMachine))
    dtype = getattr(torch, kind)
    cases = [Case(dtype, 19, 1, 2, "identity", 1, 2, True, True), Case(dtype, 38, 1, 2, "linear", valid=True)]
    cases += [Case(dtype, 10, 1, 4, "project", 1, 2, True, True, True)]
    if kind == "float32":
        cases += [Case(dtype, 8, 1, 66, "project", 2, 1), Case(dtype, 0, 1, 2, "project", 2, 1)]
    for case in cases:
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


def touched_by(call, lanes, T, B, D, span, at, more, options=0):
    """Addresses that the last thread of a scan touches, and the ten before it, which may own nothing."""
    trace = Trace()
    kind = "float32" if lanes == 1 else "bfloat16"
    program = parse(assembly(call, kind, Variant(IDENTITY, GIVEN[call] | options, lanes), (9, 0)))
    given = call(**at, T=T, B=B, D=D, **more)
    x, y = blocks(B, D, -(-T // span), lanes)
    for thread in range(THREADS):
        before = len(trace.touched)
        Thread(program, [*given, span], (x, y), (x - 1, y - 1), thread, trace).run()
        if thread + 1 == last_thread(D, lanes):
            found = trace.touched.copy()
        elif thread + 1 < last_thread(D, lanes):
            trace.touched.clear()
        else:  # beyond the last feature
            assert len(trace.touched) == before
    return found


def last_thread(D, lanes):
    return (D // lanes - 1) % THREADS + 1


@pytest.mark.slow
@pytest.mark.parametrize("call", [SruForward, SruBackward])
@pytest.mark.parametrize("k, span", [(3, 3), (4, 11)])
def test_offsets_beyond_32_bits_back_in_time(call, k, span):
    """The last thread has the last steps of the second direction, which are the first of time."""
    need("nvvm", "nvrtc")
    T, B, D = 11, 70_000, 70_010
    half, chunks = D // 2, -(-T // span)
    arrays = call._fields[: LAYOUTS[call].tensors]
    sizes = {"elements": 4, "reals": 4, "bytes": 1}
    at = {array: (i + 1) << 52 for i, array in enumerate(arrays)}
    x_step, x_row = (B * (2 * D + 2), 2 * D + 2) if k == 3 else (B * k * D, k * D)
    if k == 4:
        at.update({skip: at[u] + 4 * 3 * half for skip, u in (("x", "u"), ("gx", "gu")) if u in at})
    more = {"k": k, "x_step": x_step, "x_row": x_row, "activation": IDENTITY, "scale": 1.0}
    found = touched_by(call, 1, T, B, D, span, at, more, BOTH)
    steps = [T - 1 - t for t in range((chunks - 1) * span, T)]
    kinds = dict(zip(arrays, LAYOUTS[call].kinds))
    states = {*steps, *(t + 1 for t in steps if t + 1 < T and call is SruBackward)}
    for array, indices in {
        "u": [flat((T, B, 2, k, half), t, B - 1, 1, j, half - 1) for t in steps for j in range(3)],
        "x": [t * x_step + (B - 1) * x_row + (D - 1 if k == 3 else half * (k + 1) - 1) for t in steps],
        "c": [flat((T, B, D), t, B - 1, D - 1) for t in states],
        "valid": [flat((T, B), t, B - 1) for t in steps],
        "h" if call is SruForward else "gh": [flat((T, B, D), t, B - 1, D - 1) for t in steps],
    }.items():
        expected = {at[array] + index * sizes[kinds[array]] for index in indices}
        shared = {"x"} if k == 4 else set()  # inside u
        near = {address for address in found if at[array] >> 52 == address >> 52}
        assert expected <= near and (array in shared or array == "u" and k == 4 or expected == near), array
    if call is SruBackward:
        indices = [flat((T, B, 2, k, half), t, B - 1, 1, j, half - 1) for t in steps for j in range(k)]
        expected = {at["gu"] + 4 * index for index in indices}
        assert {address for address in found if address >> 52 == at["gu"] >> 52} == expected


@pytest.mark.slow
@pytest.mark.parametrize("call", SCANS)
@pytest.mark.parametrize("k, span, lanes", [(3, 3, 1), (4, 2, 1), (3, 11, 1), (4, 3, 2)])
def test_offsets_beyond_32_bits(call, k, span, lanes):
    """Run the last thread of a scan of over 2 ** 35 elements, and compare every address it touches."""
    need("nvvm", "nvrtc")
    sru = call in (SruForward, SruBackward)
    if not sru and k == 4 and lanes == 1:
        pytest.skip("k is the SRU's")
    T, B, D = 11, 70_000, 70_010  # B · D alone is over 2 ** 32
    assert B * D > 2**32
    element, real = (4, 4) if lanes == 1 else (2, 4)
    arrays = call._fields[: LAYOUTS[call].tensors]
    kinds = dict(zip(arrays, LAYOUTS[call].kinds))
    at = {array: (i + 1) << 52 for i, array in enumerate(arrays)}
    x_step, x_row = (B * (2 * D + 2), 2 * D + 2) if k == 3 else (B * k * D, k * D)
    if k == 4:  # the highway input is the last slice of u
        at.update({skip: at[u] + element * 3 * D for skip, u in (("x", "u"), ("gx", "gu")) if u in at})
    chunks = -(-T // span)
    steps = range((chunks - 1) * span, T)
    more = {"k": k, "x_step": x_step, "x_row": x_row, "activation": IDENTITY, "scale": 1.0} if sru else {}
    found = touched_by(call, lanes, T, B, D, span, at, more)
    expected = set()
    last = D - lanes  # the first feature of the last thread
    backward = call in (SruBackward, LinearBackward)
    for array in arrays:
        if array in ("u", "gu"):
            indices = [flat((T, B, k, D), t, B - 1, j, last) for t in steps for j in range(3)]
        elif array == "x" or array == "gx" and k == 4:
            indices = [t * x_step + (B - 1) * x_row + last for t in steps]
        elif array == "c" and backward:  # before each step, and after the last
            states = range(max(0, steps[0] - 1), T if sru else T - 1)
            indices = [flat((T, B, D), t, B - 1, last) for t in states]
        elif array == "c0" and backward:
            indices = [flat((B, D), B - 1, last)] if chunks == 1 else []
        elif array in ("h", "gh", "c", "gx", "out", "gout", "a", "ga") or array in ("b", "gb") and not sru:
            indices = [flat((T, B, D), t, B - 1, last) for t in steps]
        elif array == "valid":
            indices = [flat((T, B), t, B - 1) for t in steps]
        elif array in ("v", "b"):
            indices = [flat((2, D), gate, last) for gate in range(2)]
        elif array in ("gv", "gb"):
            indices = [flat((2, chunks * B, D), gate, chunks * B - 1, last) for gate in range(2)]
        elif array == "mask":
            indices = [flat((B, D), B - 1, last)]
        elif array == "factors":
            indices = []
        else:
            indices = [flat((chunks * B, D), chunks * B - 1, last)]
        size = {"elements": element, "reals": real, "bytes": 1}[kinds[array]]
        expected |= {at[array] + index * size for index in indices}
    assert found == expected


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
        Thread(program, [7, number], (1, 1), (0, 0), 0, trace).run()
        assert trace.touched == {touched}
    with pytest.raises(AssertionError, match="out of bounds"):
        Memory([np.zeros(3, np.float32)]).load((1 << 52) + 12, "f32")


@pytest.mark.parametrize(
    "code, operands, expected",
    [
        ("mad.lo.s64", (1 << 40, 3, 5), 3 * (1 << 40) + 5),
        ("mad.lo.s64", (1 << 40, 1 << 30, 5), 5),  # the low half of the product
        ("mad.lo.s32", (1 << 16, 1 << 16, 7), 7),  # wraps, where a wide product would not
        ("mad.lo.s32", (3, 5, 7), 22),
        ("mad.lo.u32", (3, 5, (1 << 32) - 1), 14),  # so does the sum
        ("mad.wide.s32", (1 << 16, 1 << 16, 7), (1 << 32) + 7),
        ("mad.wide.u32", (1 << 31, 2, 1 << 33), (1 << 32) + (1 << 33)),
        ("mul.lo.s32", (1 << 16, 1 << 16), 0),
        ("mul.wide.s32", (-1, 5), (1 << 64) - 5),
        ("bfi.b64", (0x1FF, 0xAAAA, 4, 8), 0xAFFA),
        ("div.u32", ((1 << 32) - 1, 2), (1 << 31) - 1),
        ("rem.u32", (17, 5), 2),
        ("div.s64", (-7, 2), (1 << 64) - 3),
    ],
)
def test_the_machine_multiplies_and_adds(code, operands, expected):
    thread = Thread(([], [], {}), [], (1, 1), (0, 0), 0, None)
    thread.step(code.split("."), ["%rd9", *(str(operand) for operand in operands)])
    assert thread.registers["%rd9"] == expected
