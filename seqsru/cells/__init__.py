"""Recurrent layers: the contract of a cell, the cells, stacks of them, and weights of other packages."""

from seqsru.cells.cell import Cell, State
from seqsru.cells.layer import SRU
from seqsru.cells.packages import stack_from_srupp, stack_from_torch, stack_from_torchqrnn
from seqsru.cells.registry import CELLS
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
