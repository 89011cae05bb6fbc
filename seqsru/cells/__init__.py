"""Recurrent layers: the contract of a cell, the cells, and stacks of them."""
from seqsru.cells.cell import Cell, State
from seqsru.cells.layer import SRU
from seqsru.cells.registry import CELLS
from seqsru.cells.stack import Stack

__all__ = ["CELLS", "Cell", "SRU", "Stack", "State"]
