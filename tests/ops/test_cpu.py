"""The CPU kernels against the definition: results, bits, and what they are compiled and cached by."""

from __future__ import annotations

import ctypes
import mmap
import os
import random

import pytest
import torch
from scan_cases import VARIANTS, assert_close, linear_case, random_shape, scan_and_definition, sru_case

from seqsru.ops import cpu, cpu_build, cpu_kernels, linear_scan, sru_scan
from seqsru.ops.calls import IDENTITY, LAYOUTS, SruBackward, SruForward, packed
from seqsru.ops.cpu_math import TILE

CASES = [(seed, *VARIANTS[random.Random(seed).randrange(len(VARIANTS))]) for seed in range(120)]
FIVE = [
    sru_case(90, 9, 3, 300, 2, "project", "tanh", True, True),
    sru_case(91, 5, 4, 33, 2, "identity"),
    sru_case(92, 1, 1, 257, 1, "none", "relu"),
    linear_case(93, 9, 3, 300, True),
    linear_case(94, 5, 4, 33),
]


def compare(case, dtype, forward, backward):
    scan, definition = scan_and_definition(case)
    case = case.to(dtype)
    assert_close(case.run(scan, backend="cpu"), case.to(torch.float64).run(definition), forward, backward)


# Against the definition


@pytest.mark.parametrize("seed, version, highway, activation, masked, padded", CASES)
def test_sru_in_float32_equals_the_definition(seed, version, highway, activation, masked, padded):
    case = sru_case(seed, *random_shape(seed), version, highway, activation, masked, padded)
    compare(case, torch.float32, 2e-6, 1e-5)


@pytest.mark.parametrize("version, highway, activation, masked, padded", VARIANTS)
def test_sru_in_float64_equals_the_definition_in_every_variant(version, highway, activation, masked, padded):
    compare(sru_case(1, 6, 3, 11, version, highway, activation, masked, padded), torch.float64, 1e-13, 1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seed, version, highway, activation, masked, padded", CASES[:30])
def test_sru_in_half_precision_is_a_rounding_away(seed, version, highway, activation, masked, padded, dtype):
    case = sru_case(seed, *random_shape(seed), version, highway, activation, masked, padded)
    compare(case, dtype, 2e-6, 1e-5)


@pytest.mark.parametrize(
    "dtype, forward, backward",
    [
        (torch.float64, 1e-13, 1e-12),
        (torch.float32, 2e-6, 1e-5),
        (torch.bfloat16, 2e-6, 1e-5),
        (torch.float16, 2e-6, 1e-5),
    ],
)
@pytest.mark.parametrize("seed", range(24))
def test_linear_scan_equals_the_definition(seed, dtype, forward, backward):
    compare(linear_case(seed, *random_shape(seed), padded=seed % 2 == 0), dtype, forward, backward)


def test_a_long_scan_with_gates_near_one_stays_within_tolerance():
    case = sru_case(3, 400, 2, 64)
    case.tensors["u"][:, :, 1] += 4
    compare(case, torch.float32, 2e-6, 1e-5)


def test_any_mask_of_valid_steps_may_be_given():
    case = sru_case(4, 12, 3, 20, 2, "project", "tanh")
    case.tensors["valid"] = torch.rand(12, 3) < 0.5
    compare(case, torch.float32, 2e-6, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", FIVE)
def test_nothing_is_gained_from_what_invalid_steps_hold(case, dtype):
    scan, _ = scan_and_definition(case)
    if case.tensors["valid"] is not None:
        valid = case.tensors["valid"]
        found = case.to(dtype).run(scan)
        assert all(result.isfinite().all() for result in found.values())
        for name in ("h", "gu", "gx", "ga") + (("gb",) if "a" in case.tensors else ()):
            if name in found:
                assert not found[name][~valid].any()
        assert torch.equal(found["c_last"][~valid[0]], case.to(dtype).tensors["c0"][~valid[0]])


def test_gates_are_accurate_relative_to_their_size():
    small = torch.logspace(-30, 0, 2000)
    x = torch.cat([torch.linspace(-80, 80, 60001), small, -small])
    u, b = torch.zeros(1, 1, 3, len(x)), torch.zeros(2, len(x))
    c0 = torch.ones(1, len(x))
    u[:, :, 1], u[:, :, 2] = 200.0, x  # f = 1, so c = c0 = 1, and h = sigmoid(x)
    h, _ = sru_scan(u, None, c0, None, b)
    exact = x.double().sigmoid()
    assert ((h[0, 0].double() - exact).abs() / exact).max() < 2.5e-7
    u[:, :, 2], c0 = 200.0, x[None]  # r = 1, and h = tanh(x)
    h, _ = sru_scan(u, None, c0, None, b, activation="tanh")
    exact = x.double().tanh()
    assert ((h[0, 0].double() - exact).abs() / exact.abs().clamp(min=1e-38)).max() < 4e-7


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_nan_at_a_valid_step_is_not_hidden(dtype):
    u = torch.zeros(2, 1, 4, 5, dtype=dtype)
    for slot in range(4):
        u[0, 0, slot, slot] = float("nan")
    c0 = torch.ones(1, 5, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    b = torch.zeros(2, 5, dtype=c0.dtype)
    for activation in ("identity", "tanh", "relu"):
        h, c_last = sru_scan(u, None, c0, None, b, activation=activation)
        assert h[0, 0].isnan().tolist() == [True, True, True, True, False]
        assert h[1, 0].isnan().tolist() == [True, True, False, False, False]  # through the state
        assert c_last[0].isnan().tolist() == [True, True, False, False, False]


# Bits


def test_bfloat16_is_float32_rounded_once_to_the_bit():
    case = sru_case(5, 30, 2, 513, 2, "project", "tanh", True, True).to(torch.bfloat16)
    bits = case.run(sru_scan)
    exact = case.to(torch.float32).run(sru_scan)
    for name, result in bits.items():
        assert torch.equal(result, exact[name].to(result.dtype)), name


def test_bfloat16_rounds_every_kind_of_number_as_torch_does():
    """Through the linear scan, whose output is c0 itself when a = 1 and b = 0."""
    bits = torch.randint(-(2**31), 2**31 - 1, (1, 200_000), dtype=torch.int64).to(torch.int32)
    edges = torch.tensor(
        [
            [
                0x3F808000,
                0x3F818000,
                0x3F808001,
                0x7F7FFFFF,
                0x7F800000,
                -0x800000,
                0x7F800001,
                0x7FFFFFFF,
                -1,
                1,
                0x8000,
                0x18000,
                0,
            ]
        ],
        dtype=torch.int64,
    ).to(torch.int32)
    c0 = torch.cat([bits, edges], 1).view(torch.float32)
    a = torch.ones(1, *c0.shape, dtype=torch.bfloat16)
    out, _ = linear_scan(a, torch.zeros_like(a), c0)
    want = (c0 + 0.0).bfloat16()
    nan = want.isnan()
    assert torch.equal(out[0].isnan(), nan) and nan.any()
    assert torch.equal(out[0][~nan].view(torch.int16), want[~nan].view(torch.int16))


@pytest.mark.parametrize(
    "case",
    [
        sru_case(6, 20, 7, 650, 2, "identity", "tanh", True, True),
        sru_case(7, 3, 33, 1030, 1, "project"),
        sru_case(8, 2000, 1, 600),
        linear_case(9, 20, 7, 650, True),
    ],
)
def test_bits_do_not_depend_on_the_number_of_threads(case):
    case = case.to(torch.float32)
    scan, _ = scan_and_definition(case)
    one = case.run(scan)
    for number in (2, 3, 16):
        torch.set_num_threads(number)
        for name, result in case.run(scan).items():
            assert torch.equal(result, one[name]), (number, name)


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_numbas_own_number_of_threads_is_left_alone(threads):
    import numba

    numba.set_num_threads(1)
    try:
        sru_case(6, 20, 7, 650).to(torch.float32).run(sru_scan)
        assert numba.get_num_threads() == 1
    finally:
        numba.set_num_threads(cpu_build.most_threads())


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_threads_are_those_of_torch(threads):
    import numba

    sru_case(6, 20, 7, 650).to(torch.float32).run(sru_scan)
    assert numba.threading_layer() == "omp"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_alone_has_the_bits_it_has_in_a_batch(dtype):
    case = sru_case(10, 20, 6, 300, 2, "identity", "tanh", True, True).to(dtype)
    h, c_last = sru_scan(**case.tensors, **case.options)
    for row in range(6):
        alone = {
            name: value
            if name in ("v", "b")
            else value[row : row + 1]
            if name in ("c0", "mask")
            else value[:, row : row + 1]
            for name, value in case.tensors.items()
        }
        h_row, c_row = sru_scan(**alone, **case.options)
        assert torch.equal(h_row[:, 0], h[:, row]) and torch.equal(c_row[0], c_last[row])


def test_a_sequence_in_pieces_has_the_bits_it_has_whole():
    case = sru_case(11, 21, 3, 300, 2, "identity", "tanh", True, True).to(torch.float32)
    h, c_last = sru_scan(**case.tensors, **case.options)
    c, pieces = case.tensors["c0"], []
    for start, end in ((0, 1), (1, 2), (2, 9), (9, 9), (9, 21)):
        piece = {
            name: value[start:end] if name in ("u", "x", "valid") else value
            for name, value in case.tensors.items()
        }
        out, c = sru_scan(**(piece | {"c0": c}), **case.options)
        pieces.append(out)
    assert torch.equal(torch.cat(pieces), h) and torch.equal(c, c_last)


def raw(call, **fields):
    """The arguments of a CPU kernel with addresses for tensors; what is not named is 0."""
    values = [fields.get(name, 0) for name in call._fields]
    count = LAYOUTS[call].tensors
    return packed(call, values[:count], values[count:])


@pytest.mark.skipif(os.name != "posix", reason="reserves address space without memory, as POSIX systems can")
def test_offsets_pass_two_to_the_31():
    """The last task of a scan over 2^32 elements, most of them address space that nobody touches."""
    T, B, k, D = 2, 2**21 + 1, 4, 257
    element = torch.bfloat16.itemsize
    size = T * B * k * D
    assert T * B * D > 2**30 and size > 2**32

    def reserve(length):
        area = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
        return area, ctypes.addressof(ctypes.c_char.from_buffer(area))

    areas = {
        name: reserve(length)
        for name, length in {
            "u": size * element,
            "gu": size * element,
            "h": T * B * D * element,
            "c": T * B * D * 4,
            "c0": B * D * 4,
            "c_last": B * D * 4,
            "gv": 2 * B * D * 4,
            "gb": 2 * B * D * 4,
        }.items()
    }

    def last(name, count, *shape, dtype=torch.bfloat16):
        """The end of an area as a tensor."""
        return torch.frombuffer(
            areas[name][0],
            dtype=dtype,
            offset=(size if name in ("u", "gu") else count) * dtype.itemsize
            - torch.Size(shape).numel() * dtype.itemsize,
        ).view(shape)

    case = sru_case(12, T, 1, D, 2, "project").to(torch.bfloat16)
    u_end = [
        torch.frombuffer(
            areas["u"][0], dtype=torch.bfloat16, count=k * D, offset=((t + 1) * B - 1) * k * D * element
        )
        for t in range(T)
    ]
    for t in range(T):
        u_end[t].copy_(case.tensors["u"][t].flatten())
    last("c0", B * D, D, dtype=torch.float32).copy_(case.tensors["c0"][0])
    v, b = case.tensors["v"], case.tensors["b"]
    place = {name: address for name, (_, address) in areas.items()}
    common = place | {"v": v.data_ptr(), "b": b.data_ptr()}
    common |= {"T": T, "B": B, "k": k, "D": D, "activation": IDENTITY, "scale": 1.0}
    tasks = B * -(-D // TILE)
    given = raw(SruForward, **common)
    forward, _ = cpu_build.kernel(cpu_kernels.sru_forward, "bfloat16")
    forward(tasks - 2, tasks, given.buffer_info()[0], place["u"], place["c0"])
    h, c_last, c = cpu.sru_forward(*case.tensors.values(), 0, 1.0, True)
    assert torch.equal(last("h", T * B * D, D), h[1, 0])
    assert torch.equal(last("c_last", B * D, D, dtype=torch.float32), c_last[0])
    # Backward with the outputs' memory as their gradients: any numbers do.
    outputs = {"gh": place["h"], "gc_last": place["c_last"], "gc0": place["c0"]}
    given = raw(SruBackward, **common, **outputs)
    backward, _ = cpu_build.kernel(cpu_kernels.sru_backward, "bfloat16")
    backward(tasks - 2, tasks, given.buffer_info()[0], place["u"], place["c0"])
    gu, _, gc0, _, _ = cpu.sru_backward(h, c_last, *case.tensors.values(), c, 0, 1.0)
    assert torch.equal(last("gu", 0, k, D), gu[1, 0])
    assert torch.equal(last("c0", B * D, D, dtype=torch.float32), gc0[0])
    assert torch.equal(
        last("gb", 2 * B * D, D, dtype=torch.float32),
        cpu.sru_backward(h, c_last, *case.tensors.values(), c, 0, 1.0)[4][1],
    )


NORESERVE = 0x4000  # MAP_NORESERVE of Linux, which mmap names from Python 3.13 on
