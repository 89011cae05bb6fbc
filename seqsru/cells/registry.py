"""The cells by name."""
from seqsru.cells.cell import Cell
from seqsru.cells.gru import GRUCell
from seqsru.cells.lstm import LSTMCell
from seqsru.cells.sru import SRUCell

CELLS: dict[str, type[Cell]] = {
    "sru": SRUCell,
    "lstm": LSTMCell,
    "gru": GRUCell,
}
