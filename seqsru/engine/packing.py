"""Weights as the products read them: one layout, and one arithmetic, for every processor.

Weights (O, I) are cut into tiles of 16 outputs, padded with zeros to GROUP outputs: float32 as ``[O /
16][I][16]``, int8 as ``[O / 16][I / 4][16][4]``, four products of a dot instruction beside each other, I
padded to a multiple of 4.

int8 weights have a scale an output, activations a scale a row, both symmetric on -127 … 127. The sums are
integers, so neither the number of rows nor the instruction that adds them shows in the result; with float32
weights every output is one chain of fused multiplications and additions over I, in order, whatever the rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LANES = 16  # outputs of a tile
GROUP = 64  # outputs are padded to a multiple of this
MOST_ROWS = 6  # of a product that share a load of weights
TOGETHER = 48  # rows of a product that stand as bytes at once: those of 1,024 inputs are in the second cache


def product_room(inputs: int) -> int:
    """Return the float32 values of scratch memory that a product of so many inputs needs."""
    return GROUP + TOGETHER * -(-inputs // 4)


def pack_float32(weight: NDArray[Any]) -> NDArray[np.float32]:
    """Return weights (O, I) in the layout of the products, flat."""
    outputs, inputs = weight.shape
    padded = np.zeros((-(-outputs // GROUP) * GROUP, inputs), np.float32)
    padded[:outputs] = weight
    return np.ascontiguousarray(padded.reshape(-1, LANES, inputs).transpose(0, 2, 1)).reshape(-1)


def pack_int8(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return quantised weights (O, I) in the layout of the products, flat."""
    outputs, inputs = weight.shape
    padded = np.zeros((-(-outputs // GROUP) * GROUP, -(-inputs // 4) * 4), np.int8)
    padded[:outputs, :inputs] = weight
    tiles = padded.reshape(-1, LANES, padded.shape[1] // 4, 4).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(tiles).reshape(-1)


def quantise(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return weights (O, I) as integers from -127 to 127 with one scale an output, (O,).

    A row with NaN or an infinity in it has no scale that is a number.
    """
    scales = np.abs(weight).max(axis=1, initial=0.0).astype(np.float32) / np.float32(127.0)
    safe = np.where(scales > 0, scales, np.float32(1.0))
    with np.errstate(invalid="ignore"):
        whole = np.nan_to_num(np.rint(weight / safe[:, None]), nan=0.0)  # NaN is in the scale already
    # A scale that is no normal number is coarse: what it divides may come out greater.
    return np.clip(whole, -127, 127).astype(np.int8), scales
