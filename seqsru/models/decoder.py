"""The recurrent decoder: layers of cells, with attention over the source between them."""

# Annotations are read at run time: the settings of a decoder are its constructor's arguments.
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqsru.cells import CELLS, Cell, State
from seqsru.cells.cell import check_probability, check_sizes, shared_mask
from seqsru.models.attention import ATTENTIONS, Attention, draw
from seqsru.ops import linear

Attend = Literal["all", "first", "last"]
Start = Literal["bridge", "zeros"]
Memory = tuple[Tensor, ...]


class Decoder(nn.Module):
    """Recurrent layers in one direction; what a layer found in the source goes into the layer above.

    With x the input, M the normalised memory and, for each layer, l counted from 0::

        (1) M = LayerNorm(encoded source) * m           m (B, memory_size), in training
        (2) s_l = tanh(W_b mean of M + b_b)             the cell's state before the first step, with start
        "bridge" (3) h = cell_l(x)                               a cell that masks its own output path does so
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

    Raises
    ------
    ValueError
        An unknown name, or a value out of range.
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
        for setting, value, known in (
            ("cell", cell, CELLS),
            ("attention", attention, ATTENTIONS),
            ("attend", attend, get_args(Attend)),
            ("start", start, get_args(Start)),
        ):
            if value not in known:
                raise ValueError(
                    f"Decoder: expected {setting} to be one of {', '.join(known)}, found "
                    f"{value!r}; use one of these"
                )
        check_sizes(
            "Decoder",
            input_size=input_size,
            memory_size=memory_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
        )
        check_probability(
            "Decoder", dropout=dropout, context_dropout=context_dropout, memory_dropout=memory_dropout
        )
        self.input_size, self.memory_size, self.output_size = input_size, memory_size, hidden_size
        self.num_layers = num_layers
        make, given = CELLS[cell], dict(options or {})
        self.dropout = 0.0 if "dropout" in make.set_by_stack else dropout
        self.context_dropout, self.memory_dropout = context_dropout, memory_dropout
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.cells = nn.ModuleList()
        for layer, size in enumerate(sizes):
            place = {"dropout": dropout, "slice": 0, "slices": 1, "layer": layer}
            given |= {option: place[option] for option in make.set_by_stack}
            self.cells.append(make(size, hidden_size, **given))  # type: ignore[call-arg]
        if not all(made.causal for made in self.cells):
            raise ValueError(
                f"Decoder: expected cells that see no later word, found '{cell}' with options "
                f"{dict(options or {})}, which see all; make them causal"
            )
        attending = {"all": range(num_layers), "first": [0], "last": [num_layers - 1]}[attend]
        self.norms = nn.ModuleDict({str(layer): nn.LayerNorm(hidden_size) for layer in attending})
        attend_with, choices = ATTENTIONS[attention], dict(attention_options or {})
        self.attentions = nn.ModuleDict(
            {str(layer): attend_with(hidden_size, memory_size, hidden_size, **choices) for layer in attending}
        )
        self.memory_norm = nn.LayerNorm(memory_size)
        self.output_norm = nn.LayerNorm(hidden_size)
        self.state_sizes = [len(made.initial_state(1)) for made in self.cells]  # type: ignore[operator]
        self.bridge: nn.Linear | None = None
        bridged = sum(tensor.shape[1] for tensor in self._bridged(1))
        if start == "bridge" and bridged:
            self.bridge = nn.Linear(memory_size, bridged)
            draw(self.bridge.weight)
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
        memory = self.memory_norm(encoded)  # (S, B, O) of (1)
        if self.training and self.memory_dropout:
            memory = memory * shared_mask(self.memory_dropout, memory, *memory.shape[1:])
        bias = memory.new_zeros(valid.shape).masked_fill(~valid, torch.finfo(memory.dtype).min)
        kept = [bias.t().contiguous()]  # (B, S)
        for attention in self.attentions.values():
            assert isinstance(attention, Attention)
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
        for layer, cell in enumerate(self.cells):
            x, after = cell(x, state[len(new) : len(new) + self.state_sizes[layer]])
            new.extend(after)
            if self.training and self.dropout:
                x = x * shared_mask(self.dropout, x, *x.shape[1:])
            name = str(layer)
            if name in self.attentions:
                keys, values = kept.pop(0), kept.pop(0)
                context, weights = self.attentions[name](
                    self.norms[name](x), keys, values, bias, with_attention and name == last
                )
                x = x + functional.dropout(context, self.context_dropout, self.training)  # (4)
        return self.output_norm(x), weights, tuple(new)

    def _start(self, memory: Tensor, valid: Tensor) -> State:
        """Return the state before the first step, (2)."""
        state = self._initial(memory.shape[1])
        if self.bridge is None:
            return tuple(state)
        real = valid.t().unsqueeze(-1)  # (B, S, 1)
        # Batch first and summed over the middle axis: a row's sum has the same bits in any batch.
        total = memory.transpose(0, 1).contiguous().masked_fill(~real, 0.0).sum(1)  # (B, O)
        mean = total / real.sum(1).clamp(min=1)
        values = torch.tanh(linear(mean, self.bridge.weight, self.bridge.bias))
        first = 0
        for place, tensor in enumerate(state):
            if _bridgeable(tensor):
                state[place] = values[:, first : first + tensor.shape[1]].to(tensor.dtype)
                first += tensor.shape[1]
        return tuple(state)

    def _bridged(self, batch: int) -> list[Tensor]:
        """Give the state tensors that the bridge fills."""
        return [tensor for tensor in self._initial(batch) if _bridgeable(tensor)]

    def _initial(self, batch: int) -> list[Tensor]:
        """Give the cells' own state before the first step."""
        cells: list[Cell] = list(self.cells)  # type: ignore[arg-type]
        return [tensor for cell in cells for tensor in cell.initial_state(batch)]


def _bridgeable(tensor: Tensor) -> bool:
    return tensor.dim() == 2 and tensor.is_floating_point()
