"""The recurrent decoder: layers of cells, with attention over the source between them."""

# Annotations are read at run time: the settings of a decoder are its constructor's arguments.
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqsru.cells import Cell, State
from seqsru.cells.depth import MOST_LAYERS, CellKind, check_options, initial_state, split_state, state_sizes
from seqsru.cells.masks import drop_features
from seqsru.errors import Refused, check_at_least, check_at_most, check_known, check_probability, within
from seqsru.models.attention import ATTENTIONS, Attention, init_uniform
from seqsru.ops import apply_linear, pointwise

Attend = Literal["all", "first", "last"]
Start = Literal["bridge", "zeros"]
Memory = tuple[Tensor, ...]


class Decoder(nn.Module):
    """Recurrent layers in one direction; what a layer found in the source goes into the layer above.

    With x the input, M the normalised memory and, for each layer, l counted from 0::

        (1) M = LayerNorm(encoded source) * m           m (B, memory_size), in training
        (2) s_l = tanh(W_b mean of M + b_b)             its cell's first state, with start "bridge"
        (3) h = drop(cell_l(x))                         a cell that masks its own output path does so
        (4) h = h + drop(attention_l(LayerNorm(h), M))  only for the layers that attend
        (5) x = h                                       of the next layer
        (6) y = LayerNorm(h)                            of the last layer

    A step never needs the output of the step before beyond the state (there is no input feeding), so all
    steps of a known target are one call. The mean of (2) is over the real source positions; a state tensor
    that is not of shape (B, d) and floating point starts as the cell says; without any there is no bridge.

    Variables
    ---------
    ``cells.{l}.*``; ``norms.{l}.*`` and ``attentions.{l}.*`` for the layers that attend; ``memory_norm.*``,
    ``output_norm.*``; ``bridge.weight`` (total width of the states, memory_size): U(±√(3 / memory_size)),
    ``bridge.bias``: 0.

    Parameters
    ----------
    cell : str
        Name in `CELLS`.
    input_size : int
        I, features of the input.
    memory_size : int
        Features of the encoded source.
    hidden_size : int
        D, features of a layer's output.
    num_layers : int
        Depth.
    attention : str
        Name in `ATTENTIONS`.
    attend : {"all", "first", "last"}
        Which layers attend.
    start : {"bridge", "zeros"}
        Where the states of the cells start.
    dropout : float
        Probability that a feature of a layer's output is 0 for a whole sentence.
    context_dropout : float
        Probability that a feature of what attention gives is 0, drawn at each step.
    memory_dropout : float
        Probability that a feature of the encoded source is 0 for a whole sentence.
    attention_options : mapping of str to object, optional
        Options of the attention.
    options : mapping of str to object, optional
        Options of the cell.

    Attributes
    ----------
    input_size, memory_size, output_size, num_layers : int
    memory_tensors, state_tensors : int
        How many tensors memory and state are.

    Raises
    ------
    Refused
        An unknown name, a value out of range, or cells that see later steps.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        memory_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        attention: str = "dot",
        attend: Attend = "all",
        start: Start = "bridge",
        dropout: float = 0.0,
        context_dropout: float = 0.0,
        memory_dropout: float = 0.0,
        attention_options: Mapping[str, object] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        kind = CellKind(cell, options)
        check_known(ATTENTIONS, attention=attention)
        check_known(get_args(Attend), attend=attend)
        check_known(get_args(Start), start=start)
        check_at_least(
            1,
            input_size=input_size,
            memory_size=memory_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
        )
        check_at_most(MOST_LAYERS, num_layers=num_layers)
        check_probability(dropout=dropout, context_dropout=context_dropout, memory_dropout=memory_dropout)
        sizes = ("query_size", "memory_size", "output_size")
        choices = dict(attention_options or {})
        check_options(f"attention '{attention}'", ATTENTIONS[attention], choices, sizes)
        self.input_size, self.memory_size, self.output_size = input_size, memory_size, hidden_size
        self.num_layers = num_layers
        self.dropout = 0.0 if kind.masks_itself else dropout
        self.context_dropout, self.memory_dropout = context_dropout, memory_dropout
        self.cells = nn.ModuleList(
            kind.made(hidden_size if layer else input_size, hidden_size, dropout=dropout, layer=layer)
            for layer in range(num_layers)
        )
        if not all(made.causal for made in self._cells()):
            raise Refused(
                "cells that see no later word",
                f"'{cell}' with options {dict(options or {})}, which see all",
                "make them causal",
                "cell",
            )
        attending = {"all": range(num_layers), "first": [0], "last": [num_layers - 1]}[attend]
        self.norms = nn.ModuleDict({str(layer): nn.LayerNorm(hidden_size) for layer in attending})
        with within("attention"):
            self.attentions = nn.ModuleDict(
                {
                    str(layer): ATTENTIONS[attention](hidden_size, memory_size, hidden_size, **choices)
                    for layer in attending
                }
            )
        self.memory_norm = nn.LayerNorm(memory_size)
        self.output_norm = nn.LayerNorm(hidden_size)
        self.state_sizes = state_sizes(self._cells())
        self.memory_tensors, self.state_tensors = 1 + 2 * len(self.attentions), sum(self.state_sizes)
        self.bridge: nn.Linear | None = None
        bridged = sum(t.shape[1] for t in initial_state(self._cells(), 1) if _bridgeable(t))
        if start == "bridge" and bridged:
            self.bridge = nn.Linear(memory_size, bridged)
            init_uniform(self.bridge.weight)
            nn.init.zeros_(self.bridge.bias)

    def begin(self, encoded: Tensor, valid: Tensor | None = None) -> tuple[Memory, State]:
        """Compute once what every step needs of a source.

        Parameters
        ----------
        encoded : Tensor of shape (S, B, memory_size)
            The encoded source.
        valid : bool Tensor of shape (S, B), optional
            True on real positions; nothing else has any influence.

        Returns
        -------
        memory : tuple of Tensor, each (B, ...)
            First what is added to scores, (B, S); then keys and values of each layer that attends.
        state : State
            Of the cells, layer by layer.
        """
        if valid is None:
            valid = torch.ones(encoded.shape[:2], dtype=torch.bool, device=encoded.device)
        memory = drop_features(self.memory_norm(encoded), self.memory_dropout, self.training)  # (1)
        bias = memory.new_zeros(valid.shape).masked_fill(~valid, torch.finfo(memory.dtype).min)
        kept = [bias.t().contiguous()]  # (B, S)
        for attention in cast("Iterable[Attention]", self.attentions.values()):
            kept.extend(attention.remember(memory))
        return tuple(kept), self._start(memory, valid)

    def forward(
        self, x: Tensor, memory: Memory, state: State, with_attention: bool = False
    ) -> tuple[Tensor, Tensor | None, State]:
        """Run over time.

        Parameters
        ----------
        x : Tensor of shape (T, N, I)
            Inputs; row n belongs to sentence ``n // (N // B)``.
        memory : tuple of Tensor, each (B, ...)
            From `begin`.
        state : State of N rows
            From `begin` or the previous call.
        with_attention : bool
            Whether to give the weights of the last layer that attends.

        Returns
        -------
        y : Tensor of shape (T, N, D)
        attention : Tensor of shape (T, N, S), or None
        state : State of N rows
        """
        bias, kept = memory[0], list(memory[1:])
        new: list[Tensor] = []
        weights = None
        last = list(self.attentions)[-1]
        for layer, (cell, before) in enumerate(zip(self._cells(), split_state(state, self.state_sizes))):
            x, after = cell(x, before)
            new.extend(after)
            x = drop_features(x, self.dropout, self.training)
            name = str(layer)
            if name in self.attentions:
                keys, values = kept.pop(0), kept.pop(0)
                context, weights = self.attentions[name](
                    self.norms[name](x), keys, values, bias, with_attention and name == last
                )
                x = x + functional.dropout(context, self.context_dropout, self.training)  # (4)
        return self.output_norm(x), weights, tuple(new)

    if TYPE_CHECKING:  # nn.Module's own says nothing about arguments and results
        __call__ = forward

    def _cells(self) -> list[Cell]:
        """Give the cells in the order of the state."""
        return list(cast("Iterable[Cell]", self.cells))

    def _start(self, memory: Tensor, valid: Tensor) -> State:
        """Return the state before the first step, (2)."""
        state = initial_state(self._cells(), memory.shape[1])
        if self.bridge is None:
            return state
        real = valid.t().unsqueeze(-1)  # (B, S, 1)
        # Batch first and summed over the middle axis: a row's sum has the same bits in any batch.
        total = memory.transpose(0, 1).contiguous().masked_fill(~real, 0.0).sum(1)  # (B, O)
        mean = total / real.sum(1).clamp(min=1)
        values = pointwise(torch.tanh, apply_linear(self.bridge, mean))
        started, first = [], 0
        for tensor in state:
            if _bridgeable(tensor):
                last = first + tensor.shape[1]
                tensor, first = values[:, first:last].to(tensor.dtype), last
            started.append(tensor)
        return tuple(started)


def _bridgeable(tensor: Tensor) -> bool:
    return tensor.dim() == 2 and tensor.is_floating_point()
