"""The SRU++ cell: an SRU whose product is an attention over the steps so far."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from seqsru.cells.attention import Attention, Memory, Sight
from seqsru.cells.cell import (
    Backend,
    Cell,
    State,
    check_choice,
    check_probability,
    check_sizes,
    shared_mask,
    wide,
    zero_invalid,
)
from seqsru.ops import linear, sru_scan

Normalize = Literal["after", "before", "none"]


class SRUppCell(Cell):
    """SRU++: low-rank attention in place of the SRU's product.

    Lei, *When Attention Meets Fast Recurrence: Training Language Models with Reduced Compute*, EMNLP 2021
    (arXiv 2102.12459). For all steps at once, then step by step::

        (1) x^ = LayerNorm(x) * m_i                     only the attention sees these two
        (2) z = W1 x^
        (3) k, v = W2 z;  q = z
        (4) a = softmax(q kᵀ / √(P / heads)) v          over the steps that a step sees
        (5) o = LayerNorm(z + alpha a)
        (6) u0, u1, u2 (, u3) = slices of W3 o          o with dropout of its own
        (7) the recurrence (3) to (6) of `SRUCell`, version 2, x on its highway

    With ``normalize`` before, (3) reads LayerNorm(z), and (5) has z as it was and no LayerNorm. A layer
    without attention leaves out (3) and (4), and normalises z.

    Causal attention sees its own step and the ``memory`` steps before it, however the stream is cut: the keys
    and values of the last steps are part of the state. Full attention sees the whole sequence; it is for
    encoders, and does not stream.

    The state is c, of shape (B, D), and for a causal layer with attention the keys and values of the last
    steps, (B, memory, 2·P), newest last, and how many of them there are, int64 of shape (B,).

    Variables
    ---------
    ``attention.project`` W1 (P, I), ``attention.key_value`` W2 (2·P, P), ``attention.alpha`` (1,),
    ``attention.norm.weight``, ``.bias`` (P,), ``layer_norm.weight``, ``.bias`` (I,). Two directions of a
    layer share all of these. ``weight`` W3 (k·D, P): k slices of D rows, as in `SRUCell`. Each matrix is
    U(±√(6/(rows + columns))), W3 with the rows of both directions, then × √(1−projection_dropout); alpha 0.
    ``v`` (2, D): U(±1); ``bias`` (2, D): 0 and highway_bias. ``_extra_state`` (1,) as in `SRUCell`.

    Parameters
    ----------
    input_size : int
        I, features of the input.
    hidden_size : int
        D, features of the state and of the output.
    projection_size : int
        P, features of the attention; 0 is a quarter of hidden_size, at least 8, rounded up to a multiple of
        num_heads.
    num_heads : int
        Heads of the attention; divides P.
    attention : {"causal", "full"}
        What a step sees.
    memory : int
        Earlier steps that causal attention sees.
    attention_every : int
        Every so many layers one has attention, the last of them: with 3 the third, the sixth, ….
    attention_from : int
        The first layer that may have attention, counted from 0.
    layer : int
        Which layer of its stack the cell is, counted from 0.
    normalize : {"after", "before", "none"}
        Where the attention's LayerNorm stands.
    layer_norm : bool
        Whether a LayerNorm stands before W1.
    slice : int
        Which slice of the input the identity highway carries, counted from 0; each direction has its own.
    slices : int
        Number of slices of the input, and of directions.
    highway_bias : float
        Initial bias of the reset gate; below 0 the layer first carries its input.
    rescale : bool
        Whether the highway is scaled so that, at the start, output and input have the same variance.
    dropout : float
        Probability that a feature of the state on its way out is 0 for a whole sequence.
    input_dropout : float
        Probability that a feature of W1's input is 0 for a whole sequence.
    projection_dropout : float
        Probability that an element of o is 0.
    attention_dropout : float
        Probability that a step is not seen by another.
    backend : {"auto", "reference", "cpu", "cuda"}
        What runs the recurrence; auto is the compiled kernel of the tensors' device.

    Raises
    ------
    ValueError
        An option outside its values, or options that do not go together.
    """

    set_by_stack = ("dropout", "slice", "slices", "layer")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        projection_size: int = 0,
        num_heads: int = 1,
        attention: Sight = "causal",
        memory: int = 128,
        attention_every: int = 1,
        attention_from: int = 0,
        layer: int = 0,
        normalize: Normalize = "after",
        layer_norm: bool = False,
        slice: int = 0,
        slices: int = 1,
        highway_bias: float = -2.0,
        rescale: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        projection_dropout: float = 0.0,
        attention_dropout: float = 0.0,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        check_sizes(
            "SRUppCell",
            input_size=input_size,
            hidden_size=hidden_size,
            num_heads=num_heads,
            memory=memory,
            attention_every=attention_every,
            slices=slices,
        )
        check_probability(
            "SRUppCell",
            dropout=dropout,
            input_dropout=input_dropout,
            projection_dropout=projection_dropout,
            attention_dropout=attention_dropout,
        )
        check_choice(
            "SRUppCell",
            attention=(attention, get_args(Sight)),
            normalize=(normalize, get_args(Normalize)),
            backend=(backend, get_args(Backend)),
            slice=(slice, tuple(range(slices))),
        )
        width = projection_size or num_heads * -(-max(hidden_size // 4, 8) // num_heads)
        if width % num_heads or width < 0:
            raise ValueError(
                f"SRUppCell: expected projection_size as a multiple of num_heads {num_heads}, "
                f"found {projection_size}; change one of them."
            )
        self.input_size = input_size
        self.output_size = self.hidden_size = hidden_size
        self.identity = input_size == slices * hidden_size
        self.slice, self.slices = slice, slices
        self.highway_bias = highway_bias
        self.rescale = rescale
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.projection_dropout = projection_dropout
        self.backend = backend
        self.scale = 1.0
        self.k = 3 if self.identity else 4
        sees = layer >= attention_from and (layer + 1) % attention_every == 0
        self.causal = not sees or attention == "causal"
        self.layer_norm = nn.LayerNorm(input_size) if layer_norm else None
        self.attention = Attention(
            input_size,
            width,
            num_heads if sees else 0,
            memory if self.causal else 0,
            normalize,
            attention_dropout,
        )
        self.weight = nn.Parameter(torch.empty(self.k * hidden_size, width))
        self.v = nn.Parameter(torch.empty(2, hidden_size))
        self.bias = nn.Parameter(torch.empty(2, hidden_size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew, as under *Variables*."""
        self.scale = math.sqrt(1.0 + 2.0 * math.exp(self.highway_bias)) if self.rescale else 1.0
        if self.layer_norm is not None:
            self.layer_norm.reset_parameters()
        self.attention.reset_parameters()
        bound = math.sqrt(6.0 / (self.slices * self.weight.shape[0] + self.weight.shape[1]))
        self.weight.uniform_(-bound, bound).mul_(math.sqrt(1.0 - self.projection_dropout))
        self.v.uniform_(-1.0, 1.0)
        self.bias[0].zero_()
        self.bias[1].fill_(self.highway_bias)

    def share(self, other: Cell) -> None:
        """Adopt the LayerNorm and the attention of the cell of the other direction."""
        assert isinstance(other, SRUppCell)
        self.layer_norm, self.attention = other.layer_norm, other.attention

    def initial_state(self, batch: int) -> State:
        """Return zeros: c, and for causal attention an empty memory."""
        return wide(self.bias.new_zeros(batch, self.hidden_size)), *self.attention.initial_memory(batch)

    def forward(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over time; see `Cell.forward`."""
        x = zero_invalid(x, valid)
        read = x if self.layer_norm is None else self.layer_norm(x)  # (T, B, I)
        if self.training and self.input_dropout:
            read = read * shared_mask(self.input_dropout, read, *x.shape[1:])
        memory: Memory = state[1:]
        o, memory = self.attention(read, memory, valid)  # (T, B, P)
        o = nn.functional.dropout(o, self.projection_dropout, self.training)
        u = linear(o, self.weight).unflatten(-1, (self.k, self.hidden_size))  # (T, B, k, D)
        carried = None
        if self.identity:
            first = self.slice * self.hidden_size
            carried = x[..., first : first + self.hidden_size].to(u.dtype)  # (T, B, D)
        mask = None
        if self.training and self.dropout:
            mask = shared_mask(self.dropout, u, x.shape[1], self.hidden_size)  # (B, D)
        h, c = sru_scan(
            u,
            carried,
            state[0],
            wide(self.v),
            wide(self.bias),
            mask=mask,
            valid=valid,
            scale=self.scale if self.identity else 1.0,
            backend=self.backend,
        )
        return h, (c, *memory)

    def get_extra_state(self) -> Tensor:
        """Return the scale of the highway as a tensor of shape (1,), for the state dictionary."""
        return torch.tensor([self.scale], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the scale of the highway from a state dictionary."""
        self.scale = float(state)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, k={self.k}"
