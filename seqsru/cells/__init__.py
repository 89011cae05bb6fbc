"""Recurrent layers: the contract of a cell, the cells, stacks of them, and weights of other packages."""

from seqsru.cells.cell import Cell, State
from seqsru.cells.from_srupp import stack_from_srupp
from seqsru.cells.from_torch import stack_from_torch
from seqsru.cells.from_torchqrnn import stack_from_torchqrnn
from seqsru.cells.registry import CELLS
from seqsru.cells.sru_layer import SRU
from seqsru.cells.stack import Stack

__all__ = [
    "CELLS",
    "Cell",
    "SRU",
    "Stack",
    "State",
    "stack_from_srupp",
    "stack_from_torch",
    "stack_from_torchqrnn",
]
