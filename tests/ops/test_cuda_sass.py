"""The machine code that runs on a GPU, read without one: no loop waits for what was just requested."""

import functools

import pytest
import sass
from test_cuda_compiled import GIVEN, need

from seqsru.ops.calls import (
    BOTH,
    CARRY,
    HIGHWAY,
    IDENTITY,
    KEEP,
    SCANS,
    TANH,
    VALID,
    VECTOR,
    LinearBackward,
    LinearForward,
    SruBackward,
    SruForward,
)
from seqsru.ops.cuda_build import THREADS, Variant, assembled, machine_code

pytest.importorskip("numba_cuda", reason='numba-cuda is not installed: pip install "seqsru[dev]"')

H100 = (9, 0)
# Instructions that have to stand between a load and what waits for it.
APART = 100

# A loop whose load is waited for by the next load, as it gives its address; and one whose load is waited for
# after as many dependent products as are filled in.
HEAD = """
.version 8.0
.target sm_75
.address_size 64
.visible .entry known(.param .u64 known_p, .param .u32 known_n) {
.reg .pred %p<2>; .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .f32 %f<8>;
ld.param.u64 %rd1, [known_p]; ld.param.u32 %r1, [known_n]; cvta.to.global.u64 %rd2, %rd1;
"""
CHASE = """
mov.u64 %rd3, 0; mov.f32 %f1, 0f3F800000;
$turn:
.pragma "nounroll";
shl.b64 %rd4, %rd3, 3; add.s64 %rd4, %rd2, %rd4; ld.global.u64 %rd3, [%rd4]; mul.f32 %f1, %f1, %f1;
sub.s32 %r1, %r1, 1; setp.ne.s32 %p1, %r1, 0; @%p1 bra $turn;
st.global.u64 [%rd2], %rd3; st.global.f32 [%rd2+8], %f1; ret; }
"""
LATER = """
mov.f32 %f1, 0f3F800000; mov.f32 %f3, 0f00000000;
$turn:
.pragma "nounroll";
ld.global.f32 %f2, [%rd2];
PRODUCTS
add.f32 %f1, %f1, %f2; st.global.f32 [%rd2+4], %f1; add.s64 %rd2, %rd2, 4;
sub.s32 %r1, %r1, 1; setp.ne.s32 %p1, %r1, 0; @%p1 bra $turn;
st.global.f32 [%rd2], %f1; ret; }
"""


def program(ptx_or_made, capability):
    name, cubin = ptx_or_made
    return sass.decode(sass.text(cubin, name), capability)


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 9), (9, 0), (10, 0), (12, 0)])
def test_the_reader_knows_code_whose_answer_is_known(capability):
    need("nvJitLink")
    chase = program(assembled(HEAD + CHASE, capability), capability)
    found = sass.waits_in_loops(chase)
    assert found and all(chase[load].sets is not None and length <= 8 for load, length in found)
    for products in (40, 60):
        text = LATER.replace("PRODUCTS", "fma.rn.f32 %f1, %f1, %f1, %f3;\n" * products)
        later = program(assembled(HEAD + text, capability), capability)
        ((_, length),) = sass.waits_in_loops(later)
        assert abs(length - products) <= 8


def test_the_reader_finds_the_way_around_a_skipped_computation():
    """Of two ways from a load to its wait, that past no computation counts only if the wait is before one."""

    def step(opcode=0x210, sets=None, waits=(), leads=()):
        return sass.Instruction(opcode, sass.ALWAYS, sets, frozenset(waits), leads)

    load, product, plain = 0x981, 0x223, 0x210
    loop = [step(plain, leads=(1,)), step(load, 5, leads=(2,)), step(0x947, leads=(3, 5))]
    loop += [step(product, leads=(4,)), step(product, leads=(5,)), step(plain, waits=(5,), leads=(6,))]
    loop += [step(0x947, leads=(7, 0)), step(0x94D)]
    assert sass.waits_in_loops(loop) == [(1, 4)]
    loop[3] = step(product, waits=(5,), leads=(4,))
    assert sass.waits_in_loops(loop) == [(1, 2)]


@functools.cache
def kernel(call, kind, variant, capability=H100):
    need("nvvm", "nvrtc", "nvJitLink")
    name, cubin = machine_code(call, kind, variant, capability)
    code = program((name, cubin), capability)
    return code, sass.waits_in_loops(code), sass.registers(cubin)


def judge(call, kind, variant, capability=H100):
    """Hold one kernel against what all have to keep to."""
    code, waits, registers = kernel(call, kind, variant, capability)
    families = {instruction.family for instruction in code}
    assert not families & {sass.LOAD_LOCAL, sass.STORE_LOCAL}  # nothing is spilled
    # A subroutine would take registers from everything around it; float64 divides with one.
    assert kind == "float64" or all(instruction.opcode != sass.FAR_CALL for instruction in code)
    # A block always fits, and four of them on the smallest register file.
    assert registers * THREADS * 4 <= 65536
    wanted = APART
    if call in (LinearForward, LinearBackward) and variant.options & CARRY:
        wanted = 40  # a step there is two instructions: no group that registers hold is 100 long
    assert waits and min(length for _, length in waits) >= wanted, (call, kind, variant, capability, waits)


USUAL = {SruForward: VECTOR | HIGHWAY | KEEP, SruBackward: VECTOR | HIGHWAY, LinearForward: KEEP}
USUAL |= {LinearBackward: 0}


@pytest.mark.slow
@pytest.mark.parametrize("call", SCANS)
def test_no_load_is_waited_for_at_once(call):
    judge(call, "float32", Variant(IDENTITY, USUAL[call], 1))
    judge(call, "float32", Variant(TANH, GIVEN[call], 1))
    judge(call, "float32", Variant(IDENTITY, CARRY, 1))
    judge(call, "float64", Variant(IDENTITY, USUAL[call], 1))
    judge(call, "bfloat16", Variant(IDENTITY, USUAL[call], 2))


@pytest.mark.slow
@pytest.mark.parametrize("call", [SruForward, SruBackward])
def test_no_load_is_waited_for_at_once_in_two_directions(call):
    judge(call, "float32", Variant(TANH, GIVEN[call] | BOTH, 1))
    judge(call, "float32", Variant(IDENTITY, CARRY | BOTH, 1))
    judge(call, "float64", Variant(IDENTITY, USUAL[call] | BOTH, 1))
    judge(call, "bfloat16", Variant(IDENTITY, USUAL[call] | BOTH, 2))


@pytest.mark.slow
@pytest.mark.parametrize("capability", [(7, 5), (12, 0)])
@pytest.mark.parametrize("call", [SruForward, LinearBackward])
def test_no_load_is_waited_for_at_once_on_other_generations(call, capability):
    judge(call, "float32", Variant(IDENTITY, USUAL[call] | VALID, 1), capability)


@pytest.mark.slow
def test_a_step_is_few_instructions():
    """The loop of a usual forward pass, with the request of a last, partial group, which runs once."""
    code, waits, registers = kernel(SruForward, "float32", Variant(IDENTITY, USUAL[SruForward], 1))
    loop = sass.loop_of(code, waits[0][0])
    assert len(loop) / 8 < 75 and registers <= 112
