"""The SRU++ cell: an SRU whose product is an attention over the steps so far."""

import math
from typing import get_args

import torch
from torch import Tensor, nn

from seqsru.cells.cell import Cell, State
from seqsru.cells.highway import HighwayCell
from seqsru.cells.masks import zero_invalid
from seqsru.cells.self_attention import Normalize, SelfAttention, Sight
from seqsru.errors import Refused, check_at_least, check_at_most, check_known, check_probability
from seqsru.ops import Backend, linear


class SRUppCell(HighwayCell):
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
    Refused
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
        super().__init__(
            input_size,
            hidden_size,
            highway="auto",
            slice=slice,
            slices=slices,
            highway_bias=highway_bias,
            rescale=rescale,
            dropout=dropout,
            input_dropout=input_dropout,
            layer_norm=layer_norm,
            backend=backend,
        )
        check_at_least(1, num_heads=num_heads, memory=memory, attention_every=attention_every)
        check_at_least(0, attention_from=attention_from)
        check_at_most(
            1_000_000, memory=memory, attention_every=attention_every, attention_from=attention_from
        )
        check_probability(projection_dropout=projection_dropout, attention_dropout=attention_dropout)
        check_known(get_args(Sight), attention=attention)
        check_known(get_args(Normalize), normalize=normalize)
        width = projection_size or num_heads * -(-max(hidden_size // 4, 8) // num_heads)
        if width % num_heads or width < 0:
            raise Refused(
                f"a multiple of num_heads {num_heads}",
                str(projection_size),
                "change one of them",
                "projection_size",
            )
        self.projection_dropout = projection_dropout
        sees = layer >= attention_from and (layer + 1) % attention_every == 0
        self.causal = not sees or attention == "causal"
        self.attention = SelfAttention(
            input_size,
            width,
            num_heads if sees else 0,
            memory if self.causal else 0,
            normalize,
            attention_dropout,
        )
        self.add_weights(width)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew, as under *Variables*."""
        self.reset_highway()
        self.attention.reset_parameters()
        bound = math.sqrt(6.0 / (self.slices * self.weight.shape[0] + self.weight.shape[1]))
        self.weight.uniform_(-bound, bound).mul_(math.sqrt(1.0 - self.projection_dropout))
        assert self.v is not None
        self.v.uniform_(-1.0, 1.0)

    def share(self, other: Cell) -> None:
        """Adopt the LayerNorm and the attention of the cell of the other direction."""
        assert isinstance(other, SRUppCell)
        self.layer_norm, self.attention = other.layer_norm, other.attention

    def initial_state(self, batch: int) -> State:
        """Return zeros: c, and for causal attention an empty past."""
        return self.initial_c(batch), *self.attention.initial_past(batch)

    def forward(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over time; see `Cell.forward`."""
        x = zero_invalid(x, valid)
        o, past = self.attention(self.read(x), state[1:], valid)  # (T, B, P)
        o = nn.functional.dropout(o, self.projection_dropout, self.training)
        h, c = self.recur(x, linear(o, self.weight), state[0], valid)
        return h, (c, *past)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, k={self.k}"
