"""Running torch.nn's recurrent layers behind the contract of a cell."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seqsru.cells.cell import State
from seqsru.cells.masks import zero_invalid
from seqsru.ops import recorded
from seqsru.ops.precision import cudnn_as_products
from seqsru.ops.products import row_rule

Sequence = TypeVar("Sequence", Tensor, PackedSequence)
SHUT = 1e4  # a gate's sum that is exactly 0 or 1 after the sigmoid, in bfloat16 and float16 too


def run(rnn: nn.RNNBase, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
    """Run a one-layer `torch.nn.LSTM` or `torch.nn.GRU` over time.

    With ``valid`` the rows are packed, so every step computes only the rows that still run. On a CPU, for
    gradients or under autocast, all rows run to the end instead: torch takes packed rows step by step there,
    and an LSTM's forward and backward would take four to six times as long, a GRU's two to three times
    (``tools/bench_layers.py --layers LSTM,lstm,GRU,gru --shortest 0.25 --sizes 300x32x96``).

    Matrix products of few rows round a row differently for different numbers of rows, and oneDNN's LSTM
    differently from torch's own. So without gradients, in float32 on a CPU, torch's own runs (`_torch_lstm`),
    and rows of zeros are added at every step, as many as `row_rule` wants. A row's bits then do not depend on
    the rows beside it. (For a single step oneDNN's would be several times slower as well: it reorders the
    weights on each call.)

    On a GPU cuDNN computes float32 as torch computes other products, not by its own choice, which is TF32.

    Under autocast on a CPU without AVX-512, for which oneDNN has no bfloat16 LSTM, the layer runs in float32.

    Parameters
    ----------
    rnn : torch.nn.LSTM or torch.nn.GRU
        One layer, one direction, time first.
    x : Tensor of shape (T, B, I)
    state : State
        Tensors of shape (B, H): h and c, or h.
    valid : bool Tensor of shape (T, B) or None
        Each row a prefix of True.

    Returns
    -------
    y : Tensor of shape (T, B, H)
    state : State
        In the dtypes of the state given, under autocast too.
    """
    T, B, _ = x.shape
    if T == 0 or B == 0:
        return _nothing(rnn, x, state)
    autocast = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if autocast and not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        with torch.autocast("cpu", enabled=False):
            return run(rnn, x.to(state[0].dtype), state, valid)
    steady = (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not autocast
        and not torch.is_grad_enabled()
        and not recorded()
    )
    fewest, block = row_rule() if steady else (0, 1)
    if valid is None:
        extra = -B % block if steady and B < fewest else 0
        y, last = _call(rnn, _append(x, extra), _append_to(state, extra), steady)
        return y[:, :B], tuple(new[:B].to(old.dtype) for new, old in zip(last, state))
    lengths = valid.sum(0).cpu()
    runs, extra = lengths.clamp(min=1), 0  # torch packs no empty row: one runs a step, undone below
    if steady:
        steps = int(runs.max())
        full = int((runs == steps).sum())  # rows that still run at the last step
        extra = max(0, fewest - full) if full < B else -B % block if B < fewest else 0
        runs = torch.cat([runs, runs.max().expand(extra)])
    padded, before = _append(zero_invalid(x, valid), extra), _append_to(state, extra)
    if steady and full == B:  # nothing to pack
        y, last = _call(rnn, padded[:steps], before, steady)
        y = functional.pad(y, (0, 0, 0, 0, 0, T - steps))
    elif x.device.type == "cpu" and not steady and not recorded():
        y, last = _to_the_end(rnn, padded, before, valid, runs)
    else:
        packed = pack_padded_sequence(padded, runs, enforce_sorted=False)
        packed, last = _call(rnn, packed, before)
        y, _ = pad_packed_sequence(packed, total_length=T)
    started = (lengths > 0).unsqueeze(1).to(x.device)
    state = tuple(torch.where(started, new[:B].to(old.dtype), old) for new, old in zip(last, state))
    return zero_invalid(y[:, :B], valid), state


def _nothing(rnn: nn.RNNBase, x: Tensor, state: State) -> tuple[Tensor, State]:
    """Return outputs for no steps or no rows, and the state: zeros are the gradients of all that is read."""
    y = x.new_zeros(*x.shape[:2], rnn.hidden_size)
    if not torch.is_grad_enabled():
        return y, state
    for tensor in (x, *rnn.parameters()):
        y = y + tensor.sum()
    zero = y.sum()  # of no elements: nothing of what was added is in it
    return y, tuple(tensor + zero.to(tensor.dtype) for tensor in state)


def zeros(rnn: nn.RNNBase, batch: int) -> Tensor:
    """Return zeros of shape (batch, H), on the device and in the dtype of the layer's parameters."""
    first = next(rnn.parameters(), None)
    if first is None:  # a quantised layer has none
        return torch.zeros(batch, rnn.hidden_size)
    return first.new_zeros(batch, rnn.hidden_size)


def _call(rnn: nn.RNNBase, x: Sequence, state: State, steady: bool = False) -> tuple[Sequence, State]:
    """Call the layer with a state of tensors (B, H), and return its state as one."""
    if steady and isinstance(rnn, nn.LSTM) and isinstance(x, Tensor):
        return _torch_lstm(rnn, x, state)
    hidden = tuple(tensor.unsqueeze(0) for tensor in state)
    with cudnn_as_products() if _follows_products(state[0]) else nullcontext():
        y, last = rnn(x, hidden if len(hidden) > 1 else hidden[0])
    return y, tuple(tensor.squeeze(0) for tensor in (last if len(hidden) > 1 else (last,)))


def _to_the_end(
    rnn: nn.RNNBase, x: Tensor, state: State, valid: Tensor, runs: Tensor
) -> tuple[Tensor, State]:
    """Run all rows over x (T, B, I), and return their states after their own steps, `runs` (B,).

    An LSTM's c is in no output. So it is made to stay what it is after its row's end: a further input, 1 at
    those steps, has a weight that opens the forget gate and shuts the input gate, to the last bit, so that no
    gradient comes from there either.
    """
    more: State = ()
    if isinstance(rnn, nn.LSTM):
        (w_ih, w_hh, *biases), H = rnn.all_weights[0], rnn.hidden_size
        shut = w_ih.new_zeros(4, H, 1)
        shut[0], shut[1] = -SHUT, SHUT
        weights = [torch.cat([w_ih, shut.flatten(0, 1)], 1), w_hh, *biases]
        given = torch.cat([x, (~valid).unsqueeze(2).to(x.dtype)], 2)
        before = tuple(tensor.unsqueeze(0) for tensor in state)
        y, _, c = torch.lstm(given, before, weights, bool(biases), 1, 0.0, rnn.training, False, False)
        more = (c.squeeze(0),)
    else:
        y, _ = _call(rnn, x, state)
    h = y.gather(0, (runs - 1).view(1, -1, 1).expand(1, -1, y.shape[2])).squeeze(0)
    return y, (h, *more)


def _follows_products(tensor: Tensor) -> bool:
    """Say whether cuDNN runs, and nobody asks for gradients, whose pass would go by its own choice.

    What trains sets the switches for both passes: see the setting `precision`.
    """
    return tensor.device.type == "cuda" and not torch.is_grad_enabled() and not recorded()


def _torch_lstm(rnn: nn.LSTM, x: Tensor, state: State) -> tuple[Tensor, State]:
    """Run torch's own LSTM over x (T, R, I), R being one of `row_rule`.

    oneDNN's takes every call that it can. It has no single steps and no packed rows of different lengths, so
    four rows of zeros run for the first step beside the others. (The switch that leaves oneDNN out is one for
    the whole process.)
    """
    T, R, _ = x.shape
    if T == 1:
        h, c = torch.lstm_cell(x[0], state, *rnn.all_weights[0])
        return h.unsqueeze(0), (h, c)
    data = torch.cat([x[0], x.new_zeros(4, x.shape[2]), x[1:].flatten(0, 1)])
    rows = torch.full((T,), R)
    rows[0] += 4
    packed, last = _call(rnn, PackedSequence(data, rows), _append_to(state, 4))
    y = torch.cat([packed.data[:R], packed.data[R + 4 :]]).view(T, R, -1)
    return y, tuple(tensor[:R] for tensor in last)


def _append(x: Tensor, extra: int) -> Tensor:
    """Return x (T, B, I), contiguous, with `extra` rows of zeros after the others."""
    return torch.cat([x, x.new_zeros(x.shape[0], extra, x.shape[2])], dim=1) if extra else x.contiguous()


def _append_to(state: State, extra: int) -> State:
    """Return the tensors (B, H) with `extra` rows of zeros after the others."""
    return tuple(torch.cat([t, t.new_zeros(extra, t.shape[1])]) for t in state) if extra else state
