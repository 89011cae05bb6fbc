"""The cells by name."""

from seqsru.cells.cell import Cell
from seqsru.cells.conv import ConvCell
from seqsru.cells.gru import GRUCell
from seqsru.cells.lstm import LSTMCell
from seqsru.cells.mgu import MGUCell
from seqsru.cells.mingru import MinGRUCell
from seqsru.cells.minlstm import MinLSTMCell
from seqsru.cells.pru import PRUCell
from seqsru.cells.qrnn import QRNNCell
from seqsru.cells.sru import SRUCell
from seqsru.cells.srupp import SRUppCell
from seqsru.cells.ssru import SSRUCell

CELLS: dict[str, type[Cell]] = {
    "sru": SRUCell,
    "srupp": SRUppCell,
    "qrnn": QRNNCell,
    "lstm": LSTMCell,
    "gru": GRUCell,
    "mgu": MGUCell,
    "pru": PRUCell,
    "ssru": SSRUCell,
    "mingru": MinGRUCell,
    "minlstm": MinLSTMCell,
    "conv": ConvCell,
}
