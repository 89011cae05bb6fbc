"""A cell, as somebody would add it. One file."""

import torch
from torch import nn

from seqsru.cells.cell import Cell, wide
from seqsru.cells.masks import zero_invalid
from seqsru.ops import linear, linear_scan


class MineCell(Cell):
    """h = a * h + u, with slices u, v of W x and a = sigmoid(v / heat).

    Parameters
    ----------
    input_size : int
        I, features of the input.
    hidden_size : int
        D, features of the output.
    heat : float
        Divides what the gate is made of.
    """

    def __init__(self, input_size, hidden_size, *, heat: float = 1.0):
        super().__init__()
        self.input_size, self.output_size, self.heat = input_size, hidden_size, heat
        self.weight = nn.Parameter(torch.randn(2 * hidden_size, input_size) / input_size**0.5)

    def initial_state(self, batch):
        return (wide(self.weight.new_zeros(batch, self.output_size)),)

    def forward(self, x, state, valid=None):
        u, v = linear(zero_invalid(x, valid), self.weight).chunk(2, dim=-1)
        h, last = linear_scan((v / self.heat).sigmoid(), u, state[0], valid=valid)
        return h, (last,)
