"""Reading the weights of torchqrnn."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from seqsru.cells.stack import Stack
from seqsru.cells.state_dicts import StateDict, filled
from seqsru.errors import Refused

_KEY = re.compile(r"layers\.(?P<layer>\d+)\.linear\.(weight|bias)")


def stack_from_torchqrnn(
    state_dict: Mapping[str, Tensor], *, window: int = 1, output_gate: bool = True, zoneout: float = 0.0
) -> Stack:
    """Make the stack that a state dictionary of ``torchqrnn.QRNN`` describes.

    That package's F is the update gate, ours is its opposite: the sign of those rows changes. A layer whose
    window is 1 in a stack with layers of window 2 gets weights of 0 for the input before.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        Of the module itself: ``layers.0.linear.weight``, ``layers.0.linear.bias``, ….
    window : int
        Window of the first layer, 1 or 2; that of the others is inferred.
    output_gate : bool
        Whether it has an output gate: fo-pooling, else f-pooling.
    zoneout : float
        Its zoneout, which acts in evaluation too.

    Returns
    -------
    stack : Stack
        In training mode, dropout 0, with the dtype of the weights.

    Raises
    ------
    Refused
        A key that is unknown or missing, a tensor of another shape, layers of several widths, or an argument
        that contradicts them.
    """
    read = StateDict(state_dict, _KEY, "layers.0.linear.weight")
    slices = 3 if output_gate else 2
    rows, columns = read("layers.0.linear.weight", "rows", "columns").shape
    if rows % slices:
        raise Refused(
            f"layers.0.linear.weight with {slices} rows a feature",
            f"{rows} rows",
            f"pass output_gate={not output_gate}",
            "output_gate",
        )
    if window not in (1, 2) or columns % window:
        raise Refused(
            f"1 or 2 that divides the {columns} columns of layers.0.linear.weight",
            str(window),
            "pass the window of the first layer",
            "window",
        )
    hidden, size = rows // slices, columns // window
    matrices = [read(f"layers.{layer}.linear.weight", rows, "columns") for layer in range(read.layers())]
    widest = max([window] + [2 for matrix in matrices[1:] if matrix.shape[1] == 2 * hidden])
    tensors: dict[str, Tensor] = {}
    for layer, matrix in enumerate(matrices):
        reads = size if layer == 0 else hidden
        wanted = window if layer == 0 else max(1, min(matrix.shape[1] // reads, 2))
        weight = read(f"layers.{layer}.linear.weight", rows, wanted * reads)
        bias = read(f"layers.{layer}.linear.bias", rows)
        sign = torch.ones(slices, dtype=weight.dtype)
        sign[1] = -1.0
        sign = sign.repeat_interleave(hidden)
        padded = weight.new_zeros(rows, widest * reads)
        padded[:, : wanted * reads] = weight * sign.unsqueeze(1)
        tensors |= {f"layers.{layer}.0.weight": padded, f"layers.{layer}.0.bias": bias * sign}
    options = {"window": widest, "pooling": "fo" if output_gate else "f", "zoneout": zoneout}
    stack = Stack("qrnn", size, hidden, len(matrices), options=options)
    return filled(stack, tensors, matrices[0].dtype)
