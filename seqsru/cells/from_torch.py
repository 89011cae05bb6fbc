"""Reading the weights of torch.nn.LSTM and torch.nn.GRU."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from seqsru.cells.stack import Stack
from seqsru.cells.state_dicts import StateDict, filled, refused

_KEY = re.compile(r"(?P<kind>weight|bias)_(ih|hh)_l(?P<layer>\d+)(?P<reverse>_reverse)?")
_CELLS = {4: "lstm", 3: "gru"}  # by the number of gates


def stack_from_torch(state_dict: Mapping[str, Tensor]) -> Stack:
    """Make the stack that a state dictionary of `torch.nn.LSTM` or `torch.nn.GRU` describes.

    Which of the two it is, the depth, the directions and the sizes are inferred; without biases they are 0. A
    projection of the LSTM's output (``proj_size``) has no counterpart here.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        Of the module itself: ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ….

    Returns
    -------
    stack : Stack
        In training mode, dropout 0, with the dtype of the weights.

    Raises
    ------
    Refused
        A key that is unknown or missing, or a tensor of another shape.
    """
    read = StateDict(state_dict, _KEY, "weight_ih_l0")
    recurrent = read("weight_hh_l0", "rows", "H")
    rows, hidden = recurrent.shape
    if rows % max(hidden, 1) or rows // max(hidden, 1) not in _CELLS:
        raise refused(
            "weight_hh_l0 of shape (4·H, H) for an LSTM or (3·H, H) for a GRU",
            str((rows, hidden)),
            "check the file",
        )
    layers, size = read.layers(), read("weight_ih_l0", rows, "I").shape[1]
    endings = ["", "_reverse"] if any(match["reverse"] for match in read.matches) else [""]
    biased = any(match["kind"] == "bias" for match in read.matches)
    tensors = {}
    for layer in range(layers):
        for direction, ending in enumerate(endings):
            shapes = {
                "weight_ih": (rows, size if layer == 0 else hidden * len(endings)),
                "weight_hh": (rows, hidden),
                "bias_ih": (rows,),
                "bias_hh": (rows,),
            }
            for name, shape in shapes.items():
                given = biased or not name.startswith("bias")
                tensors[f"layers.{layer}.{direction}.rnn.{name}_l0"] = (
                    read(f"{name}_l{layer}{ending}", *shape) if given else torch.zeros(shape)
                )
    stack = Stack(_CELLS[rows // hidden], size, hidden, layers, bidirectional=len(endings) == 2)
    return filled(stack, tensors, recurrent.dtype)
