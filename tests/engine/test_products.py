"""Products with packed weights: exact on every instruction, and the same for a row whatever is beside it."""

import numpy as np
import pytest
from numba import njit

from seqsru.engine import processor
from seqsru.engine.kernels import product
from seqsru.engine.memory import float32s
from seqsru.engine.packing import GROUP, LANES, MOST_ROWS, pack_float32, pack_int8, product_room, quantise
from seqsru.engine.products import DOTS, float32_kernel, int8_kernel
from seqsru.engine.program import Numbers, Program, aligned

SIZES = (1, 3, 17, 63, 64, 65, 300)  # of the input
OUTPUTS = (1, 17, 64, 70, 200)
# AVX-VNNI's instruction is also in AVX512-VNNI's vectors of 256 bits.
KINDS = [kind for kind in DOTS if kind in processor.available()]
if "avx512vnni" in KINDS and "avxvnni" not in KINDS:
    KINDS.append("avxvnni")


def compiled_kernel(rows, kind):
    kernel = int8_kernel(rows, kind)

    @njit
    def call(x, stride, scales, w, by_output, shift, bias, quarters, tiles, y, row_stride):
        kernel(x, stride, scales, w, by_output, shift, bias, quarters, tiles, y, row_stride)

    return call


def padded(values, outputs, dtype):
    room = np.zeros(-(-outputs // GROUP) * GROUP, dtype)
    room[:outputs] = values
    return aligned(room)


def by_kernel(kind, call, x, scales, integers, by_output, bias):
    """Run a kernel over bytes x (rows, I); return (rows, O)."""
    (rows, inputs), outputs = x.shape, len(integers)
    quarters = -(-inputs // 4)
    read = np.zeros((rows, 4 * quarters), np.int8)
    read[:, :inputs] = x
    if DOTS[kind][2]:
        read ^= -128
    packed = aligned(pack_int8(integers))
    shift = padded(128 * integers.sum(1, dtype=np.int32), outputs, np.int32)
    scales, by_output, bias = (
        scales.copy(),
        padded(by_output, outputs, np.float32),
        padded(bias, outputs, np.float32),
    )
    y = np.full((rows, len(bias)), np.nan, np.float32)
    call(
        read.ctypes.data, read.strides[0], scales.ctypes.data, packed.ctypes.data, by_output.ctypes.data,
        shift.ctypes.data, bias.ctypes.data, quarters, len(bias) // LANES, y.ctypes.data, y.strides[0],
    )  # fmt: skip
    return y


def integers_of(kind, rng, rows, inputs):
    if kind == "random":
        return rng.integers(-127, 128, (rows, inputs)).astype(np.int8)
    if kind == "signs":
        return rng.choice([-127, 127], (rows, inputs)).astype(np.int8)
    return np.full((rows, inputs), {"zeros": 0, "lowest": -127, "highest": 127}[kind], np.int8)


def rounded_once(sums, scales, bias):
    """Return sums · scales + bias in float32, rounded once: float64 has the product exactly."""
    return (sums * scales.astype(np.float64) + bias).astype(np.float32)


def check_kernels(rows):
    rng = np.random.default_rng(rows)
    calls = {kind: compiled_kernel(rows, kind) for kind in KINDS}
    assert {"portable"} <= set(calls)
    extremes = ("random", "signs", "zeros", "lowest", "highest")
    for inputs in SIZES:
        for outputs in OUTPUTS:
            for a, b in [("random", "random"), *((a, b) for a in extremes[1:] for b in extremes[1:])]:
                x, w = integers_of(a, rng, rows, inputs), integers_of(b, rng, outputs, inputs)
                sums = x.astype(np.int64) @ w.astype(np.int64).T
                ones, nothing = np.ones(outputs, np.float32), np.zeros(outputs, np.float32)
                scales, by_output, bias = (rng.random(n).astype(np.float32) for n in (rows, outputs, outputs))
                scaled = rounded_once(sums, scales[:, None] * by_output, bias)
                for kind, call in calls.items():
                    found = by_kernel(kind, call, x, np.ones(rows, np.float32), w, ones, nothing)
                    np.testing.assert_array_equal(found[:, :outputs], sums, err_msg=kind)
                    assert not found[:, outputs:].any()
                    found = by_kernel(kind, call, x, scales, w, by_output, bias)
                    np.testing.assert_array_equal(found[:, :outputs], scaled, err_msg=kind)


def test_every_instruction_gives_the_integer_sums_of_one_row():
    check_kernels(1)


@pytest.mark.slow
@pytest.mark.parametrize("rows", range(2, MOST_ROWS + 1))
def test_every_instruction_gives_the_integer_sums(rows):
    check_kernels(rows)


def test_the_kinds_of_this_processor():
    found = processor.available()
    assert found[-1] == "portable" and set(found) <= set(DOTS) == set(processor.NEEDS)
    assert processor.chosen() in found


@pytest.mark.parametrize("wanted, chosen", [("portable", "portable"), ("", None), ("nonsense", None)])
def test_which_kind_is_chosen(monkeypatch, wanted, chosen):
    monkeypatch.setenv("SEQSRU_DOT", wanted)
    assert processor.chosen() == (chosen or processor.available()[0])


# ---- the whole product: rows quantised, in blocks ---------------------------------------------------


@pytest.fixture(scope="module")
def multiply():
    """Return a function of x (rows, I), weights (O, I), biases (O,) and int8."""

    @njit
    def call(x, stride, rows, w, inputs, tiles, weights, scales, shift, bias, y, out, int8, scratch):
        product(
            float32s(x), stride, rows, inputs, float32s(w), weights, scales, shift, bias, tiles, float32s(y),
            out, int8, float32s(scratch), False,
        )  # fmt: skip

    def run(x, weight, bias=None, *, int8, space=3):
        numbers = Numbers()
        inputs, tiles, *places = Program(numbers, int8).matrix(weight, bias)
        w = numbers.joined()
        read = np.full((len(x), inputs + space), np.nan, np.float32)  # rows have room between them
        read[:, :inputs] = x
        y = np.full((len(x), tiles * LANES + space), np.nan, np.float32)
        scratch = np.full(product_room(inputs), np.nan, np.float32)
        before = scratch.copy(), read.copy()
        call(
            read.ctypes.data, read.strides[0] // 4, len(x), w.ctypes.data, inputs, tiles, *places,
            y.ctypes.data, y.strides[0] // 4, int8, scratch.ctypes.data,
        )  # fmt: skip
        assert np.isnan(y[:, tiles * LANES :]).all()  # nothing is written beyond
        np.testing.assert_array_equal(read, before[1])
        return y[:, : len(weight)]

    return run


def reference(x, weight, bias):
    """Return the product with int8 weights as `packing` says it, in numpy."""
    integers, by_output = quantise(weight)
    most = np.abs(x).max(1, initial=0.0).astype(np.float32)
    safe = np.where(most > 0, most, np.float32(1.0))
    # One fused operation rounds to an integer: the product is exact in float64.
    factor = (np.float32(127.0) / safe).astype(np.float64)[:, None]
    rows = np.rint(x.astype(np.float64) * factor).astype(np.int64)
    scale = (most / np.float32(127.0))[:, None] * by_output
    return rounded_once(rows @ integers.astype(np.int64).T, scale, bias)


@pytest.mark.parametrize("rows", range(1, 14))
@pytest.mark.parametrize("inputs", SIZES)
def test_a_product_of_int8(multiply, rows, inputs):
    rng = np.random.default_rng(rows)
    for outputs in OUTPUTS:
        x = rng.standard_normal((rows, inputs)).astype(np.float32)
        weight = rng.standard_normal((outputs, inputs)).astype(np.float32)
        bias = rng.standard_normal(outputs).astype(np.float32)
        np.testing.assert_array_equal(multiply(x, weight, bias, int8=True), reference(x, weight, bias))


@pytest.mark.parametrize("rows", range(1, 14))
@pytest.mark.parametrize("int8", [False, True])
def test_a_row_is_the_same_whatever_is_beside_it(multiply, rows, int8):
    rng = np.random.default_rng(rows)
    for inputs in SIZES:
        x = rng.standard_normal((rows, inputs)).astype(np.float32)
        weight, bias = rng.standard_normal((70, inputs)).astype(np.float32), np.ones(70, np.float32)
        found = multiply(x, weight, bias, int8=int8)
        for row in range(rows):
            np.testing.assert_array_equal(multiply(x[row : row + 1], weight, bias, int8=int8)[0], found[row])
        np.testing.assert_array_equal(multiply(x[::-1], weight, bias, int8=int8)[::-1], found)
        if not int8:
            np.testing.assert_allclose(found, x @ weight.T + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_in_its_row(multiply, int8, wrong):
    rng = np.random.default_rng(0)
    for inputs in SIZES:
        for rows in (1, 2, 7):
            x = rng.standard_normal((rows, inputs)).astype(np.float32)
            weight = np.abs(rng.standard_normal((20, inputs))).astype(np.float32) + 0.1
            fine = multiply(x, weight, int8=int8)
            for place in {0, inputs // 2, inputs - 1}:
                damaged = x.copy()
                damaged[rows // 2, place] = wrong
                found = multiply(damaged, weight, int8=int8)
                assert not np.isfinite(found[rows // 2]).any()
                assert not int8 or np.isnan(found[rows // 2]).all()
                others = np.arange(rows) != rows // 2
                np.testing.assert_array_equal(found[others], fine[others])


@pytest.mark.parametrize("int8", [False, True])
def test_rows_of_zeros_give_the_bias(multiply, int8):
    weight, bias = np.ones((70, 65), np.float32), np.linspace(-1, 1, 70, dtype=np.float32)
    for nothing in (0.0, -0.0):
        x = np.full((7, 65), nothing, np.float32)
        np.testing.assert_array_equal(multiply(x, weight, bias, int8=int8), np.tile(bias, (7, 1)))


def test_tiny_rows(multiply):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((70, 65)).astype(np.float32)
    for exponent in range(-149, 128, 3):
        x = (rng.uniform(-1, 1, (2, 65)) * 2.0**exponent).astype(np.float32)
        found = multiply(x, weight, int8=True)
        assert np.isfinite(found).all() or exponent > 115
        exact = x.astype(np.float64) @ weight.astype(np.float64).T
        if -100 < exponent < 115:
            np.testing.assert_allclose(found, exact, rtol=0, atol=0.06 * np.abs(exact).max())
        elif exponent < 0:  # far below what rounds: nothing, or near
            assert np.abs(found).max() < 1e-25


def test_the_largest_of_a_row_is_127(multiply):
    for most in (1.0, 3.3e-36, 1e-30, 1e30, 3.4e38):
        x = np.array([[most, -most, most / 3, 0.0]], np.float32)
        found = multiply(x, np.eye(4, dtype=np.float32), int8=True)[0]
        np.testing.assert_allclose(found, x[0], rtol=0, atol=most / 250)


@pytest.mark.parametrize("rows, together", [(1, 1), (2, 1), (6, 1), (6, 4)])
def test_tiles_that_are_worked_on_together_do_not_show(multiply, rows, together):
    kernel = float32_kernel(rows, together)

    @njit
    def call(x, stride, w, bias, inputs, tiles, y, row_stride):
        kernel(x, stride, w, bias, inputs, tiles, y, row_stride)

    rng = np.random.default_rng(0)
    for inputs in SIZES:
        x = rng.standard_normal((rows, inputs)).astype(np.float32)
        weight, bias = (
            rng.standard_normal((130, inputs)).astype(np.float32),
            rng.random(130).astype(np.float32),
        )
        packed, added = aligned(pack_float32(weight)), padded(bias, 130, np.float32)
        y = np.full((rows, len(added)), np.nan, np.float32)
        call(
            x.ctypes.data, x.strides[0], packed.ctypes.data, added.ctypes.data, inputs, len(added) // LANES,
            y.ctypes.data, y.strides[0],
        )  # fmt: skip
        np.testing.assert_array_equal(y[:, :130], multiply(x, weight, bias, int8=False))


# ---- packing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", SIZES)
@pytest.mark.parametrize("outputs", OUTPUTS)
def test_packed_weights_are_where_they_are_said_to_be(inputs, outputs):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((outputs, inputs)).astype(np.float32)
    packed = pack_float32(weight).reshape(-1, inputs, LANES)
    integers = rng.integers(-127, 128, (outputs, inputs)).astype(np.int8)
    bytes_ = pack_int8(integers).reshape(-1, -(-inputs // 4), LANES, 4)
    assert packed.shape[0] * LANES % GROUP == 0 and packed.shape[0] == bytes_.shape[0]
    back = packed.transpose(0, 2, 1).reshape(-1, inputs)
    np.testing.assert_array_equal(back[:outputs], weight)
    assert not back[outputs:].any()
    back = bytes_.transpose(0, 2, 1, 3).reshape(len(back), -1)
    np.testing.assert_array_equal(back[:outputs, :inputs], integers)
    assert not back[outputs:].any() and not back[:, inputs:].any()


def test_quantised_weights():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((50, 33)).astype(np.float32)
    integers, scales = quantise(weight)
    assert (np.abs(integers).max(1) == 127).all()
    np.testing.assert_allclose(integers * scales[:, None], weight, rtol=0, atol=scales.max() * 0.5001)
    again, same = quantise(integers * scales[:, None])
    np.testing.assert_array_equal(again, integers)
    np.testing.assert_allclose(same, scales, rtol=1e-6)


@pytest.mark.parametrize("exponent", [*range(-149, -120), 0, 100, 127])
def test_quantised_weights_of_any_size(exponent):
    weight = (np.array([[1.0, -1.0, 0.4], [1.9, 0.0, -1.9], [0, 0, 0]]) * 2.0**exponent).astype(np.float32)
    integers, scales = quantise(weight)
    assert (np.abs(integers.astype(int)) <= 127).all()
    assert not integers[2].any() and scales[2] == 0
    assert (np.sign(integers) * np.sign(weight) >= 0).all()
    if exponent > -120:
        np.testing.assert_allclose(integers * scales[:, None], weight, rtol=0, atol=2.0**exponent / 100)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_quantised_weights_that_are_no_numbers_leave_their_row_without_one(multiply, wrong):
    weight = np.ones((3, 5), np.float32)
    weight[1, 2] = wrong
    integers, scales = quantise(weight)
    assert (
        not np.isfinite(scales[1]) and (integers[[0, 2]] == 127).all() and np.isfinite(scales[[0, 2]]).all()
    )
    assert np.isfinite(multiply(np.ones((1, 5), np.float32), weight, int8=True)[0]).tolist() == [
        True,
        False,
        True,
    ]
