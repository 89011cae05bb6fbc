"""Vectors in compiled code: each function against what it says, written out."""

import numpy as np
import pytest
from numba import njit

from seqsru.engine.memory import float32s, int32s, int64s
from seqsru.engine.vectors import dot, four_dots, pad, turned, weighted_sums


@njit
def _dots(p, q, row, tiles, y, one_by_one):
    four_dots(float32s(p), float32s(q), row, tiles, float32s(y))
    for j in range(4):
        float32s(one_by_one)[j] = dot(float32s(p), float32s(q + 4 * j * row), tiles)


@pytest.mark.parametrize("tiles", [1, 2, 4, 5, 8])
def test_four_dots_are_each_a_dot(tiles):
    rng = np.random.default_rng(tiles)
    n = 16 * tiles
    p, q = rng.standard_normal(n).astype(np.float32), rng.standard_normal((4, n + 3)).astype(np.float32)
    found, single = np.zeros(6, np.float32), np.zeros(4, np.float32)
    _dots(p.ctypes.data, q.ctypes.data, n + 3, tiles, found.ctypes.data, single.ctypes.data)
    np.testing.assert_array_equal(found[:4], single)
    np.testing.assert_allclose(found[:4], q[:, :n].astype(np.float64) @ p, rtol=1e-5, atol=1e-5)
    assert not found[4:].any()


@njit
def _sums(weights, room, values, row, count, heads, tiles, y):
    weighted_sums(float32s(weights), room, float32s(values), row, count, heads, tiles, float32s(y))


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("tiles", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("count", [1, 7, 33])
def test_weighted_sums_are_one_chain_a_column(heads, tiles, count):
    rng = np.random.default_rng(0)
    width = 16 * tiles
    weights = rng.random((heads, count + 2)).astype(np.float32)
    values = rng.standard_normal((count, heads * width + 5)).astype(np.float32)
    y = np.full(heads * width + 16, np.nan, np.float32)
    _sums(
        weights.ctypes.data, count + 2, values.ctypes.data, heads * width + 5, count, heads, tiles,
        y.ctypes.data,
    )  # fmt: skip
    expected = np.zeros(heads * width, np.float32)
    of_column = np.repeat(weights, width, axis=0)
    for s in range(count):  # a fused operation rounds once: the product is exact in float64
        product = of_column[:, s].astype(np.float64) * values[s, : heads * width]
        expected = (product + expected).astype(np.float32)
    np.testing.assert_allclose(y[: heads * width], expected, rtol=1e-6, atol=1e-6)
    assert np.isnan(y[heads * width :]).all()


@njit
def _pad(p, n):
    pad(float32s(p), n, np.float32(-1.0))


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 32, 33, 48])
def test_what_is_padded_ends_at_a_multiple_of_16(n):
    x = np.arange(64, dtype=np.float32)
    expected = x.copy()
    expected[n : -(-n // 16) * 16] = -1.0
    _pad(x.ctypes.data, n)
    np.testing.assert_array_equal(x, expected)


@njit
def _turned(rows, columns, depth, blocks, to):
    turned(int32s(rows), int64s(columns), depth, blocks, int32s(to))


@pytest.mark.parametrize("depth", [16, 17, 31, 48, 64])
def test_rows_that_are_turned(depth):
    rng = np.random.default_rng(depth)
    rows = rng.integers(-(2**31), 2**31, (40, depth)).astype(np.int32)
    columns = rng.choice(40, 16, replace=False).astype(np.int64)
    blocks = depth // 16
    to = np.zeros(16 * 16 * blocks + 8, np.int32)
    _turned(rows.ctypes.data, columns.ctypes.data, depth, blocks, to.ctypes.data)
    np.testing.assert_array_equal(to[:-8].reshape(-1, 16), rows[columns, : 16 * blocks].T)
    assert not to[-8:].any()
