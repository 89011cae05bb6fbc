"""What a layer does to one row, or to the rows of one sentence: compiled, over pointers to float32.

The equations, and the papers, are those of the cells and attentions of the same names.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from seqsru.engine.memory import NONE, ONCE, address, at, int8s, int32s
from seqsru.engine.packing import GROUP, LANES, MOST_ROWS, TOGETHER
from seqsru.engine.processor import DOT
from seqsru.engine.products import DOTS, float32_kernel, int8_kernel
from seqsru.engine.vectors import dot, four_dots, largest, pad, summed, weighted_sums
from seqsru.ops.cpu_math import FASTMATH, TILE, buffer, exp_minus, sigmoid, tanh

ZERO, ONE, HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)
MOST = np.float32(127.0)
MINUS_INFINITY = np.float32(-np.inf)
# Adding 1.5 * 2^23 to a number rounds it to an integer, which stands in the low bits.
MAGIC = np.float32(12582912.0)

compiled = njit(fastmath=FASTMATH, error_model="numpy", nogil=True)

_SHIFT = np.int32(128 if DOTS[DOT][2] else 0)  # of the bytes of rows
_TILES = DOTS[DOT][4]  # at once for several rows
_int8_1, _int8_2, _int8_3 = (int8_kernel(rows, DOT) for rows in (1, 2, 3))
_int8_4, _int8_5, _int8_6 = (int8_kernel(rows, DOT) for rows in (4, 5, 6))
_float_1, _float_2 = float32_kernel(1, 4), float32_kernel(2, _TILES)
_float_4, _float_6 = float32_kernel(4, _TILES), float32_kernel(6, _TILES)


# ---- products --------------------------------------------------------------------------------------


@compiled
def quantise_row(x, inputs, q):
    """Write the row x (I,) as bytes to q, zeros up to a multiple of 4, and return its scale.

    The bytes are shifted as the kernels want them.

    A row with NaN or an infinity in it has the scale NaN, so that the product has too.
    """
    bits = int32s(address(x))
    most = np.int32(0)
    for i in range(inputs):
        magnitude = bits[i] & np.int32(0x7FFFFFFF)
        most = max(most, magnitude)
    for i in range(inputs, (inputs + 3) // 4 * 4):
        q[i] = np.int8(_SHIFT)
    if most >= np.int32(0x7F800000) or most < np.int32(0x04000000):
        for i in range(inputs):
            q[i] = np.int8(_SHIFT)
        return np.float32(np.nan) if most >= np.int32(0x7F800000) else ZERO
    largest_value = ZERO
    place = buffer(x)
    int32s(address(place))[0] = most
    largest_value = place[0]
    factor = MOST / largest_value
    rounded = int32s(address(place))
    for first in range(0, inputs, TILE):
        n = min(TILE, inputs - first)
        for i in range(n):
            place[i] = x[first + i] * factor + MAGIC
        for i in range(n):
            q[first + i] = np.int8(rounded[i] + _SHIFT)
    return largest_value / MOST


@compiled
def _int8_rows(rows, x, stride, scales, w, by_output, shift, bias, quarters, tiles, y, out):
    """Multiply as many rows as a kernel takes; see `products`."""
    if rows == 1:
        _int8_1(x, stride, scales, w, by_output, shift, bias, quarters, tiles, y, out)
    elif rows == 2:
        _int8_2(x, stride, scales, w, by_output, shift, bias, quarters, tiles, y, out)
    elif rows == 3:
        _int8_3(x, stride, scales, w, by_output, shift, bias, quarters, tiles, y, out)
    elif rows == 4:
        _int8_4(x, stride, scales, w, by_output, shift, bias, quarters, tiles, y, out)
    elif rows == 5:
        _int8_5(x, stride, scales, w, by_output, shift, bias, quarters, tiles, y, out)
    else:
        _int8_6(x, stride, scales, w, by_output, shift, bias, quarters, tiles, y, out)


@compiled
def _float_rows(rows, x, stride, w, bias, inputs, tiles, y, out):
    done = 0
    while done < rows:
        left, from_, to = rows - done, x + done * stride, y + done * out
        if left >= 6:
            _float_6(from_, stride, w, bias, inputs, tiles, to, out)
            done += 6
        elif left >= 4:
            _float_4(from_, stride, w, bias, inputs, tiles, to, out)
            done += 4
        elif left >= 2:
            _float_2(from_, stride, w, bias, inputs, tiles, to, out)
            done += 2
        else:
            _float_1(from_, stride, w, bias, inputs, tiles, to, out)
            done += 1


@compiled
def product(
    x, stride, rows, inputs, w, op_w, op_scale, op_shift, op_bias, tiles, y, y_stride, int8, scratch, again
):
    """Write ``y = x W' + b`` for rows of x; strides are of float32 values; see `products` for the weights.

    More rows than a kernel takes go through a group of tiles one after the other while its weights are in the
    nearest cache: so each weight comes from memory once. With `again` the rows are those of the product
    before, at most TOGETHER of them, whose bytes are in the scratch memory still.
    """
    weights, bias, out = address(at(w, op_w)), address(at(w, op_bias)), y_stride * 4
    by_output, shift = address(at(w, op_scale)), address(at(w, op_shift))
    quarters, scales = (inputs + 3) // 4, address(scratch)
    bytes_at, row_bytes = scales + 4 * GROUP, quarters * 4
    tile_bytes = 64 * (quarters if int8 else inputs)
    for begin in range(0, rows, TOGETHER):
        count = min(rows - begin, TOGETHER)
        if int8 and not again:
            for row in range(count):
                from_ = at(x, (begin + row) * stride)
                scratch[row] = quantise_row(from_, inputs, int8s(bytes_at + row * row_bytes))
        height, group = count, tiles
        if count > MOST_ROWS:  # 25 rows are five times 5: one of 1 would take as long as 4
            blocks = (count + MOST_ROWS - 1) // MOST_ROWS
            height, group = (count + blocks - 1) // blocks, GROUP // LANES
        for first in range(0, tiles, group):
            of_group, to = weights + first * tile_bytes, address(at(y, begin * y_stride + first * LANES))
            if not int8:
                from_ = address(at(x, begin * stride))
                _float_rows(count, from_, stride * 4, of_group, bias + first * 64, inputs, group, to, out)
                continue
            for done in range(0, count, height):
                _int8_rows(
                    min(count - done, height), bytes_at + done * row_bytes, row_bytes, scales + done * 4,
                    of_group, by_output + first * 64, shift + first * 64, bias + first * 64, quarters, group,
                    to + done * out, out,
                )  # fmt: skip


@compiled
def layer_norm(x, weight, bias, epsilon, n, y):
    """Write the LayerNorm of x (n,) to y."""
    part, whole = buffer(x), n // 16 * 16
    mean = summed(x, whole // 16)
    for i in range(whole, n):
        mean += x[i]
    mean /= np.float32(n)
    variance = ZERO
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        for i in range(size):
            part[i] = x[first + i] - mean
        for i in range(size, (size + 15) // 16 * 16):
            part[i] = ZERO
        variance += dot(part, part, (size + 15) // 16)
    factor = ONE / np.float32(math.sqrt(variance / np.float32(n) + epsilon))
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        for i in range(size):
            part[i] = (x[first + i] - mean) * factor * weight[first + i] + bias[first + i]
        for i in range(size):
            y[first + i] = part[i]


# ---- cells: one step of one row --------------------------------------------------------------------
# Each reads what the product gave (slices of n beside each other), the state and the parameters, and writes
# the state and the output. Results go through buffers on the stack, since loops that write only there are
# vectorised without checks for overlap.


@compiled
def sru_row(u, x, c, v, b, n, highway, scale, activation, h):
    """SRU; highway 0 is none, 1 the input times the scale, 2 the fourth slice; activation 1 tanh, 2 relu."""
    new, gate, skip = buffer(c), buffer(c), buffer(c)
    carried, factor = (x, scale) if highway == 1 else (at(u, 3 * n), ONE) if highway == 2 else (u, ZERO)
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        for j in range(size):
            i = first + j
            old = c[i]
            f = sigmoid(u[n + i] + v[i] * old + b[i])
            gate[j] = sigmoid(u[2 * n + i] + v[n + i] * old + b[n + i])
            new[j] = (old - u[i]) * f + u[i]
        if highway == 0:
            for j in range(size):
                skip[j] = ZERO
        else:
            for j in range(size):
                skip[j] = carried[first + j] * factor
        for j in range(size):
            c[first + j] = new[j]
        if activation == 1:
            for j in range(size):
                new[j] = tanh(new[j])
        elif activation == 2:
            for j in range(size):
                new[j] = max(new[j], ZERO)
        for j in range(size):
            gate[j] = skip[j] + (new[j] - skip[j]) * gate[j]
        for j in range(size):
            h[first + j] = gate[j]


@compiled
def ssru_row(u, c, n, h):
    """SSRU."""
    new = buffer(c)
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        for j in range(size):
            i = first + j
            f = sigmoid(u[n + i])
            new[j] = f * c[i] + (ONE - f) * u[i]
        for j in range(size):
            c[first + j] = new[j]
        for j in range(size):
            h[first + j] = max(c[first + j], ZERO)


@compiled
def qrnn_row(u, c, n, pooling, zoneout, h):
    """QRNN; pooling 0 is f, 1 fo, 2 ifo."""
    new, out = buffer(c), buffer(c)
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        for j in range(size):
            i = first + j
            f = ONE - (ONE - sigmoid(u[n + i])) * (ONE - zoneout)
            new[j] = f
            out[j] = ONE - f
        if pooling == 2:
            for j in range(size):
                out[j] = sigmoid(u[3 * n + first + j])
        for j in range(size):
            i = first + j
            new[j] = new[j] * c[i] + out[j] * tanh(u[i])
        for j in range(size):
            c[first + j] = new[j]
        if pooling:
            for j in range(size):
                new[j] = sigmoid(u[2 * n + first + j]) * new[j]
        for j in range(size):
            h[first + j] = new[j]


@compiled
def _positive(a):
    return a + HALF if a >= ZERO else sigmoid(a)


@compiled
def mingru_row(u, c, n, h):
    """MinGRU."""
    new = buffer(c)
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        for j in range(size):
            i = first + j
            z = sigmoid(u[i])
            new[j] = (ONE - z) * c[i] + z * _positive(u[n + i])
        for j in range(size):
            c[first + j] = new[j]
        for j in range(size):
            h[first + j] = new[j]


@compiled
def minlstm_row(u, c, n, h):
    """minLSTM: f / (f + i) is written with powers of e that cannot overflow."""
    new = buffer(c)
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        for j in range(size):
            k = first + j
            forget, enter = -u[k], -u[n + k]
            top = max(max(forget, enter), ZERO)
            a = exp_minus(top) + exp_minus(top - forget)
            b = exp_minus(top) + exp_minus(top - enter)
            f = b / (a + b)
            new[j] = f * c[k] + a / (a + b) * _positive(u[2 * n + k])
        for j in range(size):
            c[first + j] = new[j]
        for j in range(size):
            h[first + j] = new[j]


@compiled
def gated_row(u, n, h):
    """Gated linear unit of a convolution."""
    new = buffer(u)
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        for j in range(size):
            new[j] = u[first + j] * sigmoid(u[n + first + j])
        for j in range(size):
            h[first + j] = new[j]


@compiled
def lstm_row(u, r, hidden, c, n, h):
    """LSTM: u is the input's part, r the state's; gates in torch's order i, f, g, o."""
    new, out = buffer(c), buffer(c)
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        for j in range(size):
            k = first + j
            i, f = sigmoid(u[k] + r[k]), sigmoid(u[n + k] + r[n + k])
            new[j] = f * c[k] + i * tanh(u[2 * n + k] + r[2 * n + k])
        for j in range(size):
            k = 3 * n + first + j
            out[j] = sigmoid(u[k] + r[k]) * tanh(new[j])
        for j in range(size):
            c[first + j] = new[j]
        for j in range(size):
            hidden[first + j] = out[j]
        for j in range(size):
            h[first + j] = out[j]


@compiled
def gru_row(u, r, hidden, n, h):
    """GRU: as above, in torch's order r, z, n."""
    new = buffer(hidden)
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        for j in range(size):
            k = first + j
            reset, z = sigmoid(u[k] + r[k]), sigmoid(u[n + k] + r[n + k])
            candidate = tanh(u[2 * n + k] + reset * r[2 * n + k])
            new[j] = (ONE - z) * candidate + z * hidden[k]
        for j in range(size):
            hidden[first + j] = new[j]
        for j in range(size):
            h[first + j] = new[j]


# ---- attention: one query --------------------------------------------------------------------------


@compiled
def softmax(x, n, heads, factor):
    """Turn the scores x (heads, n), times a factor, into weights; rows have room up to a multiple of 16."""
    room = (n + 15) // 16 * 16
    for head in range(heads):
        row = at(x, head * room)
        pad(row, n, MINUS_INFINITY)
        top = largest(row, room // 16)
        for i in range(room):
            row[i] = top - row[i]
    for i in range(heads * room):
        x[i] = exp_minus(x[i] * factor)
    for head in range(heads):
        row = at(x, head * room)
        pad(row, n, ZERO)
        share = ONE / summed(row, room // 16)
        for i in range(room):
            row[i] *= share


@compiled
def _read_values(weights, room, values, row, n, heads, width, y):
    """Write for each head the sum of n rows of its `width` values, each times its weight, to y.

    Weights of a head are `room` after those of the one before.
    """
    if width % 16 == 0:
        weighted_sums(weights, room, values, row, n, heads, width // 16, y)
        return
    out = buffer(weights)
    for head in range(heads):
        for first in range(0, width, TILE):
            count = min(TILE, width - first)
            for i in range(count):
                out[i] = ZERO
            for s in range(n):
                a, v = weights[head * room + s], at(values, s * row + head * width + first)
                for i in range(count):
                    out[i] += a * v[i]
            for i in range(count):
                y[head * width + first + i] = out[i]


@compiled
def dot_attention(query, keys, key_row, values, value_row, heads, width, n, scratch, y, shown, wanted):
    """Multi-head dot product over n keys and values; weights averaged into `shown`.

    All heads of a key are read before the next keys, as they stand in memory: its speed is what limits this.
    """
    factor = ONE / np.float32(math.sqrt(np.float32(width)))
    room = (n + 15) // 16 * 16
    for s in range(0, room, 4):  # there is room for as many keys: what the last ones give is overwritten
        for head in range(heads):
            first, key, to = head * width, at(keys, s * key_row + head * width), at(scratch, head * room + s)
            if width % 16 == 0:
                four_dots(at(query, first), key, key_row, width // 16, to)
            else:
                for j in range(4):
                    to[j] = ZERO
                    for i in range(width):
                        to[j] += query[first + i] * key[j * key_row + i]
    softmax(scratch, n, heads, factor)
    _read_values(scratch, room, values, value_row, n, heads, width, y)
    if wanted:
        for s in range(n):
            shown[s] = ZERO
        for head in range(heads):
            for s in range(n):
                shown[s] += scratch[head * room + s] / np.float32(heads)


@compiled
def additive_attention(query, keys, key_row, values, value_row, v, size, width, n, scratch, y, shown, wanted):
    """Additive, over n keys of `size` numbers and values of `width`."""
    part = buffer(query)
    for s in range(n):
        k, total = at(keys, s * key_row), ZERO
        for first in range(0, size, TILE):
            count = min(TILE, size - first)
            for i in range(count):
                part[i] = v[first + i] * tanh(query[first + i] + k[first + i])
            for i in range(count, (count + 15) // 16 * 16):
                part[i] = ZERO
            total += summed(part, (count + 15) // 16)
        scratch[s] = total
    softmax(scratch, n, ONCE, ONE)
    _read_values(scratch, NONE, values, value_row, n, ONCE, width, y)
    if wanted:
        for s in range(n):
            shown[s] = scratch[s]


# ---- the output ------------------------------------------------------------------------------------


@compiled
def log_softmax(x, tiles):
    """Turn the scores x (16 · tiles,) into log probabilities; padding is minus infinity."""
    top, total, part = largest(x, tiles), ZERO, buffer(x)
    n = tiles * 16
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        for j in range(size):
            part[j] = exp_minus(top - x[first + j])
        total += summed(part, size // 16)
    rest = np.float32(math.log(total))
    for i in range(n):
        x[i] = (x[i] - top) - rest
    return top
