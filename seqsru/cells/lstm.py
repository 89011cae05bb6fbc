"""The LSTM cell: torch.nn.LSTM behind the contract."""

from torch import Tensor, nn

from seqsru.cells.cell import Cell, State
from seqsru.cells.torch_rnn import run, zeros
from seqsru.errors import check_at_least


class LSTMCell(Cell):
    """Long short-term memory, as `torch.nn.LSTM` computes and initialises it.

    With torch's order of rows (i, f, g, o)::

        (1) i, f, o = sigmoid(W x + b + U h + b')
        (2) g = tanh(W x + b + U h + b')
        (3) c = f * c + i * g
        (4) h = o * tanh(c)

    The state is h and c, each of shape (B, H).

    Variables
    ---------
    ``rnn.weight_ih_l0`` (4·H, I), ``rnn.weight_hh_l0`` (4·H, H), ``rnn.bias_ih_l0`` and ``rnn.bias_hh_l0``
    (4·H,): W, U, b and b', all U(±1/√H).

    Parameters
    ----------
    input_size : int
        I, features of the input.
    hidden_size : int
        H, features of the state and of the output.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        check_at_least(1, input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.output_size = hidden_size
        self.rnn = nn.LSTM(input_size, hidden_size)

    def initial_state(self, batch: int) -> State:
        """Return zeros for h and c, each of shape (batch, H)."""
        return zeros(self.rnn, batch), zeros(self.rnn, batch)

    def forward(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over time; see `Cell.forward`."""
        return run(self.rnn, x, state, valid)
