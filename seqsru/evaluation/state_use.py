"""What a cell keeps of its state from one step to the next, and how far back its state reaches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqsru.cells import CELLS, State
from seqsru.cells.history import extend, windows
from seqsru.errors import Refused, check_at_least
from seqsru.ops import linear

PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class StateUse:
    """What one run over real inputs showed of one cell.

    Attributes
    ----------
    name : str
        The cell's place in the model.
    cell : str
        Its name in `CELLS`.
    kept : float
        Mean of the share of c that a step keeps: the gate that c of the step before is multiplied by, over
        steps, rows and features.
    percentiles : tuple of float
        Of those shares, `PERCENTILES`.
    slow : float
        Share of the features whose own mean is above 0.9: they keep something for ten steps and more.
    reach : tuple of float
        For k = 0, 1, … the size of the derivative of c by c of k steps before, everything between them
        included: the root of the mean of its squared singular values, so 1 for k = 0, and for gates that are
        a constant p and depend on nothing p^k.
    """

    name: str
    cell: str
    kept: float
    percentiles: tuple[float, ...]
    slow: float
    reach: tuple[float, ...]

    @property
    def half(self) -> int | None:
        """The first k at which `reach` is below one half; None where it is not yet."""
        return next((k for k, size in enumerate(self.reach) if size < 0.5), None)


# ---- the gate of each cell, for one step ---------------------------------------------------------------

# From the inputs (1, B, I) and the state before the step to the share (B, D) of c that is kept.
Gate = Callable[[Any, Tensor, State], Tensor]


def _sru(cell: Any, x: Tensor, state: State) -> Tensor:
    read = cell.read(x)
    return _forget(cell, read if cell.projection is None else linear(read, cell.projection), state[0])


def _srupp(cell: Any, x: Tensor, state: State) -> Tensor:
    return _forget(cell, cell.attention(cell.read(x), state[1:], None)[0], state[0])


def _forget(cell: Any, read: Tensor, c: Tensor) -> Tensor:
    forget = linear(read, cell.weight)[0].view(len(c), cell.k, -1)[:, 1] + cell.bias[0]  # (B, D)
    return torch.sigmoid(forget if cell.v is None else forget + cell.v[0] * c)


def _qrnn(cell: Any, x: Tensor, state: State) -> Tensor:
    if cell.window > 1:
        x = windows(extend(state[1], x), cell.window)
    f = torch.sigmoid(linear(x, cell.weight, cell.bias)[0].chunk(1 + len(cell.pooling), dim=-1)[1])
    moves: float = 1.0 - cell.zoneout  # the mean of (5), as in evaluation
    return 1.0 - (1.0 - f) * moves


def _torch(cell: Any, x: Tensor, h: Tensor, number: int) -> Tensor:
    rnn, rows = cell.rnn, slice(number * cell.output_size, (number + 1) * cell.output_size)
    read = functional.linear(x[0], rnn.weight_ih_l0[rows], rnn.bias_ih_l0[rows])
    return torch.sigmoid(read + functional.linear(h, rnn.weight_hh_l0[rows], rnn.bias_hh_l0[rows]))


def _own(cell: Any, x: Tensor, h: Tensor, number: int) -> Tensor:
    read = linear(x, cell.weight, cell.bias)[0] + linear(h, cell.recurrent_weight)
    return torch.sigmoid(read.chunk(2, dim=-1)[number])


def _ssru(cell: Any, x: Tensor, state: State) -> Tensor:
    return torch.sigmoid(linear(x, cell.weight)[0].chunk(2, dim=-1)[1] + cell.bias)


def _mingru(cell: Any, x: Tensor, state: State) -> Tensor:
    return torch.sigmoid(-linear(x, cell.weight, cell.bias)[0].chunk(2, dim=-1)[0])


def _minlstm(cell: Any, x: Tensor, state: State) -> Tensor:
    f, i, _ = linear(x, cell.weight, cell.bias)[0].chunk(3, dim=-1)
    return torch.sigmoid(functional.softplus(-i) - functional.softplus(-f))


GATES: dict[str, Gate] = {
    "sru": _sru,
    "srupp": _srupp,
    "qrnn": _qrnn,
    "lstm": lambda cell, x, state: _torch(cell, x, state[0], 1),
    "gru": lambda cell, x, state: _torch(cell, x, state[0], 1),
    "mgu": lambda cell, x, state: 1.0 - _own(cell, x, state[0], 0),
    "pru": lambda cell, x, state: _own(cell, x, state[0], 1),
    "ssru": _ssru,
    "mingru": _mingru,
    "minlstm": _minlstm,
}


# ---- the measurement -----------------------------------------------------------------------------------


def state_use(
    model: nn.Module, run: Callable[[], object], *, farthest: int = 64, draws: int = 1
) -> list[StateUse]:
    """Look at the state of every cell of a model while it reads.

    The model runs once, in evaluation mode. What each cell read is then given to it again step by step, with
    the state in the graph of derivatives. The share that is kept is that of every step; the reach is that of
    the last step of each row, by ``draws`` passes backward from random signs: exact for a cell whose features
    do not mix, unbiased (in its square) for any other. c is the last of the state's tensors of shape (B, D).
    Others, such as h of an LSTM, are held where the derivative starts; what goes through them later counts.

    Parameters
    ----------
    model : nn.Module
        Any module with `Cell` modules in it.
    run : callable
        Runs the model over a batch without padding, of more than ``farthest`` steps; called once.
    farthest : int
        Steps back up to which `StateUse.reach` goes.
    draws : int
        Passes backward.

    Returns
    -------
    list of StateUse
        In the order of the model's modules; without cells that have no gated state, such as `conv`.

    Raises
    ------
    Refused
        No cell has a gated state, one did not run, or its inputs are padded or too few.
    """
    check_at_least(1, farthest=farthest, draws=draws)
    names = {kind: name for name, kind in CELLS.items() if name in GATES}
    cells = {cell: place for place, cell in model.named_modules() if type(cell) in names}
    if not cells:
        raise Refused("a model with cells that have a gated state", "none", "give one with a stack")
    read: dict[nn.Module, tuple[Tensor, State]] = {}

    def look(cell: nn.Module, arguments: tuple[Any, ...]) -> None:
        x, state, valid = (*arguments, None)[:3]
        if valid is not None and not bool(valid.all()):
            raise Refused("rows without padding", "padded ones", "run rows of one length", "run")
        read[cell] = x.detach(), tuple(tensor.detach() for tensor in state)

    hooks = [cell.register_forward_pre_hook(look) for cell in cells]
    training = model.training
    try:
        model.eval()
        with torch.no_grad():
            run()
        found = []
        for hook in hooks:
            hook.remove()
        for cell, place in cells.items():
            if cell not in read:
                raise Refused(f"a run through {place}", "one that left it out", "run the whole model", "run")
            x, state = read[cell]
            if len(x) <= farthest:
                raise Refused(
                    f"more than farthest = {farthest} steps", str(len(x)), "run longer rows", "farthest"
                )
            name = names[type(cell)]
            shares, reach = _stepwise(cell, GATES[name], x, state, farthest, draws)
            found.append(_summary(place, name, shares, reach))
        return found
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)


def _stepwise(
    cell: Any, gate: Gate, x: Tensor, state: State, farthest: int, draws: int
) -> tuple[Tensor, list[float]]:
    """The kept shares (T, B, D) of a run, and the size of the last state's derivative by earlier ones."""
    shares, past = [], []
    last = [n for n, tensor in enumerate(state) if tensor.dim() == 2 and tensor.is_floating_point()][-1]
    for step in range(len(x)):
        here = x[step : step + 1]
        with torch.no_grad():
            shares.append(gate(cell, here, state))
        if step == len(x) - farthest:  # from the state before this step on
            state = tuple(t.requires_grad_() if t.is_floating_point() else t for t in map(torch.clone, state))
            past.append(state[last])
        with torch.set_grad_enabled(step >= len(x) - farthest):
            _, state = cell(here, state)
        if past:
            past.append(state[last])
    squares = torch.zeros(farthest + 1, dtype=torch.float64)
    for _ in range(draws):
        signs = torch.empty_like(past[-1]).bernoulli_(0.5) * 2 - 1
        gradients = torch.autograd.grad(past[-1], past[:-1], signs, retain_graph=True)
        sizes = [signs, *reversed(gradients)]
        squares += torch.stack([size.double().square().mean() for size in sizes]).cpu()
    return torch.stack(shares), (squares / draws).sqrt().tolist()


def _summary(place: str, cell: str, shares: Tensor, reach: Sequence[float]) -> StateUse:
    flat = shares.double().flatten().sort().values
    at = [flat[round(percent / 100 * (len(flat) - 1))].item() for percent in PERCENTILES]
    slow = (shares.double().mean((0, 1)) > 0.9).double().mean().item()
    return StateUse(place, cell, flat.mean().item(), tuple(at), slow, tuple(reach))


def table(uses: Sequence[StateUse]) -> str:
    """Return what was found as lines of text, under their headings."""
    width = max(len("layer"), *(len(use.name) for use in uses))
    back = [k for k in (1, 4, 16, 64, 256) if k < len(uses[0].reach)]
    head = "".join(f"{f'{k} back':>10}" for k in back)
    lines = [f"{'layer':<{width}}  {'cell':<8}{'kept':>8}{'P5':>8}{'P50':>8}{'P95':>8}{'slow':>8}{head}"]
    for use in uses:
        low, _, middle, _, high = use.percentiles
        numbers = (use.kept, low, middle, high, use.slow)
        lines.append(
            f"{use.name:<{width}}  {use.cell:<8}"
            + "".join(f"{number:8.3f}" for number in numbers)
            + "".join(f"{use.reach[k]:10.3g}" for k in back)
        )
    return "\n".join(lines)
