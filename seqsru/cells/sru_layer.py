"""The SRU as a layer of its own, used like torch.nn.GRU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seqsru.cells.from_sru import read_sru
from seqsru.cells.highway import Highway
from seqsru.cells.sru import SRUCell, Version
from seqsru.cells.stack import Skips, Stack, check_valid
from seqsru.cells.state_dicts import filled
from seqsru.errors import Refused
from seqsru.ops import Activation, Backend

_CELL: Any = SRUCell.__init__.__kwdefaults__  # defaults stand once, where the options are used
_STACK: Any = Stack.__init__.__kwdefaults__


class SRU(nn.Module):
    """Layers of SRU, used like `torch.nn.GRU`.

    The equations and the initialisation are those of `seqsru.cells.sru.SRUCell` and
    `seqsru.cells.stack.Stack`.

    Variables
    ---------
    ``stack.*`` as in `Stack`.

    Parameters
    ----------
    input_size : int
        I, features of the input.
    hidden_size : int
        D, features of one direction's state.
    num_layers : int
        Depth.
    bidirectional : bool
        Whether a second direction reads from the end; y is then [forward | backward], O = 2·D, else O = D.
    dropout : float
        Probability that a feature of a layer's output path is 0 for a whole sequence; none in the last layer.
    batch_first : bool
        Whether x, valid and y have the batch before time. The state is (layers, B, D) all the same.
    version, highway, activation, highway_bias, rescale, input_dropout, layer_norm, projection_size, backend
        As in `SRUCell`.
    project_input, normalize_after, norm_eps, residual, skips
        As in `Stack`.

    Attributes
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        As those of `torch.nn.GRU`; bias is True.

    Raises
    ------
    Refused
        An option outside its values, or options that do not go together.

    Notes
    -----
    The state is float64 where the parameters are, else float32, under half precision and autocast too: a
    forget gate near 1 that is rounded to bfloat16 forgets within 256 steps. (That of `torch.nn.GRU` has the
    type of its input.) A state of another floating type is cast.

    Examples
    --------
    >>> rnn = SRU(8, 16, num_layers=2, bidirectional=True)
    >>> y, state = rnn(torch.randn(5, 3, 8))
    >>> y.shape, state.shape
    (torch.Size([5, 3, 32]), torch.Size([4, 3, 16]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = _STACK["bidirectional"],
        dropout: float = _STACK["dropout"],
        batch_first: bool = False,
        version: Version = _CELL["version"],
        highway: Highway = _CELL["highway"],
        activation: Activation = _CELL["activation"],
        highway_bias: float = _CELL["highway_bias"],
        rescale: bool = _CELL["rescale"],
        input_dropout: float = _CELL["input_dropout"],
        layer_norm: bool = _CELL["layer_norm"],
        projection_size: int = _CELL["projection_size"],
        backend: Backend = _CELL["backend"],
        project_input: bool = _STACK["project_input"],
        normalize_after: bool = _STACK["normalize_after"],
        norm_eps: float | None = _STACK["norm_eps"],
        residual: bool = _STACK["residual"],
        skips: Skips = _STACK["skips"],
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = True
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.stack = Stack(
            "sru",
            input_size,
            hidden_size,
            num_layers,
            bidirectional=bidirectional,
            dropout=dropout,
            project_input=project_input,
            normalize_after=normalize_after,
            norm_eps=norm_eps,
            residual=residual,
            skips=skips,
            options={
                "version": version,
                "highway": highway,
                "activation": activation,
                "highway_bias": highway_bias,
                "rescale": rescale,
                "input_dropout": input_dropout,
                "layer_norm": layer_norm,
                "projection_size": projection_size,
                "backend": backend,
            },
        )

    @overload
    def forward(
        self, x: Tensor, state: Tensor | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def forward(
        self, x: PackedSequence, state: Tensor | None = None, valid: None = None
    ) -> tuple[PackedSequence, Tensor]: ...

    def forward(
        self,
        x: Tensor | PackedSequence,
        state: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Run over time.

        Parameters
        ----------
        x : Tensor of shape (T, B, I) or (T, I), or PackedSequence
            Inputs; (B, T, I) with ``batch_first``. T may be 0.
        state : Tensor of shape (num_layers · directions, B, D), optional
            What the previous call returned, (num_layers · directions, D) without a batch; default zeros.
        valid : bool Tensor of shape (T, B), optional
            True on real tokens; each row a prefix of True, possibly empty. With ``batch_first`` (B, T),
            without a batch (T,). None with a PackedSequence.

        Returns
        -------
        y : Tensor of shape (T, B, O), or PackedSequence
            Outputs of the last layer, of the form of x.
        state : Tensor of shape (num_layers · directions, B, D)
            Layer by layer, forward before backward; float64 where the parameters are, else float32.

        Raises
        ------
        Refused
            Shapes or types that do not fit, or valid beside a PackedSequence.
        """
        if isinstance(x, PackedSequence):
            return self._forward_packed(x, state, valid)
        if x.dim() not in (2, 3):
            raise Refused(
                "3 axes, or 2 without a batch", f"shape {tuple(x.shape)}", "add or flatten axes", "x"
            )
        if x.shape[-1] != self.input_size:
            axes = "T" if x.dim() == 2 else "B, T" if self.batch_first else "T, B"
            do = "transpose it, or make a layer for that input_size"
            raise Refused(f"shape ({axes}, {self.input_size})", str(tuple(x.shape)), do, "x")
        check_valid(valid, x)
        if x.dim() == 2:
            y, state = self._run(
                x.unsqueeze(1),
                None if state is None else state.unsqueeze(1),
                None if valid is None else valid.unsqueeze(1),
            )
            return y.squeeze(1), state.squeeze(1)
        if self.batch_first:
            y, state = self._run(x.transpose(0, 1), state, None if valid is None else valid.t())
            return y.transpose(0, 1), state
        return self._run(x, state, valid)

    if TYPE_CHECKING:  # nn.Module's own says nothing about arguments and results
        __call__ = forward

    def _run(self, x: Tensor, state: Tensor | None, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run x (T, B, I) through the stack, whose state is a tuple."""
        if state is not None:
            shape = (self.stack.state_size, x.shape[1], self.hidden_size)
            if state.shape != shape:
                raise Refused(
                    f"shape (num_layers * directions, B, D) = {shape}",
                    str(tuple(state.shape)),
                    "pass what the previous call returned",
                    "state",
                )
            if not state.is_floating_point():
                raise Refused(
                    "a floating type", str(state.dtype).removeprefix("torch."), "pass state.float()", "state"
                )
            state = state.to(self.stack.initial_state(0)[0].dtype)
        y, last = self.stack(x, None if state is None else state.unbind(0), valid)
        return y, torch.stack(last) if len(last) > 1 else last[0].unsqueeze(0)

    def _forward_packed(
        self,
        x: PackedSequence,
        state: Tensor | None,
        valid: Tensor | None,
    ) -> tuple[PackedSequence, Tensor]:
        """Unpack, run, and pack in the order the rows came in."""
        if valid is not None:
            raise Refused(
                "none beside a PackedSequence, which knows its lengths", "both", "leave it out", "valid"
            )
        padded, lengths = pad_packed_sequence(x)
        steps = torch.arange(len(padded), device=padded.device).unsqueeze(1)
        y, state = self._run(padded, state, steps < lengths.to(padded.device))
        if x.sorted_indices is not None:
            y, lengths = y.index_select(1, x.sorted_indices), lengths[x.sorted_indices.cpu()]
        packed = pack_padded_sequence(y, lengths)
        return PackedSequence(packed.data, packed.batch_sizes, x.sorted_indices, x.unsorted_indices), state

    def flatten_parameters(self) -> None:
        """Do nothing: there is no memory to rearrange. It is here for programs written for `torch.nn.GRU`."""

    def reset_parameters(self) -> None:
        """Draw all parameters anew, as a new layer's are."""
        for module in self.stack.modules():
            if isinstance(module, (SRUCell, nn.LayerNorm, nn.Linear)):
                module.reset_parameters()

    @classmethod
    def from_sru_package(
        cls,
        state_dict: Mapping[str, Tensor],
        *,
        bidirectional: bool = False,
        use_tanh: bool | None = None,
        normalize_after: bool = False,
        has_skip_term: bool = True,
    ) -> SRU:
        """Make the layer that a state dictionary of the `sru` package describes.

        Every release is read, from 2017's to 3.0.0-dev; SRU++ is not. The package masks differently before
        release 2.3.3, so that only evaluation is the same. Its final state is (layers, B, D·directions), with
        the directions side by side; ours is (layers·directions, B, D).

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            Of the package's `SRU` module itself: keys start with ``rnn_lst.``, ``ln_lst.``,
            ``input_to_hidden.``.
        bidirectional : bool
            Whether it has two directions.
        use_tanh : bool or None
            Whether g is tanh; None is what the release does by itself: tanh in 2017, later the identity.
        normalize_after : bool
            Whether its LayerNorm stands after the layers; those of releases up to 2.1.7 always do.
        has_skip_term : bool
            Whether it has a highway.

        Returns
        -------
        rnn : SRU
            In training mode, dropouts 0, with the dtype of the weights.

        Raises
        ------
        Refused
            A key that is unknown or missing, a tensor of another shape, or an argument that contradicts them.
        """
        arguments, tensors = read_sru(
            state_dict,
            bidirectional=bidirectional,
            use_tanh=use_tanh,
            normalize_after=normalize_after,
            has_skip_term=has_skip_term,
        )
        return filled(cls(**arguments), tensors, state_dict["rnn_lst.0.bias"].dtype)
