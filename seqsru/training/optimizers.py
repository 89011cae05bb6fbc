"""Optimizers by name: torch's own, with the forms of weight decay the published recipes use, and Muon."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw as adamw_step

from seqsru.errors import Refused, check_between, check_probability, check_share

MOST_LR = 1000.0  # wide: recipes have up to 30, and a factor of `noam` is no rate
MOST_DECAY = 100.0
LEAST_EPS = 1e-45  # the smallest number that float32 has

# With their names, as `nn.Module.named_parameters` gives them, where the optimizer looks at these.
Parameters: TypeAlias = Iterable[nn.Parameter] | Iterable[tuple[str, nn.Parameter]]

# Last parts of the names of parameters whose rows are vectors: `HighwayCell.add_weights`.
ROWS = "v", "bias"

# Where torch's fused optimizers look for a number that is not 0 if the step is not to be made.
FOUND = "found_inf"


def step(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
    """Make a step, or none, as a number on the device says: without waiting for it.

    Parameters
    ----------
    optimizer : Optimizer
        One of `OPTIMIZERS`.
    bad : bool Tensor of shape ()
        Where it is True neither weights nor the optimizer's own state change.
    """
    setattr(optimizer, FOUND, bad.float())
    try:
        optimizer.step()
    finally:
        delattr(optimizer, FOUND)


def adam(
    parameters: Parameters,
    lr: float = 1e-3,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba 2015).

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float
        Peak learning rate; the schedule says how it moves.
    beta1 : float
        Decay of the mean of the gradients.
    beta2 : float
        Decay of the mean of their squares.
    eps : float
        Added to the root of that mean.
    weight_decay : float
        λ of an L2 penalty: λ·w is added to the gradient.

    Raises
    ------
    Refused
        An option outside its range.
    """
    check_between(0.0, MOST_LR, lr=lr)
    check_between(LEAST_EPS, 1.0, eps=eps)
    check_between(0.0, MOST_DECAY, weight_decay=weight_decay)
    check_probability(beta1=beta1, beta2=beta2)
    return torch.optim.Adam(
        parameters, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True
    )


def adamw(
    parameters: Parameters,
    lr: float = 1e-3,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    decay_vectors: bool = True,
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float
        Peak learning rate; the schedule says how it moves.
    beta1 : float
        Decay of the mean of the gradients.
    beta2 : float
        Decay of the mean of their squares.
    eps : float
        Added to the root of that mean.
    weight_decay : float
        λ: every weight is multiplied by 1 − lr·λ before the step.
    decay_vectors : bool
        Whether that is done to vectors too, such as biases, what gates give the state, and the weights of a
        normalisation; false is to matrices alone. That a cell's vectors are the rows of one parameter is
        known by its name.

    Raises
    ------
    Refused
        An option outside its range.
    """
    check_between(0.0, MOST_LR, lr=lr)
    check_between(LEAST_EPS, 1.0, eps=eps)
    check_between(0.0, MOST_DECAY, weight_decay=weight_decay)
    check_probability(beta1=beta1, beta2=beta2)
    groups: Any = parameters
    if not decay_vectors:
        named = [one if isinstance(one, tuple) else ("", one) for one in parameters]
        named.sort(key=lambda one: one[1].dim() < 2)
        groups = _groups(named, lambda name, p: {} if _is_matrix(name, p) else {"weight_decay": 0.0})
    return torch.optim.AdamW(
        groups, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True
    )


def sgd(
    parameters: Parameters,
    lr: float = 1.0,
    *,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    shrink: float = 0.0,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent.

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float
        Peak learning rate; the schedule says how it moves.
    momentum : float
        Share of the last step that is repeated (torch's form: the learning rate is outside).
    weight_decay : float
        λ of an L2 penalty: λ·w is added to the gradient.
    shrink : float
        Every weight is multiplied by 1 − shrink after the step, whatever the learning rate: the weight decay
        of the SRU paper's Penn Treebank recipe (1e-5 there).

    Raises
    ------
    Refused
        An option outside its range.
    """
    check_between(0.0, MOST_LR, lr=lr)
    check_probability(momentum=momentum)
    check_between(0.0, MOST_DECAY, weight_decay=weight_decay)
    check_share(shrink=shrink)
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True)
    if momentum:
        optimizer.register_step_pre_hook(_momentum_from_zero)
    if shrink:

        def multiply(optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            bad = getattr(optimizer, FOUND, None)
            kept: Any = 1.0 - shrink
            if bad is not None:  # in the type of the weights, so that it rounds as the number does
                kept = torch.full_like(bad, kept, dtype=torch.float64).masked_fill(bad > 0, 1.0)
            with torch.no_grad():
                for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                    parameter.mul_(kept if bad is None else kept.to(parameter.dtype))

        optimizer.register_step_post_hook(multiply)
    return optimizer


def _momentum_from_zero(
    optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Give momentum to each weight that has its first gradient, as the same step from zeros makes it.

    torch's fused step begins it for all weights at once or fails, and where its first step is not made, it
    leaves what the memory held.
    """
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        if parameter.grad is not None and optimizer.state[parameter].get("momentum_buffer") is None:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon` for groups with ``orthogonal`` true and `torch.optim.AdamW` for the others, as one.

    Parameters
    ----------
    parameters : iterable of dict
        Groups with ``params``, ``orthogonal`` and ``rows``; of an orthogonal one each is a matrix, and one of
        rows holds vectors in parameters of two axes.
    lr, momentum, weight_decay, beta1, beta2, eps : float
        As of `muon`.
    """

    def __init__(
        self,
        parameters: Iterable[dict[str, Any]],
        lr: float,
        momentum: float,
        weight_decay: float,
        beta1: float,
        beta2: float,
        eps: float,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(parameters, {**options, "beta1": beta1, "beta2": beta2, "eps": eps})

    def taken(self, state: dict[int, dict[str, Tensor]]) -> dict[int, dict[str, Tensor]]:
        """Of the state of each parameter, what is to be gone on with.

        Earlier versions took rows of vectors for matrices: such parameters begin anew.
        """
        places = (group["rows"] for group in self.param_groups for _ in group["params"])
        rows = {place for place, of_rows in enumerate(places) if of_rows}
        return {i: own for i, own in state.items() if i not in rows or own.keys() != {"momentum_buffer"}}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        bad = getattr(self, FOUND, None)
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["orthogonal"]:
                for parameter in parameters:
                    self._orthogonal_step(parameter, group, bad)
            elif parameters:
                self._adamw_step(parameters, group, bad)

    def _orthogonal_step(self, w: nn.Parameter, group: dict[str, Any], bad: Tensor | None) -> None:
        state, gradient = self.state[w], w.grad
        assert gradient is not None
        mean = state.setdefault("momentum_buffer", torch.zeros_like(w))
        fresh = mean.lerp(gradient, 1.0 - group["momentum"])  # 1
        direction = orthogonal(gradient.lerp(fresh, group["momentum"]))  # 2, 3
        rate = group["lr"] * 0.2 * math.sqrt(max(w.shape))
        new = w.mul(1.0 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-rate)  # 4
        if bad is not None:
            fresh, new = torch.where(bad > 0, mean, fresh), torch.where(bad > 0, w, new)
        mean.copy_(fresh)
        w.copy_(new)

    def _adamw_step(self, parameters: list[nn.Parameter], group: dict[str, Any], bad: Tensor | None) -> None:
        for p in parameters:
            if not self.state[p]:
                self.state[p]["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
                self.state[p] |= {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
        kept = {name: [self.state[p][name] for p in parameters] for name in ("exp_avg", "exp_avg_sq", "step")}
        adamw_step(
            parameters,  # type: ignore[arg-type]
            [p.grad for p in parameters if p.grad is not None],
            kept["exp_avg"],
            kept["exp_avg_sq"],
            [],
            kept["step"],
            fused=True,
            found_inf=bad,
            amsgrad=False,
            beta1=group["beta1"],
            beta2=group["beta2"],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonal(matrix: Tensor) -> Tensor:
    """About U Vᵀ of a matrix U S Vᵀ: five steps of Newton and Schulz in bfloat16, as `torch.optim.Muon`."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.bfloat16()
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def muon(
    parameters: Parameters,
    lr: float = 1e-3,
    *,
    momentum: float = 0.95,
    weight_decay: float = 0.1,
    beta1: float = 0.9,
    beta2: float = 0.95,
    eps: float = 1e-8,
) -> torch.optim.Optimizer:
    """Muon: orthogonalised momentum for the matrices between embedding and output, AdamW for all else.

    For a matrix W (A, B) with gradient G (Jordan et al. 2024; its rate as in Liu et al. 2025, so that one
    rate serves both parts)::

        (1) M = μ·M + (1 − μ)·G
        (2) N = (1 − μ)·G + μ·M
        (3) O ≈ U Vᵀ, N being U S Vᵀ              five steps of Newton and Schulz in bfloat16
        (4) W = (1 − lr·λ)·W − 0.2·√max(A, B)·lr·O

    Embeddings, the output's matrix and whatever is no matrix get AdamW's steps with the same rate; vectors do
    not shrink, nor do those of a cell that are the rows of one parameter. Step (3) costs about 20·min(A, B)
    operations a weight and update, whatever the batch: as much as learning from 3·min(A, B) tokens, so it is
    for large batches. The matrix of a layer's gates is one.

    Parameters
    ----------
    parameters : iterable of (str, Parameter)
        With the names that the model has for them.
    lr : float
        Peak learning rate; the schedule says how it moves.
    momentum : float
        μ.
    weight_decay : float
        λ of equation 4, and of AdamW for the other matrices.
    beta1 : float
        Decay of AdamW's mean of the gradients.
    beta2 : float
        Decay of the mean of their squares.
    eps : float
        Added to the root of that mean.

    Raises
    ------
    Refused
        An option outside its range, or a parameter without a name.
    """
    check_between(0.0, MOST_LR, lr=lr)
    check_between(LEAST_EPS, 1.0, eps=eps)
    check_between(0.0, MOST_DECAY, weight_decay=weight_decay)
    check_probability(momentum=momentum, beta1=beta1, beta2=beta2)
    given = list(parameters)
    named = [one for one in given if isinstance(one, tuple)]
    if len(named) < len(given):
        raise Refused(
            "each parameter with its name, which says what it is of",
            f"{len(given) - len(named)} without",
            "pass model.named_parameters()",
            "parameters",
        )
    named.sort(key=lambda one: (not _is_between(*one), one[1].dim() < 2))

    def options(name: str, parameter: nn.Parameter) -> dict[str, Any]:
        if _is_matrix(name, parameter):
            return {"orthogonal": _is_between(name, parameter), "rows": False}
        return {"orthogonal": False, "rows": parameter.dim() > 1, "weight_decay": 0.0}

    return Muon(_groups(named, options), lr, momentum, weight_decay, beta1, beta2, eps)


def _is_between(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter of two axes is between embedding and output, by the names of the models' parts."""
    return parameter.dim() == 2 and "embedding" not in name and not name.startswith("output")


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter multiplies vectors; cells have theirs, one for each gate, in the rows of one."""
    return parameter.dim() > 1 and name.rpartition(".")[2] not in ROWS


def _groups(
    named: list[tuple[str, nn.Parameter]], options: Callable[[str, nn.Parameter], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Groups of parameters that have options of their own, in the order given.

    Those of one group lie side by side, so there may be several with the same options: the places of
    parameters are their names in a checkpoint.
    """
    runs = groupby(named, lambda one: options(*one))
    return [{"params": [p for _, p in members], **own} for own, members in runs]


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": adam,
    "adamw": adamw,
    "muon": muon,
    "sgd": sgd,
}
