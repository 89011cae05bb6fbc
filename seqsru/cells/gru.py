"""The GRU cell: torch.nn.GRU behind the contract."""

from torch import Tensor, nn

from seqsru.cells.cell import Cell, State
from seqsru.cells.torch_rnn import run, zeros
from seqsru.errors import check_at_least


class GRUCell(Cell):
    """Gated recurrent unit, as `torch.nn.GRU` computes and initialises it: reset after the product.

    With torch's order of rows (r, z, n)::

        (1) r, z = sigmoid(W x + b + U h + b')
        (2) n = tanh(W_n x + b_n + r * (U_n h + b'_n))
        (3) h = (1 - z) * n + z * h

    The state is h, of shape (B, H).

    Variables
    ---------
    ``rnn.weight_ih_l0`` (3·H, I), ``rnn.weight_hh_l0`` (3·H, H), ``rnn.bias_ih_l0`` and ``rnn.bias_hh_l0``
    (3·H,): W, U, b and b', all U(±1/√H).

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
        self.rnn = nn.GRU(input_size, hidden_size)

    def initial_state(self, batch: int) -> State:
        """Return zeros of shape (batch, H)."""
        return (zeros(self.rnn, batch),)

    def forward(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over time; see `Cell.forward`."""
        return run(self.rnn, x, state, valid)
